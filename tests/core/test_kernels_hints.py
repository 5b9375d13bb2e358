"""What is given in another form than meant is refused with the form to give it in."""

from __future__ import annotations

import numpy as np
import pytest
from nnunet_rs.core.kernels import (
    Blend,
    ForegroundAccumulator,
    IntensityChanges,
    SpatialWarp,
    WindowAccumulator,
    foreground_statistics,
    logits_to_labels,
    logits_to_regions,
    mirror,
    resample_image,
    resample_labels,
    resample_probabilities,
    warp,
)

VOLUME = np.zeros((4, 5, 6), np.float32)  # (z, y, x), without a channel axis
MARKS = np.ones((4, 5, 6), np.uint8)
SHAPE = (2, 3, 4)
WARP = SpatialWarp(SHAPE, ((1, 0, 0), (0, 1, 0), (0, 0, 1)), (0, 0, 0))

TAKE_ARRAYS = {
    "resample_image": (lambda a: resample_image(a, SHAPE), "image"),
    "resample_labels": (lambda a: resample_labels(a, SHAPE), "labels"),
    "logits_to_labels": (lambda a: logits_to_labels(a, SHAPE), "logits"),
    "logits_to_regions": (lambda a: logits_to_regions(a, SHAPE, [1]), "logits"),
    "resample_probabilities": (lambda a: resample_probabilities(a, SHAPE), "probabilities"),
    "foreground_statistics": (lambda a: foreground_statistics(a, MARKS), "image"),
    "labels of foreground_statistics": (lambda a: foreground_statistics(VOLUME[None], a), "labels"),
    "ForegroundAccumulator.add": (lambda a: ForegroundAccumulator(1).add(a, MARKS), "image"),
    "ForegroundAccumulator.refine": (lambda a: ForegroundAccumulator(1).refine(a, MARKS), "image"),
    "Blend.add": (lambda a: Blend(1, (4, 5, 6), (4, 5, 6)).add(a, (0, 0, 0)), "patch"),
    "WindowAccumulator.add": (lambda a: WindowAccumulator(1, (4, 5, 6), (4, 5, 6)).add(a, (0, 0, 0)), "output"),
    "warp": (lambda a: warp(a, None, WARP), "image"),
    "labels of warp": (lambda a: warp(VOLUME[None], a, WARP), "labels"),
    "IntensityChanges.apply": (lambda a: IntensityChanges().apply(a), "image"),
    "mirror": (lambda a: mirror(a, [0]), "array"),
}


class Tensor:
    """As PyTorch's."""

    __module__ = "torch"


class Variable:
    """As TensorFlow's."""

    def numpy(self) -> None: ...


class Image:
    """As SimpleITK's."""

    __module__ = "SimpleITK.SimpleITK"


@pytest.mark.parametrize("name", TAKE_ARRAYS)
@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Tensor(), "give {}.detach().cpu().numpy()"),
        (Variable(), "give {}.numpy()"),
        (Image(), "give SimpleITK.GetArrayFromImage({})"),
        ([[1.0]], "give numpy.asarray({})"),
        (7, "must be a numpy array; got <class 'int'>"),
    ],
)
def test_what_is_no_array(name, value, advice):
    function, argument = TAKE_ARRAYS[name]
    with pytest.raises(TypeError) as refusal:
        function(value)
    assert str(refusal.value).startswith(f"{argument} must be a numpy array; got ")
    assert str(refusal.value).endswith(advice.format(argument))


NEED_CHANNELS = [name for name in TAKE_ARRAYS if "label" not in name.split("_")[-1] or name == "logits_to_labels"]


@pytest.mark.parametrize("name", sorted(set(NEED_CHANNELS) - {"IntensityChanges.apply", "mirror"}))
def test_a_volume_without_a_channel_axis(name):
    function, argument = TAKE_ARRAYS[name]
    if name.startswith("labels of"):
        return
    with pytest.raises(ValueError, match=rf"give {argument}\[None\]"):
        function(VOLUME)


def test_other_forms_of_the_same():
    with pytest.raises(ValueError, match=r"image must have 3 or 4 axes; got \[4, 5\] \(.*image\[None\]\)"):
        resample_image(VOLUME[:, :, 0], (2, 2))
    with pytest.raises(ValueError, match=r"labels has no channel axis; give labels\[0\]"):
        resample_labels(MARKS[None], SHAPE)
    with pytest.raises(ValueError, match=r"axes must name axes between 0 and 1; got 2 \(.*array\[None\]\)"):
        mirror(VOLUME, [2])
    with pytest.raises(ValueError, match=r"labels is read as \(c, y, x\); for one channel give labels\[None\]"):
        warp(VOLUME[None], MARKS, WARP)
