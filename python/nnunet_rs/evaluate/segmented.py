"""One segmentation and the image that was segmented, read as arrays of one grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnunet_rs.core.image_file import ImageFile, compare_grids
from nnunet_rs.core.io import gather, read_scan
from nnunet_rs.core.issues import Issue, IssueError, require_none
from nnunet_rs.core.types import Case, FloatArray, Header, IntArray, LabelSet, Spacing3
from nnunet_rs.evaluate.folders import encoded


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """Voxel on voxel."""

    classes: IntArray  # (z, y, x), class indices
    image: FloatArray | None  # (c, z, y, x)
    spacing: Spacing3  # of z, y, x, in mm
    header: Header  # the segmentation's


def read_segmented(
    case: Case,
    labels: LabelSet,
    *,
    without_image: Callable[[Exception], None] | None = None,
    warn: Callable[[Issue], None] = lambda _: None,
) -> Segmented:
    """Read a segmentation and its image.

    Parameters
    ----------
    case
        `label` is the segmentation; `images` are its image's files, a file per channel, or none.
    labels
        Which values stand for which class.
    without_image
        Called for an image that cannot be read or lies elsewhere, and the segmentation is returned without it; None:
        that is raised.
    warn
        Called with each issue that does not prevent reading.

    Raises
    ------
    DatasetError
        A segmentation that cannot be read, a value that is not declared; an image of another grid.
    """
    if case.label is None:
        raise ValueError(f"{case.name} has no segmentation")
    scan = read_scan(case.label)
    require_none(scan.issues)
    segmentation = encoded(scan, labels)
    image = None
    if case.images:
        try:
            image = _image(case, scan, warn)
        except (IssueError, OSError) as error:
            if without_image is None:
                raise
            without_image(error)
    return Segmented(segmentation.data, image, segmentation.spacing, segmentation.header)


def _image(case: Case, segmentation: ImageFile, warn: Callable[[Issue], None]) -> FloatArray:
    scans = [read_scan(path) for path in case.images]
    issues = compare_grids(scans[0].grid, segmentation.grid)
    require_none(issues)
    image, more = gather(scans)
    require_none(more)
    for issue in (*issues, *more):
        warn(issue)
    return image
