"""Prepared cases on disk, from which training reads patches.

A case is one file, `CASE.zip`: `image.b2nd`, `labels.b2nd`, `mask.b2nd` (where normalisation used the non-zero mask),
`locations.u4` or `.u8` (see ClassLocations), and `case.json`. The entries are stored, not deflated, and read in place.

A case that takes no resampling is stored as the integers of its file, where they are such, and normalised when it is
read: to the same numbers, from half the bytes. All configurations that it fits share the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.document import encode
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import temporary_beside, write_atomically
from nnunet_rs.core.names import HIDDEN
from nnunet_rs.core.orientation import count_orientations
from nnunet_rs.core.types import FloatArray, IntArray, LabelSet, Mask, Shape3
from nnunet_rs.core.workspace import PREPARED_CASE
from nnunet_rs.data.archive import Entry, check_entry, read_archive, read_entry, write_archive
from nnunet_rs.data.case_record import RECORD, CaseRecord, ClassRecord
from nnunet_rs.data.chunked_arrays import BLOCK_VOXELS, Content, encode_frame, read_frame
from nnunet_rs.data.class_locations import ClassLocations, sample_locations
from nnunet_rs.data.placement import prepared_folder
from nnunet_rs.data.preprocess import Prepared, Unscaled
from nnunet_rs.plan.normalization import SCHEMES
from nnunet_rs.plan.schema import Configuration, Plan

_SHARED_BLOCK = 1 << 12  # voxels: a patch reads few beside its own, a slice as many as it needs
_HALF_MAX = float(np.finfo(np.float16).max)
_LOCATIONS: dict[str, type[np.unsignedinteger]] = {"locations.u4": np.uint32, "locations.u8": np.uint64}


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """How the cases of a configuration are written."""

    patch: Shape3  # what is read at once, working axes; (1, y, x) for 2-D
    classes: tuple[int, ...]  # whose locations are kept
    half: bool = False  # float images as float16: half the size, 11 bits of the value
    block: int = BLOCK_VOXELS  # voxels that are decoded together, at most

    @classmethod
    def of(cls, configuration: Configuration, labels: LabelSet, half: bool = False) -> StoreLayout:
        """Return the layout for a configuration's patches; the background is located where there is an ignore label."""
        z, y, x = (1, *configuration.patch_size)[-3:]
        return cls((z, y, x), tuple(range(0 if labels.ignore is not None else 1, labels.count)), half)

    @classmethod
    def shared(cls, configurations: Sequence[Configuration], labels: LabelSet) -> StoreLayout:
        """Return the layout of a case that several configurations read: small blocks within slices serve all."""
        first, *others = configurations
        if not others:
            return cls.of(first, labels)
        y, x = (min(c.patch_size[axis] for c in configurations) for axis in (-2, -1))
        return replace(cls.of(first, labels), patch=(1, y, x), block=_SHARED_BLOCK)


def prepared_name(plan: Plan, name: str) -> str:
    """Return whose prepared cases a configuration uses: its own, or those of the same resolution without cascade."""
    configuration = plan.configurations[name]
    if configuration.previous is None:
        return name
    wanted = (configuration.spacing, configuration.resampling)
    firsts = (c for c in plan.configurations.values() if c.previous is None)
    return next((c.name for c in firsts if (c.spacing, c.resampling) == wanted), name)


def open_store(work: Path, plan: Plan, name: str, *, cache: int = 0) -> Store:
    """Return the store of a configuration in a work folder; `cache` as in Store."""
    return Store(prepared_folder(work) / prepared_name(plan, name), cache=cache)


def stored_orientations(store: Store, cases: Sequence[str]) -> dict[str, int] | None:
    """Count the orientations that the files of prepared cases are stored in; None where none of them says it.

    Raises
    ------
    DatasetError
        A case has not been prepared, or its file is damaged.
    """
    return count_orientations(store.record(case).geometry.header for case in cases) or None


def normalization_key(plan: Plan) -> str:
    """Hash how a plan normalises, with statistics only where they are used: what the keys of its cases end in."""
    used = (rule if SCHEMES[rule.scheme].uses_dataset else replace(rule, stats=None) for rule in plan.normalization)
    rules = [encode(rule) for rule in used]
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()[:16]


class Store:
    """The prepared cases of one configuration.

    Parameters
    ----------
    folder
        WORK/prepared/CONFIGURATION; made by the first `write`.
    cache
        Bytes of memory for decoded cases: a case that still fits is kept whole when it is first read, so that the
        patches of a small dataset are plain copies. 0: every read decodes.

    Notes
    -----
    Any number of threads may read at once, and write, but not the same case.
    """

    def __init__(self, folder: Path, *, cache: int = 0) -> None:
        self.folder = folder
        self._opened: dict[str, _Opened] = {}
        self._decoded: dict[str, dict[str, NDArray[Any]]] = {}
        self._verified: set[str] = set()  # whose bytes are those that were written
        self._room = cache
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Return the names of the cases, sorted."""
        if not self.folder.is_dir():
            return ()
        found = self.folder.glob(f"*{PREPARED_CASE}")
        return tuple(sorted(path.stem for path in found if not path.name.startswith(HIDDEN)))

    def has(self, case: str, key: str) -> bool:
        """Whether the case is there, whole, and made from what `key` stands for."""
        path = self.path(case)
        try:
            return path.exists() and key in _open(path).record.keys
        except NnunetError:
            return False

    def write(self, case: str, prepared: Prepared | Unscaled, keys: tuple[str, ...], layout: StoreLayout) -> int:
        """Write a case in place of whatever there was; returns the bytes written.

        Parameters
        ----------
        case
            Its name, which becomes the file's name.
        prepared
            With labels. Of an Unscaled case the image is written as it is, and normalised when it is read.
        keys
            Hashes of what the case was made from, one for each configuration that it is for.
        layout
            How arrays are cut into blocks, and which classes are located.

        Raises
        ------
        NnunetError
            The folder cannot be written, or the disk is full. Intensities beyond float16 where the layout asks for it.
        """
        self._forget(case)
        scratch = temporary_beside(self.folder / f"{case}.b2nd")
        try:
            return write_archive(self.path(case), _entries(prepared, keys, layout, scratch))
        finally:
            with suppress(OSError):
                scratch.unlink()

    def link(self, case: str, other: Store) -> bool:
        """Give a case of another store a name in this one too: one file; False where the disk has no such links."""
        self._forget(case)
        try:
            with write_atomically(self.path(case), durable=False) as temporary:
                temporary.hardlink_to(other.path(case))
        except (OSError, NnunetError):
            return False
        return True

    def record(self, case: str) -> CaseRecord:
        """Return what is written about a case.

        Raises
        ------
        DatasetError
            The case has not been prepared, or its file is damaged or of another version.
        """
        return self._open(case).record

    def shape(self, case: str) -> Shape3:
        """Return the size of a case, working axes."""
        return self.record(case).geometry.resampled

    def class_locations(self, case: str) -> ClassLocations:
        """Return the sampled voxels of the case's classes; the indices stay on disk. Errors as `read_patch`."""
        return self._checked(case).class_locations

    def read_patch(
        self, case: str, start: Sequence[int], size: Sequence[int]
    ) -> tuple[FloatArray, IntArray, Mask | None]:
        """Read a box of a case. Beyond the case lies background: image 0, label 0, outside the mask.

        Parameters
        ----------
        case
            Its name.
        start
            First voxel, working axes; may be negative.
        size
            Of the box, working axes (1 along the first for a 2-D slice); may reach beyond the case.

        Returns
        -------
        image
            float32 (c, *size).
        labels
            Class indices int16 (*size).
        mask
            Boolean (*size); None where the case has none. All three are the caller's own.

        Raises
        ------
        DatasetError
            The case has not been prepared, or a file of it is missing or damaged.
        """
        opened = self._checked(case)
        shape = opened.record.geometry.resampled
        source, target = overlap(start, size, shape)
        within = all(s >= 0 and s + n <= length for s, n, length in zip(start, size, shape, strict=True))
        new = np.empty if within else np.zeros
        image, labels = new((opened.record.channels, *size), np.float32), new(size, np.int16)
        mask = new(size, np.bool_) if "mask.b2nd" in opened.entries else None
        if all(part.start < part.stop for part in source):
            arrays = self._read(case, source)
            image[(slice(None), *target)] = arrays["image.b2nd"]
            labels[target] = arrays["labels.b2nd"]
            if mask is not None:
                mask[target] = arrays["mask.b2nd"]
        return image, labels, mask

    def _forget(self, case: str) -> None:
        self._verified.discard(case)
        for memory in (self._opened, self._decoded):
            memory.pop(case, None)

    def path(self, case: str) -> Path:
        """Return the file of a case, there or not."""
        return self.folder / f"{case}{PREPARED_CASE}"

    def _open(self, case: str) -> _Opened:
        found = self._opened.get(case)
        if found is None:
            path = self.path(case)
            if not path.exists():
                raise DatasetError(f"{path}: case {case} has not been prepared; run preprocess")
            found = self._opened[case] = _open(path)
        return found

    def _checked(self, case: str) -> _Opened:
        """Open a case; the first time read it whole, for a changed byte would be a wrong number."""
        opened = self._open(case)
        if case not in self._verified:
            for entry in opened.entries.values():
                check_entry(self.path(case), entry)
            self._verified.add(case)
        return opened

    def _read(self, case: str, box: tuple[slice, ...]) -> dict[str, NDArray[Any]]:
        """Return a box of each of a case's arrays, the image normalised; may be views of the cache."""
        whole = self._decoded.get(case) or self._keep(case)
        if whole is None:
            return self._decode(case, box)
        return {name: array[(slice(None),) * (array.ndim - len(box)) + box] for name, array in whole.items()}

    def _decode(self, case: str, box: tuple[slice, ...]) -> dict[str, NDArray[Any]]:
        path, opened = self.path(case), self._open(case)
        frames = ((name, entry) for name, entry in opened.entries.items() if name.endswith(".b2nd"))
        arrays = {name: read_frame(path, box, entry.offset) for name, entry in frames}
        if "mask.b2nd" in arrays:
            arrays["mask.b2nd"] = arrays["mask.b2nd"].view(np.bool_)
        if opened.record.intensities:
            image = arrays["image.b2nd"] = arrays["image.b2nd"].astype(np.float32)
            for channel, found in zip(image, opened.record.intensities, strict=True):
                found.apply(channel, arrays.get("mask.b2nd"))
        return arrays

    def _keep(self, case: str) -> dict[str, NDArray[Any]] | None:
        """Decode a case whole, if the cache has room for it."""
        opened = self._open(case)
        size = math.prod(opened.record.geometry.resampled) * (4 * opened.record.channels + 3)
        with self._lock:
            if size > self._room:
                return None
            self._room -= size
        decoded = self._decode(case, (slice(None),) * 3)
        with self._lock:
            if case in self._decoded:  # another thread was faster
                self._room += size
            return self._decoded.setdefault(case, decoded)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What is kept of a case's file: where its arrays are, and what it says of itself."""

    entries: dict[str, Entry]
    record: CaseRecord
    class_locations: ClassLocations


def _open(path: Path) -> _Opened:
    entries = read_archive(path)
    try:
        record = RECORD.from_json(json.loads(read_entry(path, entries["case.json"])), f"{path}: case.json")
        name = next(name for name in _LOCATIONS if name in entries)
        _ = entries["image.b2nd"], entries["labels.b2nd"]
        flat = _mapped(path, entries[name], _LOCATIONS[name])
        return _Opened(entries, record, ClassLocations(record.geometry.resampled, flat, record.spans, record.voxels))
    except (OSError, LookupError, StopIteration, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: damaged, or of another version ({error}); run preprocess again") from error


def _mapped(path: Path, entry: Entry, kind: type[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    count = entry.size // np.dtype(kind).itemsize
    if count == 0:  # nothing cannot be mapped
        return np.empty(0, kind)
    return np.memmap(path, kind, "r", entry.offset, (count,))


def _entries(
    prepared: Prepared | Unscaled, keys: tuple[str, ...], layout: StoreLayout, scratch: Path
) -> Iterator[tuple[str, bytes | Path]]:
    """Yield the entries of a case's file, each compressed when the one before is written."""
    encode = partial(encode_frame, patch=layout.patch, block=layout.block, scratch=scratch)
    if prepared.labels is None:
        raise DatasetError("has no labels; only training cases are stored")
    yield "image.b2nd", encode(_stored(prepared.image, layout.half), content=_content(prepared))
    yield "labels.b2nd", encode(prepared.labels, content="values")
    if prepared.mask is not None:
        yield "mask.b2nd", encode(prepared.mask.view(np.uint8), content="values")
    found = sample_locations(prepared.labels, layout.classes)
    name = next(name for name, kind in _LOCATIONS.items() if found.flat.dtype == kind)
    yield name, found.flat.tobytes()
    maps = prepared.maps if isinstance(prepared, Unscaled) else ()
    classes = {index: ClassRecord(found.voxels[index], span) for index, span in found.spans.items()}
    record = CaseRecord(keys, len(prepared.image), classes, prepared.geometry, maps)
    yield "case.json", json.dumps(RECORD.to_json(record)).encode()


def _content(prepared: Prepared | Unscaled) -> Content:
    if prepared.image.dtype.kind in "iu":
        return "integers"
    return "floats" if prepared.geometry.resampled != prepared.geometry.cropped_shape else "values"


def _stored(image: NDArray[Any], half: bool) -> NDArray[Any]:
    return _halved(image) if half and image.dtype == np.float32 else image


def _halved(image: FloatArray) -> NDArray[np.float16]:
    largest = max(float(image.max()), -float(image.min()))
    if largest > _HALF_MAX:
        raise DatasetError(f"intensities up to {largest:g} do not fit float16 (up to {_HALF_MAX:g}); store float32")
    return image.astype(np.float16)


def overlap(
    start: Sequence[int], size: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of a box that lies within `shape`, in coordinates of the whole and of the box."""
    spans = [(max(s, 0), min(s + n, length)) for s, n, length in zip(start, size, shape, strict=True)]
    source = tuple(slice(first, last) for first, last in spans)
    return source, tuple(slice(first - s, last - s) for (first, last), s in zip(spans, start, strict=True))
