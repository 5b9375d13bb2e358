from pathlib import Path

import pytest
from nnunet_rs.core.errors import NnunetError
from nnunet_rs.model.functions import function_named, name_of


def test_there_and_back() -> None:
    assert function_named("math:hypot")(3, 4) == 5
    assert name_of(function_named("nnunet_rs.model.unet:build_unet")) == "nnunet_rs.model.unet:build_unet"
    assert name_of(None) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("math", "write module:function"),
        (":f", "write module:function"),
        ("no_such_module:f", "cannot be imported"),
        ("math:cube", "module math has no cube"),
        ("math:pi", "is a float, not a function"),
    ],
)
def test_names_that_lead_nowhere(name: str, said: str) -> None:
    with pytest.raises(NnunetError, match=said):
        function_named(name)


def test_a_function_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "my_own_networks.py"
    file.write_text("def build():\n    return 7\n")
    build = function_named(f"{file}:build")
    assert build() == 7
    assert name_of(build) == "my_own_networks:build"
    assert function_named(f"{file}:build") is build
    with pytest.raises(NnunetError, match=r"there is no file .*absent\.py"):
        function_named(f"{tmp_path / 'absent.py'}:build")
