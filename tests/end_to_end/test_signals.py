"""Every signal that asks to end, sent to every command that takes long, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from nnunet_rs.cli import main
from nnunet_rs.core.files import TEMPORARY
from nnunet_rs.core.termination import STOPPING

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has other signals")

# A command, once for each signal, which is sent as soon as the command has written one of the files of `pattern`.
SENT = """
import json, os, pathlib, shutil, signal, sys, threading, time
from nnunet_rs.cli import main
from nnunet_rs.core.termination import STOPPING
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
folder, pattern, removed, *words = sys.argv[1:]
codes = {}
for number in STOPPING:
    shutil.rmtree(removed, ignore_errors=True)
    begun, done = time.time(), threading.Event()
    def send():
        while not done.is_set():
            if any(path.stat().st_mtime > begun for path in pathlib.Path(folder).glob(pattern) if path.is_file()):
                os.kill(os.getpid(), number)
                return
            time.sleep(0.002)
    thread = threading.Thread(target=send)
    thread.start()
    codes[number.name] = main([*words, "--quiet"])
    done.set()
    thread.join()
print(json.dumps(codes))
"""
SHORT = ("--recipe", "fast", "--batches", "2", "--device", "cpu", "-j", "1")


def signalled(folder: Path, pattern: str, *words: object, removed: Path = Path("none")) -> dict[str, int]:
    command = [sys.executable, "-c", SENT, folder, pattern, removed, *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_ended(found: dict[str, int], folder: Path) -> None:
    """Each by its own code, and nothing half-written."""
    assert found == {number.name: 128 + number for number in STOPPING}
    assert not list(folder.rglob(f"*{TEMPORARY}*"))


@pytest.fixture
def raw(raw_dataset: Callable[..., Path]) -> Path:
    return raw_dataset(cases=30, shape=(12, 40, 40))


@pytest.fixture
def work(raw: Path, tmp_path: Path) -> Path:
    work = tmp_path / "work"
    words = ("preprocess", raw, "-o", work, "-c", "3d_fullres", "--features", 4, "--vram", 0.02, "-q")
    assert main([*map(str, words)]) == 0
    return work


@pytest.fixture
def trained(work: Path) -> Path:
    assert main([*map(str, ("train", work, "-c", "3d_fullres", "-f", 0, *SHORT, "--epochs", 1, "-q"))]) == 0
    return work


def test_preprocess(raw: Path, work: Path) -> None:
    words = ("preprocess", raw, "-o", work, "-c", "3d_fullres", "-j", 1)
    check_ended(signalled(work, "prepared/**/*", *words, removed=work / "prepared"), work)
    assert main([*map(str, words), "-q"]) == 0


def test_train_goes_on_afterwards(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", work, "-c", "3d_fullres", "-f", 0, *SHORT, "--resume")
    fold = work / "models/3d_fullres/fold_0"
    check_ended(signalled(fold, "metrics.jsonl", *words, "--epochs", 10000), work)
    assert (fold / "resume.safetensors").is_file()
    epochs = len((fold / "metrics.jsonl").read_text().splitlines())
    assert epochs >= len(STOPPING)
    assert main([*map(str, words), "--epochs", str(epochs + 1), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folds"][0]["epochs"] >= epochs


def test_predict(raw: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("predict", trained, "-i", raw / "imagesTr", "-o", out, "--device", "cpu", "-j", 1)
    check_ended(signalled(out, "*.nii.gz", *words, removed=out), out)
    assert main([*map(str, words), "-q"]) == 0
    assert len(list(out.glob("*.nii.gz"))) == 30


def test_best(trained: Path) -> None:
    validation = trained / "models/3d_fullres/fold_0/validation"
    words = ("best", trained, "--device", "cpu", "-j", 1)
    check_ended(signalled(validation, "*.nii.gz", *words, removed=validation), trained)
    assert main([*map(str, words), "-q"]) == 0


def test_stopped_and_continued_is_as_if_nothing_had_happened(work: Path) -> None:
    """Ctrl-Z and on again; then two requests at once, as `timeout` sends them: one wish, and it is granted."""
    fold = work / "models/3d_fullres/fold_0"
    words = ("-m", "nnunet_rs", "train", work, "-c", "3d_fullres", "-f", "0", *SHORT, "--epochs", "10000", "-q")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, *map(str, words)], env=environment, stderr=subprocess.PIPE)

    def wait_for_an_epoch(after: int) -> int:
        while process.poll() is None:
            path = fold / "metrics.jsonl"
            lines = len(path.read_text().splitlines()) if path.is_file() else 0
            if lines > after:
                return lines
            time.sleep(0.01)
        raise AssertionError(process.returncode)

    try:
        done = wait_for_an_epoch(0)
        process.send_signal(signal.SIGSTOP)  # as Ctrl-Z, which a process without a terminal's shell ignores
        time.sleep(0.2)
        process.send_signal(signal.SIGCONT)
        wait_for_an_epoch(done + 1)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert (fold / "resume.safetensors").is_file()
    finally:
        process.kill()
        process.communicate()
