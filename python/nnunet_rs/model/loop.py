"""Epoch after epoch: iterations, validation, history, checkpoints, and requests to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_rs.core.errors import TrainingError, doing
from nnunet_rs.core.partial_labels import NONE, PartialLabels
from nnunet_rs.core.progress import Progress, Silent, Task
from nnunet_rs.core.stop_request import StopRequest
from nnunet_rs.core.text import clock, counted
from nnunet_rs.core.types import LabelSet, Shape
from nnunet_rs.core.workspace import ModelFolder
from nnunet_rs.model.compiled import GradientStep
from nnunet_rs.model.config import TrainingConfig
from nnunet_rs.model.device import Compute
from nnunet_rs.model.distributed import ProcessGroup
from nnunet_rs.model.header import Identity
from nnunet_rs.model.history import Epoch, History, describe, known_or_none
from nnunet_rs.model.metrics import Counts, count_voxels
from nnunet_rs.model.optimiser import set_rate
from nnunet_rs.model.pending_losses import PendingLosses
from nnunet_rs.model.plugins import is_own
from nnunet_rs.model.schedule import Overhead, Position, batches_left, has_small_patches, is_over, learning_rate, share
from nnunet_rs.model.state import TrainingState, save_state
from nnunet_rs.model.training_batch import Batches, TrainingBatch
from nnunet_rs.model.validation_patch import PatchKeeper

SAVE_EVERY = 300.0  # seconds, within an epoch
SAVE_COST = 0.05  # at an epoch's end, unless saving would take more than this part of the time
VALIDATION_SHARE = 0.1  # of a time budget: at most so long takes one validation on patches
FOLLOWING_SHARE = 0.5  # of a time budget: what would take longer comes after it
MARGIN = 1.3  # by which a prediction may be slower than the validation's passes
MOST_SKIPPED = 20  # steps in a row that float16 may leave out: its scale was halved as often


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What stays the same while a network is trained."""

    model: ModelFolder
    identity: Identity
    config: TrainingConfig
    labels: LabelSet
    compute: Compute
    loss: Callable[[Any, Tensor], Tensor]
    training: Batches
    validation: Batches
    dims: int
    small: Batches | None = None  # smaller patches, of the training's first part,
    small_part: float = 1.0  # which have this part of a planned one's voxels
    partial: PartialLabels = NONE  # cases that are annotated in part
    mirror_axes: Shape = ()  # of the patch, along which training samples are mirrored
    on_epoch: Callable[[History], None] | None = None
    keep: Callable[[TrainingJob, TrainingState], None] | None = None  # called where an epoch is the best so far
    group: ProcessGroup = field(default_factory=ProcessGroup)
    overhead: Overhead | None = None

    def to_device(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Bring a batch to the device: data (b, c, *size) in the network's layout, class indices (b, *size)."""
        data, labels = torch.as_tensor(batch.data), torch.as_tensor(batch.labels)
        if labels.ndim == data.ndim:
            labels = labels[:, 0]
        data = data.to(self.compute.device, non_blocking=True, memory_format=self.compute.layout(self.dims))
        return data, labels.to(self.compute.device, non_blocking=True)


class Loop:
    """A training under way."""

    def __init__(
        self, job: TrainingJob, state: TrainingState, gradients: GradientStep, stop_request: StopRequest
    ) -> None:
        """Take what is fixed, what changes, and what computes a batch's gradients."""
        self.job, self.state, self.stop_request = job, state, stop_request
        self._gradients = gradients
        overhead = None if job.config.time_budget is None else job.overhead
        self._clock = time.monotonic() if overhead is None else overhead.begun
        self._stop = False  # what all processes agree on
        self._saved, self._save_seconds = state.position.seconds, 0.0
        self._pending = PendingLosses(job.compute.device)
        self._skipped = 0  # steps in a row that were left out, for their losses were no numbers
        self._weights = list(state.network.parameters())
        self._shown = self._left()  # what the display counts down from
        self._progress: Progress = Silent()
        self._late = 0.0  # seconds of the time budget that had gone before
        self._pass = 0.0  # seconds of one sample's forward pass, about
        self._cut = False  # whether a validation was cut short, and that said
        self._following = 0.0  # seconds that are kept for what follows
        self._keep_patch = PatchKeeper(job.model.patch_file, job.labels)

    def run(self, progress: Progress) -> bool:
        """Train until the training is over, or a stop is requested; returns whether it is over."""
        timed = self.job.config.time_budget is not None
        self._progress, before = progress, self.state.position.seconds
        self._late = self._tick().seconds - before
        self._share_budget()
        with progress.task(self._title(), self._shown, timed=timed) as task:
            while not is_over(self.job.config, self._tick(), self._reserve()):
                with doing(f"epoch {self.state.position.epoch + 1} of {self.job.identity.configuration}"):
                    self._train(task)
                if self._stop:
                    self._save()
                    return False
                with doing(f"validation after epoch {self.state.position.epoch + 1}"):
                    epoch = self._finish_epoch()
                self._show(task)
                progress.say(describe(epoch, self.state.history.classes, self.job.config.epochs))
        return True

    def _train(self, task: Task) -> None:
        """Do the iterations that are left of an epoch."""
        job, position = self.job, self.state.position
        self.state.network.train()
        source, batches = self._batches()
        while position.batch < job.config.batches and not self._stop:
            before = time.monotonic()
            if source is not self._source():
                source, batches = self._batches()
            batch = next(batches)
            ready = time.monotonic()
            loss = self._iterate(batch)
            position.batch += 1
            position.iterations += 1
            self._add_losses(self._pending.put(loss, batch))
            position.waiting += ready - before
            position.training += time.monotonic() - ready
            self._tick()
            self._show(task)
            if position.seconds - self._saved > SAVE_EVERY:
                self._save()
            if share(job.config, position, self._reserve()) >= 1:
                break
        before = time.monotonic()
        self._add_losses(self._pending.rest())
        position.training += time.monotonic() - before

    def _source(self) -> Batches:
        """Return where the next batch comes from: small patches in the training's first part."""
        small = self.job.small
        if small is not None and has_small_patches(self.job.config, self.state.position, self._reserve()):
            return small
        return self.job.training

    def _batches(self) -> tuple[Batches, Iterator[TrainingBatch]]:
        """Return where the epoch's next batches come from, and those batches."""
        source, position = self._source(), self.state.position
        return source, iter(source.epoch(position.epoch, self.job.config.batches, position.batch))

    def _iterate(self, batch: TrainingBatch) -> Tensor:
        """Forward, backward, one step of the optimiser; returns the loss, on the device."""
        job, state = self.job, self.state
        set_rate(state.optimiser, learning_rate(job.config, state.position, self._reserve()))
        placed = job.to_device(batch)
        state.optimiser.zero_grad(set_to_none=True)
        loss = self._gradients(placed, self._weights, self._scaled)
        if job.config.gradient_clip is not None:
            state.scaler.unscale_(state.optimiser)
            nn.utils.clip_grad_norm_(self._weights, job.config.gradient_clip)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update()
        return loss

    def _scaled(self, loss: Tensor) -> Tensor:
        """Return what gradients are computed of: in float16 they would vanish unless the loss is scaled.

        Each process's gradient is its own part of the whole one, and their mean comes back.
        """
        return self.state.scaler.scale(loss * self.job.group.size if self.job.group.size > 1 else loss)

    def _finish_epoch(self) -> Epoch:
        """Validate, write the epoch down, save."""
        job, state, position = self.job, self.state, self._tick()
        begun = position.seconds
        loss, dice = self._validate()
        seconds = self._tick().seconds - begun
        mean = self._mean_loss()
        epoch = Epoch(
            epoch=position.epoch,
            iterations=position.iterations,
            loss=mean,
            validation_loss=loss,
            dice=known_or_none(dice),
            learning_rate=float(state.optimiser.param_groups[0]["lr"]),
            seconds=position.waiting + position.training + seconds,
            seconds_waiting=position.waiting,
            seconds_training=position.training,
            seconds_validation=seconds,
        )
        state.history = state.history.with_epoch(epoch)
        if position.skipped:
            left_out = counted(position.skipped, "step")
            self._progress.say(f"float16: {left_out} left out, for the loss was no number; later ones are scaled less")
        plateau = position.plateau.after(mean, job.config.plateau)
        state.position = replace(
            position,
            epoch=position.epoch + 1,
            batch=0,
            loss=0.0,
            skipped=0,
            waiting=0.0,
            training=0.0,
            plateau=plateau,
        )
        if job.group.is_rank_0:
            state.history.write(job.model.metrics_file)
        improved = job.config.keep_best and state.history.best == epoch
        if improved and job.keep is not None and job.group.is_rank_0:
            job.keep(job, state)  # before the checkpoint: what is resumed from is never further than the best
        late = state.position.seconds - self._saved > self._save_seconds / SAVE_COST
        if improved or late or is_over(job.config, state.position):
            self._save()
        if job.on_epoch is not None and job.group.is_rank_0:
            job.on_epoch(state.history)
        return epoch

    @torch.no_grad()
    def _validate(self) -> tuple[float | None, tuple[float, ...]]:
        """Return loss and Dice per class of the model on the validation batches, the same ones every epoch."""
        job, model = self.job, self.state.model
        begun, allowed, done = self._tick().seconds, VALIDATION_SHARE * (job.config.time_budget or math.inf), 0
        model.eval()
        pending, losses = PendingLosses(job.compute.device), list[float]()
        counts: Counts | None = None
        for batch in job.validation.epoch(0, job.config.validation_batches):
            data, labels = job.to_device(batch)
            with job.compute.autocast():
                logits = model(data)
            losses += pending.put(job.loss(logits, labels), batch)
            if not done and job.group.is_rank_0:
                self._keep_patch(batch, logits, self.state.position.epoch + 1)
            found = count_voxels(logits, labels, job.labels, job.partial)
            counts = found if counts is None else counts + found
            done += 1
            if math.isfinite(allowed) and (self._tick().seconds - begun) * (done + 1) / done > allowed:
                break
        if counts is None:
            return None, (math.nan,) * len(self.state.history.classes)
        mean = float(torch.tensor(losses + pending.rest(), dtype=torch.float64).mean())
        self._note_passes(done, self._tick().seconds - begun)
        return (mean if math.isfinite(mean) else None), counts.over(job.group.total).dice()

    def _add_losses(self, losses: list[float]) -> None:
        """Add losses to the epoch's sum.

        In float16 a step whose loss is no number is left out by the gradient scaler, which then scales by less.

        Raises
        ------
        TrainingError
            One of them is no number, or in float16 too many in a row are none.
        """
        position = self.state.position
        for value in losses:
            if math.isfinite(value):
                position.loss, self._skipped = position.loss + value, 0
                continue
            self._skipped += 1
            position.skipped += 1
            none_left = self._skipped >= MOST_SKIPPED or position.skipped >= self.job.config.batches
            if none_left or not self.state.scaler.is_enabled():
                raise TrainingError(self._diverged(value))

    def _mean_loss(self) -> float:
        """Return the mean of the epoch's losses so far, as far as they are read and are numbers."""
        position = self.state.position
        return position.loss / max(position.batch - len(self._pending) - position.skipped, 1)

    def _diverged(self, value: float) -> str:
        job, position = self.job, self.state.position
        rate = self.state.optimiser.param_groups[0]["lr"]
        where = f"in epoch {position.epoch + 1}, by batch {position.batch}"
        own = is_own(job.config.optimiser)
        rates = f"by --learning-rate, {job.config.learning_rate / 10:.2g} perhaps"
        lower = f"in {job.config.optimiser}" if own else rates
        exact = "" if job.compute.dtype is torch.float32 else ", or compute more exactly by --precision float32"
        kept = job.model.has_checkpoint() and not own
        resumed = f"; with --resume beside it that goes on from {job.model.checkpoint_file}" if kept else ""
        return (
            f"the loss is {value} {where} (learning rate {rate:.2e}, {job.compute.describe()}): training has diverged. "
            f"Run check to find intensities that are no numbers; else lower the learning rate {lower}{exact}{resumed}"
        )

    def _save(self) -> None:
        self._add_losses(self._pending.rest())
        begun = self._tick().seconds
        if self.job.group.is_rank_0:
            save_state(self.job.model.checkpoint_file, self.state, self.job.identity, self.job.config)
        self._saved = self._tick().seconds
        self._save_seconds = self._saved - begun

    def _tick(self) -> Position:
        """Return the position with its clock brought up to date, and note whether a stop is requested.

        All decisions rest on this clock, so that several processes take the same ones.
        """
        now = time.monotonic()
        seconds, self._stop = self.job.group.agree(now - self._clock, self.stop_request.made)
        self._clock = now
        self.state.position.seconds += seconds
        return self.state.position

    def _reserve(self) -> float:
        """Seconds of the time budget for the last validation, the checkpoint, the model, and what follows."""
        budget = self.job.config.time_budget
        if budget is None:
            return 0.0
        if self.state.history.epochs:
            last = self.state.history.epochs[-1].seconds_validation
        else:
            one = self._samples() * self._pass
            last = min(self.job.config.validation_batches * one, max(VALIDATION_SHARE * budget, one))
        return last + 2 * self._save_seconds + self._following

    def _share_budget(self) -> None:
        """Measure the network, decide whether what follows the training fits into the time budget, and say so."""
        budget, overhead = self.job.config.time_budget, self.job.overhead
        if budget is None:
            return
        self._measure()
        if overhead is None or not overhead.what:
            return
        needed, left = self._needed(overhead), budget - self.state.position.seconds
        if needed <= min(FOLLOWING_SHARE * budget, left):
            self._following = needed
            text = f"time budget {clock(budget)}: about {clock(needed)} of it are kept for {overhead.what}"
        else:
            text = (
                f"warning: time budget {clock(budget)}: {overhead.what} takes about {clock(needed)}, too much of it: "
                "that comes after it. Ctrl-C then loses nothing, --resume scores later"
            )
        self._progress.say(text)

    @torch.no_grad()
    def _measure(self) -> None:
        """Time forward passes as validation and prediction do them; the first one, which is slower, does not count."""
        model = self.state.model.eval()
        for batch in self.job.validation.epoch(0, 2):
            data, _ = self.job.to_device(batch)
            begun = self._tick().seconds
            with self.job.compute.autocast():
                float(model(data).float().mean())  # which waits for a GPU
            self._pass = (self._tick().seconds - begun) / self._samples()

    def _needed(self, overhead: Overhead) -> float:
        """Return how many seconds what follows will take, about.

        Half of what loading took comes again: other libraries are loaded then.
        """
        images = 2 ** len(self.job.mirror_axes) if overhead.mirror else 1
        return MARGIN * overhead.windows * images * self._pass + overhead.seconds + self._late / 2

    def _note_passes(self, batches: int, seconds: float) -> None:
        """Learn from a validation how long forward passes take; say where the time budget has cut it short."""
        whole = self.job.config.validation_batches
        if batches < whole and not self._cut:
            self._cut = True
            self._progress.say(f"validation on patches is cut short by the time budget: {batches} of {whole} batches")
        self._pass = seconds / (batches * self._samples())
        if self._following and self.job.overhead is not None:
            self._following = self._needed(self.job.overhead)

    def _samples(self) -> int:
        """Return how many samples of a batch this process takes, at most."""
        return -(-self.job.config.batch_size // self.job.group.size)

    def _show(self, task: Task) -> None:
        """Bring the display up to where the training stands."""
        before, self._shown = self._shown, self._left()
        task.advance(before - self._shown, self._note())

    def _left(self) -> float:
        """Return what is left of the way: seconds where a time budget bounds it, else batches."""
        if (budget := self.job.config.time_budget) is not None:
            return max(budget - self.state.position.seconds, 0.0)
        return batches_left(self.job.config, self.state.position, self.job.small_part)

    def _title(self) -> str:
        unit = " (batches)" if self.job.small is None else " (planned batches)"
        unit = "" if self.job.config.time_budget is not None else unit
        return f"{self.job.identity.configuration}, fold {self.job.identity.fold}{unit}"

    def _note(self) -> str:
        position, history = self.state.position, self.state.history
        parts = [f"epoch {max(position.epoch + (position.batch > 0), 1)}"]  # between epochs: the one before
        if position.loss:
            parts.append(f"loss {self._mean_loss():.3f}")
        if history.epochs and (dice := history.epochs[-1].mean_dice) is not None:
            parts.append(f"Dice {dice:.3f}")
        return ", ".join(parts)
