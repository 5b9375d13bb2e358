from __future__ import annotations

import os
from pathlib import Path

import pytest
from nnunet_rs.core import resources


def test_at_least_one_and_no_more_than_there_are() -> None:
    assert 1 <= resources.processors() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "count"), [("150000 100000", 2), ("max 100000", None), ("50000 100000", 1), ("", None), (None, None)]
)
def test_the_quota_of_a_container(tmp_path: Path, text: str | None, count: int | None) -> None:
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert resources._quota(tmp_path / "cpu.max") == count


def test_what_is_free_is_not_more_than_there_is() -> None:
    assert 0 < resources.available_memory() <= resources.total_memory()


def test_a_container_has_no_more_memory_than_it_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1048576\n")
    monkeypatch.setattr(resources, "_GROUP", tmp_path)
    assert resources.total_memory() == 1048576


def test_instruction_sets_come_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "processor\t: 0\nmodel name\t: A fast one\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu avx2 fma\n"
    )
    monkeypatch.setattr(resources.Path, "read_text", lambda self: text)
    assert resources.processor() == resources.Processor("A fast one", frozenset({"fpu", "avx2", "fma"}))

    def none(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(resources.Path, "read_text", none)
    assert resources.processor().instructions == frozenset()
