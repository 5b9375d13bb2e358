from __future__ import annotations

import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunet_rs.core import pickled
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.pickled import read_plain_pickle


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        [1, -2, 300, 70000, "a", None, True, (1, 2), {"b": [3.5]}, ()],
        ([{"labels": [np.int64(1), np.int64(-2), np.uint8(3)]}], "same", "same"),
        {"deep": {"er": [[], {}, ((1,), (1, 2, 3, 4))]}},
    ],
)
def test_plain_values_come_out_as_they_went_in(value: Any, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert read_plain_pickle(path) == value


def test_a_function_comes_out_as_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([os.path.join, len]))
    assert read_plain_pickle(tmp_path / "a.pkl") == ["posixpath.join", "builtins.len"]


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-a-pickle",)


def test_nothing_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(DatasetError, match=r"a\.pkl: holds a call of .*mkdir, which is not read"):
        read_plain_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "made-by-a-pickle").exists()


@pytest.mark.parametrize("cut", [1, 5, 20, -1])
def test_a_damaged_file_is_named(cut: int, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([1, "two", {"three": (4,)}])[:cut])
    with pytest.raises(DatasetError, match=r"a\.pkl: is damaged"):
        read_plain_pickle(tmp_path / "a.pkl")


def test_other_instructions_are_refused(tmp_path: Path) -> None:
    for value in ({1, 2}, np.zeros(3), complex(1, 2), bytearray(b"x")):
        path = tmp_path / "a.pkl"
        path.write_bytes(pickletools.optimize(pickle.dumps(value)))
        with pytest.raises(DatasetError, match=r"a\.pkl: "):
            read_plain_pickle(path)


def test_instructions_are_called_as_python_calls_them() -> None:
    known = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
    assert {code: name for code, (name, _) in pickled._READ.items()} == {code: known[code] for code in pickled._READ}


def test_instructions_come_out_as_python_reads_them() -> None:
    value = [1, 300, -70000, 1 << 40, 0.5, "a", "b" * 300, b"c", None, True, ("d", Path), {"e": []}, ()]
    for protocol in range(5):
        content = pickle.dumps(value, protocol)
        expected = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
        assert list(pickled._instructions(content)) == expected
