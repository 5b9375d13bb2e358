"""Keep the largest connected component: doing it, and deciding by cross-validation where it helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import IntArray, LabelSet
from nnunet_rs.evaluate.folders import CasePair, read_pair
from nnunet_rs.evaluate.scores import Target, count_pairs, dice, overlap, scored_targets

CONNECTIVITY = 26  # voxels that share a face, an edge or a corner belong together, as in nnU-Net
NOISE = 1e-12  # differences of mean Dice below this are rounding

Classes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PostProcessing:
    """Steps in order; each keeps the largest component of a union of classes and makes the rest background."""

    keep_largest: tuple[Classes, ...] = ()  # class indices
    reasons: tuple[str, ...] = ()  # what was tried, with the numbers

    def apply(self, labels: IntArray) -> IntArray:
        """Return the class indices (z, y, x) after all steps; the argument stays as it is."""
        result = labels.copy() if self.keep_largest else labels
        for classes in self.keep_largest:
            for box, rest in _rest(result, classes):
                result[box][rest] = 0
        return result


def choose_postprocessing(
    pairs: Sequence[CasePair], labels: LabelSet, progress: Progress | None = None
) -> PostProcessing:
    """Decide on cross-validation predictions which components to remove.

    First the largest component of the whole foreground, then, on top of what was decided, that of each class (or
    region). A step is adopted where the foreground mean Dice rises and no class' mean Dice falls (nnU-Net,
    supplementary note "Empirical parameters").

    Parameters
    ----------
    pairs
        Predictions of cases by models that did not see them, and references; files as in `evaluate_folders`.
    labels
        What the files' values mean.
    """
    targets = scored_targets(labels)
    foreground = tuple(range(1, labels.count))
    trial = _Trial(pairs, labels, targets, progress or Silent())
    steps, reasons = trial.decide((), [("the foreground", foreground)])
    candidates = [(target.name, target.classes) for target in targets if target.classes != foreground]
    # Removing components of one class changes no other class, those of a region do: regions are decided one by one.
    groups = [[candidate] for candidate in candidates] if labels.regions else [candidates]
    for group in groups:
        more, told = trial.decide(steps, group)
        steps, reasons = steps + more, reasons + told
    return PostProcessing(steps, reasons)


@dataclass(frozen=True, slots=True)
class _Trial:
    pairs: Sequence[CasePair]
    labels: LabelSet
    targets: tuple[Target, ...]
    progress: Progress

    def decide(
        self, steps: tuple[Classes, ...], candidates: Sequence[tuple[str, Classes]]
    ) -> tuple[tuple[Classes, ...], tuple[str, ...]]:
        """Return the candidates to adopt on top of `steps`, and why; each is judged by itself."""
        if not candidates:
            return (), ()
        means = self._mean_dice(steps, [classes for _, classes in candidates])
        adopted, reasons = [], []
        for (name, classes), after in zip(candidates, means[1:], strict=True):
            gain, worst = _mean(after) - _mean(means[0]), np.nanmin(np.append(after - means[0], np.inf))
            helps = bool(gain > NOISE and worst >= -NOISE)
            adopted += [classes] if helps else []
            verdict = "adopted" if helps else "not adopted"
            reasons.append(
                f"largest component of {name}: foreground mean Dice {_mean(means[0]):.4f} -> {_mean(after):.4f}, "
                f"greatest loss of a class {max(0.0, -float(worst)):.4f}: {verdict}"
            )
        return tuple(adopted), tuple(reasons)

    def _mean_dice(self, steps: tuple[Classes, ...], candidates: Sequence[Classes]) -> NDArray[np.float64]:
        """Mean Dice over the cases, (1 + candidates, targets): after `steps`, and after each candidate on top."""
        total = np.zeros((1 + len(candidates), len(self.targets)))
        known = np.zeros_like(total)
        with self.progress.task("post-processing", len(self.pairs)) as task:
            for pair in self.pairs:
                dices = self._case_dice(pair, steps, candidates)
                known += ~np.isnan(dices)
                total += np.nan_to_num(dices)
                task.advance(1, pair.name)
        return np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)

    def _case_dice(
        self, pair: CasePair, steps: tuple[Classes, ...], candidates: Sequence[Classes]
    ) -> NDArray[np.float64]:
        prediction, reference = (labels.data for labels in read_pair(pair, self.labels))
        prediction = PostProcessing(steps).apply(prediction)
        before = count_pairs(prediction, reference, self.labels.count)
        tables = [before]
        for classes in candidates:
            after = before.copy()  # only the removed voxels change: from their class to the background
            for box, rest in _rest(prediction, classes):
                gone = count_pairs(prediction[box][rest], reference[box][rest], self.labels.count)
                after -= gone
                after[0] += gone.sum(axis=0)
            tables.append(after)
        dices = np.asarray([[dice(*overlap(table, t.classes)[:3]) for t in self.targets] for table in tables])
        dices[:, list(pair.unannotated)] = np.nan
        return dices


def _mean(dices: NDArray[np.float64]) -> float:
    known = dices[~np.isnan(dices)]
    return float(known.mean()) if known.size else float("nan")


def _rest(labels: IntArray, classes: Classes) -> list[tuple[Any, NDArray[np.bool_]]]:
    """Box and mask, within it, of all components of a union of classes but the largest; none if it is in one piece.

    Of equally large components the first in memory order is kept.
    """
    import cc3d

    mask = np.isin(labels, classes)
    if not mask.any():
        return []
    box = tuple(
        slice(int(used[0]), int(used[-1]) + 1)
        for used in (np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    )
    # The margin is for cc3d 4.1, whose table of provisional labels is too small for volumes of a few voxels.
    padded = np.pad(mask[box], 1)
    components, count = cc3d.connected_components(padded, connectivity=CONNECTIVITY, return_N=True)
    if count < 2:
        return []
    components = components[1:-1, 1:-1, 1:-1]
    sizes = np.bincount(components.reshape(-1), minlength=count + 1)
    largest = 1 + int(np.argmax(sizes[1:]))
    return [(box, (components != 0) & (components != largest))]
