"""Small plans and prepared cases for the audit of the GPU path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.data.store import open_store
from nnunet_rs.model.cascade import first_stage_sources, previous_store
from nnunet_rs.plan.schema import Configuration, Normalization, Plan
from prepared_cases import SPACING, write_work

SHAPE = (24, 32, 28)
NAMES = ("background", "large", "small")
REGIONS = (Region("whole", (1, 2), 1), Region("core", (2,), 2))
LABELS = {
    "classes": LabelSet(NAMES, (0, 1, 2)),
    "ignore": LabelSet(NAMES, (0, 1, 2), ignore=3),
    "regions": LabelSet(NAMES, (0, 1, 2), regions=REGIONS),
    "regions and ignore": LabelSet(NAMES, (0, 1, 2), regions=REGIONS, ignore=3),
}


def configuration(
    patch: tuple[int, ...], features: tuple[int, ...], name: str = "3d_fullres", batch: int = 2, residual: bool = False
) -> Configuration:
    """A network that halves every axis at each stage but the first."""
    dims, stages = len(patch), len(features)
    return Configuration(
        name=name,
        spacing=SPACING[-dims:],
        patch_size=patch,
        batch_size=batch,
        median_shape=SHAPE[-dims:],
        strides=((1,) * dims, *[(2,) * dims] * (stages - 1)),
        kernels=((3,) * dims,) * stages,
        features=features,
        blocks_encoder=tuple(range(1, stages + 1)) if residual else (2,) * stages,
        blocks_decoder=(1 if residual else 2,) * (stages - 1),
        residual=residual,
        batch_dice=dims == 2,
        inplane_augmentation=False,
        memory_estimate=0,
    )


PLAIN = configuration((16, 24, 16), (8, 16, 32, 64))  # the stages of a small organ's plan
RESIDUAL = configuration((16, 16, 16), (8, 16, 32), residual=True)
FLAT = configuration((32, 24), (8, 16, 32), "2d", 3)
LOW = replace(PLAIN, name="3d_lowres")
CASCADE = replace(PLAIN, name="3d_cascade_fullres", previous="3d_lowres")


def make_work(folder: Path, labels: LabelSet, *configurations: Configuration) -> Path:
    """Write a work folder as `preprocess` leaves it."""
    rules = (Normalization("zscore", False, None),)
    plan = Plan("Made", "v2", (0, 1, 2), ("T1",), labels, rules, {each.name: each for each in configurations})
    return write_work(folder, plan, SHAPE)


def segment_first_stage(work: Path, plan: Plan) -> None:
    """Put the references where a second stage's training looks for the first one's segmentations."""
    store, prepared = previous_store(work, CASCADE.name), open_store(work, plan, CASCADE.name)
    for case, source in first_stage_sources(work, plan, CASCADE.name).items():
        labels = prepared.read_patch(case, (0, 0, 0), SHAPE)[1].astype(np.uint8)
        store.write(case, labels, source.key, CASCADE.patch_size)
