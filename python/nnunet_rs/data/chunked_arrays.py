"""Compressed arrays on disk, cut into blocks that are decoded apart: the only module that knows Blosc2.

Blosc2 over zarr, codecs and filters were chosen by measurement: docs/decisions has the figures.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import blosc2_writes
from nnunet_rs.core.restored import Restored
from nnunet_rs.core.types import Shape

Content = Literal["floats", "values", "integers"]
"""What an array holds: interpolated intensities; labels, masks, floats of few values; the integers of a scan."""

BLOCK_VOXELS = 1 << 15  # decoded together: 128 KiB of float32, which a level-2 cache holds
_CHUNK_VOXELS = 1 << 22  # compressed together; bounds the buffers of reader and writer
_LEVEL = 1  # of either codec: its fastest with any effect
_PACKING: dict[Content, tuple[str, str]] = {
    "floats": ("ZSTD", "SHUFFLE"),  # neighbours differ a little: bytes sorted by significance
    "values": ("ZSTD", "NOFILTER"),  # a few values, whose bytes repeat as they are
    "integers": ("LZ4", "BITSHUFFLE"),  # bits sorted by significance: the high ones vanish, noise stays as it is
}
_BRIEF = 1 << 20  # bytes that are compressed in a few milliseconds
_IN_MEMORY = 32 << 20  # bytes of an array whose frame is made in memory: twice its size while it is copied out


def encode_frame(
    array: NDArray[Any], patch: Sequence[int], *, content: Content, scratch: Path, block: int = BLOCK_VOXELS
) -> bytes | Path:
    """Compress an array into a Blosc2 frame, in this thread; its bytes depend on nothing but the arguments.

    Parameters
    ----------
    array
        (..., z, y, x), contiguous.
    patch
        What will be read at once, along z, y, x: blocks get its proportions.
    content
        What it holds, which decides how it is compressed.
    scratch
        A file that may be written: where a large frame goes, instead of memory.
    block
        Voxels that are decoded together, at most.

    Returns
    -------
    bytes or Path
        The frame, or `scratch`, which holds it.

    Raises
    ------
    NnunetError
        `scratch` cannot be written.
    """
    blosc2 = _blosc2()
    lead = array.ndim - len(patch)
    blocks, chunks = partition(array.shape[lead:], patch, block)
    codec, sorting = _PACKING[content]
    compression = {
        "codec": blosc2.Codec[codec],
        "clevel": _LEVEL,
        "filters": [blosc2.Filter[sorting]],
        "nthreads": 1,  # cases are written side by side; and with more the order of blocks would be chance
    }
    form = {"chunks": (1,) * lead + chunks, "blocks": (1,) * lead + blocks, "cparams": compression, "contiguous": True}
    if array.nbytes <= _IN_MEMORY:
        with _OTHER_THREADS_RUN():
            frame: bytes = _compressed(array, form).to_cframe()
        return frame
    with blosc2_writes(scratch.parent), _OTHER_THREADS_RUN():
        _compressed(array, {**form, "urlpath": str(scratch), "mode": "w"})
    return scratch


def _compressed(array: NDArray[Any], form: dict[str, Any]) -> Any:
    """Make a Blosc2 array; of a large one chunk by chunk, for only so the interpreter goes on with other threads.

    `asarray` gives the same bytes, and holds the interpreter's lock meanwhile.
    """
    blosc2 = _blosc2()
    if array.nbytes < _BRIEF:
        return blosc2.asarray(array, **form)
    made = blosc2.empty(array.shape, array.dtype, **form)
    size = math.prod(form["blocks"]) * array.itemsize
    settings = blosc2.CParams(**form["cparams"], typesize=array.itemsize, blocksize=size)
    for number, part in enumerate(_chunks(array, form["chunks"], form["blocks"])):
        made.schunk.update_chunk(number, blosc2.compress2(part, cparams=settings))
    return made


def _chunks(array: NDArray[Any], chunk: Sequence[int], block: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yield the chunks of an array as Blosc2 keeps them: block after block, zeros where it reaches beyond the array."""
    padded = [-(-length // size) * size for length, size in zip(chunk, block, strict=True)]
    split = [n for length, size in zip(padded, block, strict=True) for n in (length // size, size)]
    blocks_first = (*range(0, 2 * array.ndim, 2), *range(1, 2 * array.ndim, 2))
    starts = (range(0, length, size) for length, size in zip(array.shape, chunk, strict=True))
    for corner in itertools.product(*starts):
        part = array[tuple(slice(start, start + size) for start, size in zip(corner, chunk, strict=True))]
        if part.shape != tuple(padded):
            whole = np.zeros(padded, array.dtype)
            whole[tuple(map(slice, part.shape))] = part
            part = whole
        # Splitting axes of a part is a view of it: copied once, in the blocks' order.
        yield np.ascontiguousarray(part.reshape(split).transpose(blocks_first))


def read_frame(path: Path, box: Sequence[slice], offset: int = 0) -> NDArray[Any]:
    """Read a box of the last axes of an array, in this thread, decoding the blocks that it touches.

    Parameters
    ----------
    path
        The file that holds the frame.
    box
        The part to read.
    offset
        Where the frame begins in the file, bytes.

    Raises
    ------
    DatasetError
        The file is missing or damaged.
    """
    # Mapping saves a copy of every block; Blosc2 cannot do it on Windows.
    mapping = None if os.name == "nt" else "r"
    try:
        with _OTHER_THREADS_RUN():
            frame = _blosc2().open(str(path), mode="r", offset=offset, mmap_mode=mapping, dparams={"nthreads": 1})
            return np.asarray(frame[(slice(None),) * (frame.ndim - len(box)) + tuple(box)])
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetError(f"{path}: missing or damaged ({error}); run preprocess again") from error


def partition(shape: Sequence[int], patch: Sequence[int], most: int = BLOCK_VOXELS) -> tuple[Shape, Shape]:
    """Cut an array into blocks (decoded together) within chunks (compressed together).

    A block has the patch's proportions and `most` voxels at most, so that a patch anywhere decodes little besides
    itself; a chunk is made of whole blocks, at most 2^22 voxels.

    Returns
    -------
    block, chunk
        Sizes along the axes of `shape`, at most `shape`.
    """
    block = _halved([min(size, length) for size, length in zip(patch, shape, strict=True)], most)
    counts = [-(-length // size) for length, size in zip(shape, block, strict=True)]
    counts = _halved(counts, max(1, _CHUNK_VOXELS // math.prod(block)))
    chunk = [min(n * size, length) for n, size, length in zip(counts, block, shape, strict=True)]
    return tuple(block), tuple(chunk)


def _halved(sizes: list[int], limit: int) -> list[int]:
    """Halve the longest of `sizes` until their product is at most `limit`."""
    while math.prod(sizes) > limit:
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        sizes = [-(-size // 2) if axis == longest else size for axis, size in enumerate(sizes)]
    return sizes


def warm_up() -> None:
    """Begin to import Blosc2 in the background, for callers that will need it after something else.

    The interpreter waits for the import before it ends. A daemon thread it would cut off, in the middle of C++ code
    that takes this for an exception and aborts the process.
    """
    threading.Thread(target=_import_quietly, name="blosc2").start()


def _import_quietly() -> None:
    with suppress(Exception):  # whoever needs it imports it again, and is told
        _blosc2()


def _blosc2() -> Any:
    """Import Blosc2 at first use: it takes longer than many a command that needs none of it."""
    return importlib.import_module("blosc2")


def _release() -> bool:
    """Let Blosc2 release the interpreter's lock, a setting of the whole process; returns what was set before."""
    before: bool = _blosc2().set_releasegil(True)
    return before


_OTHER_THREADS_RUN = Restored(_release, lambda before: _blosc2().set_releasegil(before))
