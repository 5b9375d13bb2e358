"""Batches for training, made by threads of this process; a batch is a function of its seed, epoch and index.

And, where augmentation gets stronger with time, of how many batches an epoch has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError, named
from nnunet_rs.core.partial_labels import PartialLabels
from nnunet_rs.core.resources import processors
from nnunet_rs.core.types import FloatArray, IntArray, LabelSet, Shape, Shape3
from nnunet_rs.data.augment import Augmentation
from nnunet_rs.data.patches import PatchRule, choose_start, oversamples_foreground
from nnunet_rs.data.previous_stage import PreviousStore
from nnunet_rs.data.sampling import AS_NNUNET, CaseSampler, Sampling
from nnunet_rs.data.store import Store
from nnunet_rs.plan.schema import Configuration

Purpose = Literal["training", "validation"]
SHORTEST_PASS = 25  # batches: a network that has seen few of them does not overfit yet, however few its cases are
_STREAMS: dict[Purpose, int] = {"training": 0, "validation": 1}  # apart: the same epoch has other patches for each


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one training step sees."""

    data: FloatArray  # (b, c, *patch)
    labels: NDArray[np.int16]  # (b, *patch) class indices
    names: tuple[str, ...]  # the case of each sample


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """How a Loader works; of it `threads`, `ahead` and `empty` change no batch."""

    seed: int = 0
    purpose: Purpose = "training"
    batch_size: int | None = None  # None: the configuration's
    threads: int | None = None  # None: one per processor this process may use
    ahead: int = 2  # batches that are made while one is used
    share: tuple[int, int] = (0, 1)  # (k, n): the samples k, k + n, k + 2n … of every batch, of n processes' k-th
    sampling: Sampling = AS_NNUNET
    before: int = 0  # batches that the network has learnt from in earlier cycles
    empty: Callable[[Shape, Any], NDArray[Any]] = np.empty  # (shape, number type) -> memory for a batch, as pinned


@dataclass(frozen=True, slots=True)
class PatchSampler:
    """Chooses where a patch of a case lies, reads it, and augments it."""

    store: Store
    rule: PatchRule
    augmentation: Augmentation  # for the rule's patch
    previous: PreviousStore | None = None  # a cascade's second stage: the segmentations of its first

    def __call__(
        self,
        name: str,
        foreground: bool,
        rng: np.random.Generator,
        centre: tuple[int, ...] | None = None,
        passes: float = 0.0,
    ) -> tuple[FloatArray, IntArray]:
        """Make a sample of the case `name`, about its foreground if `foreground`, about the classes `centre` if given.

        `passes`: over the cases so far, which an augmentation may get stronger with.

        Returns
        -------
        image
            float32 (c, *patch).
        labels
            Class indices (*patch).
        """
        start = choose_start(self.rule, self.store.class_locations(name), foreground, rng, centre)
        augmentation = self.augmentation.at(passes, rng)
        drawn = augmentation.draw(rng)
        region = augmentation.region(drawn)
        size = (1, *region)[-3:]
        image, seg = self._read(name, _around(start, self.rule.patch, size), size)
        flat = (slice(None), 0) if len(region) == 2 else (slice(None),)
        return augmentation.apply(drawn, image[flat], seg[flat], rng)

    def samples_a_pass(self, names: Sequence[str]) -> int:
        """Return how many samples are one pass over these cases: one of every case, in 2-D of every slice."""
        if self.rule.patch[0] > 1:
            return len(names)
        return sum(self.store.record(name).geometry.resampled[0] for name in names)

    def whole(self, name: str, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
        """Give a whole case, (c, z, y, x) and (z, y, x), with the augmentation's transforms but its spatial step."""
        return self.augmentation.apply(None, *self._read(name, (0, 0, 0), self.store.shape(name)), rng)

    def _read(self, name: str, start: Sequence[int], size: Sequence[int]) -> tuple[FloatArray, IntArray]:
        """Read a box: the image, and the maps that `transform.Transform` calls `seg`."""
        image, labels, mask = self.store.read_patch(name, start, size)
        maps = [labels] if mask is None else [labels, mask.astype(labels.dtype)]
        if self.previous is not None:
            maps.append(self.previous.read_patch(name, start, size))
        return image, labels[None] if len(maps) == 1 else np.stack(maps)


@dataclass(slots=True, eq=False)
class _Pending:
    """A batch in the making."""

    batch: Batch
    samples: list[Future[str]]


class Loader:
    """Draws cases and patches, reads and augments them, a few batches ahead of their use.

    Parameters
    ----------
    store
        The prepared cases.
    names
        The cases to draw from, each equally likely unless the options say otherwise.
    configuration
        Its patch and batch sizes.
    labels
        What can be oversampled.
    augmentation
        For the configuration's patch; see `augment.build_augmentation`.
    options
        Seed, purpose, threads.
    previous
        For the second stage of a cascade: its first stage's segmentations; the augmentation makes channels of them.
    partial
        Cases that are annotated in part: their samples' labels say so, see `core.partial_labels`.

    Raises
    ------
    DatasetError
        No case, or one that has not been prepared.

    Notes
    -----
    Use it as a context manager, or call `close`: threads end with it, whatever they are at.
    """

    def __init__(
        self,
        store: Store,
        names: Sequence[str],
        configuration: Configuration,
        labels: LabelSet,
        augmentation: Augmentation,
        options: LoaderOptions | None = None,
        *,
        previous: PreviousStore | None = None,
        partial: PartialLabels | None = None,
    ) -> None:
        if not names:
            raise DatasetError("no case to draw patches from")
        self.store = store
        self.options = options or LoaderOptions()
        self.batch_size = self.options.batch_size or configuration.batch_size
        self.augmentation = augmentation
        self._samples = range(self.options.share[0], self.batch_size, self.options.share[1])
        rule = PatchRule.of(configuration.patch_size, labels)
        self._sampler = PatchSampler(store, rule, augmentation, previous)
        self._cases = CaseSampler(store, names, rule, labels, self.options.sampling)
        self._offsets = {name: partial.offset(name, labels) for name in names} if partial else {}
        self._channels = {name: store.record(name).channels for name in names}[names[0]]
        if previous is not None:
            self._channels += labels.count - 1
        self._samples_a_pass = max(self._sampler.samples_a_pass(names), SHORTEST_PASS * self.batch_size)
        self._pool = ThreadPoolExecutor(self.options.threads or processors(), thread_name_prefix="loader")
        self._pending: dict[tuple[int, int], _Pending] = {}

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what has not begun, wait for what has, and end the threads."""
        self._pending.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def epoch(self, epoch: int, batches: int, start: int = 0) -> Iterator[Batch]:
        """Give the batches `start` … batches-1 of an epoch, in their order.

        While one is used the next `ahead` are made; after an epoch's last these are the first of the next epoch (in
        training), or of the same again (in validation, whose batches should not change from epoch to epoch).

        Raises
        ------
        DatasetError
            A case cannot be read or augmented; the text names it.
        """
        following = epoch + 1 if self.options.purpose == "training" else epoch
        for index in range(start, batches):
            wanted = [(epoch, index + k) for k in range(self.options.ahead + 1)]
            wanted = [(e, k) if k < batches else (following, (k - batches) % batches) for e, k in wanted]
            self._submit(wanted, batches)
            pending = self._pending.pop(wanted[0])
            names = tuple(sample.result() for sample in pending.samples)
            yield Batch(pending.batch.data, pending.batch.labels, names)

    def batch(self, epoch: int, index: int, batches: int) -> Batch:
        """Make one batch of an epoch of `batches` in this thread."""
        batch, passes = self._empty(), self._passes(epoch, index, batches)
        names = tuple(self._fill(batch, epoch, index, slot, passes) for slot in range(len(self._samples)))
        return Batch(batch.data, batch.labels, names)

    def _passes(self, epoch: int, index: int, batches: int) -> float:
        """Return the passes over the cases before a batch of an epoch of `batches`; `SHORTEST_PASS` bounds them."""
        return (self.options.before + epoch * batches + index) * self.batch_size / self._samples_a_pass

    def _submit(self, wanted: Sequence[tuple[int, int]], batches: int) -> None:
        """Start making the batches of `wanted` that are not in the making, and drop others; an epoch has `batches`."""
        for stale in [key for key in self._pending if key not in wanted]:
            for sample in self._pending.pop(stale).samples:
                sample.cancel()
        for key in wanted:
            if key not in self._pending:
                batch, passes = self._empty(), self._passes(*key, batches)
                slots = range(len(self._samples))
                samples = [self._pool.submit(self._fill, batch, *key, slot, passes) for slot in slots]
                self._pending[key] = _Pending(batch, samples)

    def _empty(self) -> Batch:
        patch = self.augmentation.patch
        count, empty = len(self._samples), self.options.empty
        return Batch(empty((count, self._channels, *patch), np.float32), empty((count, *patch), np.int16), ())

    def _fill(self, batch: Batch, epoch: int, index: int, slot: int, passes: float) -> str:
        """Make the sample at a slot of this share of a batch; returns the case's name."""
        sample = self._samples[slot]
        stream = _STREAMS[self.options.purpose]
        rng = np.random.default_rng((self.options.seed, stream, epoch, index, sample))
        share = self.options.sampling.foreground
        foreground = oversamples_foreground(sample, self.batch_size, index, share, epoch)
        name, centre = self._cases.draw(foreground, rng)
        try:
            batch.data[slot], batch.labels[slot] = self._sampler(name, foreground, rng, centre, passes)
        except Exception as error:
            raise DatasetError(f"case {name}, batch {index} of epoch {epoch}: {named(error)}") from error
        if offset := self._offsets.get(name, 0):
            batch.labels[slot] += offset
        return name


def _around(start: Shape3, patch: Shape3, size: Sequence[int]) -> tuple[int, ...]:
    """Return where a box of `size` starts that is centred on the patch at `start`."""
    return tuple(s - (n - p) // 2 for s, n, p in zip(start, size, patch, strict=True))
