"""NIfTI-1 and NIfTI-2 single files, read at the speed of igzip, written so that they open beside their image."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from nnunet_rs.core.content import COPY_AGAIN, ends_early, kind_of, read_content
from nnunet_rs.core.files import write_atomically, write_bytes
from nnunet_rs.core.geometry import invertible, rounded
from nnunet_rs.core.image_file import ORIGIN_TOLERANCE, SPACING_TOLERANCE, ImageFile, smallest_integer
from nnunet_rs.core.image_format import Format
from nnunet_rs.core.issues import Issue, IssueError
from nnunet_rs.core.raw import ISAL_ERROR
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

NAME = "nifti"

_GZIP_MAGIC = b"\x1f\x8b"
_SIZES = {348: b"n+1", 540: b"n+2"}  # header size -> magic of the single-file form
_COMPRESSION_LEVEL = 2  # of igzip: labels shrink as with zlib's level 1, a dozen times faster (docs/decisions)
_OTHER_UNITS = {1: "metres", 3: "micrometres"}  # of xyzt_units; 0 (unknown) is taken for mm
_TYPES = {1: "one-bit voxels", 32: "complex64", 128: "RGB24", 1536: "float128", 1792: "complex128", 2048: "complex256"}
_TYPES |= {2304: "RGBA32"}  # of datatype: what no image or segmentation of one channel is made of
_RESAVE = "open it in the program that made it and save it as NIfTI"


def read(path: Path) -> ImageFile:
    """Read a file whole.

    Parameters
    ----------
    path
        A `.nii` or `.nii.gz` file: 2-D (one slice), 3-D, or 4-D with the channels on the last axis. Further axes of
        size 1 are dropped.

    Returns
    -------
    Scan
        Voxels as stored, a view (c, z, y, x) of the file's bytes. Spacing is the header's `pixdim`, as nnU-Net and
        ITK take it; `spacing-affine` is an issue where the affine says otherwise.

    Raises
    ------
    IssueError
        `unreadable`, `file-empty`, `not-gzip`, `gzip-truncated`, `gzip-corrupt`, `not-nifti`, `header-invalid`,
        `voxel-type`, `dimensions`, `file-truncated`.
    """
    content = _content(path)
    header = _parse(path, content)
    kind = _voxel_type(path, header)
    shape = _shape(path, header)
    slope, intercept = _scaling(path, header)
    forms = _usable_forms(path, header)
    affine = _affine(path, header)
    spacing = _spacing(header)
    voxels = _voxels(path, content, _offset(path, header), kind, shape)
    return ImageFile(
        file=path,
        voxels=voxels,
        spacing=spacing,
        header=Header(NAME, _rows(affine), header.binaryblock if forms else content[: header.sizeof_hdr]),
        slope=slope,
        intercept=intercept,
        issues=(*forms, *_header_issues(path, header, spacing, affine)),
        qform=_other_form(header),
    )


def read_grid(path: Path) -> tuple[Shape, Spacing3]:
    """Read shape (c, z, y, x) and spacing (z, y, x) from the first bytes of a file; errors as `read`."""
    header = _parse(path, _content(path, limit=max(_SIZES) + 4))
    return _shape(path, header), _spacing(header)


def write_labels(path: Path, labels: IntArray, header: Header) -> None:
    """Write labels (z, y, x) with the affine, codes, units and zooms of `header`, atomically.

    The voxels get the smallest integer type that holds them, no scaling, no extensions. A `.gz` file's bytes depend on
    nothing but the arguments.

    Raises
    ------
    ValueError
        The header is of a grid of another shape.
    NnunetError
        The file cannot be written.
    """
    block = _label_header(labels, header)
    kind = block.get_data_dtype()
    content = b"".join([block.binaryblock, bytes(4), labels.astype(kind, order="C").tobytes()])
    if path.name.lower().endswith(".gz"):
        content = igzip.compress(content, _COMPRESSION_LEVEL, mtime=0)
    write_bytes(path, content)


def write_channels(path: Path, parts: Iterable[NDArray[Any]], shape: Shape, header: Header) -> None:
    """Write channels (c, z, y, x), handed over in parts (channels, z, y, x), as a 4-D float32 file, atomically.

    The last axis of the file holds the channels; otherwise as `write_labels`.
    """
    block = _label_header(np.broadcast_to(np.uint8(0), shape[1:]), header)
    pixdim = block["pixdim"].copy()
    if block["dim"][0] == 2:  # of a slice the third axis may be left out
        pixdim[3] = _spacing(block)[0]
        block["srow_x"][2], block["srow_y"][2], block["srow_z"][2] = (row[2] for row in header.affine[:3])
    block.set_data_shape(shape[::-1])
    block["pixdim"] = pixdim
    block["pixdim"][4] = 1
    block.set_data_dtype(np.float32)
    with write_atomically(path) as temporary, temporary.open("wb") as file, ExitStack() as stack:
        stream: Any = file
        if path.name.lower().endswith(".gz"):
            zipped = igzip.IGzipFile("", "wb", _COMPRESSION_LEVEL, file, mtime=0)
            stream = stack.enter_context(zipped)
        stream.write(block.binaryblock + bytes(4))
        for part in parts:
            stream.write(np.ascontiguousarray(part, "<f4").data)


# ---- bytes -----------------------------------------------------------------------------------------------------------


def _content(path: Path, limit: int | None = None) -> bytes:
    """Read the file's bytes, decompressed; only the first `limit` where it is given."""
    # A header sits in the first few hundred bytes; deflate cannot need more than this to tell them.
    stored = read_content(path, None if limit is None else 64 * 1024)
    zipped = stored[:2] == _GZIP_MAGIC
    if zipped != path.name.lower().endswith(".gz"):
        raise IssueError(_wrong_ending(path, stored))
    return _gunzip(path, stored, limit) if zipped else stored


def _gunzip(path: Path, stored: bytes, limit: int | None) -> bytes:
    try:
        if limit is None:
            return bytes(igzip.decompress(stored))  # several members and zero padding too
        with igzip.IGzipFile(fileobj=io.BytesIO(stored)) as stream:
            return bytes(stream.read(limit))
    except EOFError as error:
        value = f"the compressed data end early, after {len(stored)} bytes"
        raise IssueError(Issue(path, "gzip-truncated", value, COPY_AGAIN)) from error
    except (ISAL_ERROR, gzip.BadGzipFile, zlib.error, OSError) as error:
        raise IssueError(Issue(path, "gzip-corrupt", str(error), COPY_AGAIN)) from error


def _wrong_ending(path: Path, stored: bytes) -> Issue:
    if stored[:2] == _GZIP_MAGIC:
        return Issue(path, "not-nifti", "is gzip-compressed", "name it .nii.gz")
    found = kind_of(stored)
    value = f"the first bytes are {stored[:4].hex(' ')}, not 1f 8b" + (f": it is {found}" if found else "")
    return Issue(path, "not-gzip", value, "compress it with gzip, or name it .nii if it is plain NIfTI")


def _voxels(path: Path, content: bytes, offset: int, kind: np.dtype[Any], shape: Shape) -> np.ndarray[Any, Any]:
    count = math.prod(shape)
    there, needed = len(content) - offset, count * kind.itemsize
    if there < needed:
        raise ends_early(path, there, needed)
    # NIfTI stores x fastest: the reversed shape is the C order.
    return np.frombuffer(content, kind, count, offset).reshape(shape)


# ---- header ----------------------------------------------------------------------------------------------------------


def _parse(path: Path, content: bytes) -> Nifti1Header:
    """Make nibabel's header of the first bytes, in whichever version and byte order they are."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for order, sign in (("little", "<"), ("big", ">")):
        size = int.from_bytes(content[:4], order)  # type: ignore[arg-type]
        if size in _SIZES and len(content) >= size:
            magic = content[344:348] if size == 348 else content[4:8]
            if magic[:3] != _SIZES[size]:
                pair = "it is the header of a pair (.hdr and .img), " if magic[:3] in (b"ni1", b"ni2", bytes(3)) else ""
                value = f"{pair}the magic is {magic!r}, not {_SIZES[size]!r}"
                raise IssueError(Issue(path, "not-nifti", value, _RESAVE))
            kind = Nifti1Header if size == 348 else Nifti2Header
            header = kind(content[:size], endianness=sign, check=False)
            if header["pixdim"][0] not in (-1, 1):  # 0 in many files; the standard and nibabel's own checks take 1
                header["pixdim"][0] = 1
            return header
    value = f"{len(content)} bytes, beginning {content[:4].hex(' ')}, hold no NIfTI header"
    value += f": it is {kind_of(content)}" if kind_of(content) not in ("", "NIfTI") else ""
    raise IssueError(Issue(path, "not-nifti", value, _RESAVE))


def _voxel_type(path: Path, header: Nifti1Header) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        kind: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except (KeyError, ValueError, TypeError) as error:
        raise IssueError(Issue(path, "voxel-type", f"unknown code {code}", _RESAVE)) from error
    if kind.kind not in "iuf" or kind.itemsize > 8:
        value = f"{_TYPES.get(code, kind)} (code {code})"
        raise IssueError(Issue(path, "voxel-type", value, "save it with 8- to 64-bit integer or float voxels"))
    return kind


def _shape(path: Path, header: Nifti1Header) -> Shape:
    """Shape (c, z, y, x) of a 2-D, 3-D or 4-D header."""
    axes = int(header["dim"][0])
    sizes = tuple(int(size) for size in header["dim"][1 : 1 + axes]) if 0 < axes < 8 else ()
    if len(sizes) == 2:
        sizes = (*sizes, 1)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) == 5 and sizes[3] == 1:
        sizes = (*sizes[:3], sizes[4])  # vectors, as ITK writes several channels
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        value = f"size {' x '.join(map(str, sizes)) or 'unknown'}"
        advice = "save it as x, y (one slice), x, y, z (one channel) or x, y, z, channel"
        raise IssueError(Issue(path, "dimensions", value, advice))
    return (sizes[3] if len(sizes) == 4 else 1, *sizes[2::-1])


def _scaling(path: Path, header: Nifti1Header) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:  # both mean: no scaling
        return 1.0, 0.0
    if not np.isfinite(intercept):
        value = f"scl_slope {slope} with scl_inter {intercept}"
        raise IssueError(Issue(path, "header-invalid", value, _RESAVE))
    return slope, intercept


def _offset(path: Path, header: Nifti1Header) -> int:
    """Where the voxels begin; 0 means right after the header and the four bytes that announce extensions."""
    offset, least = float(header["vox_offset"]), int(header.sizeof_hdr) + 4
    if offset == 0:
        return least
    if not least <= offset < math.inf:  # NaN too
        raise IssueError(Issue(path, "header-invalid", f"vox_offset is {offset}, not at least {least}", _RESAVE))
    return int(offset)


def _affine(path: Path, header: Nifti1Header) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Voxel (x, y, z) to world (mm, RAS+): the sform, else the qform, else what pixdim alone tells."""
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(header.get_best_affine(), np.float64)
    except ValueError as error:
        raise IssueError(Issue(path, "header-invalid", f"the qform is no rotation: {error}", _RESAVE)) from error
    spanned: np.ndarray[Any, np.dtype[np.float64]] = _spanned(header, affine)
    if not (np.isfinite(spanned).all() and invertible(spanned[:3, :3])):
        value = f"the affine {rounded(spanned)} cannot be inverted"
        # Without sform and qform the affine is the spacing.
        raise IssueError(_spacing_issue(path, _spacing(header)) or Issue(path, "header-invalid", value, _RESAVE))
    return spanned


def _rows(affine: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in affine)


def _spanned(header: Nifti1Header, affine: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """Give a single slice, which may have no third axis, the one that stands upright on it."""
    if header["dim"][0] != 2 or (np.isfinite(affine).all() and invertible(affine[:3, :3])):
        return affine
    with np.errstate(all="ignore"):
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / np.linalg.norm(normal) * _spacing(header)[0]
    return affine


def _usable_forms(path: Path, header: Nifti1Header) -> tuple[Issue, ...]:
    """Unset an sform of which nothing can be placed where there is a qform of which all can; say so."""
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return ()
    with np.errstate(all="ignore"):
        if invertible(_spanned(header, header.get_sform())[:3, :3]):
            return ()
        try:
            if not invertible(_spanned(header, header.get_qform())[:3, :3]):
                return ()
        except ValueError:  # the quaternion is none
            return ()
    value = f"the sform {rounded(header.get_sform())} cannot be inverted"
    header["sform_code"] = 0
    return (Issue(path, "qform-sform", value, "the qform is used; see that it is right", fatal=False),)


def _other_form(header: Nifti1Header) -> tuple[tuple[float, ...], ...] | None:
    """Return the qform where the sform is used."""
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return None
    try:
        with np.errstate(all="ignore"):
            form = header.get_qform()
    except ValueError:  # the quaternion is none
        return None
    return _rows(form) if np.isfinite(form).all() and invertible(form[:3, :3]) else None


def _spacing(header: Nifti1Header) -> Spacing3:
    x, y, z = (float(size) for size in header["pixdim"][1:4])
    if header["dim"][0] == 2 and not z > 0:  # of one slice it may be left out
        z = 1.0
    return z, y, x


def _spacing_issue(path: Path, spacing: Spacing3) -> Issue | None:
    if np.isfinite(spacing).all() and min(spacing) > 0:
        return None
    return Issue(path, "spacing-invalid", f"pixdim (z, y, x) is {spacing}", "set the voxel size in mm in the header")


def _header_issues(path: Path, header: Nifti1Header, spacing: Spacing3, affine: Any) -> tuple[Issue, ...]:
    """List what is wrong with a header whose voxels could be read."""
    issue = _spacing_issue(path, spacing)
    if issue is not None:
        return (issue,)
    found = []
    columns = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    with np.errstate(all="ignore"):
        apart = np.abs(columns / spacing - 1).max()
    if not apart <= SPACING_TOLERANCE[1]:
        lengths = tuple(round(float(size), 6) for size in columns)
        value = f"pixdim (z, y, x) is {spacing}, the affine's columns are {lengths} mm long"
        found.append(Issue(path, "spacing-affine", value, "correct the one that is wrong"))
    apart = _forms_apart(header) / min(spacing)
    if not apart <= ORIGIN_TOLERANCE[1]:
        value = f"sform and qform place voxels up to {apart:.3g} voxels apart"
        found.append(Issue(path, "qform-sform", value, "the sform is used; see that it is right", fatal=False))
    unit = _OTHER_UNITS.get(int(header["xyzt_units"]) & 7)
    if unit:
        found.append(Issue(path, "units", f"spacing in {unit}", "the numbers are taken as mm", fatal=False))
    return tuple(found)


def _forms_apart(header: Nifti1Header) -> float:
    """Distance (mm) between the places that sform and qform give to a corner of the volume; 0 if one is not set."""
    if header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return 0.0
    try:
        between = header.get_sform() - header.get_qform()
    except ValueError:  # the quaternion is none
        return math.inf
    ends = [(0, int(size) - 1) for size in header["dim"][1:4]]
    ends[2] = ends[2] if header["dim"][0] > 2 else (0, 0)
    corners = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]])
    return float(np.linalg.norm(corners @ between.T, axis=1).max())


def _label_header(labels: IntArray, header: Header) -> Nifti1Header:
    """Derive the header of a label file from that of the image it belongs to, in little-endian order."""
    block = _parse(Path(), header.nifti).as_byteswapped("<") if header.nifti else _fresh_header(labels, header)
    shape = labels.shape[::-1]
    if header.nifti and _shape(Path(), block)[:0:-1] != shape:
        raise ValueError(f"labels (z, y, x) are {labels.shape}, the header's grid is {_shape(Path(), block)[1:]}")
    pixdim = block["pixdim"].copy()
    block.set_data_shape(shape[:2] if block["dim"][0] == 2 else shape)  # overwrites the pixdim of further axes
    block["pixdim"] = pixdim
    block.set_data_dtype(smallest_integer(int(labels.min(initial=0)), int(labels.max(initial=0))))
    for field in ("scl_inter", "cal_max", "cal_min", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
        block[field] = 0
    block["scl_slope"] = 1
    block["intent_name"] = block["aux_file"] = b""
    block["vox_offset"] = int(block.sizeof_hdr) + 4
    return block


def _fresh_header(labels: IntArray, header: Header) -> Nifti1Header:
    """Make the header of a file whose image is of another format: affine and mm."""
    from nibabel.nifti1 import Nifti1Header

    block = Nifti1Header(endianness="<")
    block.set_data_shape(labels.shape[::-1])
    block.set_sform(np.asarray(header.affine), code="scanner")
    block.set_qform(np.asarray(header.affine), code="scanner")
    block.set_xyzt_units("mm")
    block["magic"] = b"n+1"
    return block


FORMAT = Format(
    name=NAME,
    endings={".nii.gz": "SimpleITKIO", ".nii": "NibabelIO"},
    read=read,
    read_grid=read_grid,
    write_labels=write_labels,
)
