"""MODEL.md: what a person wants to know of a one-file model before using it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nnunet_rs.core.text import times
from nnunet_rs.core.types import LabelSet
from nnunet_rs.core.version import installed_version
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.plan.normalization import SCHEMES
from nnunet_rs.plan.schema import Plan
from nnunet_rs.select.choice import Choice

_NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Description:
    """What a file holds."""

    plan: Plan
    all_metadata: tuple[ModelMetadata, ...]
    choice: Choice | None
    scores: Mapping[str, float]  # mean foreground Dice of cases held out, by model
    licensed: bool  # a licence's text is in the file
    name: str  # of the file


def describe(model: Description) -> str:
    """Return the text, Markdown."""
    sections = (
        _head(model),
        _labels(model.plan.labels),
        _images(model.plan, model.all_metadata),
        _networks(model.all_metadata),
        _scores(model),
        _use(model),
        _licence(model.licensed),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(model: Description) -> Iterator[str]:
    sources = sorted({metadata.source for metadata in model.all_metadata if metadata.source})
    trained = (
        "; ".join(sources) or f"nnunet_rs {', '.join(sorted({metadata.library for metadata in model.all_metadata}))}"
    )
    yield f"# {model.plan.dataset}: a segmentation model"
    yield ""
    program = f"nnunet_rs {installed_version()}"
    yield f"Trained with {trained}; written by {program}. Planned by the rules of {model.plan.recipe}."


def _labels(labels: LabelSet) -> Iterator[str]:
    yield "## What it segments"
    yield ""
    yield from _table(("value", "label"), list(zip(map(str, labels.values), labels.names, strict=True)))
    if labels.regions:
        rows = [
            (region.name, ", ".join(labels.names[index] for index in region.classes), str(region.paint))
            for region in labels.regions
        ]
        yield ""
        yield "Predicted as regions, written in this order, the later over the earlier:"
        yield ""
        yield from _table(("region", "labels", "written as"), rows)


def _images(plan: Plan, all_metadata: Sequence[ModelMetadata]) -> Iterator[str]:
    yield "## Images that it needs"
    yield ""
    rows = [
        (f"_{number:04d}", name, SCHEMES[rule.scheme].summary + (", inside the non-zero mask" if rule.use_mask else ""))
        for number, (name, rule) in enumerate(zip(plan.channels, plan.normalization, strict=True))
    ]
    yield from _table(("file", "channel", "normalised"), rows)
    yield ""
    turned = (
        "turned to the axes right, anterior, superior first" if plan.reorient else "taken as their files store them"
    )
    yield f"CASE_0000.nii.gz and so on, a file a channel, of one case on one grid. Images are {turned}."
    seen = sorted({codes for metadata in all_metadata for codes in metadata.orientations or ()})
    if seen and not plan.reorient:
        yield f"Those of the training were stored {', '.join(seen)}; `predict` turns images that are stored otherwise."


def _networks(all_metadata: Sequence[ModelMetadata]) -> Iterator[str]:
    yield "## Networks"
    yield ""
    names = dict.fromkeys(metadata.configuration for metadata in all_metadata)
    rows = []
    for name in names:
        folds = [metadata for metadata in all_metadata if metadata.configuration == name]
        configuration, first = folds[0].plan_configuration, folds[0]
        unet = "residual encoder U-Net" if configuration.residual else "U-Net"
        kind = first.own_network or unet
        after = f", after {configuration.previous}" if configuration.previous else ""
        axes = "not known" if first.mirror_axes is None else ", ".join(map(str, first.mirror_axes)) or "none"
        cases = {str(len(metadata.cases.train)) for metadata in folds if metadata.cases is not None}
        rows.append(
            (
                name + after,
                ", ".join(str(metadata.fold) for metadata in folds),
                times(configuration.spacing),
                times(configuration.patch_size),
                f"{kind}, {len(configuration.strides)} stages",
                axes,
                " or ".join(sorted(cases)) or _NOT_KNOWN,
            )
        )
    head = ("configuration", "folds", "spacing, mm", "patch, voxels", "network", "mirrored axes", "training cases")
    yield from _table(head, rows)
    yield ""
    yield "Spacing and patch in the order z, y, x of the plan; axes are counted from 0. Folds are averaged."


def _scores(model: Description) -> Iterator[str]:
    yield "## Scores"
    yield ""
    if model.choice is None and not model.scores:
        yield "None are known."
        return
    if model.choice is not None:
        rows = [
            (candidate.name, f"{candidate.dice:.4f}", *_per_class(candidate.per_class))
            for candidate in model.choice.candidates
        ]
        yield f"Mean Dice of cross-validation. Chosen: {' + '.join(model.choice.configurations)}."
        yield ""
        yield from _table(("configuration", "foreground", "by class"), rows)
        names = model.plan.labels.names
        steps = [" + ".join(names[index] for index in step) for step in model.choice.postprocessing.keep_largest]
        yield ""
        yield f"Largest component kept of: {'; '.join(steps) or 'nothing'}."
    else:
        yield "Mean foreground Dice of the cases that each model did not see."
        yield ""
        yield from _table(("model", "Dice"), [(name, f"{score:.4f}") for name, score in model.scores.items()])


def _per_class(scores: Mapping[str, float | None]) -> tuple[str]:
    return (", ".join(f"{name} {_NOT_KNOWN if dice is None else f'{dice:.4f}'}" for name, dice in scores.items()),)


def _use(model: Description) -> Iterator[str]:
    configurations = dict.fromkeys(metadata.configuration for metadata in model.all_metadata)
    several = len(configurations) > 1 and model.choice is None
    option = f" -c {next(reversed(configurations))}" if several else ""
    argument = f', configuration="{next(reversed(configurations))}"' if several else ""
    yield "## How to use it"
    yield ""
    yield "```sh"
    yield f"nnunet-rs predict {model.name} -i IMAGES -o SEGMENTATIONS{option}"
    yield f"nnunet-rs import {model.name} -o MODELS     # or unpack it once, checked"
    yield "```"
    yield ""
    yield "```python"
    yield "import nnunet_rs"
    yield ""
    yield f'predictor = nnunet_rs.Predictor.load("{model.name}"{argument})'
    yield "labels = predictor(image, spacing)  # (channels, z, y, x), mm; without post-processing"
    yield "```"
    custom = {name for metadata in model.all_metadata if (name := metadata.own_network)}
    if custom:
        yield ""
        yield f"The network is {', '.join(sorted(custom))}, which is not in this file: give it with --network."


def _licence(licensed: bool) -> Iterator[str]:
    yield "## Licence"
    yield ""
    yield "See LICENCE.txt." if licensed else "None was stated: ask whoever gave you this file what you may do with it."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _row(head)
    yield "|" + "---|" * len(head)
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
