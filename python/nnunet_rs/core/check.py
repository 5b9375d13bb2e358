"""Every issue of a dataset, in one pass over its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunet_rs.core.budget import Budget, in_parallel, memory_for_cases
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.image_file import Grid, ImageFile, compare_grids
from nnunet_rs.core.io import companions, gather, read_label_scan, read_scan
from nnunet_rs.core.issues import Issue, IssueError, fatal
from nnunet_rs.core.labels import encode_labels, present_classes
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.names import TAKEN, result_ending
from nnunet_rs.core.orientation import stored_orientation
from nnunet_rs.core.outliers import ComparedCase, outliers
from nnunet_rs.core.partial_labels import KEY as PARTIAL
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import Case, Dataset, IntArray, Labels, LabelSet, Volume
from nnunet_rs.core.workspace import DATASET_JSON


@dataclass(frozen=True, slots=True)
class CheckedCase:
    """What one case contributes to the verdict on the dataset."""

    issues: tuple[Issue, ...]
    classes: tuple[bool, ...] = ()  # which classes it holds, the ignore label last; empty: unknown
    measured: ComparedCase | None = None  # None: its image cannot be read


def check_case(dataset: Dataset, case: Case) -> tuple[Volume | None, Labels | None, tuple[Issue, ...]]:
    """Read a case and list everything that is wrong with it.

    Fingerprint and preprocessing take image and labels from here, so that each file is read once.

    Returns
    -------
    volume
        The image, float32 (c, z, y, x); None where it has a fatal issue.
    labels
        Class indices (z, y, x), `count` where ignored; None where there is no label file or it has a fatal issue.
    issues
        First the image's, then the label's. Fatal: `missing`, `unreadable`, `file-empty`, `not-gzip`, `gzip-truncated`,
        `gzip-corrupt`, `not-nifti`, `header-invalid`, `voxel-type`, `dimensions`, `file-truncated`, `format`, `memory`,
        `channels`, `spacing-invalid`, `spacing-affine`, `non-finite`, `shape-mismatch`, `spacing-mismatch`,
        `orientation-mismatch`, `origin-mismatch`, `label-not-integral`, `label-undeclared`, `label-unannotated`,
        `case-name`. Warnings: `qform-sform`, `units`, `image-constant`, `no-foreground`, and mismatches within
        rounding.
    """
    volume, grid, found = _check_image(dataset, case)
    labels, more = (None, []) if case.label is None else _check_label(case.label, grid, dataset.labels)
    if labels is not None:
        more += _annotation_issues(case, labels, dataset.labels)
    return (
        volume,
        labels,
        tuple(dataclasses.replace(issue, case=case.name) for issue in (*_name_issues(case), *found, *more)),
    )


def check_dataset(
    dataset: Dataset, progress: Progress | None = None, threads: int | None = None, memory: int | None = None
) -> tuple[Issue, ...]:
    """Read every training case and list every issue of the dataset.

    Parameters
    ----------
    dataset
        As `read_dataset` gave it; its own issues come first.
    progress
        Called for each case.
    threads
        Cases read at the same time, each in memory as a whole; None: one per processor this process may use.
    memory
        Bytes that this process may hold; None: most of what is free. Cases wait for each other to keep within it.

    Returns
    -------
    tuple of Issue
        In the order of the cases, whatever the number of threads. A dataset is valid if none is fatal.

    Raises
    ------
    DatasetError
        The memory allowed does not suffice for anything.
    """
    threads = min(threads or processors(), max(1, len(dataset.training)))
    budget = Budget(memory_for_cases(memory, threads))
    seen: dict[str, CheckedCase] = {}
    with (progress or Silent()).task("check", len(dataset.training)) as task:
        for case, result in in_parallel(partial(_see, dataset, budget), dataset.training, threads, budget):
            seen[case.name] = result
            task.advance(1, case.name)
    ordered = [seen[case.name] for case in dataset.training]
    return (*dataset.issues, *(issue for one in ordered for issue in one.issues), *dataset_issues(dataset, ordered))


def dataset_issues(dataset: Dataset, seen: Sequence[CheckedCase]) -> tuple[Issue, ...]:
    """List what only the readable cases together can tell.

    Rules: `no-foreground-anywhere` (fatal); `label-unused`, a warning, for each class that no case holds; and the
    warnings of `outliers`.
    """
    file = dataset.root / DATASET_JSON
    found = outliers(file, [one.measured for one in seen if one.measured is not None], dataset.channels)
    return (*found, *_class_issues(dataset, file, [one.classes for one in seen if one.classes]))


def _class_issues(dataset: Dataset, file: Path, known: Sequence[tuple[bool, ...]]) -> tuple[Issue, ...]:
    if not known:
        return ()
    held = [any(flags) for flags in zip(*known, strict=True)][1 : dataset.labels.count]
    if not any(held):
        value = f"no label file holds any of {', '.join(dataset.labels.names[1:])}"
        return (Issue(file, "no-foreground-anywhere", value, "see that the right label files are in place"),)
    return tuple(
        Issue(file, "label-unused", f"no case holds '{name}' ({value})", "nothing can be learnt for it", fatal=False)
        for name, value, here in zip(dataset.labels.names[1:], dataset.labels.values[1:], held, strict=True)
        if not here
    )


def too_large(case: Case, needed: int, budget: Budget, becomes: str = "") -> Issue:
    """Return the issue of a case that does not fit into the memory that the user allows.

    `becomes` says what it is resampled to: a wrong spacing is what most often makes a case large.
    """
    value = (
        f"the case may take {needed / 1e9:.2f} GB, of the memory allowed {budget.total / 1e9:.2f} GB are left for it"
    )
    advice = "raise --memory, or leave the case out"
    if becomes:
        value, advice = f"{becomes}: {value}", f"see that the spacing in the header is right, and in mm; else {advice}"
    return Issue(case.images[0], "memory", value, advice, case.name)


def _see(dataset: Dataset, budget: Budget, case: Case) -> CheckedCase:
    needed = estimate_case_memory(case, len(dataset.channels)).reading
    if needed > budget.total:
        return CheckedCase((too_large(case, needed, budget),))
    with budget.hold(needed):
        volume, labels, issues = check_case(dataset, case)
        measured = None if volume is None else _measured(case, volume)
        return CheckedCase(issues, present_classes(labels.data, dataset.labels) if labels else (), measured)


def _measured(case: Case, volume: Volume) -> ComparedCase:
    z, y, x = volume.data.shape[1:]
    lows = tuple(float(channel.min()) for channel in volume.data)
    stored = stored_orientation(volume.header) or ""
    return ComparedCase(case.name, case.images[0], (z, y, x), volume.spacing, lows, stored)


def _name_issues(case: Case) -> list[Issue]:
    """Check that a TIFF's spacing file, beside a result of this case, would not be a file of this tool's."""
    result = case.images[0].with_name(case.name + result_ending(case.images[0].name))
    taken = [file.name for file in companions(result) if file.name.lower() in TAKEN]
    value = f"its spacing file {', '.join(taken)} has the name of a file that this tool puts beside results"
    return [Issue(case.images[0], "case-name", value, "give the case another name")] if taken else []


def _read_all(
    paths: Sequence[Path], read: Callable[[Path], ImageFile] | None = None
) -> tuple[list[ImageFile], list[Issue]]:
    """Read files; those that cannot be read are among the issues instead."""
    scans: list[ImageFile] = []
    issues: list[Issue] = []
    for path in paths:
        try:
            scans.append((read or read_scan)(path))
        except IssueError as error:
            issues.append(error.issue)
        except MemoryError:
            issues.append(Issue(path, "memory", "does not fit into memory", "free memory, or use fewer threads"))
    return scans, issues


def _check_image(dataset: Dataset, case: Case) -> tuple[Volume | None, Grid | None, list[Issue]]:
    scans, issues = _read_all(case.images)
    if not scans:
        return None, None, issues
    data, found = gather(scans)
    issues += found
    if len(scans) == len(case.images) and not fatal(tuple(found)):
        issues += _channel_issue(dataset, case, len(data))
    volume = None if fatal(tuple(issues)) else Volume(data, scans[0].spacing, scans[0].header)
    return volume, scans[0].grid, issues


def _channel_issue(dataset: Dataset, case: Case, found: int) -> list[Issue]:
    if found == len(dataset.channels):
        return []
    value = f"{found} channels, {DATASET_JSON} declares {len(dataset.channels)}: {', '.join(dataset.channels)}"
    advice = f"give one file per channel ({{case}}_0000, {{case}}_0001 …) or one with all, or correct {DATASET_JSON}"
    return [Issue(case.images[0], "channels", value, advice)]


def _check_label(path: Path, image: Grid | None, labels: LabelSet) -> tuple[Labels | None, list[Issue]]:
    """Read and encode a label file and hold its grid against the image's."""
    scans, issues = _read_all([path], lambda path: read_label_scan(path, image, labels))
    if not scans:
        return None, issues
    (scan,) = scans
    issues += [*scan.issues, *(compare_grids(image, scan.grid) if image else ())]
    classes, found = _classes(scan, labels)
    issues += found
    if classes is None or fatal(tuple(issues)):
        return None, issues
    return Labels(classes, scan.spacing, scan.header), issues


def _annotation_issues(case: Case, labels: Labels, declared: LabelSet) -> list[Issue]:
    """Check that a case holds nothing of the classes that dataset.json says it is not annotated for."""
    if not case.unannotated or case.label is None or declared.regions:  # a voxel may be of regions of both kinds
        return []
    present = present_classes(labels.data, declared)
    names = [declared.score_names[target] for target in case.unannotated if present[1 + target]]
    value = f"holds {', '.join(names)}, and {DATASET_JSON} says that it is not annotated for that"
    advice = f"name it in {PARTIAL} too, or correct the file"
    return [Issue(case.label, "label-unannotated", value, advice)] if names else []


def _classes(scan: ImageFile, labels: LabelSet) -> tuple[IntArray | None, list[Issue]]:
    try:
        classes = encode_labels(scan.labels(), labels)
    except IssueError as error:
        return None, [error.issue]
    except DatasetError as error:
        advice = "declare them under 'labels', or correct the file"
        return None, [Issue(scan.file, "label-undeclared", str(error), advice)]
    if classes.any():
        return classes, []
    value = "the label file holds background only"
    return classes, [Issue(scan.file, "no-foreground", value, "accepted; see that it is meant", fatal=False)]
