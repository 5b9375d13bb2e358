"""The U-Net of a configuration as a graph of OpenVINO's operators; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Size
from nnunet_rs.model.network_options import NORM_EPS, NetworkOptions, activation_slope
from nnunet_rs.model.weights import Arrays
from nnunet_rs.plan.schema import Configuration
from nnunet_rs.predict.engines.unet_graph import UNetGraph

if TYPE_CHECKING:
    from openvino import Model


def build_graph(
    configuration: Configuration, in_channels: int, options: NetworkOptions, weights: Arrays, *, most: int | None = None
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
    most
        Channels of an output: of more the model has several outputs, one after the other, and OpenVINO holds one of
        them at a time in its own memory layout. None: one output, whatever it holds.

    Returns
    -------
    Model
        Maps (1, in_channels, *patch_size), float32, to logits (1, outputs, *patch_size).
    """
    import openvino

    op = _Operators(openvino.opset13, configuration.dims)
    shape = openvino.Shape([1, in_channels, *configuration.patch_size])
    window = op.library.parameter(shape, np.float32, name="window")
    unet = UNetGraph(op, weights, options, activation_slope(options))
    scores = unet.heads(unet.decoded(window, configuration), most or len(weights["heads.0.weight"]))
    model = openvino.Model(scores, [window], configuration.name)
    for number, operator in enumerate(model.get_ordered_ops()):  # named by a counter of the process otherwise
        operator.set_friendly_name(f"{operator.get_type_name()}_{number}")
    for number, output in enumerate(model.outputs):
        output.get_tensor().set_names({f"scores_{number}" if number else "scores"})
    return model


@dataclass(frozen=True, slots=True)
class _Operators:
    """See unet_graph.Operators."""

    library: Any  # OpenVINO's set of operators
    dims: int

    def convolution(self, x: Any, weight: NDArray[Any], bias: NDArray[Any] | None, stride: Size) -> Any:
        pads, ones = [(size - 1) // 2 for size in weight.shape[2:]], [1] * self.dims
        x = self.library.convolution(x, self._constant(weight), stride, pads, pads, ones)
        return x if bias is None else self.library.add(x, self._per_channel(bias))

    def transposed(self, x: Any, weight: NDArray[Any], bias: NDArray[Any]) -> Any:
        none, ones, stride = [0] * self.dims, [1] * self.dims, list(weight.shape[2:])
        x = self.library.convolution_backprop_data(x, self._constant(weight), stride, None, none, none, ones)
        return self.library.add(x, self._per_channel(bias))

    def max_pool(self, x: Any, size: Size) -> Any:
        none = [0] * self.dims
        return self.library.max_pool(x, size, [1] * self.dims, none, none, size).output(0)

    def average_pool(self, x: Any, size: Size) -> Any:
        none = [0] * self.dims
        return self.library.avg_pool(x, size, none, none, size, exclude_pad=False)

    def instance_norm(self, x: Any, scale: NDArray[Any], shift: NDArray[Any]) -> Any:
        axes = self.library.constant(np.arange(2, 2 + self.dims, dtype=np.int64))
        x = self.library.mvn(x, axes, True, NORM_EPS, "inside_sqrt")
        return self.library.add(self.library.multiply(x, self._per_channel(scale)), self._per_channel(shift))

    def batch_norm(
        self, x: Any, scale: NDArray[Any], shift: NDArray[Any], mean: NDArray[Any], var: NDArray[Any]
    ) -> Any:
        return self.library.batch_norm_inference(x, *map(self._constant, (scale, shift, mean, var)), NORM_EPS)

    def activate(self, x: Any, slope: float) -> Any:
        if slope == 0:
            return self.library.relu(x)
        return self.library.prelu(x, self._constant(np.array([slope])))

    def add(self, x: Any, other: Any) -> Any:
        return self.library.add(x, other)

    def join(self, x: Any, other: Any) -> Any:
        return self.library.concat([x, other], 1)

    def _constant(self, values: NDArray[Any]) -> Any:
        return self.library.constant(np.ascontiguousarray(values, np.float32))

    def _per_channel(self, values: NDArray[Any]) -> Any:
        return self._constant(values.reshape(1, -1, *(1,) * self.dims))
