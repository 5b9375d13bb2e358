import itertools

import numpy as np
import pytest
import torch
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.model.unet import build_unet
from nnunet_rs.model.weights import weight_shapes
from nnunet_rs.plan.schema import Configuration
from nnunet_rs.predict.engines.openvino_engine import compile_graphs
from nnunet_rs.predict.engines.openvino_graph import build_graph

KERNELS = {2: ((1, 3), (3, 3), (3, 3)), 3: ((1, 3, 3), (3, 3, 3), (3, 3, 3))}
STRIDES = {2: ((1, 1), (1, 2), (2, 2)), 3: ((1, 1, 1), (1, 2, 2), (2, 2, 2))}
PATCH = {2: (12, 16), 3: (6, 12, 16)}
KINDS = list(
    itertools.product(
        (2, 3), (False, True), ("instance", "batch"), ("strided", "max_pool"), ("same", "below"), ("leaky_relu", "relu")
    )
)


def configuration(dims, residual, stages=3):
    return Configuration(
        name="made",
        spacing=(1.0,) * dims,
        patch_size=PATCH[dims],
        batch_size=2,
        median_shape=PATCH[dims],
        strides=STRIDES[dims][:stages],
        kernels=KERNELS[dims][:stages],
        features=(4, 8, 8)[:stages],
        blocks_encoder=(1, 2, 3)[:stages],
        blocks_decoder=(2, 1)[: stages - 1],
        residual=residual,
        batch_dice=False,
        inplane_augmentation=False,
        memory_estimate=1,
    )


def network(c, options):
    """A network of random weights, the statistics of batch norm and the residual branches' norms included."""
    built = build_unet(c, 2, 3, options).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in built.state_dict().items():
        if tensor.ndim == 1:
            drawn = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(drawn + 0.5 if name.endswith(("norm.weight", "running_var")) else drawn - 0.5)
    return built


def close(scores, expected):
    """Equal but for roundings of float32."""
    np.testing.assert_allclose(scores, expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize(("dims", "residual", "norm", "downsampling", "kernels", "activation"), KINDS)
def test_every_kind_of_network_computes_what_torch_computes(dims, residual, norm, downsampling, kernels, activation):
    c = configuration(dims, residual)
    options = NetworkOptions(activation, norm, True, downsampling, kernels)
    built = network(c, options)
    weights = {name: tensor.numpy() for name, tensor in built.state_dict().items()}
    windows = np.random.default_rng(0).normal(size=(2, 2, *c.patch_size)).astype(np.float32)
    engine = compile_graphs([build_graph(c, 2, options, weights)], "float32", 1)
    found = [(scored.windows, scored.scores.copy()) for scored in engine.scores(windows, ())]
    assert [part for part, _ in found] == [slice(0, 1), slice(1, 2)]
    expected = built(torch.from_numpy(windows)).numpy()
    close(np.concatenate([scores for _, scores in found]), expected)


@pytest.mark.parametrize("most", [1, 2])
def test_many_channels_come_in_several_outputs(most: int) -> None:
    c, options = configuration(3, False), NetworkOptions()
    built = network(c, options)
    weights = {name: tensor.numpy() for name, tensor in built.state_dict().items()}
    window = np.random.default_rng(0).normal(size=(1, 2, *c.patch_size)).astype(np.float32)
    graph = build_graph(c, 2, options, weights, most=most)
    assert [output.shape[1] for output in graph.outputs] == [most] * (3 // most) + [1] * (3 % most)
    (scored,) = compile_graphs([graph], "float32", 1).scores(window, ())
    close(scored.scores, built(torch.from_numpy(window)).numpy())


def test_a_patch_too_small_to_be_pooled_has_one_stage():
    c, options = configuration(3, False, stages=1), NetworkOptions()
    built = network(c, options)
    weights = {name: tensor.numpy() for name, tensor in built.state_dict().items()}
    window = np.random.default_rng(0).normal(size=(1, 2, *c.patch_size)).astype(np.float32)
    (scored,) = compile_graphs([build_graph(c, 2, options, weights)], "float32", 1).scores(window, ())
    close(scored.scores, built(torch.from_numpy(window)).numpy())


@pytest.mark.parametrize(("dims", "residual", "norm", "downsampling", "kernels", "activation"), KINDS)
def test_weights_are_told_as_torch_names_them(dims, residual, norm, downsampling, kernels, activation):
    for stages, supervised in itertools.product((1, 2, 3), (False, True)):
        c, options = configuration(dims, residual, stages), NetworkOptions(activation, norm, supervised, downsampling)
        built = build_unet(c, 2, 3, options).state_dict()
        told = dict(weight_shapes(c, (2, 3), options))
        assert told == {name: tuple(tensor.shape) for name, tensor in built.items()}
