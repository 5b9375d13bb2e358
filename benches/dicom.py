"""How fast compressed series are read, against SimpleITK's series reader; how fast SEG of many structures is written.

    python benches/dicom.py [--slices 500] [--size 512] [--structures 100] [--runs 3] [--syntax NAME ...]

Both readers are held to the same processors (one, then all of them), in turn; the best of the runs counts. SimpleITK
finds its files and reads them; this library finds the series, orders it, reads it and gives float32. Memory is what a
process of its own needed at most, above what it needed before. Files are in the page cache. Where other work runs on
the machine, seconds of processors say more than those of the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from nnunet_rs.core.dicom.reader import only_series
from nnunet_rs.core.io import read_volume
from nnunet_rs.core.types import LabelSet
from nnunet_rs.exchange.dicom.rtstruct import write_rtstruct
from nnunet_rs.exchange.dicom.seg import write_seg
from nnunet_rs.exchange.dicom.source import Source
from nnunet_rs.exchange.dicom.structures import structures_of
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

ROOT = "1.2.826.0.1.3680043.8.498.1."
SYNTAXES = {
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "RLE": "1.2.840.10008.1.2.5",
    "uncompressed": "1.2.840.10008.1.2.1",
}
KINDS = ("ours", "SimpleITK")


def slices(count: int, size: int) -> Iterator[NDArray[np.uint16]]:
    """Soft tissue with noise in an ellipse of air, 12 bits."""
    chance = np.random.default_rng(0)
    y, x = np.ogrid[:size, :size]
    body = ((y / size - 0.5) / 0.35) ** 2 + ((x / size - 0.5) / 0.45) ** 2 < 1
    for z in range(count):
        tissue = 1064 + 60 * np.sin(z / 9) * np.sin(y / 31) * np.cos(x / 23) + chance.normal(0, 12, (size, size))
        yield np.where(body, tissue, 24).astype(np.uint16)


def encoder(syntax: str) -> Callable[[NDArray[np.uint16]], bytes]:
    import imagecodecs

    if syntax == "JPEG 2000":
        return lambda plane: bytes(imagecodecs.jpeg2k_encode(plane, level=0, codecformat="j2k", bitspersample=12))
    if syntax == "JPEG-LS":
        return lambda plane: bytes(imagecodecs.jpegls_encode(plane))
    if syntax == "JPEG lossless":
        return lambda plane: bytes(imagecodecs.ljpeg_encode(plane, bitspersample=12))
    return lambda plane: plane.tobytes()


def write_series(folder: Path, syntax: str, count: int, size: int) -> None:
    encode = encoder(syntax)
    for index, plane in enumerate(slices(count, size)):
        data = Dataset()
        data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"{ROOT}9.{index + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = ROOT + "5", ROOT + "1", ROOT + "7"
        data.Modality, data.InstanceNumber, data.Rows, data.Columns = "CT", index + 1, size, size
        data.PatientName, data.PatientID, data.StudyDate, data.StudyTime = "", "", "20240102", "101500"
        data.PatientBirthDate = data.PatientSex = data.AccessionNumber = data.StudyID = ""
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.PixelSpacing, data.SliceThickness = [0.7, 0.7], "1"
        data.ImagePositionPatient, data.ImageOrientationPatient = [-180, -180, float(index)], [1, 0, 0, 0, 1, 0]
        data.RescaleSlope, data.RescaleIntercept = "1", "-1024"
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = UID(SYNTAXES["uncompressed"] if syntax == "RLE" else SYNTAXES[syntax])
        data.PixelData = encode(plane) if syntax in ("RLE", "uncompressed") else encapsulate([encode(plane)])
        data["PixelData"].VR = "OW" if syntax in ("RLE", "uncompressed") else "OB"
        if syntax == "RLE":
            data.compress(UID(SYNTAXES["RLE"]), generate_instance_uid=False)
        data.save_as(folder / f"{index:04d}.dcm", enforce_file_format=True)


def read_ours(folder: Path) -> NDArray[Any]:
    return read_volume(folder).data[0]


def read_theirs(folder: Path) -> NDArray[Any]:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()  # which the view does not keep
    return SimpleITK.GetArrayViewFromImage(image).astype(np.float32)


READERS = {"ours": read_ours, "SimpleITK": read_theirs}


def measured(kind: str, folder: Path, cores: int) -> tuple[float, float, int]:
    """Seconds, seconds of processors, and bytes of one read, in a process of its own."""
    command = [sys.executable, __file__, "--read", kind, str(folder), "--cores", str(cores)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), float(told[1]), int(told[2])


def read_once(kind: str, folder: Path, cores: int) -> None:
    """Read, and print seconds and bytes; what is imported lazily is imported before."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    with tempfile.TemporaryDirectory() as name:
        write_series(Path(name), "uncompressed", 3, 16)
        READERS[kind](Path(name))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_memory()
    start, used = time.perf_counter(), time.process_time()
    voxels = READERS[kind](folder)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    print(seconds, used, peak_memory() - before, voxels.shape)


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def bench_reading(syntax: str, count: int, size: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_series(folder, syntax, count, size)
        np.testing.assert_array_equal(read_ours(folder), read_theirs(folder))
        volume = count * size * size * 4
        for cores in dict.fromkeys((1, len(os.sched_getaffinity(0)))):
            runs_of = {kind: list[tuple[float, float, int]]() for kind in KINDS}
            for _ in range(runs):
                for kind in KINDS:
                    runs_of[kind].append(measured(kind, folder, cores))
            best = {kind: [min(column) for column in zip(*found, strict=True)] for kind, found in runs_of.items()}
            (wall, used, held), (their_wall, their_used, their_held) = best["ours"], best["SimpleITK"]
            print(
                f"{syntax:14} {cores} cores: {wall:.2f} s, ITK {their_wall:.2f} s, ratio {wall / their_wall:.2f}; "
                f"of processors {used:.2f} s and {their_used:.2f} s, ratio {used / their_used:.2f}; "
                f"memory {held / volume:.2f} and {their_held / volume:.2f} x the volume (float32)",
                flush=True,
            )


def bench_writing(count: int, size: int, structures: int) -> None:
    names = ("background", *(f"structure {number}" for number in range(1, structures + 1)))
    known = structures_of(LabelSet(names, tuple(range(structures + 1))))
    y, x = np.ogrid[:size, :size]
    across = int(np.ceil(np.sqrt(structures)))
    plane = (1 + (y * across // size) * across + x * across // size).astype(np.uint8)
    plane[plane > structures] = 0
    labels = np.broadcast_to(plane, (count, size, size)).copy()
    labels[:, ::7] = 0  # some background in each structure
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "s")
        folder.mkdir()
        write_series(folder, "uncompressed", count, size)
        source = Source(only_series(folder, folder))
        for form in ("binary", "labelmap", "rtstruct"):
            target, start = Path(name, "out.dcm"), time.perf_counter()
            if form == "rtstruct":
                write_rtstruct(target, labels, source, known)
            else:
                write_seg(target, labels, source, known, form)  # type: ignore[arg-type]
            seconds = time.perf_counter() - start
            text = f"{structures} structures on {size} x {size} x {count}"
            print(f"{form:14} {text}: {seconds:.1f} s, {target.stat().st_size / 1e6:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--structures", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--syntax", nargs="*", default=list(SYNTAXES), choices=[*SYNTAXES, []])
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--read", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read_once(arguments.read[0], Path(arguments.read[1]), arguments.cores)
        return
    for syntax in arguments.syntax:
        bench_reading(syntax, arguments.slices, arguments.size, arguments.runs)
    if arguments.structures:
        bench_writing(arguments.slices, arguments.size, arguments.structures)


if __name__ == "__main__":
    main()
