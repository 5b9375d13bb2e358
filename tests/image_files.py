"""Image files for tests: NIfTI as nibabel writes it, voxels to put in, and the comparison with ITK."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nnunet_rs.core.io import read_grid, read_scan
from nnunet_rs.core.issues import IssueError


def oblique(spacing: tuple[float, ...] = (1.5, 0.8, 3.0)) -> np.ndarray:
    """A rotation about two axes, spacing along x, y, z, and an origin."""
    a, b = 0.3, -0.2
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = [-91.5, 12.25, 40]
    return affine


def voxels(shape: tuple[int, ...] = (4, 5, 6), kind: str = "i2") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 100, shape).astype(kind)


def saved(path: Path, array: np.ndarray, affine: Any = None, **fields: Any) -> Path:
    """Write (x, y, z[, c]) with nibabel, then set header fields."""
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for field, value in fields.items():
        image.header[field] = value
    nibabel.save(image, path)
    return path


def patched(path: Path, changes: dict[str, Any]) -> Path:
    """Change header fields of a written `.nii` as nibabel would not."""
    content = path.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    for field, value in changes.items():
        header[field] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


def same_as_itk(path: Path) -> None:
    """Voxels, spacing and place are those that ITK reads."""
    image, scan = sitk.ReadImage(str(path)), read_scan(path)
    axes = image.GetDimension()
    array = sitk.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array
    np.testing.assert_array_equal(scan.voxels.ravel(), array.ravel())
    some = min(axes, 3)
    affine = np.eye(4)
    affine[:some, :some] = np.reshape(image.GetDirection(), (axes, axes))[:some, :some] * image.GetSpacing()[:some]
    affine[:some, 3] = image.GetOrigin()[:some]
    np.testing.assert_allclose(scan.header.affine, np.diag([-1, -1, 1, 1]) @ affine, atol=1e-6)
    np.testing.assert_allclose(scan.spacing, (*image.GetSpacing()[:3], 1.0)[2::-1])
    assert read_grid(path) == (scan.voxels.shape, scan.spacing)


def rule(call: Callable[[], object]) -> str:
    """The rule by which a file is refused, in one line that names it."""
    with pytest.raises(IssueError) as caught:
        call()
    assert str(caught.value.issue.file) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.issue.rule
