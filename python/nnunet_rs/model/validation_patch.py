"""A patch of a validation case as a training last saw it: what a page of a running training shows."""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import CheckpointError
from nnunet_rs.core.files import write_bytes
from nnunet_rs.core.image_file import smallest_integer
from nnunet_rs.core.partial_labels import step
from nnunet_rs.core.types import IntArray, LabelSet

if TYPE_CHECKING:  # whoever reads a patch needs no torch
    from torch import Tensor

    from nnunet_rs.model.training_batch import TrainingBatch

COST = 0.005  # of the training's time that keeping it may take
CHANNELS = 4  # of the image at most
_MOST = 1 << 31  # bytes of arrays that are believed
_DAMAGED = (
    OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, RuntimeError, NotImplementedError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ValidationPatch:
    """One patch: the same of every epoch, so that pages of different times can be compared."""

    case: str
    epoch: int  # finished with it, from 1
    image: NDArray[np.uint8]  # (c, z, y, x), the middle 99 % of each channel's intensities as 0 … 255
    reference: IntArray  # (z, y, x), class indices; the ignore label's is the one after the last
    prediction: IntArray  # (z, y, x), class indices

    def write(self, path: Path) -> None:
        """Write a .npz atomically."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            case=np.array(self.case),
            epoch=np.array(self.epoch),
            image=self.image,
            reference=self.reference,
            prediction=self.prediction,
        )
        write_bytes(path, content.getvalue(), durable=False)

    @classmethod
    def read(cls, path: Path) -> ValidationPatch:
        """Read what `write` wrote; nothing is unpickled.

        Raises
        ------
        CheckpointError
            The file is missing, damaged, or something else.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                _require_small(archive.zip)
                arrays = (archive["image"], archive["reference"], archive["prediction"])
                patch = cls(str(archive["case"]), int(archive["epoch"]), *arrays)
        except _DAMAGED as error:
            raise CheckpointError(
                f"{path}: is no patch of a training ({error}); the next validation replaces it"
            ) from error
        image, labels = patch.image, (patch.reference, patch.prediction)
        if image.ndim != 4 or image.dtype != np.uint8 or not image.size or not 1 <= len(image) <= CHANNELS:
            raise CheckpointError(
                f"{path}: holds an image {image.dtype} {list(image.shape)}: must be uint8 (c, z, y, x)"
            )
        if any(each.shape != image.shape[1:] or each.dtype.kind != "u" for each in labels):
            raise CheckpointError(f"{path}: holds labels that are no class indices on the image's grid")
        return patch


class PatchKeeper:
    """Keeps a patch of the first validation batch, now and then, so that it costs next to nothing."""

    def __init__(self, path: Path, labels: LabelSet) -> None:
        self._path, self._labels = path, labels
        self._next = 0.0  # by the clock `time.monotonic`

    def __call__(self, batch: TrainingBatch, logits: Tensor, epoch: int) -> None:
        """Keep the sample with the most foreground.

        Parameters
        ----------
        batch
            The loader's: data (b, c, *size), labels (b, *size), names.
        logits
            (b, outputs, *size).
        epoch
            Finished with this validation, from 1.

        Raises
        ------
        NnunetError
            The file cannot be written.
        """
        begun = time.monotonic()
        if begun < self._next:
            return
        labels = np.asarray(batch.labels)
        labels = labels[:, 0] if labels.ndim == logits.ndim else labels
        labels = labels % step(self._labels)  # of cases that are annotated in part too
        foreground = ((labels > 0) & (labels != self._labels.ignore_index)).reshape(len(labels), -1).sum(axis=1)
        sample = int(foreground.argmax())
        image = np.asarray(batch.data[sample][:CHANNELS])
        patch = ValidationPatch(
            case=str(batch.names[sample]),
            epoch=epoch,
            image=np.stack([_grey(channel) for channel in _volumes(image, 4)]),
            reference=self._indices(_volumes(labels[sample], 3)),
            prediction=self._indices(_volumes(decided(logits[sample], self._labels), 3)),
        )
        patch.write(self._path)
        self._next = time.monotonic() + (time.monotonic() - begun) / COST

    def _indices(self, labels: NDArray[Any]) -> IntArray:
        indices: IntArray = np.maximum(labels, 0).astype(smallest_integer(0, self._labels.count + 1))
        return indices


def decided(logits: Tensor, labels: LabelSet) -> NDArray[Any]:
    """Return the class indices (*size) that logits (outputs, *size) stand for; regions are painted in their order."""
    if not labels.regions:
        found: NDArray[Any] = logits.argmax(0).cpu().numpy()
        return found
    painted = np.zeros(tuple(logits.shape[1:]), np.int64)
    for region, inside in zip(labels.regions, (logits >= 0).cpu().numpy(), strict=True):
        painted[inside] = labels.values.index(region.paint)
    return painted


def _volumes(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    """Give slices, which lack the axis before the last two, as volumes of one plane."""
    return array if array.ndim == ndim else np.expand_dims(array, -3)


def _grey(channel: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = np.percentile(channel, (0.5, 99.5))
    grey: NDArray[np.uint8] = np.clip((channel - low) * (255 / max(high - low, 1e-12)), 0, 255).round().astype(np.uint8)
    return grey


def _require_small(archive: Any) -> None:
    """Refuse, before anything is unpacked, arrays that no training writes."""
    if sum(entry.file_size for entry in archive.infolist()) > _MOST:
        raise ValueError("it is far too large")
