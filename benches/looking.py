"""How long people wait until they see something: pages, statistics and the viewer of large made-up cases.

    python benches/looking.py FOLDER [--cases 50]

Makes CTs of 512 x 512 x 200 voxels with 15 organs (five, and links to them), one of 512 x 512 x 400, and a folder of
1 000 small cases, where FOLDER has none yet. Every row is a process of its own: seconds by the wall, peak memory.
The viewer's row is from the start of its process until a headless Chromium, which is open already, shows a picture.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

ORGANS, DISTINCT, MANY = 15, 5, 1000
BROWSER = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


# What is looked at.


def made_up(number: int, planes: int) -> tuple[np.ndarray, np.ndarray]:
    """A body with noise and organs, which differ a little from case to case: image and labels, (z, y, x)."""
    chance = np.random.default_rng(number)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype="f4") for n in (planes, 512, 512)), indexing="ij", sparse=True)
    image = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 20, -1000).astype("f4") + np.zeros((planes, 1, 1), "f4")
    labels = np.zeros(image.shape, np.uint8)
    for organ in range(1, ORGANS + 1):
        usual = np.random.default_rng(1000 + organ)
        centre = usual.uniform(-1, 1, 3) * (0.7, 0.35, 0.55)
        size = usual.uniform(0.1, 0.28) * chance.uniform(0.85, 1.15)
        wave = 1 + 0.15 * np.sin(9 * x + organ) * np.cos(7 * y)
        inside = (
            sum(((a - c) / s) ** 2 for a, c, s in zip((z, y, x), centre, (1.3 * size, size, size), strict=True)) < wave
        )
        labels[inside], image[inside] = organ, 40 + 8 * organ
    noise = chance.normal(0, 22, (40, 512, 512)).astype("f4")
    for first in range(0, planes, len(noise)):
        image[first : first + len(noise)] += noise[: planes - first]
    return image.round().astype(np.int16), labels


def save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nibabel.Nifti1Image(voxels.T, np.diag([0.8, 0.8, 2.5, 1])).header
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with igzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock + b"\0\0\0\0" + voxels.tobytes())


def make(folder: Path, cases: int) -> None:
    for number in range(cases):
        image, label = (folder / "large" / kind / f"case_{number:03}{end}.nii.gz" for kind, end in NAMES)
        if image.is_file() and label.is_file():
            continue
        if number < DISTINCT:
            for path, voxels in zip((image, label), made_up(number, 200), strict=True):
                save(path, voxels)
        else:
            for path in (image, label):
                os.link(path.parent / path.name.replace(f"{number:03}", f"{number % DISTINCT:03}"), path)
    if not (folder / "ct.nii.gz").is_file():
        save(folder / "ct.nii.gz", made_up(7, 400)[0])
    if not (folder / "many").is_dir():
        for number in range(MANY):
            for kind, end in NAMES:
                path = folder / "many" / kind / f"case_{number:04}{end}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(nibabel.Nifti1Image(np.ones((8, 8, 8), np.uint8), np.eye(4)).to_bytes()))


NAMES = (("images", "_0000"), ("labels", ""))


# What is measured.


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "nnunet_rs", *map(str, words)]


def whole(*words: object) -> tuple[float, float]:
    """Seconds and GB of a command from its start to its end."""
    begun = time.perf_counter()
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words} failed")
    return time.perf_counter() - begun, used.ru_maxrss / 1e6


@contextmanager
def viewing(*words: object) -> Iterator[tuple[str, float]]:
    """The address of a viewer, and when it was started; the process ends with the block."""
    begun = time.perf_counter()
    run = subprocess.Popen(command("view", *words, "--no-browser", "-q"), stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        yield run.stdout.readline().strip(), begun
    finally:
        run.terminate()
        run.wait()


def started(*words: object) -> float:
    """Seconds until the viewer can be opened."""
    with viewing(*words) as (_, begun):
        return time.perf_counter() - begun


def first_picture(image: Path) -> list[float]:
    """Seconds until the address is known, until there is a picture, and until it is as fine as it gets by itself."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER))
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        with viewing(image) as (address, begun):
            found = [time.perf_counter() - begun]
            page.goto(address)
            page.wait_for_function("() => document.body.dataset.shown", timeout=120_000, polling=20)
            page.evaluate("new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)))")
            found.append(time.perf_counter() - begun)
            page.wait_for_function("() => document.body.dataset.shown.split('/')[1] < 3", timeout=120_000, polling=20)
            found.append(time.perf_counter() - begun)
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=50)
    arguments = parser.parse_args()
    folder, cases = arguments.folder, arguments.cases
    make(folder, cases)
    large, many, page = folder / "large", folder / "many", folder / "page.html"
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores\n")
    seconds, memory = whole("report", large / "labels", "-i", large / "images", "-o", page, "--overwrite", "-q")
    print(f"page of {cases} cases: {seconds:.1f} s, {memory:.2f} GB, {page.stat().st_size / 1e6:.1f} MB", flush=True)
    one, numbers = large / "labels" / "case_000.nii.gz", folder / "statistics.json"
    given = ("statistics", one, "-i", large / "images" / "case_000_0000.nii.gz", "-o", numbers, "--overwrite", "-q")
    seconds, memory = min(whole(*given) for _ in range(3))
    print(f"statistics of a case: {seconds:.2f} s, {memory:.2f} GB", flush=True)
    runs = zip(*(first_picture(folder / "ct.nii.gz") for _ in range(3)), strict=True)
    known, seen, fine = (min(each) for each in runs)
    print(f"viewer of 512 x 512 x 400: opens after {known:.2f} s, picture after {seen:.2f} s, finer after {fine:.2f} s")
    start = min(started(many / "labels", "-i", many / "images") for _ in range(3))
    print(f"viewer of {MANY} cases: opens after {start:.2f} s")


if __name__ == "__main__":
    main()
