"""Prepare cases of a cohort for training, when the dataset is scanned and planned."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.issues import IssueError
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.record import digest
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import Case
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.pipeline import PrepareOptions, open_runner, plan_dataset
from nnunet_rs.data.runner import PreprocessingRunner
from nnunet_rs.run.cohort.files import Cohort, CohortFolder, Item, as_options, begin
from nnunet_rs.run.cohort.threads import side_by_side
from nnunet_rs.run.cohort.work import ItemSettled, as_seen_here
from nnunet_rs.run.executor import Job, Resources

KIND = "preprocess"


def planning_job(data: Path, work: Path, options: PrepareOptions, environment: Mapping[str, str]) -> Job:
    """Return the job that scans a dataset and plans: one node reads every file once."""
    arguments = (data.absolute(), work.absolute(), options, dict(environment))
    return Job(f"plan {work.absolute()}", _plan, arguments)


def _plan(
    data: Path,
    work: Path,
    options: PrepareOptions,
    environment: Mapping[str, str],
    resources: Resources,
    progress: Progress,
) -> int:
    options = replace(options, threads=options.threads or resources.threads, memory=options.memory or resources.memory)
    fingerprint, _ = plan_dataset(read_dataset(data, environment), work, options, progress)
    return len(fingerprint.cases)


def begin_preparing(
    work: Path, options: PrepareOptions, workers: int, progress: Progress
) -> tuple[CohortFolder, Cohort] | None:
    """Make a cohort of the cases that are not prepared, or join the one that is there; None: all are.

    Parameters
    ----------
    work
        Scanned and planned.
    options
        Of which cases are prepared how.
    workers
        How many will share them.
    progress
        Told of a cohort that is joined.

    Raises
    ------
    NnunetError
        The folder cannot be written, or is not planned.
    """
    work = work.absolute()
    dataset = read_dataset(work)
    runner = open_runner(dataset, work, options)
    todo = [case.name for case in runner.cases() if not options.resume or runner.missing(case)]
    if not todo:
        return None
    wanted = as_options(work=work, configurations=options.configurations, half=options.half, resume=options.resume)
    key, home = digest({"signatures": dict(runner.signatures), **wanted}), WorkFolder(work).jobs_folder
    cohort = Cohort(KIND, str(work), key, (), (), "", wanted)
    return begin(home, cohort, {"": [[name] for name in todo]}, workers, progress)


@dataclass(frozen=True, slots=True)
class Preparing:
    """What a worker prepares with. See Work."""

    runner: PreprocessingRunner
    cases: Mapping[str, Case]
    threads: int

    def run(self, items: Iterator[Item], settled: ItemSettled) -> None:
        """See Work."""

        def do(item: Item) -> None:
            result = self.runner.prepare_one(self.cases[item.name])
            if result.issues:
                raise IssueError(result.issues[0])

        def told(item: Item, error: BaseException | None, value: Any) -> None:
            settled(item, as_seen_here(error, files_of(self.cases[item.name])), value)

        side_by_side(items, told, self.threads, do)


def files_of(case: Case) -> tuple[Path, ...]:
    """Return the files of a case."""
    return (*case.images, *(() if case.label is None else (case.label,)))


@contextmanager
def open_work(cohort: Cohort, _group: str, resources: Resources, progress: Progress) -> Iterator[Preparing]:  # noqa: ARG001
    """Read plan and dataset; see `kinds.opener`."""
    os.environ.setdefault("BLOSC_NTHREADS", "1")  # as the command has it: cases are prepared side by side
    threads = resources.threads or processors()
    options = PrepareOptions(
        configurations=tuple(cohort.option("configurations")),
        half=cohort.option("half"),
        resume=cohort.option("resume"),
        memory=resources.memory,
        threads=threads,
    )
    work = Path(cohort.option("work"))
    runner = open_runner(read_dataset(work), work, options)
    yield Preparing(runner, {case.name: case for case in runner.dataset.training}, threads)
