"""Which axes are mirrored: named by people, seen by networks, found in augmentations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform
from nnunet_rs.core.errors import PlanError
from nnunet_rs.data.augment import AUGMENTATIONS, Augmentation, build_augmentation, with_mirror_axes
from nnunet_rs.data.intensity import Gamma, Mirror
from nnunet_rs.data.mirroring import axes_named, declares_mirror_axes, image_axes, mirrored_axes, patch_axes
from nnunet_rs.plan.schema import Configuration


def configuration(patch: tuple[int, ...]) -> Configuration:
    ones = ((1,) * len(patch),)
    return Configuration(
        "c", (1.0,) * len(patch), patch, 2, patch, ones, ones, (8,), (2,), (), False, False, False, memory_estimate=1
    )


@pytest.mark.parametrize(("patch", "dims", "transpose", "image"), [
    ((0, 1, 2), 3, (0, 1, 2), (0, 1, 2)),
    ((0, 1), 3, (0, 1, 2), (0, 1)),
    ((0,), 3, (2, 0, 1), (2,)),  # the network's first axis is the file's x
    ((1, 2), 3, (2, 0, 1), (0, 1)),
    ((0, 1), 2, (0, 1, 2), (1, 2)),  # slices lie across z
    ((0,), 2, (2, 0, 1), (0,)),
    ((), 3, (1, 0, 2), ()),
])  # fmt: skip
def test_a_patchs_axes_are_axes_of_the_image(patch, dims, transpose, image) -> None:
    assert image_axes(patch, dims, transpose) == image
    assert patch_axes(image, dims, transpose) == patch


def test_the_axis_across_slices_is_none_of_the_patch() -> None:
    assert patch_axes((0, 1), 2, (0, 1, 2)) == (0,)
    assert patch_axes((2,), 2, (2, 0, 1)) == ()


def test_axes_have_names() -> None:
    assert axes_named((0, 2)) == "z, x"
    assert axes_named(()) == "no axis"


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
def test_what_ours_mirror(name: str, patch: tuple[int, ...]) -> None:
    every = tuple(range(len(patch))) if name != "none" else ()
    assert mirrored_axes(build_augmentation(name, configuration(patch))) == every
    for axes in ((), (1,), (0, 1)):
        assert mirrored_axes(build_augmentation(name, configuration(patch), mirror_axes=axes)) == axes


@pytest.mark.parametrize("name", ["paper", "v2", "light", "strong", "progressive", "paper-batchgenerators"])
def test_the_rest_of_the_augmentation_is_kept(name: str) -> None:
    whole = build_augmentation(name, configuration((8, 8, 8)))
    less = build_augmentation(name, configuration((8, 8, 8)), mirror_axes=())
    assert [type(t) for t in less.transforms] == [type(t) for t in whole.transforms[:-1]]
    assert less.spatial == whole.spatial


@pytest.mark.parametrize("axes", [(), (0,), (2,), (0, 2)])
def test_samples_are_mirrored_along_the_asked_axes_only(axes: tuple[int, ...]) -> None:
    augmentation = build_augmentation("none", configuration((2, 2, 2)), mirror_axes=axes)
    image = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    corners = set()
    for seed in range(60):
        moved, _ = augmentation.apply(None, image.copy(), image.astype(np.int16), np.random.default_rng(seed))
        corners.add(int(moved[0, 0, 0, 0]))
    steps = [4 >> axis for axis in axes]
    assert corners == {sum(s for i, s in enumerate(steps) if chosen >> i & 1) for chosen in range(1 << len(steps))}


def test_what_a_users_own_mirrors_is_found() -> None:
    own = Augmentation((8, 8, 8), None, (Gamma(0.3), Mirror((2,)), Compose([MirrorTransform((0,))])))
    assert mirrored_axes(own) == (0, 2)
    assert declares_mirror_axes(own)
    unknown = Augmentation((8, 8, 8), None, (GaussianNoiseTransform(),))
    assert mirrored_axes(unknown) == ()
    assert not declares_mirror_axes(unknown)
    assert mirrored_axes(replace(unknown, mirror_axes=(1,))) == (1,)
    assert declares_mirror_axes(replace(unknown, mirror_axes=()))


def test_an_axis_that_the_patch_does_not_have() -> None:
    with pytest.raises(PlanError, match=r"mirrors axes \[2\]: those of the patch are counted from 0 to 1"):
        mirrored_axes(Augmentation((8, 8), mirror_axes=(2,)))


def test_a_users_own_is_given_other_axes() -> None:
    own = Augmentation((8, 8, 8), None, (Mirror((0, 1, 2)), Gamma(0.3)))
    changed = with_mirror_axes(own, (1,))
    assert changed.transforms == (Gamma(0.3), Mirror((1,)))
    assert mirrored_axes(changed) == (1,)
    assert with_mirror_axes(own, ()).transforms == (Gamma(0.3),)
    with pytest.raises(PlanError, match=r"mirror axes \[1\] are asked for, but the augmentation says .* \[0\]"):
        with_mirror_axes(replace(own, mirror_axes=(0,)), (1,))
