"""Checkpoints in PyTorch's file format, read without PyTorch and without unpickling: tensors and plain values."""

from __future__ import annotations

import mmap
import struct
import zipfile
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import CheckpointError, first_line
from nnunet_rs.core.pickled import Name, Pickled, RefusedError

_TYPES = {  # of storages, as NumPy calls them; bfloat16 is the upper half of a float32
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "?",
}
_CALLED = {  # all else that nnU-Net's checkpoints name
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.device",
    "torch.Size",
    "collections.OrderedDict",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
}
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,  # how it is compressed
)
_LOCAL_HEADER = 30  # bytes of a zip entry's own header, before its name and further fields
_LARGEST_PICKLE = 1 << 28  # bytes; of trainings over thousands of epochs there are a few million


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save` wrote: plain values, and tensors as NumPy arrays that are views of the file.

    A function or type that the file names besides is refused before anything is made of it; nothing is called.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, of another format, or asks for anything else than tensors and numbers.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            whole = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            return _TorchPickle(_Archive.of(archive, whole)).run_whole()
    except RefusedError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except _DAMAGED as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint ({first_line(error)}); copy it again") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Archive:
    """The zip that a checkpoint is, and its bytes."""

    zip: zipfile.ZipFile
    content: mmap.mmap
    entries: dict[str, zipfile.ZipInfo]  # by their names below the folder that everything lies in

    @classmethod
    def of(cls, archive: zipfile.ZipFile, content: mmap.mmap) -> _Archive:
        return cls(archive, content, {info.filename.partition("/")[2]: info for info in archive.infolist()})

    def entry(self, name: str) -> zipfile.ZipInfo:
        """Find an entry."""
        if name not in self.entries:
            raise ValueError(f"it has no {name}")
        return self.entries[name]

    def pickle(self) -> bytes:
        """Return the description of all values."""
        info = self.entry("data.pkl")
        if info.file_size > _LARGEST_PICKLE:
            raise ValueError(f"data.pkl has {info.file_size} bytes")
        return self.zip.read(info)

    def storage(self, key: str) -> tuple[bytes | mmap.mmap, int, int]:
        """Return the bytes with a storage, the file's where it is not compressed; where it begins and ends in them."""
        info = self.entry(f"data/{key}")
        if info.compress_type != zipfile.ZIP_STORED:
            content = self.zip.read(info)
            return content, 0, len(content)
        name, further = struct.unpack_from("<HH", self.content, info.header_offset + _LOCAL_HEADER - 4)
        start = info.header_offset + _LOCAL_HEADER + name + further
        return self.content, start, min(start + info.file_size, len(self.content))


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers that tensors are views of."""

    key: str
    kind: str  # as PyTorch calls it


class _TorchPickle(Pickled):
    """The description in a checkpoint."""

    def __init__(self, archive: _Archive) -> None:
        super().__init__()
        self.archive = archive

    def run_whole(self) -> Any:
        """Return what the file holds."""
        if "byteorder" in self.archive.entries:
            order = self.archive.zip.read(self.archive.entry("byteorder"))
            if order != b"little":
                raise ValueError(f"its byte order is {order.decode(errors='replace')}")
        return self.run(self.archive.pickle())

    def named(self, name: Name) -> Name:
        """Refuse what is neither a tensor nor a number as soon as it is named."""
        if name not in _TYPES and name not in _CALLED and not name.startswith("numpy.dtypes."):
            raise RefusedError(
                f"asks for {name}, which is neither a tensor nor a number; such a file could run code and is not read"
            )
        return name

    def stored(self, key: Any) -> _Storage:
        """See Pickled; ("storage", type, key, device, count)."""
        what, kind, name = key[:3]
        if what != "storage" or kind not in _TYPES:
            raise RefusedError(f"asks for {kind}, which is neither a tensor nor a number; it is not read")
        return _Storage(str(name), str(kind))

    def called(self, function: Any, arguments: Any) -> Any:
        """See Pickled."""
        if function == "torch._utils._rebuild_tensor_v2":
            return self.tensor(*arguments[:4])
        if function == "torch._utils._rebuild_parameter":
            return arguments[0]
        if function == "collections.OrderedDict":
            return dict(*arguments)
        if function == "torch.Size":
            return tuple(arguments[0])
        if function == "torch.device":
            return ":".join(map(str, arguments))
        return super().called(function, arguments)

    def with_state(self, value: Any, state: Any) -> Any:
        """See Pickled; what a state dictionary tells of its versions is left out."""
        return value if isinstance(value, dict) else super().with_state(value, state)

    def tensor(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[Any]:
        """Return a tensor as a view of its storage."""
        if len(shape) != len(strides) or min((offset, *shape, *strides), default=0) < 0:
            raise ValueError(f"a tensor has shape {shape} and strides {strides}")
        kind = np.dtype(_TYPES[storage.kind])
        content, start, end = self.archive.storage(storage.key)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        first, steps = start + offset * kind.itemsize, tuple(step * kind.itemsize for step in strides)
        if prod(shape) and start + (last + 1) * kind.itemsize > end:
            raise ValueError(f"a tensor of shape {shape} reaches beyond its storage")
        view: NDArray[Any] = np.ndarray(shape, kind, content, first, steps) if prod(shape) else np.empty(shape, kind)
        if storage.kind == "torch.BFloat16Storage":
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view
