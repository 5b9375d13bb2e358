"""How fast files are read: gzip libraries alone, then whole images against nibabel.

    python benches/reading.py [FOLDER ...]

Each FOLDER's `.nii.gz` files are one row; a made-up CT (512 x 512 x 160, int16) is always one. Libraries that are not
installed (zlib-ng, deflate) are left out. The best of five runs is printed, single-threaded, files in the page cache.
"""

from __future__ import annotations

import gzip
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from isal import igzip
from nnunet_rs.core.io import read_labels, read_volume, write_labels

RUNS = 5


def best(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest run, and its result."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def libraries() -> dict[str, Callable[[bytes], bytes]]:
    found: dict[str, Callable[[bytes], bytes]] = {"zlib": gzip.decompress, "isal": igzip.decompress}
    for name, module, function in (
        ("zlib-ng", "zlib_ng.gzip_ng", "decompress"),
        ("libdeflate", "deflate", "gzip_decompress"),
    ):
        try:
            found[name] = getattr(importlib.import_module(module), function)
        except ImportError:
            print(f"{name} is not installed")
    return found


def made_up_ct(folder: Path) -> Path:
    """Soft tissue with noise in an ellipse of air, and ten slabs of labels, compressed at level 6."""
    chance = np.random.default_rng(0)
    z, y, x = np.ogrid[:160, :512, :512]
    body = ((y - 256) / 180) ** 2 + ((x - 256) / 230) ** 2 < 1
    tissue = 40 + 60 * np.sin(z / 9) * np.sin(y / 31) * np.cos(x / 23) + chance.normal(0, 12, (160, 512, 512))
    image = np.where(body, tissue, -1000).astype(np.int16)
    for name, voxels in (("image", image), ("labels", (body * (z // 16)).astype(np.uint8))):
        file = nibabel.Nifti1Image(voxels.T, np.diag([0.7, 0.7, 1.5, 1]))
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress(file.to_bytes(), 6, mtime=0))
    return folder / "image.nii.gz"


def row(name: str, files: list[Path]) -> None:
    stored = [path.read_bytes() for path in files]
    for library, decompress in libraries().items():
        seconds, sizes = best(lambda run=decompress: [len(run(content)) for content in stored])
        print(f"{name:24}{library:16}{1e3 * seconds:9.1f} ms {sum(sizes) / seconds / 1e6:7.0f} MB/s")


def main() -> None:
    for folder in sys.argv[1:]:
        row(Path(folder).name, sorted(Path(folder).rglob("*.nii.gz")))
    with tempfile.TemporaryDirectory() as folder:
        image = made_up_ct(Path(folder))
        labels = image.with_name("labels.nii.gz")
        row("CT", [image])
        ours, volume = best(lambda: read_volume([image]))
        theirs, _ = best(lambda: np.ascontiguousarray(nibabel.load(image).get_fdata(dtype=np.float32).T))
        print(f"{'CT':24}{'read_volume':16}{1e3 * ours:9.1f} ms    nibabel {1e3 * theirs:.1f} ms")
        ours, truth = best(lambda: read_labels(labels))
        theirs, _ = best(lambda: np.asarray(nibabel.load(labels).dataobj))
        print(f"{'CT labels':24}{'read_labels':16}{1e3 * ours:9.1f} ms    nibabel {1e3 * theirs:.1f} ms")
        out = Path(folder) / "out.nii.gz"
        ours, _ = best(lambda: write_labels(out, truth.data, volume.header))
        size = out.stat().st_size
        theirs, _ = best(lambda: nibabel.save(nibabel.Nifti1Image(truth.data.T, np.eye(4)), out))
        print(f"{'CT labels':24}{'write_labels':16}{1e3 * ours:9.1f} ms    nibabel {1e3 * theirs:.1f} ms", end="")
        print(f"    {size / 1e3:.0f} kB, nibabel {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
