"""The prepared cases of a fold as a map-style dataset, for a training loop of one's own."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from nnunet_rs.core.errors import DatasetError, named
from nnunet_rs.core.types import FoldName
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.data.augment import Augmentation, build_augmentation, with_first_stage_channels
from nnunet_rs.data.folds import read_plan_and_fold
from nnunet_rs.data.loader import PatchSampler
from nnunet_rs.data.patches import FOREGROUND_SHARE, PatchRule
from nnunet_rs.data.previous_stage import PreviousStore
from nnunet_rs.data.store import open_store
from nnunet_rs.data.transform import Transform
from nnunet_rs.plan.schema import Configuration, Plan

Split: TypeAlias = Literal["training", "validation"]


@dataclass(eq=False)
class PreparedDataset:
    """The prepared cases of one side of a fold, as patches or whole, in the form that PyTorch's DataLoader takes.

    `dataset[i]` is a dictionary: `image` float32 (c, *size), `labels` int16 (*size) with class indices (the ignore
    label is the index after the last class), and `name`, the case. In a cascade's second stage the first stage's
    segmentation comes as further channels of the image, one per foreground class. No PyTorch is loaded.

    Parameters
    ----------
    work
        The work folder, in which `preprocess` has run.
    configuration
        Of the plan: "3d_fullres".
    fold
        Of splits.json; "all": every case trains.
    split
        "training" or "validation": which of the fold's cases.
    patches
        Patches of the plan's size, (c, y, x) of a 2-D configuration. False: whole cases (c, z, y, x), whatever the
        configuration, each of its own size.
    per_case
        Patches that count as one epoch of each case.
    foreground
        Share of the patches that are centred on foreground, as nnU-Net oversamples it.
    augmentation
        A name ("paper", "v2", "light", "strong"), which reads the larger region that its rotations show; "progressive"
        goes from light to strong in 100 passes over the cases, counted by the epochs (`set_epoch`). Or a transform of
        `nnunet_rs.transforms`, of batchgenerators or your own, which is given the patch in batchgenerators' form.
        None: patches as they are.
    seed
        Random numbers follow from it, from the epoch (`set_epoch`) and from the index alone, whatever the number of
        workers.
    cache
        Bytes of memory for cases that are kept decoded, in each process.

    Raises
    ------
    DatasetError
        A case of the fold has not been prepared; the fold holds out none.
    PlanError
        There is no such configuration, fold or augmentation; the work folder has no plan.
    """

    work: Path | str
    configuration: str
    fold: FoldName = 0
    split: Split = "training"
    _: KW_ONLY
    patches: bool = True
    per_case: int = 1
    foreground: float = FOREGROUND_SHARE
    augmentation: str | Transform | None = None
    seed: int = 0
    cache: int = 0
    names: tuple[str, ...] = field(init=False, repr=False)
    epoch: int = field(default=0, init=False, repr=False)
    _sampler: PatchSampler = field(init=False, repr=False)
    _samples_a_pass: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.split not in ("training", "validation"):
            raise ValueError(f"split must be training or validation; got {self.split!r}")
        if self.per_case < 1 or not 0 <= self.foreground <= 1:
            values = f"{self.per_case}, {self.foreground}"
            raise ValueError(f"per_case must be at least 1 and foreground lie in 0 … 1; got {values}")
        if isinstance(self.augmentation, str) and not self.patches:
            raise ValueError(f"augmentation {self.augmentation!r} makes patches; whole cases take a transform")
        plan, cases = read_plan_and_fold(Path(self.work), self.configuration, self.fold)
        self.names = cases.train if self.split == "training" else cases.validation
        if not self.names:
            raise DatasetError(f"fold {self.fold} holds out no case to validate with")
        self._sampler = self._open(plan, plan.configurations[self.configuration])
        self._samples_a_pass = self._sampler.samples_a_pass(self.names)

    def set_epoch(self, epoch: int) -> None:
        """Draw other patches from now on; call it before each epoch, as with PyTorch's DistributedSampler."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.names) * (self.per_case if self.patches else 1)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Make an item.

        Raises
        ------
        IndexError
            There is none of this number.
        DatasetError
            The case cannot be read or augmented; the text names it.
        """
        index = range(len(self))[index]
        name = self.names[index % len(self.names)]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        try:
            if self.patches:
                passes = self.epoch * len(self) / self._samples_a_pass
                image, labels = self._sampler(name, rng.random() < self.foreground, rng, passes=passes)
            else:
                image, labels = self._sampler.whole(name, rng)
        except Exception as error:
            raise DatasetError(f"case {name}: {named(error)}") from error
        return {"image": image, "labels": labels, "name": name}

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process makes its own from; files are opened anew there."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init or f.name == "epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def _open(self, plan: Plan, configuration: Configuration) -> PatchSampler:
        store = open_store(Path(self.work), plan, configuration.name, cache=self.cache)
        for name in self.names:
            store.record(name)  # tells of a case that has not been prepared
        previous, classes = None, plan.labels.count
        if configuration.previous is not None:
            previous = PreviousStore(WorkFolder(Path(self.work)).previous_stage_folder(configuration.name))
        if isinstance(self.augmentation, str):
            augmentation = build_augmentation(self.augmentation, configuration, plan.normalization, classes)
        else:
            transforms = () if self.augmentation is None else (self.augmentation,)
            augmentation = Augmentation(configuration.patch_size, transforms=transforms)
            augmentation = augmentation if previous is None else with_first_stage_channels(augmentation, classes, None)
        return PatchSampler(store, PatchRule.of(configuration.patch_size, plan.labels), augmentation, previous)
