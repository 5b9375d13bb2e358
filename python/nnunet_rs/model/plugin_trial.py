"""A user's own functions tried before the first epoch: one batch, forward and backward, and what they return."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_rs.core.errors import PluginError, is_out_of_memory, named
from nnunet_rs.model.context import Context
from nnunet_rs.model.loop import TrainingJob
from nnunet_rs.model.losses import DeepSupervision
from nnunet_rs.model.plugin_checks import kind_of
from nnunet_rs.model.plugins import Plugin
from nnunet_rs.model.state import TrainingState


def try_plugins(job: TrainingJob, state: TrainingState, context: Context, functions: Sequence[Plugin]) -> None:
    """Let the first batch go forward and backward, and leave everything as it was.

    Every class index occurs in its labels, the one to ignore too, so that a loss that cannot bear one fails now.

    Raises
    ------
    PluginError
        A function fails, or returns what the training cannot use.
    """
    own = {function.option: function for function in functions}
    if not own.keys() & {"network", "loss", "augmentation"}:
        return
    data, target = _first_batch(job, context, own.get("augmentation"))
    device = job.compute.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), as_it_was(state.network):
        state.network.train()
        outputs = _forward(job, state.network, data, own.get("network"))
        if "network" in own:
            _check_outputs(own["network"], outputs, data, context)
        loss = _loss(job, outputs, target, own.get("loss"), context)
        _backward(job, loss, [own[option] for option in ("network", "loss") if option in own])
        if "network" in own:
            state.network.eval()
            with torch.no_grad():
                result = _forward(job, state.network, data, own["network"])
            _check_result(own["network"], result, data, context)


def _first_batch(job: TrainingJob, context: Context, own: Plugin | None) -> tuple[Tensor, Tensor]:
    """Take the first batch; labels (b, *size) with every class index among them."""
    with nullcontext() if own is None else own.errors_named():
        batch = next(iter(job.training.epoch(0, 1)))
    data, target = job.to_device(batch)
    count = len(context.labels.indices)
    target = target.clone()
    target.view(-1)[:count] = torch.arange(count, device=target.device).to(target.dtype)[: target.numel()]
    return data, target


def _forward(job: TrainingJob, network: nn.Module, data: Tensor, own: Plugin | None) -> Any:
    with job.compute.autocast():
        if own is None:
            return network(data)
        with own.errors_named():
            outputs = network(data)
            _finish(job)
            return outputs


def _loss(job: TrainingJob, outputs: Any, target: Tensor, own: Plugin | None, context: Context) -> Tensor:
    """Return the loss of a batch, all resolutions together; an own one is first looked at on the finest."""
    if own is None:
        return job.loss(outputs, target)
    finest = outputs if isinstance(outputs, Tensor) else outputs[0]
    loss = _copied(job.loss)
    single = loss.loss if isinstance(loss, DeepSupervision) else loss
    try:
        with own.errors_named():
            value = single(finest, target)
            _finish(job)
        _check_loss(own, value)
        with own.errors_named():
            return loss(outputs, target)
    except PluginError as error:
        raise PluginError(f"{error}; {_called_with(context)}") from error.__cause__


def _copied(loss: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Return a copy, so that what a loss remembers is not changed; itself where it cannot be copied."""
    try:
        return copy.deepcopy(loss)
    except Exception:  # whatever a user's object, or a process group, raises then
        return loss


def _called_with(context: Context) -> str:
    """Say what a loss is called with."""
    last, ignore = context.labels.count - 1, context.ignore_index
    ignored = "" if ignore is None else f", and {ignore} for voxels to ignore"
    shown = f"logits (b, {len(context.outputs)}, ...)"
    return f"a loss is called with {shown} and class indices (b, ...) from 0 to {last}{ignored}"


def _check_loss(own: Plugin, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise own.wrong(f"must return a tensor, not {kind_of(value)}")
    if value.ndim or not value.is_floating_point():
        raise own.wrong(f"must return one number (a tensor without axes, of a floating type), not {kind_of(value)}")
    if not value.requires_grad:
        raise own.wrong("what it returns does not depend on the logits, so that nothing can be learnt")
    if not torch.isfinite(value):
        raise own.wrong(f"returns {value.item()} for the first batch and an untrained network")


def _backward(job: TrainingJob, loss: Tensor, own: Sequence[Plugin]) -> None:
    if not own:
        return
    try:
        loss.backward()  # type: ignore[no-untyped-call]
        _finish(job)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        names = " and ".join(map(str, own))
        raise PluginError(f"{names}: the backward pass through it fails: {named(error)}") from error


def _check_outputs(own: Plugin, outputs: Any, data: Tensor, context: Context) -> None:
    """Check what a network gives in training: one tensor, or a list of them with the finest first."""
    if not isinstance(outputs, Tensor | list | tuple) or len(outputs) == 0:
        raise own.wrong(f"in training the network must give a tensor or a list of tensors, not {kind_of(outputs)}")
    _check_result(own, outputs if isinstance(outputs, Tensor) else outputs[0], data, context)
    for logits in [] if isinstance(outputs, Tensor) else outputs[1:]:
        _check_logits(own, logits, data, context)


def _check_result(own: Plugin, logits: Any, data: Tensor, context: Context) -> None:
    """Check the output at full resolution, which is all that a network gives in evaluation mode."""
    _check_logits(own, logits, data, context)
    if logits.shape[2:] != data.shape[2:]:
        raise own.wrong(
            f"gives logits of size {list(logits.shape[2:])} for a patch of {list(data.shape[2:])}; the first output "
            "(in evaluation mode the only one) must have the patch's size"
        )


def _check_logits(own: Plugin, logits: Any, data: Tensor, context: Context) -> None:
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise own.wrong(f"the network must give tensors of a floating type, not {kind_of(logits)}")
    expected = (len(data), len(context.outputs))
    if logits.ndim != data.ndim or tuple(logits.shape[:2]) != expected:
        raise own.wrong(
            f"gives logits of shape {list(logits.shape)}; expected {[*expected, *data.shape[2:]]}: {expected[1]} "
            f"channels for {', '.join(context.outputs)} (the function's third argument is their number)"
        )
    if not torch.isfinite(logits).all():
        raise own.wrong("gives values that are no finite numbers for the first batch")


@contextmanager
def as_it_was(network: nn.Module) -> Iterator[None]:
    """Bring buffers (statistics of batch norms) and gradients back to what they were."""
    before = {name: buffer.detach().clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                if name in before:
                    buffer.copy_(before[name])
        network.zero_grad(set_to_none=True)


def _finish(job: TrainingJob) -> None:
    """Wait for a GPU, so that an error of its kernels comes now."""
    if job.compute.device.type == "cuda":
        torch.cuda.synchronize(job.compute.device)
