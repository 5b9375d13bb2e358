"""From a dataset's folder to a work folder that training reads: check, fingerprint, plan, split, prepare. Resumes."""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_rs.core.budget import Budget, memory_for_cases
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json, remove_leftovers, write_json
from nnunet_rs.core.issues import Issue, fatal
from nnunet_rs.core.locks import exclusive
from nnunet_rs.core.partial_labels import KEY as PARTIAL
from nnunet_rs.core.progress import Progress, Share, Silent, Task
from nnunet_rs.core.resources import peak_memory, processors
from nnunet_rs.core.types import Case, Dataset
from nnunet_rs.core.workspace import DATASET_JSON, WorkFolder
from nnunet_rs.data.chunked_arrays import warm_up
from nnunet_rs.data.ownership import MARK, require_own
from nnunet_rs.data.placement import Placement, place_prepared, prepared_cases, prepared_folder
from nnunet_rs.data.preprocess import find_configuration
from nnunet_rs.data.reconcile import reconcile_splits, require_number
from nnunet_rs.data.runner import CaseCache, CaseResult, PreprocessingRunner, preprocessing_signature
from nnunet_rs.data.store import prepared_name
from nnunet_rs.plan.dataset_scan import DatasetScan, Visit, scan_dataset
from nnunet_rs.plan.dataset_scan_file import read_dataset_scan
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.fingerprint import COUNTERS
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.plan.reconcile import reconcile_plan
from nnunet_rs.plan.schema import Configuration, Fingerprint, Plan


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """What `prepare_dataset` can be asked for."""

    planner: str | None = None  # None: that of the plan that is there, else "paper"
    overrides: PlanOverrides | None = None
    plans: Path | None = None  # nnU-Net's plans.json, to be followed instead of a planner
    configurations: tuple[str, ...] = ()  # empty: all of the plan
    groups: Mapping[str, str] | None = None  # case → group that stays in one fold
    strata: Mapping[str, str] | None = None  # case → stratum that is spread evenly over folds
    num_folds: int | None = None  # of cross-validation; None: as many as splits.json has, else five
    memory: int | None = None  # bytes that this process may hold; None: most of what is free
    threads: int | None = None  # None: one per processor this process may use
    resume: bool = True  # keep what is whole and unchanged
    skip_faulty: bool = False  # leave out cases that have problems
    half: bool = False  # store images as float16
    placement: Placement | None = None  # where prepared cases shall lie; None: where they do
    recipe: InitVar[str | None] = None  # the earlier name of `planner`

    def __post_init__(self, recipe: str | None) -> None:
        """Take what is given by an earlier name."""
        if recipe is not None:
            warnings.warn("PrepareOptions: recipe is now planner", DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "planner", recipe)


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """What `prepare_dataset` did."""

    work: Path
    configurations: tuple[str, ...]
    cases: int  # prepared, now or before
    voxels: int  # of the cases' images, all channels
    made: int  # cases × configurations made in this run
    found: int  # cases × configurations that were whole already
    bytes_read: int  # of the cases' files, as stored
    bytes_written: int
    seconds: float
    peak_memory: int  # bytes; 0 where the system does not tell
    skipped: tuple[Issue, ...]  # why cases were left out
    warnings: tuple[Issue, ...]


def prepare_dataset(
    dataset: Dataset, work: str | Path, options: PrepareOptions | None = None, progress: Progress | None = None
) -> PrepareSummary:
    """Check, fingerprint, plan, split and prepare a dataset.

    Parameters
    ----------
    dataset
        As `read_dataset` gave it.
    work
        The work folder, made if it is not there. It gets dataset.json (nnU-Net's form, listing the files where they
        are), survey.json, fingerprint.json, plan.json, splits.json and prepared/CONFIGURATION.
    options
        See PrepareOptions.
    progress
        One task: each case counts once when it is read and once when it is prepared.

    Returns
    -------
    PrepareSummary
        Of a run whose results depend neither on threads nor on memory, nor on what was interrupted before.

    Raises
    ------
    DatasetError
        Cases have problems (unless they are skipped), all have, or the memory allowed does not suffice for anything. Or
        `work` holds files that this library did not make, or another dataset's (nothing is written then).
    PlanError
        No plan can be made or followed, or it has no such configuration.
    NnunetError
        Something cannot be written, or another process is preparing the same folder.
    """
    work = Path(work)
    started = time.monotonic()
    require_own(dataset, work)
    run = _Run(dataset, WorkFolder(work), options or PrepareOptions(), progress or Silent())
    with ExitStack() as stack:
        stack.enter_context(exclusive(work, "preprocess", run.progress))
        if run.options.placement is not None and (remark := place_prepared(work, run.options.placement)):
            run.progress.say(remark)
        stack.enter_context(_lock_prepared(work, run.progress))
        prepared = prepared_folder(work)
        for folder in (work, *prepared.glob("*/")):
            remove_leftovers(folder)
        cache = CaseCache(run.budget)
        if not prepared_cases(work):  # else perhaps nothing is left to write
            warm_up()
        with run.progress.task("preprocess", len(dataset.training)) as whole:
            task = Share(whole, 0.5)  # each case is read, then prepared
            scan = run.scan(task, cache.visit)
            task.advance(len(dataset.training) - len(scan.valid()))
            plan = run.reconcile(scan)
            results = run.prepare(scan, plan, cache, task)
    return run.summary(time.monotonic() - started, scan, plan, results)


def plan_dataset(
    dataset: Dataset, work: str | Path, options: PrepareOptions | None = None, progress: Progress | None = None
) -> tuple[Fingerprint, Plan]:
    """Check, fingerprint, plan and split a dataset; `prepare_dataset` then goes on without reading it again.

    Parameters, files and errors as `prepare_dataset`; nothing is prepared.
    """
    work = Path(work)
    require_own(dataset, work)
    run = _Run(dataset, WorkFolder(work), options or PrepareOptions(), progress or Silent())
    with exclusive(work, "plan", run.progress):
        remove_leftovers(work)
        with run.progress.task("fingerprint", len(dataset.training)) as task:
            scan = run.scan(task)
        plan = run.reconcile(scan)
    assert scan.fingerprint is not None
    return scan.fingerprint, plan


def open_runner(dataset: Dataset, work: Path, options: PrepareOptions) -> PreprocessingRunner:
    """Return what prepares cases of a work folder that is planned, one by one; no file of a case is read for it.

    Parameters
    ----------
    dataset
        Of the work folder: `read_dataset(work)`.
    work, options
        As of `prepare_dataset`; nothing is scanned or planned.

    Raises
    ------
    DatasetError
        What the scan found is not there, or is damaged.
    PlanError
        There is no plan, or it has no such configuration.
    """
    run = _Run(dataset, WorkFolder(work), options, Silent())
    cases, _ = read_dataset_scan(WorkFolder(work).scan_file)
    return run.runner(DatasetScan(cases, (), None), read_plan(WorkFolder(work).plan_file), CaseCache(run.budget))


@dataclass(slots=True)
class _Run:
    """One call of `prepare_dataset`."""

    dataset: Dataset
    work: WorkFolder
    options: PrepareOptions
    progress: Progress
    threads: int = field(init=False)
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.threads = min(self.options.threads or processors(), max(1, len(self.dataset.training)))
        counters = 2 * _counters(self.options.memory)
        self.budget = Budget(memory_for_cases(self.options.memory, self.threads, counters))

    def scan(self, task: Task, visit: Visit | None = None) -> DatasetScan:
        """Read the dataset; raise if a case has problems, unless they may be skipped."""
        names = [case.name for case in self.dataset.training]
        require_number(self.work.splits_file, names, self.options.groups, self.options.num_folds)
        if not self.options.resume:
            self.work.scan_file.unlink(missing_ok=True)
        scan = scan_dataset(
            self.dataset,
            self.work.path,
            self.budget,
            threads=self.threads,
            counters=_counters(self.options.memory),
            task=task,
            visit=visit,
        )
        _report_warnings(scan, self.progress)
        _require_valid(self.dataset, scan, self.options.skip_faulty)
        return scan

    def reconcile(self, scan: DatasetScan) -> Plan:
        """Write dataset.json, plan.json and splits.json, or follow those that are there."""
        assert scan.fingerprint is not None
        cases, names = self._valid_cases(scan), scan.valid()
        write_json(self.work.dataset_file, _dataset_json(self.dataset, cases))
        asked = self.options
        plan = reconcile_plan(
            self.dataset, scan.fingerprint, self.work.path, asked.planner, asked.overrides, self.progress, asked.plans
        )
        reconcile_splits(
            self.work.splits_file,
            names,
            self.progress,
            groups=asked.groups,
            strata=asked.strata,
            num_folds=asked.num_folds,
        )
        return plan

    def prepare(self, scan: DatasetScan, plan: Plan, cache: CaseCache, task: Task) -> dict[str, CaseResult]:
        """Prepare all valid cases."""
        return self.runner(scan, plan, cache).run(self._valid_cases(scan), task, self.options.skip_faulty)

    def runner(self, scan: DatasetScan, plan: Plan, cache: CaseCache) -> PreprocessingRunner:
        """Return what prepares cases."""
        return PreprocessingRunner(
            dataset=self.dataset,
            scan=scan,
            plan=plan,
            configurations=_wanted(plan, self.options.configurations),
            signatures={
                c.name: preprocessing_signature(plan, c, self.options.half) for c in plan.configurations.values()
            },
            folder=prepared_folder(self.work.path),
            budget=self.budget,
            cache=cache,
            half=self.options.half,
            resume=self.options.resume,
            threads=self.threads,
        )

    def _valid_cases(self, scan: DatasetScan) -> list[Case]:
        return [case for case in self.dataset.training if scan.cases[case.name].print is not None]

    def summary(self, seconds: float, scan: DatasetScan, plan: Plan, results: dict[str, CaseResult]) -> PrepareSummary:
        """Count what was done."""
        failed = tuple(issue for case in results.values() for issue in case.issues)
        done = {name for name, case in results.items() if not case.issues}
        files = [path for case in self.dataset.training if case.name in done for path in (*case.images, case.label)]
        prints = [case.print for name, case in scan.cases.items() if name in done and case.print]
        return PrepareSummary(
            work=self.work.path,
            configurations=tuple(c.name for c in _wanted(plan, self.options.configurations)),
            cases=len(done),
            voxels=len(plan.channels) * sum(math.prod(print.shape) for print in prints),
            made=sum(case.made for case in results.values()),
            found=sum(case.found for case in results.values()),
            bytes_read=sum(path.stat().st_size for path in files if path is not None),
            bytes_written=sum(case.bytes for case in results.values()),
            seconds=seconds,
            peak_memory=peak_memory(),
            skipped=(*fatal(scan.issues), *failed),
            warnings=tuple(issue for issue in scan.issues if not issue.fatal),
        )


def _lock_prepared(work: Path, progress: Progress) -> AbstractContextManager[None]:
    """Keep others out of prepared cases that lie outside of the work folder: it may not be the only one to use them."""
    prepared = prepared_folder(work)
    return nullcontext() if prepared.parent == work else exclusive(prepared, f"preprocess for {work}", progress)


def _counters(allowed: int | None) -> int:
    """Return the bytes that statistics may take, a function of what the user asks for alone: survey.json tells it."""
    return COUNTERS if allowed is None else min(COUNTERS, allowed // 16)


def _report_warnings(scan: DatasetScan, progress: Progress) -> None:
    """Report each kind of warning once."""
    kinds: dict[str, list[Issue]] = defaultdict(list)
    for issue in scan.issues:
        if not issue.fatal:
            kinds[issue.rule].append(issue)
    for issues in kinds.values():
        more = f" (and {len(issues) - 1} more of this kind)" if len(issues) > 1 else ""
        progress.say(f"warning: {issues[0]}{more}")


def _require_valid(dataset: Dataset, scan: DatasetScan, skip_faulty: bool) -> None:
    """Raise for problems that are not to be skipped, or if no case is left."""
    issues = [issue for issue in fatal(scan.issues) if not (skip_faulty and issue.case)]
    if issues:
        others = f"; {len(issues) - 1} more problem{'s' * (len(issues) > 2)}, see `check`" if len(issues) > 1 else ""
        skip = "; --skip-faulty goes on without such cases" if issues[0].case else ""
        raise DatasetError(f"{issues[0]}{others}{skip}")
    if not scan.valid():
        first = next(iter(fatal(scan.issues)), None)
        raise DatasetError(
            f"{dataset.root}: no training case can be used{f', the first problem: {first}' if first else ''}"
        )


def _wanted(plan: Plan, names: Sequence[str]) -> tuple[Configuration, ...]:
    """Return the configurations whose cases are prepared; those that share them (a cascade's) count once."""
    for name in names:
        find_configuration(plan, name)
    shared = dict.fromkeys(prepared_name(plan, name) for name in names or plan.configurations)
    return tuple(plan.configurations[name] for name in shared)


def _annotated(dataset: Dataset, cases: Sequence[Case]) -> dict[str, Any]:
    """Say, as dataset.json does, what the cases are annotated for that are not in full."""
    names = dataset.labels.score_names
    partly = {
        case.name: [name for index, name in enumerate(names) if index not in case.unannotated]
        for case in cases
        if case.unannotated
    }
    return {PARTIAL: partly} if partly else {}


_KEPT = ("labels", "regions_class_order", "codes", "colours", "colors")  # the last three: for DICOM


def _dataset_json(dataset: Dataset, cases: Sequence[Case]) -> dict[str, Any]:
    """Return a dataset.json in nnU-Net's form that lists files where they are: WORK can be read as a dataset."""
    declared = read_json(dataset.root / DATASET_JSON)
    declared_labels = {key: declared[key] for key in _KEPT if key in declared}
    listed = {
        case.name: {
            "images": [str(path.resolve()) for path in case.images],
            "label": str(case.label and case.label.resolve()),
        }
        for case in cases
    }
    return {
        "name": dataset.name,
        "channel_names": {str(number): name for number, name in enumerate(dataset.channels)},
        **declared_labels,
        **_annotated(dataset, cases),
        "numTraining": len(cases),
        "file_ending": dataset.ending,
        "dataset": listed,
        MARK: {"root": str(dataset.root.resolve())},  # by which the folder is known again
    }
