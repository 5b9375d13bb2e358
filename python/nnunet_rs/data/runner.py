"""All cases of a dataset, prepared side by side for all configurations, within the memory allowed."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nnunet_rs.core.budget import Budget, StoppedError, in_parallel
from nnunet_rs.core.check import check_case, too_large
from nnunet_rs.core.document import encode
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import Issue, require_none
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.progress import Task
from nnunet_rs.core.types import Box, Case, Dataset, Labels, Volume
from nnunet_rs.data.preprocess import (
    Cropped,
    Unscaled,
    crop,
    narrowed,
    normalized,
    prepare_crop,
    unscaled,
)
from nnunet_rs.data.resampling import described, resampled_shape
from nnunet_rs.data.store import Store, StoreLayout, normalization_key, prepared_name
from nnunet_rs.plan.dataset_scan import DatasetScan
from nnunet_rs.plan.schema import CasePrint, Configuration, Plan, Resampling

VERSION = 2  # of what prepared cases hold: another number makes every case anew
_WRITING = 64 << 20  # bytes of buffers while arrays are compressed


class CaseCache:
    """Cropped cases that stay in memory between the dataset scan and preparing, so that their files are read once.

    Parameters
    ----------
    budget
        Of memory: up to half of it is kept.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._room = budget.total // 2
        self._cases: dict[str, Cropped] = {}
        self._lock = threading.Lock()

    def visit(self, case: Case, volume: Volume, labels: Labels, box: Box) -> None:
        """Keep a case if there is room for it."""
        cropped = narrowed(crop(volume, labels.data, box))
        size = _size(cropped)
        with self._lock:
            if size > self._room or not self._budget.try_hold(size):
                return
            self._room -= size
        cropped = replace(cropped, image=_owned(cropped.image, volume.data))
        if cropped.labels is not None:
            cropped = replace(cropped, labels=_owned(cropped.labels, labels.data))
        self._cases[case.name] = cropped

    def take(self, name: str) -> Cropped | None:
        """Remove a case and return it; its bytes count towards the budget until the caller gives them back."""
        return self._cases.pop(name, None)

    def size(self, name: str) -> int:
        """Bytes of a case; 0 if it is not kept."""
        return _size(self._cases[name]) if name in self._cases else 0

    def total(self) -> int:
        """Bytes that all cases hold."""
        return sum(map(_size, self._cases.values()))

    def drop(self) -> bool:
        """Drop one case; False if there is none."""
        if not self._cases:
            return False
        self._budget.give_back(_size(self._cases.popitem()[1]))
        return True


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What was done for one case."""

    made: int = 0  # configurations made
    found: int = 0  # configurations that were whole already
    bytes: int = 0  # written
    issues: tuple[Issue, ...] = ()  # why the case could not be prepared


@dataclass(frozen=True, slots=True)
class PreprocessingRunner:
    """Prepares the cases of a dataset for all configurations, side by side within the memory allowed."""

    dataset: Dataset
    scan: DatasetScan
    plan: Plan
    configurations: tuple[Configuration, ...]
    folder: Path  # WORK/prepared
    budget: Budget
    cache: CaseCache
    half: bool
    resume: bool
    threads: int  # cases side by side, or kernels' threads where memory allows fewer cases
    signatures: Mapping[str, str]  # by configuration: what of plan and layout decides how a case is prepared

    def run(self, cases: Sequence[Case], task: Task, skip_faulty: bool) -> dict[str, CaseResult]:
        """Prepare cases, the largest first; returns what was done for each.

        Raises
        ------
        IssueError
            A case cannot be prepared, and it is not to be skipped.
        NnunetError
            Nothing can be written.
        """
        needed = {case.name: self.memory_needed(case) for case in cases}
        largest = min(self.budget.total, max(needed.values()))
        while self.budget.free < largest and self.cache.drop():
            pass  # else cases that wait for memory could hold what they wait for
        workers = max(1, min(self.threads, len(cases), self.budget.total // largest))
        kernels = self.threads // workers
        results: dict[str, CaseResult] = {}
        ordered = sorted(cases, key=lambda case: -needed[case.name])
        for case, result in in_parallel(partial(self._prepare, kernels, needed), ordered, workers, self.budget):
            if not skip_faulty:
                require_none(result.issues)
            results[case.name] = result
            task.advance(1, case.name)
        return results

    def store(self, configuration: Configuration) -> Store:
        """Return where a configuration's cases go."""
        return Store(self.folder / configuration.name)

    def memory_needed(self, case: Case) -> int:
        """Bound the bytes of memory that a case takes, from its files to its prepared forms."""
        print = self.scan.cases[case.name].print
        assert print is not None
        channels, masked = len(self.plan.channels), any(rule.use_mask for rule in self.plan.normalization)
        cropped = math.prod(print.shape_after_crop)
        held = math.prod(print.shape) * (4 * channels + 2)  # image and class indices as read
        normalizing = held + cropped * (4 * channels + 1 + 6 * masked)
        most = max(self._resampling(print, configuration) for configuration in self.configurations)
        resampling = cropped * (4 * channels + 1 + masked) + most
        return max(estimate_case_memory(case, channels).reading, normalizing, resampling) + _WRITING

    def _resampling(self, print: CasePrint, configuration: Configuration) -> int:
        """Bound what a resampled case takes besides the normalised one; with class locations and the kernels' buffers.

        Of images that are turned on reading it is not known which axis comes to lie where: the worst is assumed.
        """
        if not self.plan.reorient:
            return self._resampling_of(print, configuration, self.plan.transpose)
        return max(self._resampling_of(print, configuration, axes) for axes in permutations(range(3)))

    def _resampling_of(self, print: CasePrint, configuration: Configuration, axes: tuple[int, ...]) -> int:
        channels, cropped = len(self.plan.channels), math.prod(print.shape_after_crop)
        shape = self._shape(print, configuration, axes)
        resampled = math.prod(shape)
        stored = 3 + 2 * channels  # locations of many voxels, and integers or halves that are made for writing
        if shape == tuple(print.shape_after_crop[axis] for axis in axes):
            return resampled * stored
        between = 4 * min(cropped, 8 * resampled) if resampled < cropped else 0  # one channel, some axes done
        return resampled * (4 * channels + 2 + stored) + between

    def _largest(self, case: Case) -> str:
        """Say what the configuration that takes the most memory makes of a case; nothing where it grows little."""
        print, axes = self.scan.cases[case.name].print, self.plan.transpose
        assert print is not None
        most = max(self.configurations, key=lambda c: self._resampling(print, c))
        if math.prod(self._shape(print, most, axes)) < 2 * math.prod(print.shape_after_crop):
            return ""
        z, y, x = (print.spacing[axis] for axis in axes)
        return described([print.shape_after_crop[axis] for axis in axes], (z, y, x), most)

    def _shape(self, print: CasePrint, configuration: Configuration, axes: tuple[int, ...]) -> tuple[int, ...]:
        shape, (z, y, x) = [print.shape_after_crop[a] for a in axes], (print.spacing[a] for a in axes)
        return resampled_shape(shape, (z, y, x), configuration)

    def cases(self) -> list[Case]:
        """Return the dataset's cases that the scan found to be valid."""
        valid = set(self.scan.valid())
        return [case for case in self.dataset.training if case.name in valid]

    def prepare_one(self, case: Case) -> CaseResult:
        """Prepare a case for all configurations, by one thread: others are prepared beside it.

        Raises
        ------
        NnunetError
            Nothing can be written.
        """
        return self._prepare(1, {case.name: self.memory_needed(case)}, case)

    def missing(self, case: Case) -> list[Configuration]:
        """Return the configurations that lack a case, or that are to be made anew."""
        return [
            c for c in self.configurations if not (self.resume and self.store(c).has(case.name, self._key(case, c)))
        ]

    def _prepare(self, threads: int, needs: Mapping[str, int], case: Case) -> CaseResult:
        missing = self.missing(case)
        size = self.cache.size(case.name)
        try:
            if not missing:
                return CaseResult(found=len(self.configurations))
            needed = needs[case.name]
            if needed > self.budget.total:
                return CaseResult(issues=(too_large(case, needed, self.budget, self._largest(case)),))
            with self.budget.hold(max(0, needed - size)):
                return self._make(case, missing, threads)
        except StoppedError:  # another case ended the work, and will be told
            return CaseResult()
        except DatasetError as error:
            advice = "see the case's files, or leave it out"
            return CaseResult(issues=(Issue(case.images[0], "preparation", str(error), advice, case.name),))
        finally:
            self.cache.take(case.name)
            self.budget.give_back(size)

    def _make(self, case: Case, missing: Sequence[Configuration], threads: int) -> CaseResult:
        """Prepare a case for the configurations that lack it, those first whose grid is the file's own."""
        cropped = self.cache.take(case.name) or self._read(case)
        own = unscaled(cropped, self.plan, overwrite=True)
        del cropped
        shared = [c for c in self._all() if self._stored_as_is(own, c)]
        size = self._write_shared(case, own, shared, [c for c in missing if c in shared])
        rest = [c for c in missing if c not in shared]
        if rest:
            normal = normalized(own)
        del own
        for configuration in rest:
            self._raise_if_stopped()
            prepared = prepare_crop(normal, configuration, threads=threads)
            layout = StoreLayout.of(configuration, self.plan.labels, self.half)
            size += self.store(configuration).write(case.name, prepared, (self._key(case, configuration),), layout)
        return CaseResult(len(missing), len(self.configurations) - len(missing), size)

    def _all(self) -> list[Configuration]:
        """Return the configurations that have prepared cases, asked for or not: what is stored depends on all."""
        return [c for name, c in self.plan.configurations.items() if prepared_name(self.plan, name) == name]

    def _stored_as_is(self, case: Unscaled, configuration: Configuration) -> bool:
        """Whether a case is stored as the integers of its file: it is not resampled, and they are integers."""
        integers = case.image.dtype.kind in "iu"
        geometry = case.geometry
        shape = resampled_shape(geometry.cropped_shape, geometry.working_spacing, configuration)
        return integers and shape == geometry.resampled

    def _write_shared(
        self, case: Case, own: Unscaled, shared: Sequence[Configuration], missing: Sequence[Configuration]
    ) -> int:
        """Write one file for the configurations that a case fits as it is, under a name in each that lacks it."""
        keys, size = tuple(self._key(case, c) for c in shared), 0
        written = [c for c in shared if all(self.store(c).has(case.name, key) for key in keys)]
        for configuration in missing:
            self._raise_if_stopped()
            store = self.store(configuration)
            if not written or not store.link(case.name, self.store(written[0])):
                size += store.write(case.name, own, keys, StoreLayout.shared(shared, self.plan.labels))
                written = [configuration]
        return size

    def _raise_if_stopped(self) -> None:
        if self.budget.stopped:
            raise StoppedError

    def _read(self, case: Case) -> Cropped:
        volume, labels, issues = check_case(self.dataset, case)
        require_none(issues)
        if volume is None or labels is None:
            raise DatasetError("image or label have gone since they were checked")
        return narrowed(crop(volume, labels.data))

    def _key(self, case: Case, configuration: Configuration) -> str:
        """Hash all that a prepared case depends on: its files, and the parts of the plan that preparing looks at."""
        content = f"{self.scan.cases[case.name].signature} {self.signatures[configuration.name]}"
        return f"{hashlib.sha256(content.encode()).hexdigest()}-{normalization_key(self.plan)}"


def preprocessing_signature(plan: Plan, configuration: Configuration, half: bool) -> str:
    """Return all of a plan that decides how a case is prepared and stored, as text."""
    layout = encode(StoreLayout.of(configuration, plan.labels, half))
    parts = [VERSION, plan.transpose, normalization_key(plan), configuration.spacing, layout]
    if configuration.resampling != Resampling() or plan.reorient:  # of plans of nnU-Net's only
        parts += [encode(configuration.resampling), plan.reorient]
    return json.dumps(parts)


def _owned(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of a view of a smaller part: a view would keep the whole in memory."""
    return part.copy() if part.base is not None and part.size < whole.size else part


def _size(cropped: Cropped) -> int:
    return cropped.image.nbytes + (0 if cropped.labels is None else cropped.labels.nbytes)
