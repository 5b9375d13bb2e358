"""Whether a folder may be a dataset's work folder: no file of the user's is in the way, nor another dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.document import is_of_ours
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import read_json
from nnunet_rs.core.types import Case, Dataset
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.archive import read_archive
from nnunet_rs.data.placement import prepared_cases, prepared_folder
from nnunet_rs.plan.dataset_scan import FilesRecord, case_signature, files_digest, recorded_files

MARK = "nnunet_rs"  # the key of dataset.json by which this tool knows its own, with the dataset's folder
_FORMERLY = {"name", "channel_names", "labels", "regions_class_order", "numTraining", "file_ending", "dataset"}
_COMPARED = 16  # cases whose files are looked at to know a dataset again that has moved


def require_own(dataset: Dataset, work: Path) -> None:
    """Require that a folder may be made, or used again, as the dataset's work folder; nothing is written.

    Raises
    ------
    DatasetError
        It is the dataset's own folder, or one that holds its scans; a file is in the way that this tool did not make;
        or it belongs to another dataset.
    """
    for folder in (work, prepared_folder(work)):
        _require_apart(dataset, folder)
    own = _require_made_here(WorkFolder(work).dataset_file, work)
    for path in (WorkFolder(work).scan_file, WorkFolder(work).fingerprint_file):
        _require_document(path, own is not None)  # made anew from the scans; plan.json and splits.json are followed
    if own is None:
        _require_no_others_cases(work)
    else:
        _require_same(dataset, work, own)


def require_free(work: Path) -> None:
    """Require that a folder may take a plan that was made without scans; nothing is written.

    Raises
    ------
    DatasetError
        It is the folder of a dataset, or a file is in the way that this tool did not make.
    """
    path = WorkFolder(work).dataset_file
    if os.path.lexists(path):
        raise DatasetError(f"{work}: is a dataset's folder, and this plan is made without one; choose another for -o")
    _require_document(WorkFolder(work).fingerprint_file, own=False)


# ---- apart from the dataset's own folders ----------------------------------------------------------------------------


def _require_apart(dataset: Dataset, folder: Path) -> None:
    """Compare folders by what they are, not by what they are called: links lead anywhere."""
    within = [found for parent in (folder, *folder.resolve().parents) if (found := _identity(parent))]
    held = {path.parent for case in (*dataset.training, *dataset.test) for path in _files(case)}
    held |= {dataset.root / f"{kind}{part}" for kind in ("images", "labels") for part in ("Tr", "Ts")}
    root = _identity(dataset.root)
    for place in held:
        if (found := _identity(place)) and found != root and found in within:
            raise DatasetError(f"{folder}: lies in {place}, among the dataset's scans; choose another folder for -o")
    if root and _identity(folder) == root:
        raise DatasetError(f"{folder}: is the dataset's own folder; choose another one for -o, which may lie in it")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


# ---- files that this tool made ---------------------------------------------------------------------------------------


def _require_made_here(path: Path, work: Path) -> _Known | None:
    """Return what a work folder's dataset.json says; None where there is none."""
    if not os.path.lexists(path):
        return None
    try:
        content = read_json(path)
    except DatasetError:
        raise _foreign(path) from None
    if not isinstance(content, dict):
        raise _foreign(path)
    listed = content.get("dataset")
    if not isinstance(listed, dict) or not (MARK in content or _made_formerly(content, work)):
        raise _foreign(path)
    mark = content.get(MARK)
    root = mark.get("root") if isinstance(mark, dict) else None
    cases = {name: files for name, entry in listed.items() if (files := _listed(entry))}
    return _Known(str(content.get("name")), str(root or _common(cases)), cases)


def _made_formerly(content: Mapping[str, Any], work: Path) -> bool:
    """Whether this tool wrote a dataset.json before it marked them: these keys alone, beside its other files."""
    files = WorkFolder(work)
    beside = any(map(_format, (files.scan_file, files.fingerprint_file, files.plan_file)))
    return beside and content.keys() <= _FORMERLY


def _require_document(path: Path, own: bool) -> None:
    """Require that a file is of this tool, or damaged in a folder that is."""
    if not os.path.lexists(path) or _format(path):
        return
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        if own:
            return
    raise _foreign(path)


def _require_no_others_cases(work: Path) -> None:
    """Require that archives in a folder that has no dataset.json are prepared cases, as left by an interrupted run."""
    found = prepared_cases(work)
    if found and not any(map(_is_prepared_case, found)):
        raise _foreign(found[0])


def _is_prepared_case(path: Path) -> bool:
    """Whether a file is a prepared case, of this version or another."""
    try:
        return "case.json" in read_archive(path)
    except DatasetError:
        return False


def _format(path: Path) -> bool:
    try:
        content = read_json(path)
    except (NnunetError, RecursionError):
        return False
    return is_of_ours(content)


def _foreign(path: Path) -> DatasetError:
    return DatasetError(f"{path}: was not made by nnunet-rs, and would be replaced; choose another folder for -o")


# ---- the same dataset ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """The dataset that a work folder was made from."""

    name: str
    root: str
    cases: Mapping[str, tuple[Path, ...]]  # images and label, where they were


def _require_same(dataset: Dataset, work: Path, known: _Known) -> None:
    """Require that at least one case is where it was, or that those found elsewhere are mostly the same files."""
    root = dataset.root.resolve()
    if not known.cases or str(root) == known.root:
        return
    if any(path.is_relative_to(root) for files in known.cases.values() for path in files):
        return
    there = {case.name: case for case in dataset.training}
    common = [there[name] for name in known.cases if name in there]
    chosen = common[:: -(-len(common) // _COMPARED) or 1]
    recorded = recorded_files(work)
    same = sum(_is_known(dataset, case, known, recorded.get(case.name)) for case in chosen)
    if not chosen or 2 * same < len(chosen):
        raise DatasetError(
            f"{work}: is the work folder of {known.name} ({known.root}), whose cases are other files than those of "
            f"{dataset.name} ({root}); choose another folder for -o. If it is the same dataset, with new files, delete "
            f"{WorkFolder(work).dataset_file} and run again"
        )


def _is_known(dataset: Dataset, case: Case, known: _Known, recorded: FilesRecord | None) -> bool:
    """Whether a case's files are those of the case of this name that the work folder was made from."""
    before = known.cases[case.name]
    if tuple(path.resolve() for path in _files(case)) == before:
        return True
    if recorded is not None and (case_signature(dataset, case) == recorded.signature):
        return True
    digest = files_digest(tuple(_files(case)))
    if recorded is not None and recorded.digest:
        return digest == recorded.digest
    if all(path.exists() for path in before):
        return digest == files_digest(before)
    return dataset.name == known.name  # nothing else is known of files that are gone


def _files(case: Case) -> Iterator[Path]:
    yield from case.images
    if case.label is not None:
        yield case.label


def _listed(entry: Any) -> tuple[Path, ...]:
    """Return the files of a case as dataset.json lists them; none if it does not."""
    try:
        return tuple(map(Path, (*entry["images"], entry["label"])))
    except (KeyError, TypeError):
        return ()


def _common(cases: Mapping[str, Sequence[Path]]) -> str:
    return os.path.commonpath([path for files in cases.values() for path in files]) if cases else ""
