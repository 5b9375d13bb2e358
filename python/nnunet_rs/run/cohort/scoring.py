"""Score cases of a cohort: pairs of files go out, scores come back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import decode
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.issues import Warnings
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.record import digest
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import LabelSet, Shape
from nnunet_rs.core.workspace import jobs_beside
from nnunet_rs.evaluate.folders import CasePair, score_pair
from nnunet_rs.evaluate.scores import METRICS, Score, scored_targets
from nnunet_rs.evaluate.summary import CaseScores, Summary
from nnunet_rs.run.cohort.files import Cohort, CohortFolder, Item, as_options, create, newest
from nnunet_rs.run.cohort.threads import side_by_side
from nnunet_rs.run.cohort.work import ItemSettled, as_seen_here
from nnunet_rs.run.executor import Resources

KIND = "evaluate"


def begin_scoring(
    predictions: Path, pairs: Sequence[CasePair], labels: LabelSet, tolerance: float | None, workers: int
) -> tuple[CohortFolder, Cohort]:
    """Make a cohort of pairs of files, or join the one that is there.

    Parameters
    ----------
    predictions
        The folder of the predictions, or one of them; beside them lie the cohort's files.
    pairs, labels, tolerance
        As of `evaluate_pairs`.
    workers
        How many will share them.

    Raises
    ------
    NnunetError
        The folder cannot be written, or a file is not there.
    """
    where = (predictions if predictions.is_dir() else predictions.parent).absolute()
    bodies = [[pair.name, str(pair.prediction.absolute()), str(pair.reference.absolute())] for pair in pairs]
    stamps = [_stamp(Path(file)) for body in bodies for file in body[1:]]
    unannotated = {pair.name: pair.unannotated for pair in pairs if pair.unannotated}
    wanted = as_options(labels=labels, tolerance=tolerance, unannotated=unannotated)
    key, home = digest({"pairs": bodies, "stamps": stamps, **wanted}), jobs_beside(where)
    there = newest(home, KIND)
    if there is not None and there[1].key == key:
        board = there[0].board(there[1])
        if not (board.cancelled or (board.finished and board.failed)):  # what failed is tried again
            return there
    return create(home, Cohort(KIND, str(where), key, (), (), "", wanted), {"": bodies}, workers)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError as error:
        raise NnunetError(f"{file}: cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns


def summary_of(cohort: Cohort, names: Sequence[str], values: dict[int, Any]) -> Summary:
    """Return the scores of all cases."""
    labels = decode(LabelSet, cohort.option("labels"), "labels")
    return Summary(
        scored_targets(labels),
        tuple(
            CaseScores(names[index], value["files"][0], value["files"][1], _scores(value["scores"]), value["diagonal"])
            for index, value in sorted(values.items())
        ),
        cohort.option("tolerance"),
    )


def _scores(rows: list[list[float]]) -> tuple[Score, ...]:
    return tuple(Score(**dict(zip(METRICS, row, strict=True))) for row in rows)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a worker scores. See Work."""

    labels: LabelSet
    tolerance: float | None
    unannotated: Mapping[str, Shape]
    threads: int
    progress: Progress

    def run(self, items: Iterator[Item], settled: ItemSettled) -> None:
        """See Work."""
        warn = Warnings(self.progress.say)

        def score(item: Item) -> dict[str, Any]:
            prediction, reference = map(Path, item.body)
            pair = CasePair(item.name, prediction, reference, self.unannotated.get(item.name, ()))
            scored = score_pair(pair, self.labels, self.tolerance, warn)
            rows = [[getattr(score, metric) for metric in METRICS] for score in scored.scores]
            return {"files": [scored.prediction, scored.reference], "scores": rows, "diagonal": scored.diagonal}

        def told(item: Item, error: BaseException | None, value: Any) -> None:
            settled(item, as_seen_here(error, map(Path, item.body)), value)

        side_by_side(items, told, self.threads, score)
        warn.finish()


@contextmanager
def open_work(cohort: Cohort, _group: str, resources: Resources, progress: Progress) -> Iterator[Scoring]:
    """Read what is scored; see `kinds.opener`."""
    labels = decode(LabelSet, cohort.option("labels"), "labels")
    unannotated = decode(dict[str, Shape], cohort.option("unannotated"), "unannotated")
    yield Scoring(labels, cohort.option("tolerance"), unannotated, resources.threads or processors(), progress)
