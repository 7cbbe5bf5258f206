"""The latent map encoder E(y): degradation features at several scales (paper, section 3.3)."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from lldiffusion.config import EncoderConfig

SLOPE = 0.2  # of every LeakyReLU


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class _Conv(nn.Module):
    """A conv3, zero- or reflect-padded, optionally under spectral norm and followed by InstanceNorm (no affine)."""

    def __init__(
        self, c_in: int, c_out: int, stride: int, pad: str, config: EncoderConfig, normed: bool = True
    ) -> None:
        super().__init__()
        self.normed = normed and config.norm == "instance"
        self.pad = pad
        conv = nn.Conv2d(c_in, c_out, 3, stride, padding=1 if pad == "zeros" else 0, bias=not self.normed)
        self.conv = spectral_norm(conv) if config.spectral_norm else conv

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect") if self.pad == "reflect" else x)
        return F.instance_norm(h) if self.normed else h


class _Residual(nn.Module):
    """reflect pad - conv - LeakyReLU - reflect pad - conv, added, LeakyReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return _leaky(x + self.conv2(_leaky(self.conv1(x))))


class _Rung(nn.Module):
    """One step up the ladder: transposed conv x2 (when scaling), reflect-padded conv3, LeakyReLU."""

    def __init__(self, c_in: int, c_out: int, scale: int, config: EncoderConfig) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c_in, c_in, 3, 2, padding=1, output_padding=1) if scale == 2 else nn.Identity()
        self.conv = _Conv(c_in, c_out, 1, "reflect", config, normed=False)

    def forward(self, x: Tensor) -> Tensor:
        return _leaky(self.conv(self.up(x)))


def _keep_variance(module: nn.Module) -> None:
    """He initialisation: without any norm, PyTorch's default would shrink the signal to 1e-5 over these layers."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        fan = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.weight[:, 0].numel() / 4
        nn.init.normal_(module.weight, std=(2 / (1 + SLOPE**2) / fan) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class LatentMapEncoder(nn.Module):
    """E(y): (N, 3, H, W) in [-1, 1] -> features, coarse to fine.

    With the paper's configuration these are (N, 512, H/16, W/16), (N, 512, H/8, W/8), (N, 256, H/4, W/4).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.shrink = config.shrink
        pyramid = (3, *config.channels)
        self.pyramid = nn.ModuleList([_Conv(a, b, 2, "zeros", config) for a, b in pairwise(pyramid)])
        self.wide = nn.Conv2d(pyramid[1], pyramid[1], 7, padding=3, padding_mode="reflect")
        self.residual = nn.Sequential(*[_Residual(pyramid[-1]) for _ in range(config.residual_blocks)])
        head = (pyramid[-1], *[config.head_channels] * 3)
        self.head = nn.ModuleList([_Conv(a, b, 1, "reflect", config) for a, b in pairwise(head)])
        rungs = (config.head_channels, *config.ladder)
        self.ladder = nn.ModuleList(
            [_Rung(a, b, s, config) for a, b, s in zip(rungs, config.ladder, config.ladder_scales, strict=False)]
        )
        if config.norm == "none" and not config.spectral_norm:
            self.apply(_keep_variance)

    def forward(self, y: Tensor) -> tuple[Tensor, ...]:
        first, *rest = self.pyramid
        y = F.avg_pool2d(y, self.shrink) if self.shrink > 1 else y
        h = self.wide(_leaky(first(y)))  # (N, 16, H/2, W/2)
        for conv in rest:
            h = conv(_leaky(h))  # halves the size
        h = self.residual(h)  # (N, 256, H/32, W/32)
        for conv in self.head:
            h = _leaky(conv(h))
        features = []
        for rung in self.ladder:
            h = rung(h)
            features.append(h)
        return tuple(features)
