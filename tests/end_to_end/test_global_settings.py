"""A program's settings are what they were, after it has trained and predicted."""

from __future__ import annotations

import locale
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import nnunet_rs
import numpy as np
import SimpleITK
import torch
from nnunet_rs.core.termination import STOPPING

# Of the environment: ours, which stays, and PyTorch's.
OTHERS = ("ONEDNN_MAX_CPU_ISA", "TORCHINDUCTOR_CACHE_DIR")


def settings() -> dict[str, Any]:
    """Read what docs/reference/global-settings.md lists as put back, or as not changed."""
    releases = blosc2.set_releasegil(False)
    blosc2.set_releasegil(releases)
    state = np.random.get_state()
    return {
        "threads": torch.get_num_threads(),
        "benchmark": torch.backends.cudnn.benchmark,
        "torch": torch.get_rng_state().tolist(),
        "numpy": (state[0], state[1].tolist(), *state[2:]),
        "random": random.getstate(),
        "blosc2": releases,
        "SimpleITK": SimpleITK.ProcessObject.GetGlobalWarningDisplay(),
        "signals": {number: signal.getsignal(number) for number in STOPPING},
        "folder": Path.cwd(),
        "locale": locale.setlocale(locale.LC_ALL),
        "errors": np.geterr(),
        "precision": (torch.get_float32_matmul_precision(), torch.get_default_dtype(), torch.is_grad_enabled()),
        "path": list(sys.path),
        **{f"${name}": text for name, text in os.environ.items() if name not in OTHERS},
    }


def test_nothing_is_left_changed(raw_dataset: Callable[..., Path], tmp_path: Path) -> None:
    """A host program with settings of its own, before and after."""
    root, work = raw_dataset(cases=5), tmp_path / "work"
    small = nnunet_rs.PrepareOptions(
        overrides=nnunet_rs.PlanOverrides(features=4, vram_gb=0.02), configurations=("3d_fullres",)
    )
    options = nnunet_rs.TrainOptions(
        nnunet_rs.find_recipe("fast"),
        epochs=1,
        batches=2,
        device="cpu",
        threads=2,
        augmentation="paper-batchgenerators",
    )
    image = np.random.default_rng(0).normal(100, 20, (1, 10, 24, 20)).astype(np.float32)
    torch.manual_seed(5)
    np.random.seed(6)
    random.seed(7)
    before_all = torch.get_num_threads(), blosc2.set_releasegil(True)
    torch.set_num_threads(1)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(True)
    try:
        before = settings()
        nnunet_rs.prepare_dataset(nnunet_rs.read_dataset(root), work, small)
        assert nnunet_rs.train_fold(work, "3d_fullres", 0, options).finished
        predictor = nnunet_rs.Predictor.load(work, "cpu")
        labels = predictor(image, spacing=(1.0, 1.0, 1.0))
        scan = nnunet_rs.read_volume(next(root.glob("imagesTr/*")))
        nnunet_rs.write_labels(tmp_path / "a.nrrd", labels, scan.header)
        after = settings()
    finally:
        torch.set_num_threads(before_all[0])
        blosc2.set_releasegil(before_all[1])
    missing = object()
    names = sorted(before.keys() | after.keys())
    assert [name for name in names if after.get(name, missing) != before.get(name, missing)] == []
