"""Made-up abdominal scans: a dataset for trying things where no patient's image may go.

An anatomy of ellipsoids, in millimetres, is varied from case to case (places, sizes, a smooth bending of everything),
and photographed by an imaginary MR scanner: thick slices, partial volumes, texture, a bias field, Rician noise, an
arbitrary intensity scale, and now and then a tilted field of view. Everything follows from (seed, case index).
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.files import read_json, write_atomically, write_json
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.types import FloatArray
from nnunet_rs.core.workspace import DATASET_JSON

Point = tuple[float, float, float]  # right, anterior, superior, in mm

LABELS = {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "spine": 4, "aorta": 5}
DATASET = "Dataset999_Phantom"
_DESCRIPTION = "Made-up abdominal MR scans; no patient was involved."
_FIELD_OF_VIEW = (296.0, 208.0, 168.0)  # mm
_SUBSLICES = (-1 / 3, 0.0, 1 / 3)  # where a slice is sampled, in slice thicknesses: its profile is a box


@dataclass(frozen=True, slots=True)
class Blob:
    """An ellipsoid of one tissue. Later blobs of the anatomy lie over earlier ones."""

    tissue: str
    centre: Point
    radii: Point  # mm
    turn: float = 0.0  # degrees about the body's long axis


@dataclass(frozen=True, slots=True)
class Tissue:
    """How a tissue looks and what it is called."""

    signal: float  # mean intensity before the scanner's scale
    spread: float  # how much the mean varies between cases
    texture: float  # amplitude of the grain inside
    label: int = 0


TISSUES = {
    "fat": Tissue(235.0, 15.0, 14.0),
    "muscle": Tissue(85.0, 8.0, 8.0),
    "bowel": Tissue(125.0, 35.0, 26.0),  # may look like any organ, is none
    "liver": Tissue(118.0, 9.0, 9.0, LABELS["liver"]),
    "vessel": Tissue(160.0, 10.0, 4.0, LABELS["liver"]),  # inside the liver, and part of it
    "spleen": Tissue(182.0, 8.0, 6.0, LABELS["spleen"]),
    "kidney": Tissue(150.0, 10.0, 8.0, LABELS["kidneys"]),
    "pelvis": Tissue(215.0, 10.0, 4.0, LABELS["kidneys"]),  # the kidney's
    "bone": Tissue(105.0, 12.0, 16.0, LABELS["spine"]),
    "blood": Tissue(40.0, 8.0, 5.0, LABELS["aorta"]),
}

ANATOMY = (
    Blob("fat", (0, 0, 0), (142, 98, 420)),
    Blob("muscle", (0, -2, 0), (126, 83, 400)),
    Blob("fat", (0, 4, 0), (112, 68, 380)),
    Blob("bowel", (-48, 32, 22), (38, 24, 42), 20),  # stomach
    Blob("bowel", (20, 34, -58), (34, 20, 22), -15),
    Blob("bowel", (-38, 28, -62), (26, 22, 26), 35),
    Blob("bowel", (72, 14, -76), (20, 26, 22)),
    Blob("liver", (52, 8, 34), (54, 50, 62), -25),
    Blob("liver", (4, 34, 44), (44, 24, 34), 10),
    Blob("vessel", (50, 2, 40), (30, 4, 6), 30),
    Blob("vessel", (62, 14, 26), (5, 20, 5), -20),
    Blob("spleen", (-84, -20, 42), (20, 36, 40), 25),
    Blob("kidney", (58, -44, -26), (21, 17, 40), 20),
    Blob("kidney", (-56, -44, -14), (21, 17, 40), -20),
    Blob("pelvis", (52, -42, -26), (7, 5, 16), 20),
    Blob("pelvis", (-50, -42, -14), (7, 5, 16), -20),
    Blob("muscle", (24, -58, -40), (16, 14, 90)),
    Blob("muscle", (-24, -58, -40), (16, 14, 90)),
    Blob("bone", (0, -52, 0), (21, 17, 380)),
    Blob("bone", (0, -76, 0), (7, 16, 360)),
    Blob("blood", (-11, -26, 0), (10, 10, 380)),
)


@dataclass(frozen=True, slots=True, eq=False)
class PhantomScan:
    """One made-up scan with its true segmentation."""

    image: NDArray[np.int16]  # (x, y, z), as NIfTI stores it
    labels: NDArray[np.uint8]  # (x, y, z)
    affine: NDArray[np.float64]  # 4 x 4, voxel to world, RAS+ mm


@dataclass(frozen=True, slots=True, eq=False)
class _Waves:
    """A smooth random function of place: a sum of cosines of random direction and phase."""

    vectors: NDArray[np.float64]  # (n, 3), radians per mm
    phases: NDArray[np.float64]  # (n,)
    weights: NDArray[np.float64]  # (n, outputs)

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, wavelengths: tuple[float, float], outputs: int) -> _Waves:
        """Draw `count` waves between two wavelengths (mm); every output has unit variance."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = rng.uniform(*wavelengths, size=(count, 1))
        weights = rng.normal(size=(count, outputs)) * math.sqrt(2 / count)
        return cls(directions * (2 * math.pi / lengths), rng.uniform(0, 2 * math.pi, count), weights)

    def __call__(self, points: FloatArray) -> FloatArray:
        """Evaluate at points (..., 3); (..., outputs)."""
        angles = points @ self.vectors.T.astype(np.float32) + self.phases.astype(np.float32)
        waves: FloatArray = np.cos(angles) @ self.weights.astype(np.float32)
        return waves


def make_scan(seed: int, index: int, *, tilted: bool = False) -> PhantomScan:
    """Make one scan.

    Parameters
    ----------
    seed, index
        Scan `index` of the series `seed`; the same numbers give the same scan.
    tilted
        Turn the field of view by some ten degrees about the left-right and the long axis, so that the header is
        oblique.

    Returns
    -------
    Scan
        About 110 x 80 x 20 voxels of 2.6 to 3.0 mm in-plane and 8 to 10 mm between slices.
    """
    rng = np.random.default_rng((seed, index))
    affine, size = _field_of_view(rng, tilted)
    anatomy = [_vary(blob, rng) for blob in ANATOMY]
    signals = {name: tissue.signal + tissue.spread * rng.uniform(-1, 1) for name, tissue in TISSUES.items()}
    bending = _Waves.draw(rng, 8, (130, 300), 3)
    grain = _Waves.draw(rng, 40, (6, 22), 1)
    edge = float(affine[0, 0] ** 2 + affine[1, 0] ** 2 + affine[2, 0] ** 2) ** 0.5

    image = np.zeros(size, np.float32)
    for offset in _SUBSLICES:
        points = _grid(affine, size, offset)
        bent = points + 5.0 * bending(points)
        light, labels = _paint(bent, anatomy, signals, grain(bent)[..., 0], edge)
        image += light / len(_SUBSLICES)
        if offset == 0.0:
            truth = labels
    return PhantomScan(_expose(image, _grid(affine, size, 0.0), rng), truth, affine)


def write_dataset(
    folder: Path, *, training: int = 20, test: int = 4, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Write a dataset of made-up scans in nnU-Net's raw layout, with labels for the test scans too.

    Parameters
    ----------
    folder
        Where `Dataset999_Phantom` is put, with imagesTr, labelsTr, imagesTs, labelsTs and dataset.json.
    training, test
        Number of scans; every fourth is tilted.

    Returns
    -------
    Path
        The dataset's folder.

    Raises
    ------
    NnunetError
        There is a dataset of that name which was not made here, or the folder cannot be written.
    """
    root = folder / DATASET
    if root.exists() and not is_made_up(root):
        raise NnunetError(f"{root}: is there, and was not made by this tool; name another folder, nothing is replaced")
    progress = progress or Silent()
    write_json(root / DATASET_JSON, _dataset_json(training))  # first, so that a rerun knows what was begun
    with progress.task("make scans", training + test) as task:
        for index in range(training + test):
            kind = "Tr" if index < training else "Ts"
            name = f"scan{index + 1:02d}"
            scan = make_scan(seed, index, tilted=index % 4 == 1)
            _write_nifti(root / f"images{kind}" / f"{name}_0000.nii.gz", scan.image, scan.affine)
            _write_nifti(root / f"labels{kind}" / f"{name}.nii.gz", scan.labels, scan.affine)
            task.advance(note=name)
    return root


def is_made_up(root: Path) -> bool:
    """Whether a folder is a dataset that `write_dataset` wrote or began to write."""
    try:
        content = read_json(root / DATASET_JSON)
    except NnunetError:
        return False
    return isinstance(content, dict) and content.get("description") == _DESCRIPTION


def _dataset_json(training: int) -> dict[str, Any]:
    return {
        "name": "Phantom",
        "description": _DESCRIPTION,
        "channel_names": {"0": "MR"},
        "labels": LABELS,
        "numTraining": training,
        "file_ending": ".nii.gz",
    }


def _field_of_view(rng: np.random.Generator, tilted: bool) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Draw spacing and size, and point the grid at the middle of the body."""
    inplane, thickness = rng.uniform(2.6, 3.0), rng.uniform(8.5, 10.0)
    spacing = np.round([inplane, inplane, thickness], 2)
    size = np.round(np.array(_FIELD_OF_VIEW) * rng.uniform(0.97, 1.05, 3) / spacing).astype(int)
    angles = rng.uniform(7, 13, 2) * rng.choice([-1, 1], 2) if tilted else np.zeros(2)
    turn = _rotation(2, 0.5 * angles[1]) @ _rotation(0, angles[0])
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = rng.uniform(-5, 5, 3) - affine[:3, :3] @ ((size - 1) / 2)
    return affine, (int(size[0]), int(size[1]), int(size[2]))


def _rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    """Rotate about a world axis; 3 x 3."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[first, second], matrix[second, first] = -sine, sine
    return matrix


def _vary(blob: Blob, rng: np.random.Generator) -> Blob:
    """Give a case's version of a blob: moved, swollen or shrunk, turned a little."""
    centre = np.array(blob.centre) + rng.uniform(-5, 5, 3)
    radii = np.array(blob.radii) * rng.uniform(0.88, 1.12, 3)
    return replace(blob, centre=_point(centre), radii=_point(radii), turn=blob.turn + rng.uniform(-10, 10))


def _point(values: NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def _grid(affine: NDArray[np.float64], size: tuple[int, int, int], offset: float) -> FloatArray:
    """Give the world position of every voxel, `offset` slice thicknesses off its centre; (x, y, z, 3)."""
    axes = [np.arange(n, dtype=np.float64) for n in size]
    axes[2] = axes[2] + offset
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    points: FloatArray = (indices @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
    return points


def _paint(
    points: FloatArray, anatomy: list[Blob], signals: dict[str, float], grain: FloatArray, edge: float
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Draw the blobs one over another; their borders are one voxel (`edge` mm) soft in the image, sharp in labels."""
    light = np.zeros(points.shape[:-1], np.float32)
    labels = np.zeros(points.shape[:-1], np.uint8)
    for blob, cover in _covers(points, anatomy, edge):
        tissue = TISSUES[blob.tissue]
        light += cover * (signals[blob.tissue] + tissue.texture * grain - light)
        labels[cover > 0.5] = tissue.label
    return light, labels


def _covers(points: FloatArray, anatomy: list[Blob], edge: float) -> Iterator[tuple[Blob, FloatArray]]:
    """Give how much of each voxel a blob covers, 0 … 1, from its distance to the surface."""
    for blob in anatomy:
        local = (points - np.array(blob.centre, np.float32)) @ _rotation(2, blob.turn).astype(np.float32)
        local /= np.array(blob.radii, np.float32)
        reach = np.sqrt(np.einsum("...i,...i", local, local))
        cover: FloatArray = np.clip(0.5 + (1 - reach) * (min(blob.radii) / edge), 0, 1)
        yield blob, cover


def _expose(light: FloatArray, points: FloatArray, rng: np.random.Generator) -> NDArray[np.int16]:
    """Render the image: the coil's uneven sensitivity, noise in both channels of the receiver, an arbitrary scale."""
    bias = np.exp(0.16 * _Waves.draw(rng, 4, (350, 700), 1)(points)[..., 0])
    real, imaginary = rng.normal(scale=9.0, size=(2, *light.shape)).astype(np.float32)
    magnitude = np.hypot(light * bias + real, imaginary) * rng.uniform(2, 7)
    exposed: NDArray[np.int16] = np.round(magnitude).astype(np.int16)
    return exposed


def _write_nifti(path: Path, data: NDArray[Any], affine: NDArray[np.float64]) -> None:
    import nibabel

    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
