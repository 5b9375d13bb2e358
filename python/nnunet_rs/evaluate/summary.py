"""Scores of many cases: means, medians, intervals, and their JSON, CSV and table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import read_json, write_atomically, write_json
from nnunet_rs.evaluate.scores import Score, Target

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
DISTANCES = ("hd95", "asd", "nsd")
# Means in a table, and their digits behind the point.
SHOWN: Mapping[str, int] = {"dice": 4, "iou": 3, "sensitivity": 3, "precision": 3, "hd95": 2, "asd": 2, "nsd": 3}
TABLE_HEAD = ("class", "Dice", "95 % interval", "median", "IoU", "sens.", "prec.", "HD95 mm", "ASD mm", "NSD", "cases")


@dataclass(frozen=True, slots=True)
class CaseScores:
    """The scores of one case, one per target."""

    name: str
    prediction: str  # file
    reference: str  # file
    scores: tuple[Score, ...]
    diagonal: float = nan  # mm, of the image: no distance in it is longer


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

    def known(self, metric: str) -> NDArray[np.int64]:
        """Count the cases that a mean rests on, (targets,): those in which the metric is defined."""
        return np.asarray((~np.isnan(self.values(metric))).sum(axis=0), dtype=np.int64)

    def of_cases(self, names: Collection[str]) -> Summary:
        """Return the scores of these cases alone."""
        return replace(self, cases=tuple(case for case in self.cases if case.name in names))

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
        body = {
            "foreground_mean": {KEYS[m]: _number(self.foreground_mean(m)) for m in KEYS},
            "foreground_dice_interval": [_number(limit) for limit in foreground],
            "mean": self._by_key(keys, self.mean),
            "median": self._by_key(keys, self.median),
            "dice_interval": {
                key: [_number(limit) for limit in pair] for key, pair in zip(keys, intervals, strict=True)
            },
            "cases_in_mean": self._by_key(keys, self.known),
            "missing_distances": dict(zip(keys, self._missing_distances(), strict=True)),
            "tolerance_mm": self.tolerance,
            "classes": {target.key: {"name": target.name, "classes": list(target.classes)} for target in self.targets},
            "metric_per_case": [self._case_json(case) for case in self.cases],
        }
        return SUMMARY.wrap(body)

    def table(self) -> list[list[str]]:
        """Rows of text, the head first, one row per target, the foreground mean last.

        A mean that rests on other cases than Dice does is followed by their number: `1.50 (4/8)`; in the last row by
        that of all values of all targets.
        """
        rows = [list(TABLE_HEAD)]
        intervals, foreground = self.interval() if self.cases else (np.full((len(self.targets), 2), nan), (nan, nan))
        known = {metric: self.known(metric) for metric in SHOWN}
        means = {metric: self.mean(metric) for metric in SHOWN}
        medians = self.median("dice")
        for i, target in enumerate(self.targets):
            cells = {metric: (float(means[metric][i]), int(known[metric][i])) for metric in SHOWN}
            rows.append(_row(target.name, cells, tuple(intervals[i]), float(medians[i]), int(known["dice"][i])))
        overall = {metric: (self.foreground_mean(metric), int(known[metric].sum())) for metric in SHOWN}
        scored = sum(not isnan(mean) for mean in self.case_means().values())
        rows.append(_row("mean", overall, foreground, float(mean_of_known(medians)), scored))
        return rows

    def rests_on_fewer(self) -> bool:
        """Whether a mean of the table rests on other cases than Dice does."""
        measured = [metric for metric in SHOWN if self.tolerance is not None or metric not in DISTANCES]
        return any((self.known(metric) != self.known("dice")).any() for metric in measured)

    @staticmethod
    def files(path: Path) -> tuple[Path, Path]:
        """Which files `write` makes: JSON and CSV; raises NnunetError where the path names a folder."""
        if path.is_dir():  # `.` and `/` have no name that a CSV could be called by
            raise NnunetError(f"{path}: is a folder, and a file is to be written there; name another output (-o)")
        return path.with_suffix(".json") if path.suffix == ".csv" else path, path.with_suffix(".csv")

    def write(self, path: Path, content: Mapping[str, Any] | None = None) -> None:
        """Write the JSON (`content`, if that holds more), and beside it the scores of every case and target as CSV."""
        json_file, csv_file = self.files(path)
        write_json(json_file, content or self.to_json())
        with write_atomically(csv_file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["case", "label", "name", *KEYS.values()])
            for case in self.cases:
                for target, score in zip(self.targets, case.scores, strict=True):
                    numbers = [_number(getattr(score, metric)) for metric in KEYS]
                    writer.writerow([case.name, target.key, target.name, *numbers])

    def _by_key(
        self, keys: Sequence[str], statistic: Callable[[str], NDArray[Any]]
    ) -> dict[str, dict[str, float | None]]:
        columns = {KEYS[metric]: statistic(metric) for metric in KEYS}
        return {
            key: {name: _number(column[i].item()) for name, column in columns.items()} for i, key in enumerate(keys)
        }

    def _missing_distances(self) -> list[int]:
        """Cases per target in which it is present in one of the two only, so that no distance exists."""
        return [sum(case.scores[i].one_sided for case in self.cases) for i in range(len(self.targets))]

    def _case_json(self, case: CaseScores) -> dict[str, Any]:
        return {
            "case": case.name,
            "prediction_file": case.prediction,
            "reference_file": case.reference,
            "diagonal_mm": _number(case.diagonal),
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
    content = SUMMARY.unwrap(read_json(path), str(path))
    try:
        tolerance = content["tolerance_mm"]
        targets = tuple(
            Target(key, entry["name"], tuple(entry["classes"])) for key, entry in content["classes"].items()
        )
        cases = tuple(
            CaseScores(
                entry["case"],
                entry["prediction_file"],
                entry["reference_file"],
                tuple(_score(entry["metrics"][target.key]) for target in targets),
                _or_nan(entry.get("diagonal_mm")),
            )
            for entry in content["metric_per_case"]
        )
        return Summary(targets, cases, tolerance)
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: is not a summary written by evaluate ({error!r}); evaluate again") from error


def together(summaries: Sequence[Summary]) -> Summary:
    """Put the cases of several folds together; folds scored on other targets than the first are left out."""
    same = [summary for summary in summaries if summary.targets == summaries[0].targets]
    cases = tuple(case for summary in same for case in summary.cases)
    tolerances = {summary.tolerance for summary in same}
    return Summary(same[0].targets, cases, same[0].tolerance if len(tolerances) == 1 else None)


def _score(metrics: Mapping[str, float | None]) -> Score:
    values: dict[str, Any] = {metric: _or_nan(metrics[key]) for metric, key in KEYS.items()}
    return Score(**values)


def _with_known_scores(body: dict[str, Any]) -> dict[str, Any]:
    """In version 1 sensitivity was 0 where there is nothing to find, and NSD null where a target was missed."""
    for entry in body["metric_per_case"]:
        for metrics in entry["metrics"].values():
            score = _score(metrics)
            if not score.n_ref:
                metrics[KEYS["sensitivity"]] = None
            if score.one_sided and body["tolerance_mm"] is not None:
                metrics[KEYS["nsd"]] = 0.0
    return body


SUMMARY = Kind("summary", Summary, advice="evaluate again", version=2, migrations={1: _with_known_scores}, marked=False)


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


def _row(
    name: str, means: Mapping[str, tuple[float, int]], limits: tuple[float, float], median: float, cases: int
) -> list[str]:
    """Make a row of the table, of each metric's mean and the number of values that it rests on."""
    low, high = limits
    interval = f"{low:.3f} to {high:.3f}" if isfinite(low) else "-"
    of = means["dice"][1]
    others = [mean_cell(*means[metric], of, digits) for metric, digits in SHOWN.items() if metric != "dice"]
    return [name, _cell(means["dice"][0], SHOWN["dice"]), interval, _cell(median, SHOWN["dice"]), *others, str(cases)]


def mean_cell(value: float, known: int, of: int, digits: int = 3) -> str:
    """Show a mean, and on how many of how many values it rests unless on all; one of none is a dash."""
    return _cell(value, digits) + (f" ({known}/{of})" if known != of and isfinite(value) else "")


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
