"""A real SLURM and a real Ray on this machine, and a small work folder to train."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.plan.planner import PlanOverrides

SCRIPT = Path(__file__).parent / "slurm.sh"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")


@pytest.fixture(scope="session", autouse=True)  # before a cluster is started
def asked_for() -> None:
    if os.environ.get("CLUSTER_TESTS") != "1":
        pytest.skip("takes minutes: `make cluster-test` runs it")


@pytest.fixture(scope="session")
def slurm(asked_for: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The slurm.conf of a cluster of two nodes, partitions main and short (one minute)."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or importlib.util.find_spec("submitit") is None:
        pytest.skip(f"SLURM's {missing[0]} is not installed" if missing else "submitit is not installed")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons are started as root")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run(["bash", SCRIPT, "up", folder], capture_output=True, text=True, timeout=120, check=False)
    try:
        assert started.returncode == 0, started.stderr
        os.environ["SLURM_CONF"] = started.stdout.strip().splitlines()[-1]
        yield folder
    finally:
        subprocess.run(["bash", SCRIPT, "down", folder], timeout=60, check=False, capture_output=True)
        os.environ.pop("SLURM_CONF", None)


@pytest.fixture(scope="module")
def address(asked_for: None) -> Iterator[str]:
    """Where a cluster of two nodes with two processors each answers."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    cluster.add_node(num_cpus=2)
    yield cluster.address
    import ray

    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def work(raw_dataset: Callable[..., Path], tmp_path: Path) -> Path:
    """Prepared for 3d_fullres, five folds."""
    root = raw_dataset(cases=5, shape=(8, 24, 20))
    overrides = PlanOverrides(patch_size=(8, 16, 16), features=4)
    work = tmp_path / "work"
    prepare_dataset(read_dataset(root), work, PrepareOptions(overrides=overrides, configurations=("3d_fullres",)))
    return work
