"""A cascade's further input: the first stage's segmentation, kept as labels, one-hot only where a patch is used.

Of the training cases it lies on disk, one file a case, `CASE.zip`: `labels.b2nd` and `case.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import temporary_beside
from nnunet_rs.core.types import IntArray, Shape3
from nnunet_rs.core.workspace import PREPARED_CASE
from nnunet_rs.data.archive import check_entry, read_archive, read_entry, write_archive
from nnunet_rs.data.chunked_arrays import encode_frame, read_frame
from nnunet_rs.data.store import overlap

_AGAIN = "delete it and train again"
_LABELS, _RECORD = "labels.b2nd", "case.json"


@dataclass(frozen=True, slots=True)
class PreviousRecord:
    """What case.json says."""

    key: str  # hash of what the labels were made with
    shape: Shape3


RECORD = Kind("first segmentation", PreviousRecord, advice=_AGAIN, marked=False)


@dataclass(frozen=True, slots=True)
class _Opened:
    key: str
    shape: Shape3
    offset: int  # of the labels' frame in the file


@dataclass(frozen=True, slots=True)
class PreviousStore:
    """The first stage's segmentations of training cases on a second stage's grid. Any number of threads may read.

    Parameters
    ----------
    folder
        WORK/previous/CONFIGURATION; made when the first case is written.
    """

    folder: Path
    _known: dict[str, _Opened] = field(default_factory=dict)

    def has(self, case: str, key: str) -> bool:
        """Whether the case is there, whole, and made from what `key` stands for."""
        try:
            return self._path(case).is_file() and self._open(case).key == key
        except NnunetError:
            return False

    def write(self, case: str, labels: IntArray, key: str, patch: Sequence[int]) -> None:
        """Write a case in place of whatever there was.

        Parameters
        ----------
        case
            Its name.
        labels
            Class indices (z, y, x), working axes.
        key
            Hash of what they were made with.
        patch
            What is read at once.

        Raises
        ------
        NnunetError
            The folder cannot be written, or the disk is full; the case is then absent, or as it was.
        """
        self._known.pop(case, None)
        self.folder.mkdir(parents=True, exist_ok=True)
        scratch = temporary_beside(self.folder / f"{case}.b2nd")
        z, y, x = labels.shape
        record = RECORD.to_json(PreviousRecord(key, (z, y, x)))
        try:
            frame = encode_frame(labels, patch, content="values", scratch=scratch)
            write_archive(self._path(case), [(_LABELS, frame), (_RECORD, json.dumps(record).encode())])
        finally:
            with suppress(OSError):
                scratch.unlink()

    def read_patch(self, case: str, start: Sequence[int], size: Sequence[int]) -> IntArray:
        """Read a box of a case: class indices (*size); background beyond the case. The array is the caller's own.

        Raises
        ------
        DatasetError
            The case is not there, or its file is damaged.
        """
        opened = self._open(case)
        source, target = overlap(start, size, opened.shape)
        labels = np.zeros(size, np.int16)
        if all(part.start < part.stop for part in source):
            labels[target] = read_frame(self._path(case), source, opened.offset)
        return labels

    def _path(self, case: str) -> Path:
        return self.folder / f"{case}{PREPARED_CASE}"

    def _open(self, case: str) -> _Opened:
        found = self._known.get(case)
        if found is None:
            found = self._known[case] = _open(self._path(case))
        return found


def _open(path: Path) -> _Opened:
    entries = read_archive(path, _AGAIN)
    try:
        content = json.loads(read_entry(path, entries[_RECORD], _AGAIN))
        record = RECORD.from_json(content, f"{path}: {_RECORD}")
        check_entry(path, entries[_LABELS], _AGAIN)
        return _Opened(record.key, record.shape, entries[_LABELS].offset)
    except (LookupError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged, or of another version ({error}); {_AGAIN}") from error
