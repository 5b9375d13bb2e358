"""Prepared cases on disk, from which training reads patches.

A case is up to five files: `CASE.image.b2nd`, `CASE.labels.b2nd`, `CASE.mask.b2nd` (where normalisation used the
non-zero mask), `CASE.locations.npy`, and `CASE.json`, written last: where it is, the case is whole.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.files import read_json, write_atomically, write_bytes
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import FloatArray, IntArray, LabelSet, Shape3
from nnunet_rs.data.frames import read_frame, write_frame
from nnunet_rs.data.locations import Locations, sample_locations
from nnunet_rs.data.preprocess import Mask, Prepared
from nnunet_rs.plan.schema import Configuration, Plan

VERSION = 1
PREPARED = "prepared"  # the stores' folder in a work folder
_HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the cases of a configuration are written."""

    patch: Shape3  # what is read at once, working axes; (1, y, x) for 2-D
    classes: tuple[int, ...]  # whose locations are kept
    half: bool = False  # images as float16: half the size, 11 bits of the value

    @classmethod
    def of(cls, configuration: Configuration, labels: LabelSet, half: bool = False) -> Layout:
        """Return the layout for a configuration's patches; the background is located where there is an ignore label."""
        z, y, x = (1, *configuration.patch_size)[-3:]
        return cls((z, y, x), tuple(range(0 if labels.ignore is not None else 1, labels.count)), half)


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What CASE.json says."""

    key: str  # hash of what the case was made from; another one means: make it again
    channels: int
    geometry: Geometry
    spans: dict[int, tuple[int, int]]  # of Locations
    voxels: dict[int, int]  # of Locations
    files: dict[str, int]  # name and bytes of the case's other files

    def to_json(self) -> dict[str, Any]:
        """Return a value that the json module writes; `from_json` is the way back."""
        return {
            "version": VERSION,
            "key": self.key,
            "channels": self.channels,
            "classes": {str(c): {"voxels": self.voxels[c], "locations": list(self.spans[c])} for c in self.spans},
            "files": self.files,
            "geometry": self.geometry.to_json(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> CaseRecord:
        """Read what `to_json` returned; KeyError, TypeError or ValueError if it is something else."""
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}, this program reads {VERSION}")
        classes = {int(c): entry for c, entry in content["classes"].items()}
        return cls(
            key=str(content["key"]),
            channels=int(content["channels"]),
            geometry=Geometry.from_json(content["geometry"]),
            spans={c: (int(entry["locations"][0]), int(entry["locations"][1])) for c, entry in classes.items()},
            voxels={c: int(entry["voxels"]) for c, entry in classes.items()},
            files={str(name): int(size) for name, size in content["files"].items()},
        )


def prepared_name(plan: Plan, name: str) -> str:
    """Return whose prepared cases a configuration uses: its own, or those of the same resolution without cascade."""
    configuration = plan.configurations[name]
    if configuration.previous is None:
        return name
    same = (c.name for c in plan.configurations.values() if c.previous is None and c.spacing == configuration.spacing)
    return next(same, name)


def open_store(work: Path, plan: Plan, name: str, *, cache: int = 0) -> Store:
    """Return the store of a configuration in a work folder; `cache` as in Store."""
    return Store(work / PREPARED / prepared_name(plan, name), cache=cache)


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
        self._records: dict[str, CaseRecord] = {}
        self._locations: dict[str, Locations] = {}
        self._decoded: dict[str, dict[str, NDArray[Any]]] = {}
        self._room = cache
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Return the names of the whole cases, sorted."""
        if not self.folder.is_dir():
            return ()
        found = (entry.name for entry in os.scandir(self.folder))
        return tuple(sorted(n.removesuffix(".json") for n in found if n.endswith(".json") and not n.startswith(".")))

    def has(self, case: str, key: str) -> bool:
        """Whether the case is there, whole, and made from what `key` stands for."""
        try:
            record = self._read_record(case)
        except NnunetError:
            return False
        return record.key == key and all(_size(self.folder / name) == size for name, size in record.files.items())

    def write(self, case: str, prepared: Prepared, key: str, layout: Layout) -> int:
        """Write a case in place of whatever there was; returns the bytes written.

        Parameters
        ----------
        case
            Its name, which becomes the files' names.
        prepared
            With labels.
        key
            Hash of what the case was made from.
        layout
            How arrays are cut into blocks, and which classes are located.

        Raises
        ------
        NnunetError
            The folder cannot be written, or the disk is full; the case is then absent. Intensities beyond float16
            where the layout asks for it.
        """
        if prepared.labels is None:
            raise DatasetError("has no labels; only training cases are stored")
        self.forget(case)
        locations = sample_locations(prepared.labels, layout.classes)
        written = [self._write_array(case, *array, layout.patch) for array in _arrays(prepared, layout.half)]
        with write_atomically(self._path(case, "locations.npy"), durable=False) as temporary:
            np.save(temporary, locations.flat)
        written.append(self._path(case, "locations.npy"))
        sizes = {path.name: path.stat().st_size for path in written}
        spans, voxels = dict(locations.spans), dict(locations.voxels)
        record = CaseRecord(key, len(prepared.image), prepared.geometry, spans, voxels, sizes)
        write_bytes(self._path(case, "json"), json.dumps(record.to_json()).encode() + b"\n", durable=False)
        return sum(sizes.values())

    def forget(self, case: str) -> None:
        """Remove a case's record, so that nobody takes what is left for a whole case."""
        self._path(case, "json").unlink(missing_ok=True)
        for memory in (self._records, self._locations, self._decoded):
            memory.pop(case, None)

    def record(self, case: str) -> CaseRecord:
        """Return what is written about a case.

        Raises
        ------
        DatasetError
            The case has not been prepared, or its record is damaged or of another version.
        """
        found = self._records.get(case)
        if found is None:
            found = self._records[case] = self._read_record(case)
        return found

    def shape(self, case: str) -> Shape3:
        """Return the size of a case, working axes."""
        return self.record(case).geometry.resampled

    def locations(self, case: str) -> Locations:
        """Return the sampled voxels of the case's classes; the indices stay on disk."""
        found = self._locations.get(case)
        if found is None:
            record, path = self.record(case), self._path(case, "locations.npy")
            try:
                flat = np.load(path, mmap_mode="r" if record.spans else None)  # an empty array cannot be mapped
            except (OSError, ValueError) as error:
                raise _damaged(path, error) from error
            found = self._locations[case] = Locations(record.geometry.resampled, flat, record.spans, record.voxels)
        return found

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
        record = self.record(case)
        source, target = _overlap(start, size, record.geometry.resampled)
        image = np.zeros((record.channels, *size), np.float32)
        labels = np.zeros(size, np.int16)
        mask = np.zeros(size, np.uint8) if _mask_name(case) in record.files else None
        if all(part.start < part.stop for part in source):
            image[(slice(None), *target)] = self._read(case, "image", source)
            labels[target] = self._read(case, "labels", source)
            if mask is not None:
                mask[target] = self._read(case, "mask", source)
        return image, labels, None if mask is None else mask.view(np.bool_)

    def _path(self, case: str, name: str) -> Path:
        return self.folder / f"{case}.{name}"

    def _read(self, case: str, name: str, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return a box of one of a case's arrays; may be a view of the cache."""
        decoded = self._decoded.get(case) or self._keep(case)
        if decoded is not None:
            array = decoded[name]
            return array[(slice(None),) * (array.ndim - len(box)) + box]
        return read_frame(self._path(case, f"{name}.b2nd"), box)

    def _keep(self, case: str) -> dict[str, NDArray[Any]] | None:
        """Decode a case whole, if the cache has room for it."""
        record = self.record(case)
        needed = math.prod(record.geometry.resampled) * (4 * record.channels + 3)
        with self._lock:
            if needed > self._room:
                return None
            self._room -= needed
        names = [file.removeprefix(f"{case}.").removesuffix(".b2nd") for file in record.files if file.endswith(".b2nd")]
        decoded = {name: read_frame(self._path(case, f"{name}.b2nd"), (slice(None),) * 3) for name in names}
        with self._lock:
            if case in self._decoded:  # another thread was faster
                self._room += needed
            return self._decoded.setdefault(case, decoded)

    def _write_array(self, case: str, name: str, array: NDArray[Any], shuffle: bool, patch: Shape3) -> Path:
        path = self._path(case, f"{name}.b2nd")
        with write_atomically(path, durable=False) as temporary:
            write_frame(temporary, array, patch, shuffle=shuffle)
        return path

    def _read_record(self, case: str) -> CaseRecord:
        path = self._path(case, "json")
        if not path.exists():
            raise DatasetError(f"{path}: case {case} has not been prepared; run preprocess")
        try:
            return CaseRecord.from_json(read_json(path))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from error


def _arrays(prepared: Prepared, half: bool) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """Yield name, content, and whether its bytes are shuffled, of each array that is stored."""
    image: NDArray[Any] = prepared.image
    if half:
        largest = max(float(image.max()), -float(image.min()))
        if largest > _HALF_MAX:
            raise DatasetError(f"intensities up to {largest:g} do not fit float16 (up to {_HALF_MAX:g}); store float32")
        image = image.astype(np.float16)
    yield "image", image, prepared.geometry.resampled != prepared.geometry.cropped_shape
    assert prepared.labels is not None
    yield "labels", prepared.labels, False
    if prepared.mask is not None:
        yield "mask", prepared.mask.view(np.uint8), False


def _overlap(
    start: Sequence[int], size: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of a box that lies within `shape`, in coordinates of the whole and of the box."""
    spans = [(max(s, 0), min(s + n, length)) for s, n, length in zip(start, size, shape, strict=True)]
    source = tuple(slice(first, last) for first, last in spans)
    return source, tuple(slice(first - s, last - s) for (first, last), s in zip(spans, start, strict=True))


def _mask_name(case: str) -> str:
    return f"{case}.mask.b2nd"


def _size(path: Path) -> int:
    """Return the size of a file, -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _damaged(path: Path, error: Exception) -> DatasetError:
    return DatasetError(f"{path}: damaged, or of another version ({error}); run preprocess again")
