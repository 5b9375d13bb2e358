"""The U-Net of a configuration in ONNX's operators; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Size
from nnunet_rs.model.metadata import ModelMetadata
from nnunet_rs.model.network_options import NORM_EPS, activation_slope
from nnunet_rs.model.weights import Arrays
from nnunet_rs.predict.engines.unet_graph import unet_graph

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, IR = 17, 8  # of 2022: read by every runtime that is in use


def build_onnx(metadata: ModelMetadata, weights: Arrays) -> ModelProto:
    """Build a model's network as an ONNX model.

    Parameters
    ----------
    metadata
        Of the model.
    weights
        float32, as `UNet.state_dict` names them.

    Returns
    -------
    ModelProto
        Maps `window`, (batch, channels, *patch_size), float32, to the logits `scores`, (batch, outputs, *patch_size).
    """
    from onnx import TensorProto, helper

    configuration, (inputs, outputs) = metadata.plan_configuration, metadata.channels
    op = _Operators()
    scores = unet_graph(op, "window", configuration, metadata.network, weights, activation_slope(metadata.network))
    op.nodes[-1].output[0] = "scores" if op.nodes[-1].output[0] == scores else scores
    graph = helper.make_graph(
        op.nodes,
        configuration.name,
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["batch", inputs, *configuration.patch_size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", outputs, *configuration.patch_size])],
        op.constants,
    )
    model = helper.make_model(graph, producer_name="nnunet_rs", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    return model


@dataclass(frozen=True, slots=True)
class _Operators:
    """See unet_graph.Operators; a feature map is the name of its value."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def convolution(self, x: Any, weight: NDArray[Any], bias: NDArray[Any] | None, stride: Size) -> Any:
        pads = [(size - 1) // 2 for size in weight.shape[2:]]
        values = [self._constant(each) for each in (weight, bias) if each is not None]
        kernel = list(weight.shape[2:])
        return self._node("Conv", x, *values, kernel_shape=kernel, strides=list(stride), pads=[*pads, *pads])

    def transposed(self, x: Any, weight: NDArray[Any], bias: NDArray[Any]) -> Any:
        size = list(weight.shape[2:])
        values = self._constant(weight), self._constant(bias)
        return self._node("ConvTranspose", x, *values, kernel_shape=size, strides=size)

    def max_pool(self, x: Any, size: Size) -> Any:
        return self._node("MaxPool", x, kernel_shape=list(size), strides=list(size))

    def average_pool(self, x: Any, size: Size) -> Any:
        return self._node("AveragePool", x, kernel_shape=list(size), strides=list(size))

    def instance_norm(self, x: Any, scale: NDArray[Any], shift: NDArray[Any]) -> Any:
        values = self._constant(scale), self._constant(shift)
        return self._node("InstanceNormalization", x, *values, epsilon=NORM_EPS)

    def batch_norm(
        self, x: Any, scale: NDArray[Any], shift: NDArray[Any], mean: NDArray[Any], var: NDArray[Any]
    ) -> Any:
        values = map(self._constant, (scale, shift, mean, var))
        return self._node("BatchNormalization", x, *values, epsilon=NORM_EPS)

    def activate(self, x: Any, slope: float) -> Any:
        return self._node("Relu", x) if slope == 0 else self._node("LeakyRelu", x, alpha=slope)

    def add(self, x: Any, other: Any) -> Any:
        return self._node("Add", x, other)

    def join(self, x: Any, other: Any) -> Any:
        return self._node("Concat", x, other, axis=1)

    def _node(self, kind: str, *values: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(values), [name], name, **attributes))
        return name

    def _constant(self, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"weight_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name
