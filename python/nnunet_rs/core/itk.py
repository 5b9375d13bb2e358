"""Segmentations written as NRRD, MetaImage, PNG, TIFF and BMP, by SimpleITK."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.content import reason
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.files import write_atomically
from nnunet_rs.core.image_file import LPS_TO_RAS, smallest_integer
from nnunet_rs.core.restored import Restored
from nnunet_rs.core.types import Header, IntArray


def write_labels(
    path: Path, labels: IntArray, header: Header, *, as_slice: bool = False, voxels_apart: bool = False
) -> None:
    """Write labels (z, y, x) with the origin, direction and spacing of `header`, atomically.

    Parameters
    ----------
    path
        Its ending tells SimpleITK the format.
    labels
        Integers; written as the smallest type that holds them.
    header
        Of the image.
    as_slice
        One slice is written as a 2-D image.
    voxels_apart
        The format keeps voxels in a file of their own, which the header names.

    Raises
    ------
    NnunetError
        The file cannot be written.
    """
    kind = smallest_integer(int(labels.min(initial=0)), int(labels.max(initial=0)))
    voxels = labels.astype(kind, order="C")
    image = _sitk().GetImageFromArray(voxels[0] if as_slice and len(voxels) == 1 else voxels)
    _place(image, np.asarray(header.affine))
    with write_atomically(path) as temporary, _unprinted():
        if voxels_apart:
            _save_apart(image, path, temporary)
        else:
            _save(image, path, temporary)


@cache
def _sitk() -> Any:
    """Import SimpleITK when the first such file is written: it takes a tenth of a second."""
    import SimpleITK

    return SimpleITK


@contextmanager
def _unprinted() -> Iterator[None]:
    """Keep SimpleITK from printing warnings within the block, which is a setting of the whole process."""
    with _WARNINGS():
        _sitk().ProcessObject.SetGlobalWarningDisplay(False)
        yield


_WARNINGS = Restored(
    lambda: bool(_sitk().ProcessObject.GetGlobalWarningDisplay()),
    lambda shown: _sitk().ProcessObject.SetGlobalWarningDisplay(shown),
)


def _place(image: Any, affine: NDArray[np.float64]) -> None:
    axes = image.GetDimension()
    lps = LPS_TO_RAS * affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing[:axes].tolist())
    image.SetOrigin(lps[:axes, 3].tolist())
    direction = (lps[:3, :3] / spacing)[:axes, :axes]
    if abs(np.linalg.det(direction)) > 1e-6:  # a slice cut out of an oblique volume has no direction of its own
        image.SetDirection(direction.ravel().tolist())


def _save_apart(image: Any, path: Path, temporary: Path) -> None:
    """Write header and voxels elsewhere under their own names, for one names the other; the header moves last."""
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
