"""Image and label files of every format, read into Volume and Labels and written back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nnunet_rs.core import metaimage, nifti, nrrd, pictures, tiff
from nnunet_rs.core.content import reason
from nnunet_rs.core.dicom import format as dicom
from nnunet_rs.core.image_file import Grid, ImageFile, compare_grids
from nnunet_rs.core.image_format import Format
from nnunet_rs.core.issues import Issue, IssueError, require_none
from nnunet_rs.core.types import FloatArray, Header, IntArray, Labels, LabelSet, Shape, Spacing3, Volume

FORMATS: tuple[Format, ...] = (nifti.FORMAT, nrrd.FORMAT, metaimage.FORMAT, pictures.FORMAT, tiff.FORMAT, dicom.FORMAT)


def endings() -> tuple[str, ...]:
    """List the endings of all formats."""
    return tuple(ending for known in FORMATS for ending in known.endings)


def find_format(path: Path) -> Format | None:
    """Return the format that a file has by its ending (it is not opened); None: one that is not read here."""
    return next((known for known in FORMATS if known.holds(path)), None)


def can_read(path: Path) -> bool:
    """Whether the ending is one that this library reads (the file is not opened)."""
    return find_format(path) is not None


def read_volume(
    paths: str | Path | Sequence[str | Path], case: str = "", warn: Callable[[Issue], None] | None = None
) -> Volume:
    """Read an image.

    Parameters
    ----------
    paths
        One file per channel on the same grid, or one file that holds all channels.
    case
        The case's name, for messages.
    warn
        Called for every warning: a spacing that is assumed, a place that is said twice.

    Returns
    -------
    Volume
        float32 (c, z, y, x), finite, C-contiguous, writable; the header is the first file's.

    Raises
    ------
    IssueError
        The first fatal issue: a file that cannot be read, grids that differ, `channels`, `spacing-invalid`,
        `spacing-affine`, `non-finite`.
    """
    files = [paths] if isinstance(paths, str | Path) else paths
    scans = [read_scan(Path(path)) for path in files]
    try:
        data, issues = gather(scans)
    except MemoryError as error:
        raise IssueError(_no_memory(scans[0].file, error)) from error
    found = tuple(dataclasses.replace(issue, case=case) for issue in issues)
    require_none(found)
    if warn is not None:
        for issue in found:
            warn(issue)
    return Volume(data, scans[0].spacing, scans[0].header)


def read_labels(path: str | Path) -> Labels:
    """Read a segmentation.

    Returns
    -------
    Labels
        The file's values, (z, y, x), of integer type.

    Raises
    ------
    IssueError
        The first fatal issue: as `read_volume`, and `label-not-integral`.
    """
    path = Path(path)
    scan = read_scan(path)
    require_none(scan.issues)
    return Labels(scan.labels(), scan.spacing, scan.header)


def read_grid(path: Path) -> tuple[Shape, Spacing3]:
    """Read shape (c, z, y, x) and spacing (z, y, x) without the voxels; errors as `read_volume`."""
    return _format(path).read_grid(path)


def write_labels(path: str | Path, data: IntArray, header: Header | Volume | Labels) -> None:
    """Write a segmentation (z, y, x) so that it opens beside the image that `header` comes from.

    The format is the path's; the voxel type is the smallest that holds the values; the write is atomic and the bytes
    depend on the arguments alone.

    Parameters
    ----------
    path
        Where to; its ending names the format.
    data
        Integers (z, y, x), on the image's grid: what a Predictor returns.
    header
        Of the image, or the image itself as `read_volume` gave it.

    Raises
    ------
    TypeError
        `data` is no array, or `header` neither a header nor an image.
    ValueError
        `data` is no integer volume, or not of the header's shape.
    NnunetError
        The file cannot be written.
    """
    path = Path(path)
    if isinstance(header, Volume | Labels):
        header = header.header
    if not isinstance(header, Header):
        raise TypeError(f"header must be an image, or an image's header, got {type(header).__name__}")
    if not isinstance(data, np.ndarray):
        hint = ": give its data" if isinstance(data, Labels) else ""
        raise TypeError(f"labels must be an integer array (z, y, x), got {type(data).__name__}{hint}")
    if data.ndim != 3 or data.dtype.kind not in "iu":
        raise ValueError(f"labels must be an integer array (z, y, x), got {data.dtype} with {data.ndim} axes")
    _format(path).write_labels(path, data, header)


def companions(path: Path) -> tuple[Path, ...]:
    """Files that may belong to an image or label file, as they would be written or read beside it; empty for most."""
    known = find_format(path)
    return () if known is None else known.companions(path)


def read_scan(path: Path) -> ImageFile:
    """Read one file as it is; problems of its header are in `issues`, those that prevent reading are raised."""
    try:
        return _format(path).read(path)
    except MemoryError as error:
        raise IssueError(_no_memory(path, error)) from error


def read_label_scan(path: Path, grid: Grid | None, labels: LabelSet | None) -> ImageFile:
    """Read a file of labels that belong to an image: SEG and RTSTRUCT files onto its grid, others as `read_scan`.

    Parameters
    ----------
    path
        A file; or, of DICOM, a folder that holds one.
    grid
        The image's; None where it is not known.
    labels
        Which values the structures' names stand for, in SEG and RTSTRUCT files.
    """
    from nnunet_rs.core.dicom.references import is_label_file, read_labels_on  # which needs names, and these formats

    if grid is not None and is_label_file(path):
        return read_labels_on(path, grid, labels)
    return read_scan(path)


def gather(scans: Sequence[ImageFile]) -> tuple[FloatArray, tuple[Issue, ...]]:
    """Bring the files of one case together as channels.

    Returns
    -------
    image
        float32 (c, z, y, x), C-contiguous. Files that are not of the first one's shape are left out.
    issues
        All of them: of the headers, of grids that differ from the first file's, of intensities.
    """
    issues = [issue for scan in scans for issue in scan.issues]
    for scan in scans[1:]:
        issues += compare_grids(scans[0].grid, scan.grid)
    if len(scans) > 1:
        issues += [_several_channels(scan) for scan in scans if scan.voxels.shape[0] > 1]
    fitting = [scan for scan in scans if scan.shape == scans[0].shape]
    image: FloatArray = np.empty((sum(scan.voxels.shape[0] for scan in fitting), *scans[0].shape), np.float32)
    channel = 0
    for scan in fitting:
        part = image[channel : channel + scan.voxels.shape[0]]
        scan.write_image(part)
        issues += _intensity_issues(scan, part)
        channel += len(part)
    return image, tuple(issues)


def _no_memory(path: Path, error: MemoryError) -> Issue:
    value = f"does not fit into memory: {reason(error)}"
    return Issue(path, "memory", value, "see that the header is right, or free memory")


def _several_channels(scan: ImageFile) -> Issue:
    value = f"{scan.voxels.shape[0]} channels in one of several files of a case"
    return Issue(scan.file, "channels", value, "give one file per channel, or one file with all channels")


def _intensity_issues(scan: ImageFile, image: FloatArray) -> list[Issue]:
    # min and max carry NaN and infinity out without a temporary of the volume's size.
    ends = [(float(channel.min()), float(channel.max())) for channel in image]
    if not np.isfinite(ends).all():
        return [_not_finite(scan, image)]
    advice = "nothing can be learnt from it; see that the file is the right one"
    return [
        Issue(scan.file, "image-constant", f"all voxels of channel {channel} are {low}", advice, fatal=False)
        for channel, (low, high) in enumerate(ends)
        if low == high
    ]


def _not_finite(scan: ImageFile, image: FloatArray) -> Issue:
    wrong = np.argwhere(~np.isfinite(image))
    c, z, y, x = wrong[0]
    what = "voxel is" if len(wrong) == 1 else "voxels are"
    value = f"{len(wrong)} {what} not finite, the first is {image[c, z, y, x]} at z={z} y={y} x={x}"
    return Issue(scan.file, "non-finite", value, "replace NaN and infinity by an intensity that means background")


def _format(path: Path) -> Format:
    known = find_format(path)
    if known is None and (path.is_dir() or path.suffix.lower() == ".zip"):
        return dicom.FORMAT
    if known is None:
        value = f"ending {''.join(path.suffixes[-2:]) or 'missing'}"
        raise IssueError(Issue(path, "format", value, f"save it as one of {' '.join(endings())}"))
    return known
