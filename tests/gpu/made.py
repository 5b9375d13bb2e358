"""Small plans and prepared cases for the audit of the GPU path."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import Header, LabelSet, Region
from nnunet_rs.data.folds import make_folds, write_splits
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.data.store import Store, StoreLayout, normalization_key, open_store
from nnunet_rs.model.cascade import first_stage_sources, previous_store
from nnunet_rs.plan.files import write_fingerprint, write_plan
from nnunet_rs.plan.schema import CasePrint, ChannelStats, Configuration, Fingerprint, Normalization, Plan

SHAPE, SPACING = (24, 32, 28), (2.0, 1.0, 1.0)
CASES = tuple(f"case_{number}" for number in range(6))
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
    folder.mkdir(parents=True, exist_ok=True)
    prints = tuple(CasePrint(name, SHAPE, SHAPE, SPACING) for name in CASES)
    write_plan(folder / "plan.json", plan)
    stats = (ChannelStats(0, 1, 0, -3, 3, -3, 3),)
    write_fingerprint(folder / "fingerprint.json", Fingerprint(prints, stats, 1.0))
    write_splits(folder / "splits.json", make_folds(list(CASES), count=3))
    for each in configurations:
        store, layout = Store(folder / "prepared" / each.name), StoreLayout.of(each, labels)
        for seed, name in enumerate(CASES):
            store.write(name, _case(seed), (normalization_key(plan),), layout)
    return folder


def _case(seed: int) -> Prepared:
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    z, y, x = rng.integers(0, [8, 12, 10])
    labels[z : z + 14, y : y + 18, x : x + 16] = 1
    labels[z + 4 : z + 9, y + 6 : y + 12, x + 4 : x + 10] = 2
    image = (np.array([0, 2, -2], np.float32)[labels] + 0.5 * rng.standard_normal(SHAPE)).astype(np.float32)
    box = tuple((0, length) for length in SHAPE)
    header = Header("nifti", ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 1)))
    return Prepared(image[None], labels, None, Geometry(SHAPE, SPACING, (0, 1, 2), box, SHAPE, header))


def segment_first_stage(work: Path, plan: Plan) -> None:
    """Put the references where a second stage's training looks for the first one's segmentations."""
    store, prepared = previous_store(work, CASCADE.name), open_store(work, plan, CASCADE.name)
    for case, source in first_stage_sources(work, plan, CASCADE.name).items():
        labels = prepared.read_patch(case, (0, 0, 0), SHAPE)[1].astype(np.uint8)
        store.write(case, labels, source.key, CASCADE.patch_size)


class Said:
    """Progress that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def task(self, name: str, total: float, *, timed: bool = False):
        yield self

    def advance(self, count: float = 1, note: str = "") -> None:
        pass

    def say(self, text: str) -> None:
        self.lines.append(text)
