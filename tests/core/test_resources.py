from __future__ import annotations

import os
from pathlib import Path

import pytest
from nnunet_rs.core import resources


def test_at_least_one_and_no_more_than_there_are() -> None:
    assert 1 <= resources.processors() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "most"),
    [("150000 100000", 2), ("max 100000", None), ("50000 100000", 1), ("100 100000", 1), ("", None), (None, None)],
)
def test_a_container_has_no_more_processors_than_its_quota(tmp_path: Path, text: str | None, most: int | None) -> None:
    alone = resources.processors(tmp_path)
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    assert resources.processors(tmp_path) == min(alone, most or alone)


def test_what_is_free_is_not_more_than_there_is() -> None:
    assert 0 < resources.available_memory() <= resources.total_memory()


def test_a_container_has_no_more_memory_than_it_is_granted(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1048576\n")
    assert resources.total_memory(tmp_path) == 1048576
    (tmp_path / "memory.current").write_text("1000000\n")
    assert resources.available_memory(tmp_path) == 48576


def test_instruction_sets_come_from_the_system(tmp_path: Path) -> None:
    text = (
        "processor\t: 0\nmodel name\t: A fast one\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu avx2 fma\n"
    )
    told_in = tmp_path / "cpuinfo"
    assert resources.processor(told_in).instructions == frozenset()  # not every system tells
    told_in.write_text(text)
    assert resources.processor(told_in) == resources.Processor("A fast one", frozenset({"fpu", "avx2", "fma"}))


@pytest.mark.parametrize(("busy", "threads", "told"), [(4.2, 2, True), (3.9, 2, False), (9.0, 1, False)])
def test_a_busy_machine_is_told_to_threads_that_wait(
    monkeypatch: pytest.MonkeyPatch, busy: float, threads: int, told: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (busy, 0.0, 0.0))
    remark = resources.busy_remark(threads)
    assert ("load 4.2 on 4" in remark and "-j 1" in remark) if told else remark == ""


@pytest.mark.parametrize(
    ("given", "spins"),
    [
        ({}, str(resources.SPINS)),
        ({"OMP_WAIT_POLICY": ""}, str(resources.SPINS)),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_sleep_soon_unless_the_user_decides(given: dict[str, str], spins: str | None) -> None:
    environment = dict(given)
    resources.limit_spinning(environment)
    assert environment.get("GOMP_SPINCOUNT") == spins
    assert environment.get("OMP_WAIT_POLICY") == given.get("OMP_WAIT_POLICY")
