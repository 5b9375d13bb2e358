"""The U-Net of a configuration as a graph of OpenVINO's operators, straight from the weights; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.model.network_options import LEAKY_SLOPE, NORM_EPS, NetworkOptions
from nnunet_rs.plan.schema import Configuration

if TYPE_CHECKING:
    from openvino import Model

Arrays = Mapping[str, NDArray[Any]]  # weights by the names that they have in `model.unet.UNet`
Size = Sequence[int]


def build_graph(
    configuration: Configuration, in_channels: int, options: NetworkOptions, weights: Arrays, batch: int = 1
) -> Model:
    """Build the network that `model.unet.build_unet` builds, for windows of one size.

    Parameters
    ----------
    configuration
        As of `build_unet`.
    in_channels
        Image channels, and those of the previous segmentation.
    options
        As of `build_unet`; deep supervision makes no difference, for the finest head alone is computed.
    weights
        float32, as `UNet.state_dict` names them.
    batch
        Windows at a time.

    Returns
    -------
    Model
        Maps (batch, in_channels, *patch_size), float32, to logits (batch, outputs, *patch_size).
    """
    import openvino

    graph = _Graph(openvino.opset13, weights, configuration.dims, options)
    shape = openvino.Shape([batch, in_channels, *configuration.patch_size])
    window = graph.op.parameter(shape, np.float32, name="window")
    scores = graph.unet(window, configuration)
    model = openvino.Model([scores], [window], configuration.name)
    for number, operator in enumerate(model.get_ordered_ops()):  # named by a counter of the process otherwise
        operator.set_friendly_name(f"{operator.get_type_name()}_{number}")
    model.outputs[0].get_tensor().set_names({"scores"})
    return model


@dataclass(frozen=True, slots=True)
class _Graph:
    """What all layers share. A layer takes the place of its weights in the network, as `encoder.0.0.1.`."""

    op: Any  # OpenVINO's set of operators
    weights: Arrays
    dims: int
    options: NetworkOptions

    def unet(self, x: Any, c: Configuration) -> Any:
        """Follow `UNet.forward`."""
        if c.residual:
            x = self.block("stem.", x, c.kernels[0])
        skips = []
        for stage in range(len(c.features)):
            x = self.encoder(f"encoder.{stage}.", x, c, stage)
            skips.append(x)
        skips.pop()
        shift = 1 if self.options.decoder_kernels == "below" else 0
        for i, stage in enumerate(range(len(c.features) - 2, -1, -1)):
            x = self.op.concat([self.up(f"up.{i}.", x, c.strides[stage + 1]), skips.pop()], 1)
            x = self.stack(f"decoder.{i}.", x, c.kernels[stage + shift], c.blocks_decoder[i])
        return self.convolution("heads.0.", x, (1,) * self.dims)

    def encoder(self, at: str, x: Any, c: Configuration, stage: int) -> Any:
        kernel, stride, count = c.kernels[stage], c.strides[stage], c.blocks_encoder[stage]
        pooled = self.options.downsampling == "max_pool" and prod(stride) > 1
        if pooled:
            none = [0] * self.dims
            x = self.op.max_pool(x, stride, [1] * self.dims, none, none, stride).output(0)
            stride = (1,) * self.dims
        first = 1 if pooled else 0  # the pooling is the first of the stage's modules
        if not c.residual:
            return self.stack(f"{at}{first}.", x, kernel, count, stride)
        for block in range(count):
            x = self.residual(f"{at}{first + block}.", x, kernel, stride if block == 0 else (1,) * self.dims)
        return x

    def stack(self, at: str, x: Any, kernel: Size, count: int, stride: Size | None = None) -> Any:
        for block in range(count):
            x = self.block(f"{at}{block}.", x, kernel, stride if block == 0 else None)
        return x

    def block(self, at: str, x: Any, kernel: Size, stride: Size | None = None, *, last: bool = False) -> Any:
        """Convolution, norm, activation; a `last` block of a residual branch has no activation."""
        x = self.normalise(f"{at}norm.", self.convolution(f"{at}conv.", x, kernel, stride))
        return x if last else self.activate(x)

    def residual(self, at: str, x: Any, kernel: Size, stride: Size) -> Any:
        branch = self.block(f"{at}second.", self.block(f"{at}first.", x, kernel, stride), kernel, last=True)
        if any(step != 1 for step in stride):
            none = [0] * self.dims
            x = self.op.avg_pool(x, stride, none, none, stride, exclude_pad=False)
        if f"{at}shortcut.conv.weight" in self.weights:
            x = self.convolution(f"{at}shortcut.conv.", x, (1,) * self.dims)
            x = self.normalise(f"{at}shortcut.norm.", x)
        return self.activate(self.op.add(branch, x))

    def convolution(self, at: str, x: Any, kernel: Size, stride: Size | None = None) -> Any:
        pads, ones = [(size - 1) // 2 for size in kernel], [1] * self.dims
        x = self.op.convolution(x, self.constant(f"{at}weight"), stride or ones, pads, pads, ones)
        return self.biased(at, x)

    def up(self, at: str, x: Any, stride: Size) -> Any:
        """Transposed convolution whose kernel is its stride; weights (in, out, *kernel), as in PyTorch."""
        none, ones = [0] * self.dims, [1] * self.dims
        weight = self.constant(f"{at}weight")
        return self.biased(at, self.op.convolution_backprop_data(x, weight, stride, None, none, none, ones))

    def biased(self, at: str, x: Any) -> Any:
        return self.op.add(x, self.per_channel(f"{at}bias")) if f"{at}bias" in self.weights else x

    def normalise(self, at: str, x: Any) -> Any:
        if self.options.norm == "batch":
            names = ("weight", "bias", "running_mean", "running_var")
            return self.op.batch_norm_inference(x, *(self.constant(f"{at}{name}") for name in names), NORM_EPS)
        axes = np.arange(2, 2 + self.dims, dtype=np.int64)
        x = self.op.mvn(x, self.op.constant(axes), True, NORM_EPS, "inside_sqrt")
        x = self.op.multiply(x, self.per_channel(f"{at}weight"))
        return self.op.add(x, self.per_channel(f"{at}bias"))

    def activate(self, x: Any) -> Any:
        if self.options.activation == "relu":
            return self.op.relu(x)
        return self.op.prelu(x, self.op.constant(np.array([LEAKY_SLOPE], np.float32)))

    def constant(self, name: str) -> Any:
        return self.op.constant(np.ascontiguousarray(self.weights[name], np.float32))

    def per_channel(self, name: str) -> Any:
        values = np.ascontiguousarray(self.weights[name], np.float32)
        return self.op.constant(values.reshape(1, -1, *(1,) * self.dims))
