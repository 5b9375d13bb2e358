"""Models of ours with random weights, of a plan of nnU-Net's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_rs.model.checkpoint import save_model
from nnunet_rs.model.config import usual_config
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.network_options import NetworkOptions, network_channels
from nnunet_rs.model.recipe import V2
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.nnunet_plans import read_nnunet_plans


@pytest.fixture
def models(tmp_path: Path, write_nnunet_plans: Callable[..., tuple[Path, Path]]) -> Callable[..., Path]:
    """`models("3d_fullres", ..., folds=(0, 1), **network)`: models of ours with random weights, of nnU-Net's plan."""

    def make(*configurations: str, folds: tuple[Any, ...] = (0, 1), **network: Any) -> Path:
        plans = read_nnunet_plans(*write_nnunet_plans(folder=tmp_path / "plans"))
        for name in configurations:
            plan = plans.plan(name)
            settings, options = plan.configurations[name], NetworkOptions(**network)
            for fold in folds:
                torch.manual_seed(len(name) + (9 if fold == "all" else fold))
                built = build_unet(settings, *network_channels(plan, settings), options)
                metadata = ModelMetadata(
                    plan,
                    name,
                    fold,
                    replace(usual_config(plan.recipe, plan.configurations[name], V2), **asdict(options)),
                    0,
                    None,
                    None,
                    mirror_axes=(0, 2),
                )
                save_model(tmp_path / "ours" / "models" / name / f"fold_{fold}", built.state_dict(), metadata)
        return tmp_path / "ours"

    return make


@pytest.fixture
def image() -> Any:
    return np.random.default_rng(0).normal(100, 20, (1, 9, 20, 18)).astype(np.float32)
