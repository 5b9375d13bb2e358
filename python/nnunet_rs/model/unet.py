"""The U-Net that a configuration describes, plain or with a residual encoder, in two or three dimensions."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from nnunet_rs.core.types import Size
from nnunet_rs.model.blocks import (
    CONVOLUTION,
    MAX_POOL,
    TRANSPOSED,
    BlockStyle,
    ConvBlock,
    ResidualBlock,
    initialise,
    pointwise,
)
from nnunet_rs.model.network_options import NetworkOptions, require_more_than_a_voxel
from nnunet_rs.plan.schema import Configuration


class UNet(nn.Module):
    """Encoder, decoder, skip connections by concatenation, 1 x 1 heads.

    `encoder[s]` works at resolution s (0 the finest); `up[i]` and `decoder[i]` climb from the bottom;
    `heads[s]` reads the decoder's features at resolution s.
    """

    def __init__(
        self, configuration: Configuration, in_channels: int, out_channels: int, options: NetworkOptions
    ) -> None:
        """Build the network; `build_unet` checks the configuration and draws the weights."""
        super().__init__()
        style = BlockStyle(configuration.dims, options.norm, options.activation)
        c, features, stages = configuration, configuration.features, len(configuration.features)
        shift = 1 if options.decoder_kernels == "below" else 0
        self.stem = ConvBlock(style, (in_channels, features[0]), c.kernels[0]) if c.residual else nn.Identity()
        inputs = (features[0] if c.residual else in_channels, *features)
        self.encoder = nn.ModuleList(
            _encoder_stage(style, configuration, options, s, (inputs[s], features[s])) for s in range(stages)
        )
        levels = range(stages - 2, -1, -1)  # the resolutions of the decoder, in the order in which they are computed
        self.up = nn.ModuleList(
            TRANSPOSED[c.dims](features[s + 1], features[s], tuple(c.strides[s + 1]), tuple(c.strides[s + 1]))  # type: ignore[arg-type]
            for s in levels
        )
        self.decoder = nn.ModuleList(
            _stack(style, (2 * features[s], features[s]), c.kernels[s + shift], c.blocks_decoder[i])
            for i, s in enumerate(levels)
        )
        heads = max(1, stages - 2) if options.deep_supervision else 1
        self.heads = nn.ModuleList(CONVOLUTION[c.dims](features[s], out_channels, 1) for s in range(heads))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits.

        Parameters
        ----------
        x
            (b, in_channels, *patch_size).

        Returns
        -------
        Tensor or list of Tensor
            (b, out_channels, *patch_size). While training with deep supervision the list of all heads' logits, the
            finest first.
        """
        x = self.stem(x)
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()  # the bottom is no skip
        wanted = len(self.heads) if self.training else 1
        outputs: list[Tensor] = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(torch.cat((up(x), skips.pop()), dim=1))
            level = len(skips)
            if level < wanted:
                outputs.insert(0, pointwise(self.heads[level], x))
        if not outputs:  # a patch too small to be pooled: one stage, no decoder
            return pointwise(self.heads[0], x)
        return outputs if wanted > 1 else outputs[0]


def build_unet(
    configuration: Configuration, in_channels: int, out_channels: int, options: NetworkOptions | None = None
) -> UNet:
    """Build the configuration's network with freshly drawn weights (from torch's global generator).

    Parameters
    ----------
    configuration
        Features, kernels, strides and blocks of every stage; 2-D or 3-D by its patch size.
    in_channels
        Image channels, and for a cascade the one-hot previous segmentation (`network_channels`).
    out_channels
        Classes, the background included, or regions.
    options
        What the plan leaves open.

    Returns
    -------
    UNet
        Equal to `PlainConvUNet` and `ResidualEncoderUNet` of dynamic_network_architectures 0.4 with the default
        options (checked weight by weight), without the lowest head, which has no weight in the loss.

    Raises
    ------
    PlanError
        The patch has a single voxel at the lowest stage, which instance norm would set to zero.
    """
    options = options or NetworkOptions()
    require_more_than_a_voxel(configuration, options)
    network = UNet(configuration, in_channels, out_channels, options)
    initialise(network)
    return network


def _stack(
    style: BlockStyle, channels: tuple[int, int], kernel: Size, count: int, stride: Size | None = None
) -> nn.Module:
    """Return `count` convolution blocks one after another; the first changes the channels and has the stride."""
    first = ConvBlock(style, channels, kernel, stride)
    return nn.Sequential(first, *(ConvBlock(style, (channels[1], channels[1]), kernel) for _ in range(count - 1)))


def _encoder_stage(
    style: BlockStyle, c: Configuration, options: NetworkOptions, s: int, channels: tuple[int, int]
) -> nn.Module:
    kernel, stride, count = c.kernels[s], c.strides[s], c.blocks_encoder[s]
    if options.downsampling == "max_pool" and prod(stride) > 1:
        pool: list[nn.Module] = [MAX_POOL[style.dims](tuple(stride))]
        stride = (1,) * style.dims
    else:
        pool = []
    if not c.residual:
        return nn.Sequential(*pool, _stack(style, channels, kernel, count, stride))
    once: Size = (1,) * style.dims
    rest = (ResidualBlock(style, (channels[1], channels[1]), kernel, once) for _ in range(count - 1))
    return nn.Sequential(*pool, ResidualBlock(style, channels, kernel, stride), *rest)
