"""Scores of many cases: means, medians, intervals, and their JSON, CSV and table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json, write_atomically, write_json
from nnunet_rs.predict.scores import METRICS, Score, Target

SUMMARY_VERSION = 1
DRAWS = 1000  # bootstrap resamples
SEED = 12345

# As nnU-Net's summary.json names them, then those it does not have.
KEYS: Mapping[str, str] = {
    "dice": "Dice",
    "iou": "IoU",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
    "tn": "TN",
    "n_pred": "n_pred",
    "n_ref": "n_ref",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "volume_pred": "volume_pred_ml",
    "volume_ref": "volume_ref_ml",
    "hd95": "HD95",
    "asd": "ASD",
    "nsd": "NSD",
}
TABLE_HEAD = ("class", "Dice", "95 % interval", "median", "IoU", "sens.", "prec.", "HD95 mm", "ASD mm", "NSD", "cases")


@dataclass(frozen=True, slots=True)
class CaseScores:
    """The scores of one case, one per target."""

    name: str
    prediction: str  # file
    reference: str  # file
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """The scores of all cases."""

    targets: tuple[Target, ...]
    cases: tuple[CaseScores, ...]
    tolerance: float | None  # mm, of the normalised surface Dice; None: no distances were measured

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return one metric of every case and target, (cases, targets); NaN where it is undefined."""
        rows = [[getattr(score, metric) for score in case.scores] for case in self.cases]
        return np.asarray(rows, dtype=np.float64).reshape(len(self.cases), len(self.targets))

    def mean(self, metric: str) -> NDArray[np.float64]:
        """Mean over the cases, (targets,); undefined values are left out."""
        return mean_of_known(self.values(metric))

    def median(self, metric: str) -> NDArray[np.float64]:
        """Median over the cases, (targets,); undefined values are left out."""
        columns = [column[~np.isnan(column)] for column in self.values(metric).T]
        return np.asarray([np.median(column) if column.size else nan for column in columns])

    def foreground_mean(self, metric: str = "dice") -> float:
        """Mean over the targets of their means over the cases, as nnU-Net's `foreground_mean`."""
        return float(mean_of_known(self.mean(metric)))

    def case_means(self, metric: str = "dice") -> dict[str, float]:
        """Mean of each case over the targets that have a value, by name; NaN where none has."""
        means = mean_of_known(self.values(metric).T)
        return {case.name: float(mean) for case, mean in zip(self.cases, means, strict=True)}

    def interval(self, metric: str = "dice") -> tuple[NDArray[np.float64], tuple[float, float]]:
        """95 % bootstrap intervals, over the cases, of each target's mean (targets, 2) and of the foreground mean.

        Percentile bootstrap (Efron 1979) with a fixed seed: the same scores give the same interval.
        """
        values = self.values(metric)
        count = len(values)
        draws = np.random.default_rng(SEED).integers(0, count, (DRAWS, count))
        # how often each case was drawn; the means of all resamples are then two matrix products
        weights = np.apply_along_axis(np.bincount, 1, draws, minlength=count).astype(np.float64)
        known = ~np.isnan(values)
        means = _divide(weights @ np.where(known, values, 0.0), weights @ known)
        low, high = _limits(mean_of_known(means.T))
        return np.asarray([_limits(column) for column in means.T]).reshape(-1, 2), (low, high)

    def to_json(self) -> dict[str, Any]:
        """All scores under nnU-Net's keys, and more; undefined values become null."""
        keys = [target.key for target in self.targets]
        intervals, foreground = self.interval() if self.cases else (np.full((len(keys), 2), nan), (nan, nan))
        return {
            "version": SUMMARY_VERSION,
            "foreground_mean": {KEYS[m]: _number(self.foreground_mean(m)) for m in KEYS},
            "foreground_dice_interval": [_number(limit) for limit in foreground],
            "mean": self._by_key(keys, self.mean),
            "median": self._by_key(keys, self.median),
            "dice_interval": {
                key: [_number(limit) for limit in pair] for key, pair in zip(keys, intervals, strict=True)
            },
            "missing_distances": dict(zip(keys, self._missing_distances(), strict=True)),
            "tolerance_mm": self.tolerance,
            "classes": {target.key: {"name": target.name, "classes": list(target.classes)} for target in self.targets},
            "metric_per_case": [self._case_json(case) for case in self.cases],
        }

    def table(self) -> list[list[str]]:
        """Rows of text, the head first, one row per target, the foreground mean last."""
        rows = [list(TABLE_HEAD)]
        intervals, foreground = self.interval() if self.cases else (np.full((len(self.targets), 2), nan), (nan, nan))
        known = (~np.isnan(self.values("dice"))).sum(axis=0)
        means = {metric: self.mean(metric) for metric in METRICS}
        medians = self.median("dice")
        for i, target in enumerate(self.targets):
            cells = {metric: float(means[metric][i]) for metric in METRICS}
            rows.append(_row(target.name, cells, tuple(intervals[i]), float(medians[i]), str(known[i])))
        overall = {metric: self.foreground_mean(metric) for metric in METRICS}
        rows.append(_row("mean", overall, foreground, float(mean_of_known(medians)), str(len(self.cases))))
        return rows

    def write(self, path: Path, content: Mapping[str, Any] | None = None) -> None:
        """Write the JSON (`content`, if that holds more), and beside it the scores of every case and target as CSV."""
        write_json(path.with_suffix(".json") if path.suffix == ".csv" else path, content or self.to_json())
        with write_atomically(path.with_suffix(".csv")) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "label", "name", *KEYS.values()])
            for case in self.cases:
                for target, score in zip(self.targets, case.scores, strict=True):
                    numbers = [_number(getattr(score, metric)) for metric in KEYS]
                    writer.writerow([case.name, target.key, target.name, *numbers])

    def _by_key(self, keys: Sequence[str], statistic: Any) -> dict[str, dict[str, float | None]]:
        columns = {KEYS[metric]: statistic(metric) for metric in KEYS}
        return {key: {name: _number(column[i]) for name, column in columns.items()} for i, key in enumerate(keys)}

    def _missing_distances(self) -> list[int]:
        """Cases per target in which it is present in one of the two only, so that no distance exists."""
        one_sided = (self.values("n_pred") == 0) != (self.values("n_ref") == 0)
        return [int(count) for count in one_sided.sum(axis=0)]

    def _case_json(self, case: CaseScores) -> dict[str, Any]:
        return {
            "case": case.name,
            "prediction_file": case.prediction,
            "reference_file": case.reference,
            "metrics": {
                target.key: {KEYS[metric]: _number(getattr(score, metric)) for metric in KEYS}
                for target, score in zip(self.targets, case.scores, strict=True)
            },
        }


def read_summary(path: Path) -> Summary:
    """Read what `Summary.write` wrote.

    Raises
    ------
    DatasetError
        If the file is no summary of this version.
    """
    content = read_json(path)
    try:
        if content["version"] != SUMMARY_VERSION:
            raise DatasetError(
                f"{path}: is a summary of version {content['version']}, not {SUMMARY_VERSION}; evaluate again"
            )
        targets = tuple(
            Target(key, entry["name"], tuple(entry["classes"])) for key, entry in content["classes"].items()
        )
        cases = tuple(
            CaseScores(
                entry["case"],
                entry["prediction_file"],
                entry["reference_file"],
                tuple(_score(entry["metrics"][target.key]) for target in targets),
            )
            for entry in content["metric_per_case"]
        )
        return Summary(targets, cases, content["tolerance_mm"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: is not a summary written by evaluate ({error!r}); evaluate again") from error


def _score(metrics: Mapping[str, float | None]) -> Score:
    values: dict[str, Any] = {}
    for metric, key in KEYS.items():
        value = metrics[key]
        values[metric] = nan if value is None else value
    return Score(**values)


def _row(name: str, cells: Mapping[str, float], limits: tuple[float, float], median: float, cases: str) -> list[str]:
    low, high = limits
    interval = f"{low:.3f} to {high:.3f}" if isfinite(low) else "-"
    ratios = [_cell(cells[metric], 3) for metric in ("iou", "sensitivity", "precision")]
    distances = [_cell(cells["hd95"], 2), _cell(cells["asd"], 2), _cell(cells["nsd"], 3)]
    return [name, _cell(cells["dice"], 4), interval, _cell(median, 4), *ratios, *distances, cases]


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "-"


def _number(value: float) -> float | None:
    return value if isinstance(value, int) else float(value) if isfinite(value) else None


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return nan, nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean along the first axis without NaN, NaN where nothing is left (numpy's own warns there)."""
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))


def _divide(total: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    quotient = np.full(np.shape(total), nan)
    np.divide(total, count, out=quotient, where=np.asarray(count) > 0)
    return quotient
