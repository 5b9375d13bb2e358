"""Segmentations written as NRRD, MetaImage, PNG, TIFF and BMP, by SimpleITK."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.content import reason
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.files import write_atomically, write_json
from nnunet_rs.core.image_file import LPS_TO_RAS, smallest_integer
from nnunet_rs.core.tiff import sidecar
from nnunet_rs.core.types import Header, IntArray

_FLAT = (".png", ".bmp")  # hold slices only
_TIFF = (".tif", ".tiff")  # hold slices and stacks


def write_labels(path: Path, labels: IntArray, header: Header) -> None:
    """Write labels (z, y, x) with the origin, direction and spacing of `header`, atomically.

    One slice becomes a 2-D image where the format is one for pictures.

    Raises
    ------
    ValueError
        Several slices for a format that holds one.
    NnunetError
        The file cannot be written.
    """
    ending = path.suffix.lower()
    if ending in _FLAT and labels.shape[0] != 1:
        raise ValueError(f"{path}: a {ending} file holds one slice, the labels have {labels.shape[0]}")
    kind = smallest_integer(int(labels.min(initial=0)), int(labels.max(initial=0)))
    voxels = labels.astype(kind, order="C")
    image = _sitk().GetImageFromArray(voxels[0] if ending in (*_FLAT, *_TIFF) and len(voxels) == 1 else voxels)
    _place(image, np.asarray(header.affine))
    _write(path, image)
    if ending in _TIFF and labels.shape[0] > 1:
        spacing = np.linalg.norm(np.asarray(header.affine)[:3, :3], axis=0)[::-1]
        write_json(path.with_suffix(".json"), {"spacing": spacing.tolist()})


def companions(path: Path) -> tuple[Path, ...]:
    """Where the spacing of a TIFF, and the voxels of a .mhd, are or would be."""
    ending = path.suffix.lower()
    if ending in _TIFF:
        return tuple(dict.fromkeys((path.with_suffix(".json"), sidecar(path))))
    return tuple(path.with_suffix(voxels) for voxels in (".raw", ".zraw")) if ending == ".mhd" else ()


@cache
def _sitk() -> Any:
    """Import SimpleITK when the first such file is written (it takes a tenth of a second) and keep it from printing."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _place(image: Any, affine: NDArray[np.float64]) -> None:
    axes = image.GetDimension()
    lps = LPS_TO_RAS * affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing[:axes].tolist())
    image.SetOrigin(lps[:axes, 3].tolist())
    direction = (lps[:3, :3] / spacing)[:axes, :axes]
    if abs(np.linalg.det(direction)) > 1e-6:  # a slice cut out of an oblique volume has no direction of its own
        image.SetDirection(direction.ravel().tolist())


def _write(path: Path, image: Any) -> None:
    with write_atomically(path) as temporary:
        if path.suffix.lower() != ".mhd":
            _save(image, path, temporary)
            return
        # A .mhd names its voxel file, so both are written elsewhere under their own names; the header moves last.
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
            _save(image, path, Path(folder, path.name))
            for voxels in Path(folder).glob("*.*raw"):
                voxels.replace(path.with_name(voxels.name))
            Path(folder, path.name).replace(temporary)


def _save(image: Any, path: Path, temporary: Path) -> None:
    try:
        _sitk().WriteImage(image, str(temporary), useCompression=True)
    except RuntimeError as error:
        advice = "see that the format holds such labels, and check the disk"
        raise NnunetError(f"{path}: cannot be written: {reason(error)}; {advice}") from error
