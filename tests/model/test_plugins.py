import json
import multiprocessing
import pickle
import re
from pathlib import Path

import pytest
from nnunet_rs.core.errors import NnunetError, PluginError
from nnunet_rs.model.plugins import Plugin, as_own, function_named, name_of, own_function, plugin_errors_named


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:\n", r"SyntaxError: .*code\.py, line 1\)"),
        ("\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*code\.py, line 2, in <module>\)"),
        ("import json\njson.absent\n", r"AttributeError: .*code\.py, line 2"),
        ("import no_such_package\n", r"No module named 'no_such_package'\) \(.*code\.py, line 1"),
        ("open('no such file')\n", r"there is no file no such file \(.*code\.py, line 1"),
    ],
)
def test_a_file_that_cannot_be_run(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "code.py"  # the name of a module of Python's own
    file.write_text(text)
    for _ in range(2):  # nothing of the first try is left
        with pytest.raises(NnunetError) as raised:
            function_named(f"{file}:f")
        assert re.search(said, str(raised.value)), raised.value


def test_a_file_called_as_a_module_that_others_need(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "json.py").write_text(f"def f():\n    return {folder!r}\n")
    assert [function_named(f"{tmp_path / folder / 'json.py'}:f")() for folder in "ab"] == ["a", "b"]
    assert json.loads("[1]") == [1]


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "lies_beside.py").write_text("VALUE = 3\n")
    (tmp_path / "imports_beside.py").write_text("def f():\n    from lies_beside import VALUE\n    return VALUE\n")
    assert function_named(f"{tmp_path / 'imports_beside.py'}:f")() == 3


def test_another_process_finds_a_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "travels.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.chdir(tmp_path)
    own = own_function("loss", "travels.py:double")
    assert str(own) == "--loss travels.py:double"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(own, (4,)) == 8
    again = pickle.loads(pickle.dumps(own))
    assert (again.option, again.name, name_of(again)) == ("loss", f"{tmp_path / 'travels.py'}:double", "travels:double")


def test_a_context_is_given_to_who_asks() -> None:
    class Loss:
        def __init__(self, *, context: str) -> None:
            self.context = context

        def __call__(self, x: int) -> tuple[int, str]:
            return x, self.context

    def asks(x: int, context: str) -> tuple[int, str]:
        return x, context

    assert Plugin(asks, "loss", context="c")(1) == (1, "c")
    assert Plugin(abs, "loss", context="c")(-1) == 1
    made = Plugin(Loss, "loss", context="c").made()
    assert made(2) == (2, "c")
    assert name_of(Plugin(asks, "loss")) == name_of(asks)


def inner(x: int) -> float:
    return 1 / x


def test_what_a_function_raises_is_told_as_its_own() -> None:
    own = as_own("loss", inner)
    assert own is not None
    assert as_own("loss", own) is own
    assert as_own("loss", None) is None
    with pytest.raises(PluginError, match=r"loss .*:inner: ZeroDivisionError: .* zero \(.*, in inner\)"):
        own(0)
    with pytest.raises(PluginError, match=r"TypeError: .*missing 1 required.*test_plugins\.py, line \d+\)"):
        own()
    with pytest.raises(PluginError, match=r"loss .*:inner: ZeroDivisionError"), plugin_errors_named((own, None)):
        inner(0)


def test_what_is_not_the_users_passes() -> None:
    own = as_own("loss", inner)
    with pytest.raises(NnunetError, match="a fact"), plugin_errors_named((own,)):
        raise NnunetError("a fact")
    with pytest.raises(ZeroDivisionError), plugin_errors_named((None,)):
        inner(0)
    with pytest.raises(json.JSONDecodeError), plugin_errors_named(()):
        json.loads("{")
