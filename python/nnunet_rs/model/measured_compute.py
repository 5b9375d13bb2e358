"""Number type and memory layout of a training on a processor: measured once, on its first batch, not guessed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch

from nnunet_rs.core.choices import Precision
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.resources import available_memory, resident_memory
from nnunet_rs.model.config import MeasuredCompute
from nnunet_rs.model.device import Compute, choose_compute
from nnunet_rs.model.loop import TrainingJob
from nnunet_rs.model.plugin_trial import as_it_was
from nnunet_rs.model.setup import Setup
from nnunet_rs.model.state import TrainingState
from nnunet_rs.model.training_batch import TrainingBatch

SHARE = 0.01  # of a training: where measuring would take more, nothing is measured
SECONDS = 5.0  # after which no further round begins
ROUNDS = 3  # at most, after one that warms up
MARGIN = 1.05  # by which another choice must be faster than the usual one: less may be chance


def with_measured_compute(
    job: TrainingJob, state: TrainingState, setup: Setup, progress: Progress, *, resumed: bool
) -> TrainingJob:
    """Return the job with the number type and memory layout that are fastest here, and lay the networks out so.

    Measured is forward and backward, on a processor, where `precision` or `channels_last` is left open. The choice
    stands in the job's configuration, and a training that is resumed follows it. Nothing is measured for a training
    that is resumed or short, is shared by several processes, is compiled, or has a network or loss of the user's own,
    which may rely on a layout. To be called before the optimiser remembers anything.
    """
    if job.compute.device.type != "cpu":
        return job
    if resumed:
        known = job.config.measured
        return job if known is None else _placed(job, state, _recorded(known, job))
    own = setup.plugin("network") or setup.plugin("loss")
    candidates = _candidates(job)
    if own or setup.options.compile or job.group.size > 1 or len(candidates) == 1:
        return job
    seconds = _measure(job, state, candidates)
    if not seconds:
        return job
    chosen = _fastest(candidates, seconds)
    progress.say(_described(candidates, seconds, chosen))
    measured = MeasuredCompute(_precision(chosen), chosen.channels_last)
    return _placed(replace(job, config=replace(job.config, measured=measured)), state, chosen)


def _recorded(known: MeasuredCompute, job: TrainingJob) -> Compute:
    """Return the compute that was fastest when the training began.

    A precision or memory layout that is asked for now comes first, and bfloat16 is followed only where this processor
    would take it by itself.
    """
    usual, config = job.compute, job.config
    layout = known.channels_last if config.channels_last is None else config.channels_last
    follow = config.precision == "auto" and known.precision in ("float32", _precision(usual))
    return choose_compute(usual.device, known.precision if follow else _precision(usual), layout)


def _candidates(job: TrainingJob) -> tuple[Compute, ...]:
    """List what may be chosen, the usual first."""
    usual, config = job.compute, job.config
    types = [_precision(usual)]
    if config.precision == "auto" and usual.dtype is not torch.float32:
        types.append("float32")
    layouts = (False, True) if config.channels_last is None else (config.channels_last,)
    return tuple(choose_compute(usual.device, kind, layout) for kind in types for layout in layouts)


def _measure(job: TrainingJob, state: TrainingState, candidates: Sequence[Compute]) -> list[float]:
    """Return the seconds of a batch for each candidate; empty: measuring takes too long, or too much memory."""
    least = 2 * len(candidates)  # iterations: one that warms up, one that counts
    if job.config.iterations * SHARE < least:
        return []
    batch = next(iter(job.training.epoch(0, 1)))
    begun, held = time.monotonic(), resident_memory()
    with torch.random.fork_rng([]), as_it_was(state.network):
        state.network.train()
        first = _iterate(job, state, candidates[0], batch)
        allowed = SHARE * min(job.config.iterations * first, job.config.time_budget or math.inf)
        if least * first > allowed or available_memory() < 2 * (resident_memory() - held):
            return []
        for candidate in candidates[1:]:
            _iterate(job, state, candidate, batch)
        seconds = [math.inf] * len(candidates)
        for _ in range(ROUNDS):
            measured = [_iterate(job, state, candidate, batch) for candidate in candidates]
            seconds = list(map(min, seconds, measured))
            if time.monotonic() - begun > min(SECONDS, allowed):
                break
    return seconds


def _iterate(job: TrainingJob, state: TrainingState, compute: Compute, batch: TrainingBatch) -> float:
    """Go forward and backward once; returns the seconds."""
    job = replace(job, compute=compute)
    compute.to_device(state.network, job.dims)
    begun = time.monotonic()
    data, labels = job.to_device(batch)
    state.network.zero_grad(set_to_none=True)
    with compute.autocast():
        outputs = state.network(data)
    job.loss(outputs, labels).backward()  # type: ignore[no-untyped-call]
    return time.monotonic() - begun


def _fastest(candidates: Sequence[Compute], seconds: Sequence[float]) -> Compute:
    """Return the fastest; the first, which is the usual, unless it is clearly slower."""
    best = min(seconds)
    return candidates[0] if seconds[0] <= MARGIN * best else candidates[seconds.index(best)]


def _placed(job: TrainingJob, state: TrainingState, compute: Compute) -> TrainingJob:
    """Return the job as it computes so, and bring the networks into that layout."""
    compute.to_device(state.network, job.dims)
    if state.ema is not None:
        compute.to_device(state.ema.network, job.dims)
    return replace(job, compute=compute)


def _described(candidates: Sequence[Compute], seconds: Sequence[float], chosen: Compute) -> str:
    times = ", ".join(f"{each.arithmetic()} {took:.3g} s" for each, took in zip(candidates, seconds, strict=True))
    return f"computing in {chosen.arithmetic()}, by a measurement of one batch ({times})"


def _precision(compute: Compute) -> Precision:
    return cast("Precision", str(compute.dtype).removeprefix("torch."))
