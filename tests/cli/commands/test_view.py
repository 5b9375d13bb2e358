"""The viewer as a process: it prints its address, answers there, and ends with Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

pytest.importorskip("ipyniivue", reason="ipyniivue is not installed (pip install 'nnunet-rs[view]')")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_answers_until_it_is_ended(
    number: signal.Signals, code: int, tmp_path: Path, save_nifti: Callable[..., Path]
) -> None:
    image = save_nifti(tmp_path / "image.nii.gz", np.zeros((2, 3, 4), np.int16))
    command = [sys.executable, "-m", "nnunet_rs", "view", str(image), "--no-browser", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urlopen(f"{address}cases", timeout=30) as answer:
            assert b"image.nii.gz" in answer.read()
        process.send_signal(number)
        assert process.wait(60) == code
