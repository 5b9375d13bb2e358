"""Trainings through a real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from made_up import Lines
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.model.options import Model, TrainOptions
from nnunet_rs.model.recipe import V2
from nnunet_rs.run.cluster import ClusterOptions
from nnunet_rs.run.one_model import ModelOptions
from nnunet_rs.run.ray import Ray
from nnunet_rs.run.series import train_series

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
NAME = "3d_fullres"
SHORT = ModelOptions(TrainOptions(recipe=V2, epochs=3, batches=30, precision="float32", threads=1))


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(address: str, work: Path, tmp_path: Path) -> None:
    undisturbed, console = tmp_path / "undisturbed", Lines()
    shutil.copytree(work, undisturbed)
    models = [Model(NAME, fold) for fold in range(2)]
    train_series(undisturbed, models, SHORT, ("cpu",))
    executor = Ray(WorkFolder(work).jobs_folder, ClusterOptions(ray_address=address, cpus=1))
    killer = threading.Thread(target=kill_first, args=(WorkFolder(work).model(NAME, 0).path,))
    killer.start()
    outcomes = train_series(work, models, SHORT, progress=console, executor=executor)
    killer.join()
    assert [outcome.state for outcome in outcomes] == ["trained"] * 2
    assert sum("begun again, from its last checkpoint" in line for line in console.said) == 1
    assert any(line.startswith(f"{NAME}, fold 1: epoch 3/3") for line in console.said)
    for fold in range(2):
        one, other = (WorkFolder(each).model(NAME, fold).weights_file.read_bytes() for each in (work, undisturbed))
        assert one == other


def kill_first(folder: Path) -> None:
    """Kill the process of a training when its first epoch is done."""
    until = time.monotonic() + 120
    while not (folder / "metrics.jsonl").is_file() and time.monotonic() < until:
        time.sleep(0.2)
    os.kill(int(json.loads((folder / ".lock").read_text())["process"]), signal.SIGKILL)
