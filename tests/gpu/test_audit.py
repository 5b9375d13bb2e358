"""The GPU path on a pretended GPU, where PyTorch is a build for CUDA: a selection of `make gpu-audit`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import pretended  # noqa: E402


@pytest.mark.skipif(bool(pretended.why_not()), reason=pretended.why_not() or "there is one")
def test_nothing_is_wrong_on_a_pretended_gpu() -> None:
    done = subprocess.run([sys.executable, HERE / "audit.py", "--short"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "nothing wrong" in done.stdout
