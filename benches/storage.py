"""How prepared cases are best stored: size, time to write, and time to read random patches.

    python benches/storage.py [WORK ...]

Each WORK is a folder of `nnunet-rs preprocess`, whose 3d_fullres cases are rewritten in every way; a made-up smooth
volume of 300³ voxels, with labels, is always measured. zarr is left out where it is not installed. One thread, files in
the page cache; a read opens the file, as training does. The best of three runs is printed.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from nnunet_rs.core.types import Shape
from nnunet_rs.data.chunked_arrays import partition, read_frame
from nnunet_rs.data.store import Store
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[Any]
RUNS = 3
READS = 24


@dataclass(frozen=True)
class Way:
    """One way to store an array: how it is written to and read from a path."""

    name: str
    write: Callable[[Path, Array, Shape, Shape], None]
    read: Callable[[Path, tuple[slice, ...]], Array]


def blosc(codec: str, level: int, filters: str) -> Way:
    def write(path: Path, array: Array, block: Shape, chunk: Shape) -> None:
        compression = {
            "codec": blosc2.Codec[codec],
            "clevel": level,
            "filters": [blosc2.Filter[filters]],
            "nthreads": 1,
        }
        path.write_bytes(blosc2.asarray(array, chunks=chunk, blocks=block, cparams=compression).to_cframe())

    return Way(f"blosc2 {codec.lower()} {level} {filters.lower()}", write, read_frame)


def zarr_ways() -> list[Way]:
    try:
        zarr = importlib.import_module("zarr")
        codecs = importlib.import_module("zarr.codecs")
    except ImportError:
        print("zarr is not installed")
        return []

    def writer(sharded: bool) -> Callable[[Path, Array, Shape, Shape], None]:
        def write(path: Path, array: Array, block: Shape, chunk: Shape) -> None:
            shards = tuple(-(-c // b) * b for b, c in zip(block, chunk, strict=True)) if sharded else None
            compressors = [codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")]
            target = zarr.create_array(
                str(path),
                shape=array.shape,
                chunks=block,
                shards=shards,
                dtype=array.dtype,
                compressors=compressors,
                overwrite=True,
            )
            target[:] = array

        return write

    def read(path: Path, box: tuple[slice, ...]) -> Array:
        source = zarr.open_array(str(path), mode="r")
        return np.asarray(source[(slice(None),) * (source.ndim - 3) + box])

    return [Way(f"zarr zstd 1 shuffle, {kind}", writer(kind == "shards"), read) for kind in ("files", "shards")]


def ways() -> list[Way]:
    codecs = [("LZ4", 5), ("ZSTD", 1), ("ZSTD", 5)]
    return [blosc(codec, level, f) for codec, level in codecs for f in ("NOFILTER", "SHUFFLE")] + zarr_ways()


def measure(title: str, arrays: Sequence[Array], patch: Shape) -> None:
    """Print a table of all ways for arrays of one kind."""
    total = sum(array.nbytes for array in arrays)
    print(f"\n{title}: {len(arrays)} arrays, {total / 1e6:.1f} MB, patch {patch}")
    for way in ways():
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / str(number) for number in range(len(arrays))]
            writing = min(write_all(way, paths, arrays, patch) for _ in range(RUNS))
            size = sum(file.stat().st_size for path in paths for file in (path, *path.rglob("*")) if file.is_file())
            reading = min(read_some(way, paths, arrays, patch) for _ in range(RUNS))
        print(f"  {way.name:30} {size / 1e6:8.2f} MB   write {writing * 1e3:8.2f} ms   read {reading * 1e3:7.2f} ms")


def write_all(way: Way, paths: Sequence[Path], arrays: Sequence[Array], patch: Shape) -> float:
    """Seconds per array."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    start = time.perf_counter()
    for path, array in zip(paths, arrays, strict=True):
        ones = (1,) * (array.ndim - 3)
        block, chunk = partition(array.shape[-3:], patch)
        way.write(path, array, ones + block, ones + chunk)
    return (time.perf_counter() - start) / len(arrays)


def read_some(way: Way, paths: Sequence[Path], arrays: Sequence[Array], patch: Shape) -> float:
    """Seconds per random patch."""
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(READS):
        which = int(rng.integers(len(arrays)))
        shape = arrays[which].shape[-3:]
        first = [int(rng.integers(0, max(n - p, 0) + 1)) for n, p in zip(shape, patch, strict=True)]
        way.read(paths[which], tuple(slice(s, min(s + p, n)) for s, p, n in zip(first, patch, shape, strict=True)))
    return (time.perf_counter() - start) / READS


def made_up() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((300, 300, 300), dtype=np.float32)
    blobs = gaussian_filter(rng.standard_normal((300, 300, 300), dtype=np.float32), 8)
    return (5 * gaussian_filter(noise, 1) + 0.3 * noise)[None], (blobs > 0.005).astype(np.uint8) + (blobs > 0.01)


def main() -> None:
    image, labels = made_up()
    patch = (128, 128, 128)
    measure("made-up image, float32", [image], patch)
    measure("made-up image, float16", [image.astype(np.float16)], patch)
    measure("made-up labels", [labels], patch)
    for work in map(Path, sys.argv[1:]):
        store = Store(work / "prepared" / "3d_fullres")
        cases = [store.read_patch(name, (0, 0, 0), store.shape(name)) for name in store.names()[:40]]
        median = np.median([case[1].shape for case in cases], axis=0).astype(int)
        measure(f"{work.name} images", [case[0] for case in cases], tuple(median.tolist()))
        measure(f"{work.name} labels", [case[1].astype(np.uint8) for case in cases], tuple(median.tolist()))


if __name__ == "__main__":
    main()
