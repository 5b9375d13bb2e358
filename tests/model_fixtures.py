"""Small plans, models and images that the tests of prediction share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs.core.dataset import read_dataset
from nnunet_rs.core.types import Header, LabelSet, Region, Volume
from nnunet_rs.data.pipeline import PrepareOptions, prepare_dataset
from nnunet_rs.model.checkpoint import save_model
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.device import choose_compute
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.network_options import network_channels
from nnunet_rs.model.recipe import PAPER
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.files import read_plan
from nnunet_rs.plan.planner import PlanOverrides
from nnunet_rs.plan.schema import Configuration, Normalization, Plan
from nnunet_rs.predict.engines.torch_engine import TorchEngine
from nnunet_rs.predict.predictor import PredictOptions, Predictor

PLAIN = LabelSet(("background", "liver", "tumour"), (0, 1, 4))
REGIONS = LabelSet(("background", "oedema", "core"), (0, 1, 2), (Region("whole", (1, 2), 1), Region("core", (2,), 2)))


def _plan(**changes: Any) -> Plan:
    """A plan with one configuration; keys of Configuration or Plan replace what stands here."""
    tile = tuple(changes.pop("patch_size", (8, 8, 8)))
    dims = len(tile)
    configuration = Configuration(
        name="2d" if dims == 2 else "3d_fullres",
        spacing=tuple(changes.pop("spacing", (1.0, 1.0, 1.0)))[-dims:],
        patch_size=tile,
        batch_size=2,
        median_shape=tile,
        strides=((1,) * dims, (2,) * dims),
        kernels=((3,) * dims, (3,) * dims),
        features=(4, 8),
        blocks_encoder=(1, 1),
        blocks_decoder=(1,),
        residual=False,
        batch_dice=False,
        inplane_augmentation=False,
        memory_estimate=1,
    )
    content: dict[str, Any] = {
        "dataset": "made up",
        "recipe": "paper",
        "transpose": (0, 1, 2),
        "channels": ("MR",),
        "labels": PLAIN,
        "configurations": {configuration.name: configuration},
    }
    content.update(changes)
    content.setdefault("normalization", tuple(Normalization("zscore", False, None) for _ in content["channels"]))
    return Plan(**content)


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    """`make_plan(patch_size=(8, 8, 8), spacing=..., labels=..., recipe=..., ...)`."""
    return _plan


@pytest.fixture
def make_metadata() -> Callable[..., ModelMetadata]:
    """`make_metadata(plan, fold=0)`: a model of the plan's first configuration, mirrored along all axes."""

    def make(plan: Plan, fold: int = 0, name: str = "") -> ModelMetadata:
        name = name or next(iter(plan.configurations))
        axes = tuple(range(plan.configurations[name].dims))
        return ModelMetadata(
            plan,
            name,
            fold,
            replace(usual_config(plan.recipe, plan.configurations[name], PAPER), decoder_kernels="same"),
            0,
            None,
            None,
            mirror_axes=axes,
        )

    return make


@pytest.fixture
def make_network() -> Callable[..., torch.nn.Module]:
    """`make_network(plan, seed)`: one random convolution with the plan's channels and outputs."""

    def make(plan: Plan, seed: int = 0) -> torch.nn.Module:
        dims = next(iter(plan.configurations.values())).dims
        kind = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d
        network = kind(len(plan.channels), plan.labels.outputs, 3, padding=1)
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        return network.eval().requires_grad_(False)

    return make


@pytest.fixture
def make_volume() -> Callable[..., Volume]:
    """`make_volume(shape, spacing, channels=1, seed=0, margin=0)`: smooth noise, zeros in the margin."""

    def make(shape: Any, spacing: Any = (1.0, 1.0, 1.0), channels: int = 1, seed: int = 0, margin: int = 0) -> Volume:
        data = np.random.default_rng(seed).normal(100, 30, (channels, *shape)).astype(np.float32)
        if margin:
            inner = np.zeros(shape, bool)
            inner[tuple(slice(margin, n - margin - i) for i, n in enumerate(shape))] = True
            data *= inner
        # An oblique header: rotated about z and x, and a shifted origin.
        turn, tilt = np.deg2rad(20), np.deg2rad(10)
        about_z = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
        about_x = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
        affine = np.eye(4)
        affine[:3, :3] = np.array(about_z) @ np.array(about_x) @ np.diag(spacing[::-1])
        affine[:3, 3] = 11, -7, 3
        return Volume(data, tuple(spacing), Header("itk", tuple(map(tuple, affine.tolist()))))

    return make


@pytest.fixture
def make_predictor(make_plan: Any, make_metadata: Any, make_network: Any) -> Callable[..., Predictor]:
    """`make_predictor(folds=1, mirror=False, **plan)`: random networks on the CPU, not loaded from files."""

    def make(folds: int = 1, mirror: bool = False, **changes: Any) -> Predictor:
        plan = make_plan(**changes)
        networks = tuple(make_network(plan, seed) for seed in range(folds))
        all_metadata = tuple(make_metadata(plan, fold) for fold in range(folds))
        compute = choose_compute(torch.device("cpu"), "float32")
        return Predictor(TorchEngine(networks, compute), all_metadata, PredictOptions(mirror=mirror))

    return make


@pytest.fixture
def make_work(raw_dataset: Any, tmp_path: Path, make_metadata: Any) -> Callable[..., Path]:
    """`make_work({"3d_fullres": (0, 1)})`: a prepared dataset of five cases with untrained models of these folds.

    A second argument, a function, may edit the work folder before models are made; `channels` are their names.
    """

    def make(
        models: dict[str, tuple[int, ...]],
        edit: Callable[[Path], None] = lambda _: None,
        channels: tuple[str, ...] = ("MRI",),
    ) -> Path:
        labels = {"background": 0, "large": 1, "small": 2, "ignore": 3}
        root = raw_dataset(cases=5, labels=labels, shape=(8, 24, 20), channels=channels)
        overrides = PlanOverrides(patch_size=(8, 16, 16), features=4)
        work = tmp_path / "work"
        prepare_dataset(read_dataset(root), work, PrepareOptions(overrides=overrides, configurations=("3d_fullres",)))
        edit(work)
        plan = read_plan(work / "plan.json")
        for name, folds in models.items():
            for fold in folds:
                torch.manual_seed(fold)
                settings = plan.configurations[name]
                metadata = make_metadata(plan, fold, name)
                network = build_unet(settings, *network_channels(plan, settings), metadata.network)
                save_model(work / "models" / name / f"fold_{fold}", network.state_dict(), metadata)
        return work

    return make
