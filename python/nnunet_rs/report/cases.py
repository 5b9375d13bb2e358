"""Pictures of scored cases: one by name, or the best, the median and the worst."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_rs.core.io import read_labels, read_volume
from nnunet_rs.core.labels import encode_labels
from nnunet_rs.core.types import Case, LabelSet
from nnunet_rs.predict.summary import CaseScores, Summary
from nnunet_rs.report.figures import Comparison, overlay_picture


@dataclass(frozen=True, slots=True)
class Ranked:
    """A case and where it stands among the others."""

    rank: str  # best, median, worst
    scores: CaseScores
    dice: float  # mean over the targets that the case has


def ranked_cases(summary: Summary) -> tuple[Ranked, ...]:
    """Choose the best, the median and the worst case by mean Dice; fewer where there are fewer cases with a Dice.

    Of an even number of cases the worse of the two in the middle is the median.
    """
    means = [_mean([score.dice for score in case.scores]) for case in summary.cases]
    order = sorted((k for k, mean in enumerate(means) if not math.isnan(mean)), key=lambda k: means[k], reverse=True)
    if len(order) > 2:
        order = [order[0], order[len(order) // 2], order[-1]]
    ranks = ("best", "median", "worst") if len(order) > 2 else ("best", "worst")
    return tuple(Ranked(rank, summary.cases[k], means[k]) for rank, k in zip(ranks, order, strict=False))


def picture_ranked(folder: Path, cases: tuple[Case, ...], labels: LabelSet, summary: Summary) -> tuple[Path, ...]:
    """Write FOLDER/best.png, median.png and worst.png: image, reference, prediction.

    Parameters
    ----------
    folder
        Made if it is not there.
    cases
        Among them those that were scored, with their images.
    labels
        What label files hold.
    summary
        The scores, with the files that were compared.

    Raises
    ------
    DatasetError
        A file cannot be read any more.
    """
    known = {case.name: case for case in cases}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for place in ranked_cases(summary):
        paths.append(folder / f"{place.rank}.png")
        title = f"{place.scores.name}: the {place.rank} of {len(summary.cases)}"
        picture_case(paths[-1], title, known[place.scores.name], labels, summary)
    return tuple(paths)


def picture_case(path: Path, title: str, case: Case, labels: LabelSet, summary: Summary) -> None:
    """Write a PNG of a scored case's first channel, its reference and its prediction; errors as `picture_ranked`."""
    scored = next(scored for scored in summary.cases if scored.name == case.name)
    volume = read_volume(case.images)
    prediction, reference = (
        encode_labels(read_labels(Path(file)).data, labels) for file in (scored.prediction, scored.reference)
    )
    dice = {target.name: score.dice for target, score in zip(summary.targets, scored.scores, strict=True)}
    comparison = Comparison(
        title=title,
        image=volume.data[0],
        prediction=prediction,
        reference=reference,
        spacing=volume.spacing,
        header=volume.header,
        names=labels.names,
        dice=dice,
    )
    overlay_picture(path, comparison)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
