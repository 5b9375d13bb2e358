"""Decide by cross-validation where keeping the largest connected component helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import LabelSet
from nnunet_rs.evaluate.folders import CasePair, read_pair
from nnunet_rs.evaluate.scores import Target, count_pairs, dice, overlap, scored_targets
from nnunet_rs.select.postprocessing import Classes, PostProcessing, smaller_components

NOISE = 1e-12  # differences of mean Dice below this are rounding


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
            for box, rest in smaller_components(prediction, classes):
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
