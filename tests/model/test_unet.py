from dataclasses import replace
from math import sqrt

import pytest
import torch
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.blocks import BlockStyle, ConvBlock, ResidualBlock, pointwise
from nnunet_rs.model.network_options import NetworkOptions, network_channels
from nnunet_rs.model.unet import build_unet
from nnunet_rs.plan.schema import Configuration, Plan
from torch import nn


def kernels(network: nn.Module) -> list[tuple[int, ...]]:
    return [m.kernel_size for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]


def test_output_has_the_size_of_the_input(small3d: Configuration, small2d: Configuration) -> None:
    for configuration in (small3d, small2d):
        network = build_unet(configuration, 2, 5).eval()
        size = configuration.patch_size
        assert network(torch.zeros(1, 2, *size)).shape == (1, 5, *size)
        larger = tuple(2 * edge for edge in size)
        assert network(torch.zeros(1, 2, *larger)).shape == (1, 5, *larger)


def test_parameters_counted_by_hand(small2d: Configuration) -> None:
    two_stages = replace(
        small2d, strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)), features=(2, 3), blocks_encoder=(1, 1),
        blocks_decoder=(1,),
    )  # fmt: skip
    # encoder 1→2 (9·2 + bias 2 + norm 4), 2→3 (9·6 + 3 + 6); up 3→2 (4·6 + 2); decoder 4→2 (9·8 + 2 + 4); head 2→2
    expected = (18 + 2 + 4) + (54 + 3 + 6) + (24 + 2) + (72 + 2 + 4) + (4 + 2)
    assert sum(p.numel() for p in build_unet(two_stages, 1, 2).parameters()) == expected


def test_decoder_kernels_of_the_same_level_or_the_one_below(small3d: Configuration) -> None:
    encoder = [(1, 3, 3)] * 2 + [(3, 3, 3)] * 2 + [(3, 3, 1)] * 2
    head = [(1, 1, 1)]
    assert kernels(build_unet(small3d, 1, 2)) == encoder + [(3, 3, 3)] * 2 + [(1, 3, 3)] * 2 + head
    below = build_unet(small3d, 1, 2, NetworkOptions(decoder_kernels="below"))
    assert kernels(below) == encoder + [(3, 3, 1)] * 2 + [(3, 3, 3)] * 2 + head


@pytest.mark.parametrize("residual", [False, True])
def test_switches(small3d: Configuration, residual: bool) -> None:
    configuration = replace(small3d, residual=residual)
    plain = [type(m) for m in build_unet(configuration, 1, 2).modules()]
    assert nn.InstanceNorm3d in plain
    assert nn.LeakyReLU in plain
    options = NetworkOptions(activation="relu", norm="batch", downsampling="max_pool")
    network = build_unet(configuration, 1, 2, options)
    switched = [type(m) for m in network.modules()]
    assert switched.count(nn.MaxPool3d) == 2
    assert nn.BatchNorm3d in switched
    assert nn.ReLU in switched
    assert nn.InstanceNorm3d not in switched
    assert nn.LeakyReLU not in switched
    assert all(set(m.stride) == {1} for m in network.modules() if isinstance(m, nn.Conv3d))
    assert network(torch.zeros(2, 1, 4, 8, 8)).shape == (2, 2, 4, 8, 8)


def test_deep_supervision_while_training_only(small3d: Configuration) -> None:
    four = replace(
        small3d, patch_size=(4, 16, 16), strides=(*small3d.strides, (1, 2, 2)), kernels=((3, 3, 3),) * 4,
        features=(4, 6, 8, 8), blocks_encoder=(1,) * 4, blocks_decoder=(1,) * 3,
    )  # fmt: skip
    network = build_unet(four, 1, 3, NetworkOptions(deep_supervision=True))
    x = torch.randn(1, 1, 4, 16, 16)
    outputs = network.train()(x)
    # decoder levels 0, 1, 2; the lowest has no weight in the loss and no head
    assert [tuple(o.shape[2:]) for o in outputs] == [(4, 16, 16), (4, 8, 8)]
    assert torch.equal(network.eval()(x), outputs[0])


def test_he_initialisation(small3d: Configuration) -> None:
    wide = replace(small3d, features=(64, 64, 64))
    network = build_unet(wide, 8, 2)
    conv = network.encoder[1][0][0].conv
    assert float(conv.weight.detach().std()) == pytest.approx(sqrt(2 / (1 + 0.01**2) / (64 * 27)), rel=0.02)
    assert not conv.bias.any()


def test_residual_branches_start_as_nothing(small3d: Configuration) -> None:
    network = build_unet(replace(small3d, residual=True), 1, 2).eval()
    block = next(m for m in network.modules() if isinstance(m, ResidualBlock))  # 4 → 4 channels, stride 1
    x = torch.randn(1, 4, 4, 8, 8)
    assert torch.allclose(block(x.clone()), nn.functional.leaky_relu(x, 0.01))


def test_a_patch_too_small_to_pool_has_one_stage(small2d: Configuration) -> None:
    one = replace(
        small2d, strides=((1, 1),), kernels=((3, 3),), features=(4,), blocks_encoder=(2,), blocks_decoder=(),
        patch_size=(7, 7),
    )  # fmt: skip
    assert build_unet(one, 1, 2)(torch.zeros(1, 1, 7, 7)).shape == (1, 2, 7, 7)


def test_a_single_voxel_at_the_bottom_is_refused(small3d: Configuration) -> None:
    tiny = replace(small3d, patch_size=(2, 4, 4))
    with pytest.raises(PlanError, match=r"single voxel.*\[2, 4, 4\]"):
        build_unet(tiny, 1, 2)
    build_unet(tiny, 1, 2, NetworkOptions(norm="batch"))


def test_channels_of_a_cascade_and_of_regions(small_plan: Plan, small3d: Configuration) -> None:
    assert network_channels(small_plan, small3d) == (1, 3)
    cascade = replace(small3d, previous="3d_lowres")
    assert network_channels(small_plan, cascade) == (3, 3)
    regions = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 4), (Region("whole", (1, 2, 3), 1),))
    assert network_channels(replace(small_plan, labels=regions), cascade) == (4, 1)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_block_equals_its_parts_and_so_do_their_gradients(dims: int, norm: str) -> None:
    torch.manual_seed(0)
    block = ConvBlock(BlockStyle(dims, norm, "leaky_relu"), (3, 4), (3,) * dims, (2,) * dims)
    nn.init.uniform_(block.norm.weight)
    nn.init.uniform_(block.norm.bias)
    x = torch.randn(2, 3, *(8, 6, 10)[:dims])
    parts = nn.functional.leaky_relu(block.norm(block.conv(x)), 0.01)
    factor = torch.randn_like(parts)
    expected = torch.autograd.grad((parts * factor).sum(), block.parameters())
    whole = block(x)
    assert torch.equal(whole, parts)
    for found, wanted in zip(torch.autograd.grad((whole * factor).sum(), block.parameters()), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_product_of_matrices_equals_the_convolution(layout: torch.memory_format) -> None:
    convolution = nn.Conv2d(3, 5, 1)
    x = torch.randn(2, 3, 6, 7).contiguous(memory_format=layout).requires_grad_()
    found, wanted = pointwise(convolution, x), convolution(x)
    torch.testing.assert_close(found, wanted)
    factor = torch.randn_like(wanted)
    inputs = (x, convolution.weight, convolution.bias)
    expected = torch.autograd.grad((wanted * factor).sum(), inputs)
    for one, other in zip(torch.autograd.grad((found * factor).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [3, 5])
def test_kernels_longer_than_the_feature_map_get_the_gradient_of_float32(
    layout: torch.memory_format, depth: int, kernel: int
) -> None:
    """In bfloat16 oneDNN leaves parts of that gradient as the memory was (PyTorch 2.13, AVX-512 BF16)."""
    torch.manual_seed(0)
    block = ConvBlock(BlockStyle(3, "instance", "leaky_relu"), (16, 16), (kernel, 3, 3)).to(memory_format=layout)
    x = torch.randn(2, 16, depth, 8, 8).to(memory_format=layout)
    wanted = torch.randn(2, 16, depth, 8, 8)

    def gradient(enabled: bool) -> torch.Tensor:
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = block(x)
        (y.float() * wanted).sum().backward()
        return block.conv.weight.grad.clone()

    exact = gradient(False)
    for _ in range(3):
        assert (gradient(True) - exact).norm() < 0.1 * exact.norm()
