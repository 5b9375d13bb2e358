import pytest
from nnunet_rs.core.errors import DatasetError, among, doing, named, noted


def test_the_name_that_was_meant_comes_first() -> None:
    names = ("2d", "3d_fullres", "3d_lowres")
    assert among("3d_fulres", names) == "did you mean 3d_fullres? there are 2d, 3d_fullres, 3d_lowres"
    assert among("x", names) == "there are 2d, 3d_fullres, 3d_lowres"
    assert among("x", ("2d",)) == "there is 2d"


def test_what_was_being_done_is_noted_innermost_first() -> None:
    def work() -> None:
        with doing("epoch 3"), doing("case a"):
            raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        work()
    assert noted(raised.value) == ("case a", "epoch 3")
    assert named(raised.value) == "KeyError: 'x', in case a, epoch 3"


def test_an_error_of_ours_says_it_itself() -> None:
    def work() -> None:
        with doing("case a"):
            raise DatasetError("a.nii: what\nis wrong")

    with pytest.raises(DatasetError) as raised:
        work()
    assert noted(raised.value) == ()
    assert named(raised.value) == "a.nii: what is wrong"
    assert named(ValueError()) == "ValueError"
