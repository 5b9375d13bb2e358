"""NRRD, MetaImage, PNG, TIFF and BMP through SimpleITK."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.faults import Fault, FaultError
from nnunet_rs.core.files import read_json, write_atomically, write_json
from nnunet_rs.core.scan import Scan, smallest_integer
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3

ENDINGS = (".nrrd", ".mha", ".mhd", ".png", ".tiff", ".tif", ".bmp")

_FLAT = (".png", ".bmp")  # hold slices only
_TIFF = (".tif", ".tiff")  # hold slices and stacks
_PICTURES = (*_FLAT, *_TIFF)  # hold no place, and dots per inch instead of a spacing
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world points left and back, nibabel's right and front


def read(path: Path) -> Scan:
    """Read a file whole.

    Colours and vectors become channels; a slice becomes a volume with z = 1 and spacing 1 along z. Pictures have
    spacing 1: their dots per inch speak of printing, and differ between an image and its labels. The spacing of a TIFF
    may stand in a JSON file `{case}.json` beside it, `{"spacing": [z, y, x]}` (nnU-Net's convention).

    Raises
    ------
    FaultError
        `missing`, `unreadable`, `file-empty`, `dimensions`, `voxel-type`.
    """
    reader = _opened(path)
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error
    voxels = _channels_first(path, _sitk().GetArrayFromImage(image), image)
    spacing = _spacing(path, image)
    header = Header("itk", _affine(path, image, spacing))
    return Scan(path, voxels, spacing, header, faults=_header_faults(path, spacing))


def read_grid(path: Path) -> tuple[Shape, Spacing3]:
    """Read shape (c, z, y, x) and spacing (z, y, x) without the voxels; errors as `read`."""
    reader = _opened(path)
    sizes, components = reader.GetSize(), 1 if _grey_bitmap(path) else reader.GetNumberOfComponents()
    channels = components * (sizes[3] if len(sizes) == 4 else 1)
    return (channels, *(*sizes, 1)[2::-1]), _spacing(path, reader)


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
        return tuple(dict.fromkeys((path.with_suffix(".json"), _sidecar(path))))
    return tuple(path.with_suffix(voxels) for voxels in (".raw", ".zraw")) if ending == ".mhd" else ()


# ---- reading ---------------------------------------------------------------------------------------------------------


@cache
def _sitk() -> Any:
    """Import SimpleITK when the first such file is met (it takes a tenth of a second) and keep it from printing."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _opened(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except FileNotFoundError:
        raise FaultError(Fault(path, "missing", "no such file", "restore it, or take the case out")) from None
    except OSError as error:
        raise FaultError(Fault(path, "unreadable", str(error.strerror), "check permissions and the disk")) from error
    if empty:
        raise FaultError(Fault(path, "file-empty", "0 bytes", "copy or download the file again"))
    reader = _sitk().ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return reader


def _unreadable(path: Path, error: BaseException) -> FaultError:
    last = str(error).strip().splitlines()[-1].strip()
    return FaultError(
        Fault(path, "unreadable", re.sub(r"^ITK ERROR:\s*", "", last), "copy the file again or resave it")
    )


def _channels_first(path: Path, voxels: NDArray[Any], image: Any) -> NDArray[Any]:
    """Bring ITK's (t, z, y, x, component) order to (c, z, y, x)."""
    sizes, components = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    if voxels.dtype.kind not in "iuf":
        value = image.GetPixelIDTypeAsString()
        raise FaultError(Fault(path, "voxel-type", value, "save it with integer or float voxels"))
    if len(sizes) not in (2, 3, 4) or (len(sizes) == 4 and components > 1):
        value = f"size {' x '.join(map(str, sizes))} with {components} components"
        raise FaultError(Fault(path, "dimensions", value, "save it as 2-D or 3-D image"))
    if components > 1 and _grey_bitmap(path):
        voxels = voxels[np.newaxis, ..., 0]
    elif components > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    elif len(sizes) < 4:
        voxels = voxels[np.newaxis]
    return voxels if voxels.ndim == 4 else voxels[:, np.newaxis]


def _grey_bitmap(path: Path) -> bool:
    """Whether a file is a BMP with a palette of greys, which ITK gives three equal channels."""
    if path.suffix.lower() != ".bmp":
        return False
    with path.open("rb") as stream:
        head = stream.read(54 + 4 * 256)
    bits, entries = int.from_bytes(head[28:30], "little"), int.from_bytes(head[46:50], "little")
    if bits > 8:
        return False
    start, count = 14 + int.from_bytes(head[14:18], "little"), entries or 2**bits
    palette = np.frombuffer(head[start : start + 4 * count], np.uint8)
    palette = palette[: palette.size // 4 * 4].reshape(-1, 4)  # blue, green, red, unused
    return bool((palette[:, :1] == palette[:, :3]).all())


def _spacing(path: Path, image: Any) -> Spacing3:
    sidecar = _sidecar(path)
    if path.suffix.lower() in _TIFF and sidecar.is_file():
        return _sidecar_spacing(sidecar)
    if path.suffix.lower() in _PICTURES:
        return 1.0, 1.0, 1.0
    x, y, z = (*(float(size) for size in image.GetSpacing()[:3]), 1.0)[:3]
    return z, y, x


def _sidecar(path: Path) -> Path:
    return path.with_name(re.sub(r"_\d{4}$", "", path.stem) + ".json")


def _sidecar_spacing(path: Path) -> Spacing3:
    content = read_json(path)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not (isinstance(spacing, list) and len(spacing) == 3 and all(isinstance(size, int | float) for size in spacing)):
        raise FaultError(Fault(path, "spacing-invalid", f"spacing is {spacing!r}", "give three numbers: z, y, x in mm"))
    z, y, x = map(float, spacing)
    return z, y, x


def _affine(path: Path, image: Any, spacing: Spacing3) -> tuple[tuple[float, ...], ...]:
    """Voxel (x, y, z) to world in RAS+; the third axis of a slice is that of the world."""
    affine = np.eye(4)
    if path.suffix.lower() not in _PICTURES:
        axes = min(image.GetDimension(), 3)
        affine[:axes, :axes] = np.reshape(image.GetDirection(), (image.GetDimension(),) * 2)[:axes, :axes]
        affine[:axes, 3] = image.GetOrigin()[:axes]
    affine[:3, :3] *= spacing[::-1]
    return tuple(tuple(map(float, row)) for row in _LPS_TO_RAS @ affine)


def _header_faults(path: Path, spacing: Spacing3) -> tuple[Fault, ...]:
    if np.isfinite(spacing).all() and min(spacing) > 0:
        return ()
    value = f"spacing (z, y, x) is {spacing}"
    return (Fault(path, "spacing-invalid", value, "set the voxel size in mm in the header"),)


# ---- writing ---------------------------------------------------------------------------------------------------------


def _place(image: Any, affine: NDArray[np.float64]) -> None:
    axes = image.GetDimension()
    lps = _LPS_TO_RAS @ affine
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
        reason = str(error).strip().splitlines()[-1].strip()
        advice = "see that the format holds such labels, and check the disk"
        raise NnunetError(f"{path}: cannot be written: {reason}; {advice}") from error
