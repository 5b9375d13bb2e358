"""The best, the median and the worst case, as slices to scroll through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.types import Volume
from nnunet_rs.evaluate.folders import CasePair, label_files, read_pair
from nnunet_rs.evaluate.scores import score_case, scored_targets
from nnunet_rs.evaluate.summary import Summary
from nnunet_rs.plan.normalization import Normalization, window
from nnunet_rs.plan.schema import Plan
from nnunet_rs.report.blocks import Block, LegendEntry, Missing, Section, Text, Viewer
from nnunet_rs.report.ranking import Ranked, ranked
from nnunet_rs.report.sections.cover import best_scored
from nnunet_rs.report.slices import Detail, Scene, Window, difference_swatch, draw_slices, swatch
from nnunet_rs.report.steps import Step, steps_of
from nnunet_rs.report.tables import number
from nnunet_rs.report.workfolder import WorkContents

CHANNELS = 4  # of an image shown at most


@dataclass(frozen=True, slots=True)
class CasesShown:
    """How many cases and slices a page holds."""

    cases: int = 3
    slices: int = 40  # of a case, all channels together counting twice at most


@dataclass(frozen=True, slots=True)
class Candidates:
    """Cases that were predicted by models that did not see them."""

    source: str  # the configuration or pair
    predictions: Mapping[str, Path]  # by case
    dice: Mapping[str, float]  # mean over the case's classes


def cases_section(work: WorkContents, steps: tuple[Step, ...], shown: CasesShown, progress: Progress) -> Section:
    """Draw a few cases, from the best to the worst."""
    return Section("cases", "Cases", tuple(_blocks(work, steps, shown, progress)))


def _blocks(work: WorkContents, steps: tuple[Step, ...], shown: CasesShown, progress: Progress) -> Iterator[Block]:
    candidates = _candidates(work)
    chosen = ranked(candidates.dice, shown.cases)
    if not chosen:
        what = "There is no prediction of a case held out to look at; training a fold ends with such predictions."
        yield Missing(what, steps_of(steps, "validate") or steps_of(steps, "train")[:1])
        return
    by = "the mean Dice of its two members" if " + " in candidates.source else "their mean Dice"
    yield Text(
        f"Predictions of {candidates.source} for cases that it did not see, chosen by {by} among "
        f"{chosen[0].count}. The prediction is a hatched veil, the reference an outline. Keys, once a picture is "
        "chosen: arrows or the wheel move through the slices, A, C and S choose the plane, R, P and D switch the "
        "layers."
    )
    problems = []
    with progress.task("cases", len(chosen)) as task:
        for case in chosen:
            try:
                yield _viewer(work, candidates, case, shown)
            except (NnunetError, OSError) as error:
                problems.append(f"{case.name}: {error}")
            task.advance(1, case.name)
    for problem in problems:
        yield Missing(f"A case cannot be shown. {problem}")


def _candidates(work: WorkContents) -> Candidates:
    """Find the cases of what was chosen, or of the configuration with the highest Dice."""
    validated = work.validated()
    if not validated:
        return Candidates("", {}, {})
    members = work.choice.configurations if work.choice else ()
    if not members or not set(members) <= validated.keys():
        leader = best_scored(work)
        members = (leader[0] if leader else next(iter(validated)),)
    files = _predictions(work, members)
    dice = _mean_dice([validated[name] for name in members])
    return Candidates(" + ".join(members), files, {name: dice[name] for name in files if name in dice})


def _predictions(work: WorkContents, members: Sequence[str]) -> dict[str, Path]:
    """Find the segmentations of cases held out: of a configuration's folds, or of a pair's."""
    single = tuple(t.model.validation_folder for t in work.of(members[0]) if t.summary is not None)
    paired = work.files.ensemble_folders(members)
    found: dict[str, Path] = {}
    for folder in single if len(members) == 1 else paired:
        try:
            found |= label_files(folder)
        except NnunetError:
            continue
    return found


def _mean_dice(summaries: Sequence[Summary]) -> dict[str, float]:
    """Return each case's mean Dice, averaged over the members of a pair."""
    collected: dict[str, list[float]] = {}
    for summary in summaries:
        for name, mean in summary.case_means().items():
            collected.setdefault(name, []).append(mean)
    return {name: float(np.mean(means)) for name, means in collected.items()}


def _viewer(work: WorkContents, candidates: Candidates, chosen: Ranked, shown: CasesShown) -> Viewer:
    case = work.cases().get(chosen.name)
    if case is None or case.label is None:
        raise NnunetError(f"its files are not where {work.files.dataset_file} says; put them back and report again")
    labels, channels = work.plan.labels, work.plan.channels[:CHANNELS]
    prediction, reference = read_pair(CasePair(case.name, candidates.predictions[case.name], case.label), labels)
    volume = read_volume(case.images, case.name)
    scores = score_case(prediction.data, reference.data, labels, volume.spacing, None)
    scene = Scene(
        image=tuple(volume.data[: len(channels)]),
        reference=reference.data,
        prediction=prediction.data,
        spacing=volume.spacing,
        header=volume.header,
        windows=_windows(volume, work.plan),
    )
    present = [int(index) for index in np.union1d(np.unique(prediction.data), np.unique(reference.data))]
    by_class = {
        t.classes[0]: s.dice for t, s in zip(scored_targets(labels), scores, strict=True) if len(t.classes) == 1
    }
    legend = tuple(
        LegendEntry(labels.names[i], swatch(i, "reference"), swatch(i, "prediction"), number(by_class.get(i)))
        for i in present
        if 0 < i < labels.count
    )
    mean = np.nanmean([score.dice for score in scores])
    most = max(8, min(shown.slices, 2 * shown.slices // len(channels)))
    return Viewer(
        rank=", ".join(filter(None, (chosen.rank, f"{chosen.place + 1} of {chosen.count}"))),
        name=case.name,
        label="mean Dice",
        value=number(float(mean)),
        channels=channels,
        views=draw_slices(scene, Detail(most, max(4, most // 3))),
        legend=legend,
        measure="Dice",
        missed=difference_swatch(True),
        extra=difference_swatch(False),
    )


def _windows(volume: Volume, plan: Plan) -> tuple[Window, ...]:
    """Choose what is black and white: around what the network sees of CT, nearly all that is not zero of others."""
    return tuple(_window(channel, rule) for channel, rule in zip(volume.data, plan.normalization, strict=True))[
        :CHANNELS
    ]


def _window(channel: NDArray[np.float32], rule: Normalization) -> Window:
    seen = window(rule)
    if seen is not None:
        low, high = seen
        return low - 0.3 * (high - low), high + 0.2 * (high - low)
    inside = channel[channel != 0]
    low, high = np.percentile(inside if inside.size else channel, (0.5, 99.5))
    return float(low), float(high)
