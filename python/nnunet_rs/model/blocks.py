"""What the U-Net is built of: padded convolution, norm and activation; and the residual block of two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnunet_rs.core.choices import Activation, Norm
from nnunet_rs.core.types import Size
from nnunet_rs.model.network_options import LEAKY_SLOPE, NORM_EPS

CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVERAGE_POOL: dict[int, type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
NORM: dict[tuple[Norm, int], type[nn.Module]] = {
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}


@dataclass(frozen=True, slots=True)
class BlockStyle:
    """What all blocks of a network share."""

    dims: int  # 2 or 3
    norm: Norm
    activation: Activation

    def normalise(self, features: int) -> nn.Module:
        """Return the norm over `features` channels, with learned scale and shift."""
        return NORM[self.norm, self.dims](features, eps=NORM_EPS, affine=True)

    def activate(self) -> nn.Module:
        """Return the activation; it overwrites its input, which no norm's gradient needs."""
        return nn.ReLU(inplace=True) if self.activation == "relu" else nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


class ConvBlock(nn.Module):
    """Convolution that keeps the size (before its stride), norm, activation."""

    def __init__(
        self,
        style: BlockStyle,
        channels: tuple[int, int],
        kernel: Size,
        stride: Size | None = None,
        *,
        last: bool = False,
    ) -> None:
        """Build the block from `channels` (in, out); a `last` block of a residual branch has no activation."""
        super().__init__()
        stride = tuple(stride or (1,) * style.dims)
        padding = tuple((size - 1) // 2 for size in kernel)
        self.conv = CONVOLUTION[style.dims](*channels, tuple(kernel), stride, padding)  # type: ignore[arg-type]
        self.norm = style.normalise(channels[1])
        self.activation = nn.Identity() if last else style.activate()

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, in, *size) to (b, out, *size / stride)."""
        return _normalised(self.norm, self.activation, _convolved(self.conv, x))


def _convolved(convolution: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """Return a convolution of (b, in, *size); in float32 where the gradient of its kernel in bfloat16 is wrong.

    On processors with AVX-512 BF16 oneDNN leaves parts of that gradient as the memory was, where a 3-D kernel is longer
    than the feature map along the first axis, and that has more than one voxel (seen with PyTorch 2.13).
    """
    learns = torch.is_grad_enabled() and x.device.type == "cpu" and x.ndim == 5
    if not (learns and 1 < x.shape[2] < convolution.kernel_size[0]):
        return convolution(x)  # type: ignore[no-any-return]
    with torch.autocast("cpu", enabled=False):
        return convolution(x.to(convolution.weight.dtype))  # type: ignore[no-any-return]


def _normalised(norm: nn.Module, activation: nn.Module, x: Tensor) -> Tensor:
    """Return activation(norm(x)) of (b, c, *size).

    Instance norm is batch norm of one sample that has the channels of all. PyTorch computes it so, and returns a view;
    an activation that overwrites a view costs copies of its whole gradient. Here it overwrites what is viewed.
    """
    if not isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d):
        return activation(norm(x))  # type: ignore[no-any-return]
    shape, scale, shift = x.shape, norm.weight.repeat(len(x)), norm.bias.repeat(len(x))
    x = F.batch_norm(x.reshape(1, -1, *shape[2:]), None, None, scale, shift, training=True, eps=norm.eps)
    return activation(x).view(shape)  # type: ignore[no-any-return]


def pointwise(convolution: nn.Module, x: Tensor) -> Tensor:
    """Return a 1 x 1 convolution of (b, in, *size), on processors as one product of matrices: two to ten times faster.

    PyTorch's convolution brings all voxels into an order of its own, and back, for few additions each.
    """
    if x.device.type != "cpu" or not isinstance(convolution, nn.Conv2d | nn.Conv3d) or convolution.bias is None:
        return convolution(x)  # type: ignore[no-any-return]
    weight = convolution.weight.flatten(1).expand(len(x), -1, -1)
    out = torch.baddbmm(convolution.bias[:, None], weight, x.flatten(2))
    return out.view(*out.shape[:2], *x.shape[2:])


class Shortcut(nn.Sequential):
    """Brings a residual block's input to the shape of its output: average pooling, then 1 x 1 convolution and norm."""

    def __init__(self, style: BlockStyle, channels: tuple[int, int], stride: Size) -> None:
        """Build only what is needed; with equal channels and stride 1 the input passes as it is."""
        super().__init__()
        if any(step != 1 for step in stride):
            self.pool = AVERAGE_POOL[style.dims](tuple(stride))  # type: ignore[arg-type]
        if channels[0] != channels[1]:
            self.conv = CONVOLUTION[style.dims](*channels, 1, bias=False)
            self.norm = style.normalise(channels[1])


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, activation after their sum.

    He et al., "Bag of tricks" (2019), variant D; `BasicBlockD` of dynamic_network_architectures 0.4.
    """

    def __init__(self, style: BlockStyle, channels: tuple[int, int], kernel: Size, stride: Size) -> None:
        """Build the block from `channels` (in, out); the stride is the first convolution's and the shortcut's."""
        super().__init__()
        self.first = ConvBlock(style, channels, kernel, stride)
        self.second = ConvBlock(style, (channels[1], channels[1]), kernel, last=True)
        self.shortcut = Shortcut(style, channels, stride)
        self.activation = style.activate()

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, in, *size) to (b, out, *size / stride)."""
        return self.activation(self.second(self.first(x)) + self.shortcut(x))  # type: ignore[no-any-return]


def initialise(network: nn.Module) -> None:
    """Draw weights as He et al. (2015) for the leaky slope, biases 0; residual branches start as nothing.

    `kaiming_normal_(fan_in, a=0.01)` for every convolution, as nnU-Net does, for ReLU networks too.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=LEAKY_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            with torch.no_grad():
                for parameter in module.second.norm.parameters():
                    parameter.zero_()
