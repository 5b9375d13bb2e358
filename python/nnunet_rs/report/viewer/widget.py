"""A volume and its labels in a notebook: NiiVue's widget, filled from arrays or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import NnunetError
from nnunet_rs.core.io import read_scan
from nnunet_rs.core.types import Labels, LabelSet, Volume
from nnunet_rs.report.viewer.layers import Voxels, colour_table, nifti, of_file, window

if TYPE_CHECKING:
    from ipyniivue import NiiVue

Viewable: TypeAlias = "str | Path | Volume | Labels | NDArray[Any]"


def view(
    image: Viewable,
    labels: Viewable | None = None,
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    names: LabelSet | None = None,
    height: int = 400,
) -> NiiVue:
    """Show an image, and a segmentation over it, in a notebook.

    Parameters
    ----------
    image
        A file, what `read_volume` returned, or an array (z, y, x) or (c, z, y, x), of which the first channel is shown.
    labels
        A file, what `read_labels` or a Predictor returned, or whole numbers (z, y, x).
    spacing
        Of arrays, in mm; z, y, x.
    names
        What the labels are called; None: their values.
    height
        In pixels.

    Returns
    -------
    ipyniivue.NiiVue
        The widget: three planes and a 3-D view. Its attributes change what it shows.

    Raises
    ------
    NnunetError
        ipyniivue is not installed; image and labels have other sizes.
    DatasetError
        A file cannot be read.
    """
    try:
        from ipyniivue import NiiVue
    except ImportError as error:
        raise NnunetError(f"view needs ipyniivue ({error}): pip install 'nnunet-rs[view]'") from error
    shown = _voxels(image, spacing)
    low, high = window(shown)
    volumes: list[dict[str, Any]] = [
        {"name": "image.nii", "data": nifti(shown, 1), "colormap": "gray", "cal_min": low, "cal_max": high}
    ]
    table = None
    if labels is not None:
        over = _voxels(labels, spacing)
        if over.data.shape != shown.data.shape:
            raise NnunetError(f"the labels have {over.data.shape} voxels (z, y, x), the image {shown.data.shape}")
        volumes.append({"name": "labels.nii", "data": nifti(over, 1), "opacity": 0.5})
        values = tuple(int(value) for value in np.unique(over.data) if value)
        table = _colormap(colour_table(names, values))
    widget = NiiVue(height=height, is_radiological_convention=True)
    widget.load_volumes(volumes)
    if table is not None:
        widget.volumes[1].set_colormap_label(table)
    return widget


def _voxels(shown: Viewable, spacing: Sequence[float]) -> Voxels:
    if isinstance(shown, str | Path):
        return of_file(read_scan(Path(shown)))
    if isinstance(shown, Volume | Labels):
        data = shown.data[0] if shown.data.ndim == 4 else shown.data
        return Voxels(data, np.array(shown.header.affine))
    array = np.asarray(shown)
    array = array[0] if array.ndim == 4 else array
    if array.ndim != 3 or array.dtype.kind not in "iufb" or len(spacing) != 3:
        raise NnunetError(f"an array (z, y, x) and a spacing of three numbers are shown; got {array.shape}, {spacing}")
    z, y, x = spacing
    return Voxels(array.astype(np.uint8) if array.dtype.kind == "b" else array, np.diag([x, y, z, 1.0]))


def _colormap(rows: list[dict[str, Any]]) -> dict[str, Any]:
    channels = {key: [0, *(row["colour"][place] for row in rows)] for place, key in enumerate("RGB")}
    values = [0, *(row["value"] for row in rows)]
    return {**channels, "A": [0] + [255] * len(rows), "I": values, "labels": ["", *(row["name"] for row in rows)]}
