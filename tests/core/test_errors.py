from nnunet_rs.core.errors import among


def test_the_name_that_was_meant_comes_first() -> None:
    names = ("2d", "3d_fullres", "3d_lowres")
    assert among("3d_fulres", names) == "did you mean 3d_fullres? there are 2d, 3d_fullres, 3d_lowres"
    assert among("x", names) == "there are 2d, 3d_fullres, 3d_lowres"
    assert among("x", ("2d",)) == "there is 2d"
