"""What has changed in a work folder since its models were trained. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nnunet_rs.core.dataset_json import read_labels
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.workspace import ModelFolder, WorkFolder
from nnunet_rs.data.folds import Fold, read_folds
from nnunet_rs.data.mirroring import axes_named, image_axes
from nnunet_rs.model.metadata import ModelMetadata, common_mirror_axes, read_metadata
from nnunet_rs.model.trained_models import trained_folds
from nnunet_rs.plan.comparison import OF_TRAINING, differing_configuration, differing_data
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.schema import Plan


def plan_differences(one: Plan, other: Plan, configuration: str) -> tuple[str, ...]:
    """Name the parts of two plans that differ and bear on a network of this configuration."""
    named = [name for name in ("dataset", "recipe") if getattr(one, name) != getattr(other, name)]
    changed = differing_configuration(one, other, configuration, without=OF_TRAINING)
    return (*named, *differing_data(one, other), *changed)


def report_staleness(folders: Sequence[Path], progress: Progress) -> None:
    """Warn of what `staleness` finds."""
    for line in staleness(folders):
        progress.say(f"warning: {line}")


def report_staleness_in(work: Path, configurations: Iterable[str], progress: Progress) -> None:
    """Warn of what has changed in a work folder since any model of these configurations was trained."""
    for name in configurations:
        report_staleness([WorkFolder(work).model(name, fold).path for fold in trained_folds(work, name)], progress)


def staleness(folders: Sequence[Path]) -> tuple[str, ...]:
    """Report what the models of a configuration do not know: a plan or folds edited since, a first stage trained again.

    And where they do not say, or do not agree on, what prediction may mirror.

    Parameters
    ----------
    folders
        Finished models, WORK/models/CONFIGURATION/fold_K. What stands elsewhere, or cannot be read, is not compared.

    Returns
    -------
    tuple of str
        A line each: what has changed, what it means, what to do.
    """
    all_metadata: list[ModelMetadata] = []
    for folder in folders:
        with suppress(NnunetError):  # whoever loads the model says what is wrong with it
            all_metadata.append(read_metadata(folder))
    mirroring = tuple(_of_mirroring(all_metadata))
    work = ModelFolder(folders[0]).work if folders else None
    if work is None:
        return mirroring
    return (
        *mirroring,
        *_of_plan(work, all_metadata),
        *_of_labels(work, all_metadata),
        *_of_folds(work, all_metadata),
        *_of_first_stage(work, all_metadata),
    )


def _of_mirroring(all_metadata: Sequence[ModelMetadata]) -> Iterator[str]:
    """Return where prediction mirrors less than it could, because it must not mirror what training did not."""
    for (name,), some in _grouped(
        all_metadata, lambda metadata: (metadata.config.augmentation,) if metadata.mirror_axes is None else ()
    ):
        yield (
            f"{_named(some)} trained by {name}, and what that mirrors was not recorded: prediction mirrors along no "
            "axis; train again to have it recorded"
        )
    common = set(common_mirror_axes(all_metadata)) if all_metadata else set()
    if any(set(metadata.mirror_axes or ()) != common for metadata in all_metadata if metadata.mirror_axes is not None):
        axes = axes_named(
            image_axes(sorted(common), all_metadata[0].plan_configuration.dims, all_metadata[0].plan.transpose)
        )
        yield (
            f"{_named(all_metadata)} trained with different mirror axes: together they mirror along those that all "
            f"have, {axes}"
        )


def _of_plan(work: WorkFolder, all_metadata: Sequence[ModelMetadata]) -> Iterator[str]:
    path = work.plan_file
    try:
        plan = read_plan(path)
    except NnunetError:
        return
    for found, some in _grouped(
        all_metadata, lambda metadata: plan_differences(metadata.plan, plan, metadata.configuration)
    ):
        yield (
            f"{path} has changed ({', '.join(found)}) {_since(some)}: models keep what they learnt by; train again "
            "to follow the new plan"
        )


def _of_labels(work: WorkFolder, all_metadata: Sequence[ModelMetadata]) -> Iterator[str]:
    path = work.dataset_file
    try:
        labels = read_labels(path, read_json(path))
    except NnunetError:
        return
    for _, some in _grouped(all_metadata, lambda metadata: ("labels",) if metadata.plan.labels != labels else ()):
        yield (
            f"{path} declares other labels {_since(some)}: models write the values that they learnt, and scores follow "
            "the file; restore it, or preprocess and train again"
        )


def _of_folds(work: WorkFolder, all_metadata: Sequence[ModelMetadata]) -> Iterator[str]:
    path = work.splits_file
    try:
        folds = read_folds(work.path)
    except NnunetError:
        return
    for found, some in _grouped(all_metadata, lambda metadata: _edited(metadata, folds)):
        yield (
            f"{path} {found[0]} {_since(some)}: scores are of other cases than it holds out now; train again, or "
            "restore the file"
        )


def _edited(metadata: ModelMetadata, folds: Sequence[Fold]) -> tuple[str, ...]:
    """Say how a model's fold was edited, in one entry or none."""
    if metadata.cases is None or metadata.fold == "all":
        return ()
    if metadata.fold >= len(folds):
        return (f"has been cut to {len(folds)} folds",)
    before, now = metadata.cases, folds[metadata.fold]
    same = set(before.train) == set(now.train) and set(before.validation) == set(now.validation)
    return () if same else ("has changed",)


def _of_first_stage(work: WorkFolder, all_metadata: Sequence[ModelMetadata]) -> Iterator[str]:
    first = all_metadata[0].plan_configuration.previous if all_metadata else None
    if first is None:
        return
    present: dict[str, str] = {}
    for model in work.models(first):
        with suppress(NnunetError):  # unfinished, or damaged
            present[model.path.name] = read_metadata(model.path).digest
    for found, some in _grouped(all_metadata, lambda metadata: _trained_again(metadata.first_stage or {}, present)):
        again = ", ".join(name.replace("_", " ") for name in found)
        yield f"{first} has been trained again ({again}) {_since(some)} on its segmentations: train again to go with it"


def _trained_again(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in before.keys() & now.keys() if before[name] != now[name]))


def _grouped(
    all_metadata: Sequence[ModelMetadata], find: Callable[[ModelMetadata], tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], list[ModelMetadata]]]:
    """Yield what is found, and the models that it is found of, together; nothing is not found."""
    groups: dict[tuple[str, ...], list[ModelMetadata]] = {}
    for metadata in all_metadata:
        groups.setdefault(find(metadata), []).append(metadata)
    return ((found, some) for found, some in groups.items() if found)


def _since(all_metadata: Sequence[ModelMetadata]) -> str:
    return f"since {_named(all_metadata)} trained"


def _named(all_metadata: Sequence[ModelMetadata]) -> str:
    name, numbers = all_metadata[0].configuration, ", ".join(str(metadata.fold) for metadata in all_metadata)
    return f"{name}, fold {numbers}, was" if len(all_metadata) == 1 else f"{name}, folds {numbers}, were"
