from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nnunet_rs.cli import installation, main
from nnunet_rs.core.resources import processors
from nnunet_rs.predict.engines import openvino_engine


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_SAMPLE", 2 << 20)


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_TRIAL", "")


@pytest.mark.usefixtures("no_trial")
def test_a_sound_installation_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == []
    assert set(installation.PACKAGES) < set(told["versions"])
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


@pytest.mark.usefixtures("no_trial")
def test_what_stands_in_the_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "available_memory", lambda: 2 << 30)
    monkeypatch.setattr(installation, "_disk_speed", lambda folder: (50e6, 60e6))
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5e9))
    monkeypatch.setattr(installation.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    many = str(processors() + 1)
    found = installation.examine(tmp_path, {"OMP_NUM_THREADS": many, "nnUNet_raw": str(tmp_path / "gone")})
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

    monkeypatch.setattr(openvino_engine, "why_not_openvino", lambda: "OpenVINO is not installed")
    monkeypatch.setattr(installation, "import_module", missing)
    monkeypatch.setattr(installation, "PACKAGES", ("nnunet-rs", "no-such-package"))
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


@pytest.mark.parametrize(
    ("error", "code"),
    [(ModuleNotFoundError("No module named 'torch'", name="torch"), 0), (OSError("libtorch.so: damaged"), 1)],
)
def test_without_pytorch_an_installation_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    """What is not installed is no fault, what is damaged is one."""

    def without_torch(name: str) -> Any:
        if name in ("torch", "nnunet_rs.model.device", "nnunet_rs.model.instructions"):
            raise error
        return import_module(name)

    monkeypatch.setattr(installation, "import_module", without_torch)
    assert main(["doctor", str(tmp_path), "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert "OpenVINO computes predictions" in "".join(told["missing"] if code else told["advice"])
    assert told["devices"]["computes"]["cpu"] in ("cpu, float32", "cpu, bfloat16")


def test_convolutions_are_tried_in_a_process_of_their_own(tmp_path: Path) -> None:
    found = installation.examine(tmp_path, os.environ)
    assert found.facts["convolutions"]["trial"] == "ends as it should"
    assert found.facts["convolutions"]["safe"]
    assert found.missing == []


@pytest.mark.parametrize(
    ("trial", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("import time; time.sleep(60)", "did not end within 1 seconds"),
        ("raise RuntimeError('no kernel')", "failed: RuntimeError: no kernel"),
    ],
)
def test_convolutions_that_do_not_work_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: str, said: str
) -> None:
    monkeypatch.setattr(installation, "_TRIAL", trial)
    monkeypatch.setattr(installation, "_TRIAL_SECONDS", 1.0 if "sleep" in trial else 60.0)
    found = installation.examine(tmp_path, os.environ)
    assert found.facts["convolutions"]["trial"] == said
    assert any(said in text and "--precision float32" in text for text in found.missing)


def test_memory_written_out_of_bounds_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of bounds by a byte, which nothing but the C library's own check notices."""
    if not Path("/usr/lib/x86_64-linux-gnu/libc_malloc_debug.so.0").is_file():
        pytest.skip("the C library's check is not installed")
    writes = (
        "import ctypes; api = ctypes.pythonapi; api.PyMem_RawMalloc.restype = ctypes.c_void_p; "
        "p = api.PyMem_RawMalloc(ctypes.c_size_t(24)); ctypes.memset(p + 24, 1, 1); "
        "api.PyMem_RawFree(ctypes.c_void_p(p))"
    )
    monkeypatch.setattr(installation, "_TRIAL", writes)
    assert installation.examine(tmp_path, os.environ).facts["convolutions"]["trial"] == "was ended by SIGABRT"
