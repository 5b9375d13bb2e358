"""What is not an array is refused with what to give; and that, done as told, is right."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import read_volume
from nnunet_rs.predict.arrays import as_numbers, as_spacing, require_volume

ARRAY = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
SPACING = (3.0, 2.0, 1.0)


def in_memory() -> tuple[SimpleITK.Image, nibabel.Nifti1Image]:
    image = SimpleITK.GetImageFromArray(ARRAY)
    image.SetSpacing(SPACING[::-1])
    return image, nibabel.Nifti1Image(ARRAY.T, np.diag([1, 2, 3, 1.0]))


@pytest.mark.parametrize("index", [0, 1])
def test_what_an_image_object_is_answered_with_works(index: int, make_predictor) -> None:
    predictor, image = make_predictor(), in_memory()[index]
    with pytest.raises(DatasetError, match=r"the image is a \S+; call predictor\(") as caught:
        predictor(image, SPACING)
    call = str(caught.value).partition("; call ")[2]
    labels = eval(call, {"predictor": predictor, "image": image, "numpy": np, "SimpleITK": SimpleITK})
    np.testing.assert_array_equal(labels, predictor(ARRAY, SPACING))
    with pytest.raises(DatasetError, match="the image is a"):
        predictor.predict_volume(image)


def test_what_a_path_is_answered_with_works(make_predictor, tmp_path: Path) -> None:
    predictor, path = make_predictor(), tmp_path / "a.nii.gz"
    nibabel.save(in_memory()[1], path)
    for given in (path, str(path)):
        with pytest.raises(DatasetError, match=rf"the image is the path {path}; read it first: predictor\.predict_vol"):
            predictor(given, SPACING)
    with pytest.raises(DatasetError, match="the image is a list of paths; read them first"):
        predictor([path, path], SPACING)
    volume = read_volume(path)
    with pytest.raises(DatasetError, match=r"the image is a Volume; call predictor\.predict_volume\(volume\)"):
        predictor(volume, volume.spacing)
    np.testing.assert_array_equal(predictor.predict_volume(volume).data, predictor(ARRAY, SPACING))


def test_arrays_of_other_libraries_will_do(make_predictor) -> None:
    predictor = make_predictor()
    expected = predictor(ARRAY, SPACING)
    for given in (torch.from_numpy(ARRAY), ARRAY.tolist(), memoryview(ARRAY)):
        np.testing.assert_array_equal(predictor(given, np.array(SPACING)), expected)


@pytest.mark.parametrize("given", [
    None, object(), {"image": ARRAY}, ARRAY.astype(complex), np.array(["a"]), [[1], [1, 2]], {1, 2}, 3j, b"abc",
])  # fmt: skip
def test_what_is_no_array_of_numbers(given: object) -> None:
    with pytest.raises(DatasetError, match=r"the image is a .*; give an array \(z, y, x\)"):
        as_numbers(given)


@pytest.mark.parametrize("given", [None, 1.0, "abc", (1, 2), (1, 2, 3, 4), (1, 0, 1), (1, np.nan, 1), ("a", 1, 1), {}])
def test_what_is_no_spacing(given: object) -> None:
    with pytest.raises(DatasetError, match=r"the spacing is .*expected three positive numbers, z, y, x in mm"):
        as_spacing(given)


def test_an_array_is_no_volume() -> None:
    with pytest.raises(DatasetError, match=r"the image is a numpy\.ndarray, not a Volume as nnunet_rs\.read_volume"):
        require_volume(ARRAY)
