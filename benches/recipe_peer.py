"""One run of nnU-Net v2's own recipe for `benches/recipes.py`, by an interpreter whose environment has nnunetv2.

    PYTHON benches/recipe_peer.py FOLDER CONFIGURATION MINUTES SEED MIRROR FOLD

FOLDER holds nnU-Net's `raw`, `preprocessed` and `results`, with one prepared dataset. Its recipe over 20 epochs, of as
many iterations as the minutes hold at the pace of the first ones, augmentation included. The last line of the output is
JSON: iterations, seconds, the folder of the predicted cases.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from accuracy import EPOCHS, pace, shorten


def build(folder: Path, configuration: str, fold: int, mirror: str) -> Any:
    """Build nnU-Net's trainer on processors."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Trainer(nnUNetTrainer):  # type: ignore[misc]
        def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:  # noqa: N802
            found = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            if mirror != "all":
                axes = tuple("zyx".index(axis) for axis in mirror.split(",") if axis in "zyx" and mirror != "none")
                self.inference_allowed_mirroring_axes = axes
                found = (*found[:3], axes or None)
            return found

    home = next((folder / "preprocessed").iterdir())
    plans, dataset = (json.loads((home / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
    plans["continue_training"] = False
    return Trainer(plans, configuration, fold, dataset, torch.device("cpu"))


def main() -> None:
    """Find the pace, train, predict the held-out cases."""
    folder, configuration, minutes, seed, mirror, fold = sys.argv[1:]
    home = Path(folder)
    names = {f"nnUNet_{name}": str(home / name) for name in ("raw", "preprocessed", "results")}
    os.environ |= {**names, "nnUNet_compile": "f", "nnUNet_n_proc_DA": "0"}
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.manual_seed(int(seed))
    begun = time.perf_counter()
    seconds = pace(build(home, configuration, int(fold), mirror))
    torch.manual_seed(int(seed))
    trainer = build(home, configuration, int(fold), mirror)
    iterations = shorten(trainer, float(minutes), seconds)
    measured = time.perf_counter()
    trainer.run_training()
    trained = time.perf_counter()
    trainer.perform_actual_validation(False)
    print(
        json.dumps(
            {
                "iterations": EPOCHS * iterations,
                "training_seconds": trained - measured,
                "seconds": time.perf_counter() - begun,
                "predictions": str(Path(trainer.output_folder) / "validation"),
            }
        )
    )


if __name__ == "__main__":
    main()
