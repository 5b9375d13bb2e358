"""Whether what a user names as images is DICOM, and the images in it by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_rs.core.dicom.library import is_dicom
from nnunet_rs.core.dicom.listing import ENDING
from nnunet_rs.core.dicom.walk import files_below
from nnunet_rs.core.io import find_format
from nnunet_rs.core.unzip import is_zip

_LOOKED_AT = 200  # files of a folder


def is_dicom_input(paths: Sequence[Path]) -> bool:
    """Whether what a user names as images is DICOM: files of it, zips, or folders that hold no image of other kinds."""
    return all(_is_dicom(path) for path in paths)


def _is_dicom(path: Path) -> bool:
    if is_zip(path):
        return True
    if path.is_file():
        known = find_format(path)
        return (known is None or ENDING in known.endings) and is_dicom(path)
    if not path.is_dir():
        return False
    for count, file in enumerate(files_below(path)):
        known = find_format(file)
        if known is not None and ENDING not in known.endings:
            return False
        if is_dicom(file):
            return True
        if count > _LOOKED_AT:
            return False
    return False


def series_paths(root: Path) -> dict[str, Path]:
    """Return paths that last for the series of a folder, zip or file, by their names; none where it is no DICOM.

    Raises
    ------
    DatasetError
        A folder cannot be listed; a zip is damaged.
    """
    if not is_dicom_input([root]):
        return {}
    from nnunet_rs.core.dicom.reader import opened
    from nnunet_rs.core.dicom.series import find_series

    with opened(root) as folder:
        return {one.name: root / (one.name + ENDING) for one in find_series(folder, named=root).series}
