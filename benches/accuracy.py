"""Dice that nnU-Net v2 reaches in some minutes of this machine, with the network and the batch of `--features 16`.

    .venv/bin/python benches/training.py PYTHON Task04_Hippocampus FOLDER --prepare
    PYTHON benches/accuracy.py FOLDER MINUTES           # PYTHON: an environment with nnunetv2, and no nnunet_rs

Its own recipe over 20 epochs, of as many iterations as the minutes hold at the pace of the first ones, augmentation
included. Ours is `nnunet-rs train WORK -c 3d_fullres -f 0 --recipe fast --time-budget MINUTESm`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

EPOCHS, VALIDATION = 20, 5  # an epoch's validation batches
WARMING, TIMED = 3, 20  # iterations


def pace(trainer: Any) -> float:
    """Seconds an iteration of one of nnU-Net's trainers, augmentation included."""
    trainer.initialize()
    batches, _ = trainer.get_dataloaders()
    trainer.network.train()
    for _ in range(WARMING):
        trainer.train_step(next(batches))
    begun = time.perf_counter()
    for _ in range(TIMED):
        trainer.train_step(next(batches))
    return (time.perf_counter() - begun) / TIMED


def shorten(trainer: Any, minutes: float, seconds: float) -> int:
    """Give a trainer as many iterations as the minutes hold at `seconds` each; returns those of an epoch."""
    iterations = max(1, int(60 * minutes / EPOCHS / seconds))
    trainer.num_epochs, trainer.num_iterations_per_epoch = EPOCHS, iterations
    trainer.num_val_iterations_per_epoch, trainer.save_every = VALIDATION, 10**6
    return iterations


def main() -> None:
    """Find the pace, train, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="what benches/training.py --prepare filled")
    parser.add_argument("minutes", metavar="MINUTES", type=float)
    options = parser.parse_args()
    os.environ["nnUNet_compile"] = "f"  # noqa: SIM112
    import torch
    from training import trainer

    torch.manual_seed(0)
    seconds = pace(trainer(options.folder, 0))
    built = trainer(options.folder, 0)
    iterations = shorten(built, options.minutes, seconds)
    print(f"{seconds:.3f} s an iteration: {EPOCHS} epochs of {iterations}", flush=True)
    begun = time.perf_counter()
    built.run_training()
    print(f"trained in {(time.perf_counter() - begun) / 60:.1f} minutes", flush=True)
    built.perform_actual_validation(False)  # says the mean Dice


if __name__ == "__main__":
    main()
