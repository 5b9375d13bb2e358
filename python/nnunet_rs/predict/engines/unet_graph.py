"""The U-Net of a configuration in whatever operators a library has, straight from the weights; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

from numpy.typing import NDArray

from nnunet_rs.core.types import Size
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.weights import Arrays
from nnunet_rs.plan.schema import Configuration


class Operators(Protocol):
    """What a library must have; each takes and returns what stands for a feature map (b, c, *size) in its graph."""

    def convolution(self, x: Any, weight: NDArray[Any], bias: NDArray[Any] | None, stride: Size) -> Any:
        """Convolve, padded so that a stride of 1 keeps the size; weight (out, in, *kernel)."""

    def transposed(self, x: Any, weight: NDArray[Any], bias: NDArray[Any]) -> Any:
        """Convolve transposed, with the kernel as the stride; weight (in, out, *kernel)."""

    def max_pool(self, x: Any, size: Size) -> Any:
        """Take the largest of each block."""

    def average_pool(self, x: Any, size: Size) -> Any:
        """Take the mean of each block."""

    def instance_norm(self, x: Any, scale: NDArray[Any], shift: NDArray[Any]) -> Any:
        """Bring each channel to mean 0 and variance 1, then scale and shift it."""

    def batch_norm(
        self, x: Any, scale: NDArray[Any], shift: NDArray[Any], mean: NDArray[Any], var: NDArray[Any]
    ) -> Any:
        """Bring each channel there by statistics of the training, then scale and shift it."""

    def activate(self, x: Any, slope: float) -> Any:
        """Multiply what is negative by the slope; 0: ReLU."""

    def add(self, x: Any, other: Any) -> Any:
        """Add two."""

    def join(self, x: Any, other: Any) -> Any:
        """Put the channels of two one after the other."""


@dataclass(frozen=True, slots=True)
class UNetGraph:
    """The layers of `model.unet.UNet`; each takes the place of its weights in it, as `encoder.0.0.1.`."""

    op: Operators
    weights: Arrays  # by the names in `UNet.state_dict`
    options: NetworkOptions
    slope: float  # of the activation

    def network(self, x: Any, c: Configuration) -> Any:
        """Follow `UNet.forward` up to the finest head, and through it."""
        return self.convolution("heads.0.", self.decoded(x, c))

    def heads(self, x: Any, most: int) -> list[Any]:
        """Compute the finest head of what `decoded` returns, in parts of at most so many channels."""
        weight, bias = self.weights["heads.0.weight"], self.weights["heads.0.bias"]
        ones = (1,) * (weight.ndim - 2)
        parts = [slice(start, start + most) for start in range(0, len(weight), most)]
        return [self.op.convolution(x, weight[part], bias[part], ones) for part in parts]

    def decoded(self, x: Any, c: Configuration) -> Any:
        """Follow `UNet.forward` up to the finest head."""
        if c.residual:
            x = self.block("stem.", x)
        skips = []
        for stage in range(len(c.features)):
            x = self.encoder(f"encoder.{stage}.", x, c, stage)
            skips.append(x)
        skips.pop()
        for i in range(len(c.features) - 1):
            x = self.op.transposed(x, self.weights[f"up.{i}.weight"], self.weights[f"up.{i}.bias"])
            x = self.stack(f"decoder.{i}.", self.op.join(x, skips.pop()), c.blocks_decoder[i])
        return x

    def encoder(self, at: str, x: Any, c: Configuration, stage: int) -> Any:
        """Compute one stage of the encoder."""
        stride, count = c.strides[stage], c.blocks_encoder[stage]
        first = 0
        if self.options.downsampling == "max_pool" and prod(stride) > 1:
            x, stride, first = self.op.max_pool(x, stride), (1,) * c.dims, 1  # the first of the stage's modules
        if not c.residual:
            return self.stack(f"{at}{first}.", x, count, stride)
        for block in range(count):
            x = self.residual(f"{at}{first + block}.", x, stride if block == 0 else (1,) * c.dims)
        return x

    def stack(self, at: str, x: Any, count: int, stride: Size | None = None) -> Any:
        """Compute blocks one after another; the first has the stride."""
        for block in range(count):
            x = self.block(f"{at}{block}.", x, stride if block == 0 else None)
        return x

    def block(self, at: str, x: Any, stride: Size | None = None, *, last: bool = False) -> Any:
        """Convolution, norm, activation; a `last` block of a residual branch has no activation."""
        x = self.normalise(f"{at}norm.", self.convolution(f"{at}conv.", x, stride))
        return x if last else self.op.activate(x, self.slope)

    def residual(self, at: str, x: Any, stride: Size) -> Any:
        """Two blocks beside a shortcut."""
        branch = self.block(f"{at}second.", self.block(f"{at}first.", x, stride), last=True)
        if any(step != 1 for step in stride):
            x = self.op.average_pool(x, stride)
        if f"{at}shortcut.conv.weight" in self.weights:
            x = self.normalise(f"{at}shortcut.norm.", self.convolution(f"{at}shortcut.conv.", x))
        return self.op.activate(self.op.add(branch, x), self.slope)

    def convolution(self, at: str, x: Any, stride: Size | None = None) -> Any:
        """Convolve with the kernel that the weights have."""
        weight = self.weights[f"{at}weight"]
        return self.op.convolution(x, weight, self.weights.get(f"{at}bias"), stride or (1,) * (weight.ndim - 2))

    def normalise(self, at: str, x: Any) -> Any:
        """Compute the network's norm."""
        scale, shift = self.weights[f"{at}weight"], self.weights[f"{at}bias"]
        if self.options.norm == "instance":
            return self.op.instance_norm(x, scale, shift)
        return self.op.batch_norm(x, scale, shift, self.weights[f"{at}running_mean"], self.weights[f"{at}running_var"])


def unet_graph(
    op: Operators, x: Any, configuration: Configuration, options: NetworkOptions, weights: Arrays, slope: float
) -> Any:
    """Return the logits that the network of a configuration makes of x."""
    return UNetGraph(op, weights, options, slope).network(x, configuration)
