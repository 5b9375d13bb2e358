from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from nnunet_rs.cli import doctor, main
from nnunet_rs.core.machine import processors


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SAMPLE", 2 << 20)


def test_a_sound_installation_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == []
    assert set(doctor.PACKAGES) < set(told["versions"])
    assert told["processor"]["usable"] == processors()
    assert 0 < told["memory"]["available"] <= told["memory"]["total"]
    assert told["devices"]["computes"]["cpu"].startswith("cpu, ")
    assert told["disk"]["folder"] == str(tmp_path)
    assert told["disk"]["write"] > 0
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("versions ")
    assert shown.endswith("everything is there\n")


def test_what_stands_in_the_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda: 2 << 30)
    monkeypatch.setattr(doctor, "_disk_speed", lambda folder: (50e6, 60e6))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5e9))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    many = str(processors() + 1)
    found = doctor.examine(tmp_path, {"OMP_NUM_THREADS": many, "nnUNet_raw": str(tmp_path / "gone")})
    told = "\n".join(found.advice)
    for text in ("2.1 GB of memory", "writes 50 MB/s", "5 GB are free", "cannot use it", f"OMP_NUM_THREADS is {many}"):
        assert text in told
    assert "gone, which is no folder" in told
    assert found.missing == []


def test_what_is_missing_makes_the_command_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"no {name}")

    monkeypatch.setattr(doctor, "import_module", missing)
    monkeypatch.setattr(doctor, "PACKAGES", ("nnunet-rs", "no-such-package"))
    assert main(["doctor", str(tmp_path / "nowhere"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    said = "\n".join(told["missing"])
    for text in (
        "no-such-package is not",
        "the Rust kernels do not load",
        "PyTorch does not load",
        "cannot be written",
    ):
        assert text in said


def test_instruction_sets_come_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "processor\t: 0\nmodel name\t: A fast one\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu avx2 fma\n"
    )
    monkeypatch.setattr(doctor.Path, "read_text", lambda self: text)
    assert doctor._cpu() == ("A fast one", frozenset({"fpu", "avx2", "fma"}))

    def none(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(doctor.Path, "read_text", none)
    assert doctor._cpu()[1] == frozenset()
