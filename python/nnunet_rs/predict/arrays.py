"""What callers hand over as an image in memory: an array and a spacing, or a refusal that says what to give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.types import Header, Spacing3, Volume

_WANTED = "give an array (z, y, x) or (channels, z, y, x) and the spacing of z, y, x in mm"
_SITK = "predictor(SimpleITK.GetArrayFromImage(image), image.GetSpacing()[::-1])"
_NIBABEL = "predictor(numpy.asarray(image.dataobj).T, image.header.get_zooms()[2::-1])"
_VOLUME = "predictor.predict_volume(nnunet_rs.read_volume(path))"


def as_numbers(array: Any) -> NDArray[np.generic]:
    """Take an array of whatever library for one of NumPy's, if that is what it is.

    Raises
    ------
    DatasetError
        It is an image object, a path, or holds no real numbers; the text says what to give.
    """
    _refuse_images(array)
    try:
        found = array if isinstance(array, np.ndarray) else np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:  # tensors of a GPU, ragged lists
        raise DatasetError(f"the image is a {_kind(array)} that is no array ({error}); {_WANTED}") from error
    if found.dtype.kind not in "biuf":
        raise DatasetError(f"the image is a {_kind(array)} of {found.dtype}, not of real numbers; {_WANTED}")
    return found


def as_spacing(spacing: Any) -> Spacing3:
    """Take three positive numbers for the spacing of z, y, x in mm.

    Raises
    ------
    DatasetError
        They are none.
    """
    try:
        z, y, x = (float(each) for each in spacing)
    except (TypeError, ValueError):
        raise DatasetError(f"the spacing is {spacing!r}; expected three positive numbers, z, y, x in mm") from None
    if not all(np.isfinite(each) and each > 0 for each in (z, y, x)):
        raise DatasetError(f"the spacing is {(z, y, x)}; expected three positive numbers, z, y, x in mm")
    return z, y, x


def as_volume(array: NDArray[np.generic], spacing: Sequence[float]) -> Volume:
    """Take an array (c, z, y, x) or (z, y, x) for an image with its corner at the origin; errors as `Predictor`."""
    array, (z, y, x) = as_numbers(array), as_spacing(spacing)
    if array.ndim not in (3, 4):
        raise DatasetError(f"the image has shape {array.shape}; expected (z, y, x) or (channels, z, y, x)")
    data = np.ascontiguousarray(array if array.ndim == 4 else array[None], dtype=np.float32)
    if not np.isfinite(data).all():
        raise DatasetError("the image holds values that are not finite; replace NaN and infinity before prediction")
    affine = ((x, 0.0, 0.0, 0.0), (0.0, y, 0.0, 0.0), (0.0, 0.0, z, 0.0), (0.0, 0.0, 0.0, 1.0))
    return Volume(data, (z, y, x), Header("array", affine))


def require_volume(volume: object) -> None:
    """Check that this is a Volume; errors as `as_numbers`."""
    if not isinstance(volume, Volume):
        _refuse_images(volume)
        raise DatasetError(f"the image is a {_kind(volume)}, not a Volume as nnunet_rs.read_volume makes it; {_WANTED}")


def _refuse_images(given: Any) -> None:
    """Refuse what is an image, but not an array of numbers in the axis order z, y, x."""
    for matches, what, advice in (
        (isinstance(given, Volume), "a Volume", "call predictor.predict_volume(volume)"),
        (isinstance(given, (str, os.PathLike)), f"the path {given!s}", f"read it first: {_VOLUME}"),
        (
            isinstance(given, (list, tuple)) and _are_paths(given),
            "a list of paths",
            f"read them first: {_VOLUME}, with all paths",
        ),
        (hasattr(given, "GetSpacing"), f"a {_kind(given)}", f"call {_SITK}"),
        (hasattr(given, "dataobj"), f"a {_kind(given)}", f"call {_NIBABEL}"),
    ):
        if matches:
            raise DatasetError(f"the image is {what}; {advice}")


def _are_paths(given: Any) -> bool:
    listed = given if isinstance(given, (list, tuple)) else ()
    return bool(listed) and all(isinstance(each, (str, os.PathLike)) for each in listed)


def _kind(given: object) -> str:
    return f"{type(given).__module__}.{type(given).__qualname__}".removeprefix("builtins.")
