"""What works in a forked child, as of gunicorn --preload, and what is refused there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nnunet_rs.cli import main

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")

# In the child, within a time limit: whether it ends, and what it says.
FORKED = """
import multiprocessing, os, sys, warnings
import numpy as np
warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
{before}
def work():
    try:
        {within}
        print("done", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join(60)
print("hangs" if child.is_alive() else child.exitcode, flush=True)
child.kill()
"""


def forked(before: str, within: str, threads: int = 2) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": str(threads)}
    code = FORKED.format(before=before, within=within)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def work(raw_dataset: Callable[..., Path], tmp_path: Path) -> Path:
    work = tmp_path / "work"
    words = ("preprocess", raw_dataset(cases=5), "-o", work, "-c", "3d_fullres", "--features", 4, "--vram", 0.02, "-q")
    assert main([*map(str, words)]) == 0
    short = ("--recipe", "fast", "--epochs", 1, "--batches", 2, "-j", 1, "--device", "cpu")
    assert main([*map(str, ("train", work, "-c", "3d_fullres", "-f", 0, *short, "-q"))]) == 0
    return work


def test_a_predictor_in_a_forked_child(work: Path) -> None:
    load = f"import nnunet_rs; predictor = nnunet_rs.Predictor.load({str(work)!r}, device='cpu')"
    predict = "predictor(np.random.default_rng(0).normal(size=(1, 10, 24, 20)), (3, 1, 1))"
    said, ended = forked(load, predict)
    assert said.startswith("NnunetError process ")
    assert "do not survive a fork: load the model after forking" in said
    assert ended == "0"
    again, _ = forked(load, load)
    assert again.startswith("NnunetError process ")
    assert forked("import nnunet_rs, torch", f"{load}; {predict}") == ["done", "0"]  # loaded after the fork
    by_torch = load.replace("device='cpu'", "device='cpu', engine='torch'")
    assert forked(by_torch, predict)[0].startswith("NnunetError process ")
    assert forked(by_torch, predict, threads=1) == ["done", "0"]


def test_kernels_survive_a_fork() -> None:
    work = "nnunet_rs.resample_image(np.ones((1, 40, 40, 40), np.float32), (50, 50, 50), threads=2)"
    assert forked(f"import nnunet_rs; {work}", work) == ["done", "0"]
