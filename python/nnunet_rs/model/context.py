"""What a training tells a user's own function that asks for it, by a parameter named `context`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnunet_rs.core.choices import LossTerms
from nnunet_rs.core.partial_labels import NONE, PartialLabels, step
from nnunet_rs.core.types import FoldName, LabelSet
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.losses import build_loss, region_table, split_target
from nnunet_rs.model.network_options import NetworkOptions, network_channels
from nnunet_rs.plan.schema import Configuration, Plan


@dataclass(frozen=True, slots=True)
class Context:
    """What a training, or a trained model, is about."""

    plan: Plan  # channels, normalisation, labels
    configuration: Configuration  # spacing (z, y, x) in mm, patch and batch size
    network: NetworkOptions  # deep supervision and other options
    fold: FoldName | None = None  # None, as the next: of a network that is built to predict
    config: TrainingConfig | None = None  # all that the training is: epochs, learning rate, ...
    partial: PartialLabels = NONE  # cases that are annotated in part: see `split_target`

    @property
    def labels(self) -> LabelSet:
        """Names of the classes, their values in files, regions."""
        return self.plan.labels

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the channels of the network's output are called: classes with the background, or regions."""
        return self.labels.output_names

    @property
    def inputs(self) -> int:
        """Channels of the network's input; a cascade's second stage has one more for each foreground class."""
        return network_channels(self.plan, self.configuration)[0]

    @property
    def ignore_index(self) -> int | None:
        """Class index of voxels that must not count: the one after the last class; None: the dataset has no such."""
        return self.labels.ignore_index

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a voxel of the network's grid in mm: z, y, x, or y, x in 2-D."""
        return self.configuration.spacing

    @property
    def deep_supervision(self) -> bool:
        """Whether the network has outputs at several resolutions; a loss sees one of them at a time all the same."""
        return self.network.deep_supervision

    def region_table(self) -> Tensor | None:
        """Return which classes belong to which region, None without regions.

        Returns
        -------
        Tensor
            (regions, classes + 1), float32, 0 or 1; the last column is the ignore label's. `table[:, target]` is the
            truth of each region, (regions, b, *size).
        """
        if not self.labels.regions:
            return None
        return region_table([region.classes for region in self.labels.regions], self.labels.count)

    def build_loss(self, terms: LossTerms = "ce_dice") -> nn.Module:
        """Return a loss of nnunet_rs for these labels, as a part of one's own.

        Parameters
        ----------
        terms
            "ce_dice": cross-entropy minus soft Dice, "ce", "dice" (minus soft Dice, from -1 to 0).

        Returns
        -------
        Module
            Called with logits (b, outputs, *size) and class indices (b, *size), gives a scalar. Regions and voxels to
            ignore are heeded, class weights and cases that are annotated in part too; under torchrun Dice is that of a
            process's own samples.
        """
        return build_loss(
            self.labels,
            terms,
            batch_dice=self.configuration.batch_dice,
            weights=None if self.config is None else self.config.class_weights,
            partial=self.partial,
        )

    def split_target(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Take apart what a loss is given as the target, where cases are annotated in part.

        Returns
        -------
        target
            Class indices (b, *size).
        known
            (b, targets), float32: 1 where a sample is annotated for a class (the background not among them) or region;
            what it has of the others is labelled background.
        """
        table = torch.tensor(self.partial.table(self.labels), device=target.device)
        return split_target(target, step(self.labels), table)
