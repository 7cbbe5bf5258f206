"""The parts every network here is made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1  # of LeakyReLU below zero


class PixelNorm(nn.Module):
    """LayerNorm over the channels of each pixel: the same whether it sees a patch or the whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W)
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return y.permute(0, 3, 1, 2)


def activate(x: Tensor, kind: str) -> Tensor:
    """SiLU, ReLU, or LeakyReLU with a tenth below zero."""
    if kind == "leaky_relu":
        return F.leaky_relu(x, SLOPE)
    return F.relu(x) if kind == "relu" else F.silu(x)


def make_norm(kind: str, channels: int, groups: int) -> nn.Module:
    """GroupNorm ("group") or PixelNorm ("pixel")."""
    return nn.GroupNorm(groups, channels, eps=1e-6) if kind == "group" else PixelNorm(channels)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of t (sines first, base 10000, exponents k / (half - 1)), then Linear-SiLU-Linear."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        exponents = torch.arange(half, dtype=torch.float64) / (half - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10000) * exponents).float(), persistent=False)
        self.expand = nn.Linear(channels, 4 * channels)
        self.mix = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t: Tensor) -> Tensor:  # (N,) -> (N, 4C)
        phase = t.float()[:, None] * self.frequencies[None]
        embedding = torch.cat([phase.sin(), phase.cos()], dim=1)
        return self.mix(F.silu(self.expand(embedding.to(self.expand.weight.dtype))))


class ResBlock(nn.Module):
    """norm-SiLU-conv3 (+ a projection of the timestep per channel) - norm-SiLU-conv3, plus a shortcut."""

    def __init__(self, c_in: int, c_out: int, time_channels: int, norm: str, groups: int) -> None:
        super().__init__()
        self.norm1 = make_norm(norm, c_in, groups)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(time_channels, c_out) if time_channels else None
        self.norm2 = make_norm(norm, c_out, groups)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time is not None and time is not None:
            h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


class NAFBlock(nn.Module):
    """A residual block without an activation: gates, a depthwise conv3 and channel weights (NAFNet, ECCV 2022).

    Two residual steps, each scaled by a weight per channel, after a 1x1 where the channels change:
    norm - 1x1 (+ a projection of the timestep per channel) - depthwise conv3 - gate - channel weights - 1x1, and
    norm - 1x1 - gate - 1x1.
    """

    def __init__(self, c_in: int, c_out: int, time_channels: int, norm: str, groups: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        self.norm1, self.norm2 = make_norm(norm, c_out, groups), make_norm(norm, c_out, groups)
        self.expand1, self.expand2 = nn.Conv2d(c_out, 2 * c_out, 1), nn.Conv2d(c_out, 2 * c_out, 1)
        self.time = nn.Linear(time_channels, 2 * c_out) if time_channels else None
        self.depthwise = nn.Conv2d(2 * c_out, 2 * c_out, 3, padding=1, groups=2 * c_out)
        self.weigh = nn.Conv2d(c_out, c_out, 1)
        self.project1, self.project2 = nn.Conv2d(c_out, c_out, 1), nn.Conv2d(c_out, c_out, 1)
        self.scale1, self.scale2 = (nn.Parameter(torch.zeros(1, c_out, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        x = self.shortcut(x)
        h = self.expand1(self.norm1(x))
        if self.time is not None and time is not None:
            h = h + self.time(F.silu(time))[:, :, None, None]
        h = _gate(self.depthwise(h))
        h = h * self.weigh(h.mean(dim=(2, 3), keepdim=True))
        x = x + self.scale1 * self.project1(h)
        return x + self.scale2 * self.project2(_gate(self.expand2(self.norm2(x))))


def _gate(x: Tensor) -> Tensor:
    """One half of the channels times the other: (N, 2C, H, W) -> (N, C, H, W)."""
    first, second = x.chunk(2, dim=1)
    return first * second


class Attention(nn.Module):
    """Single-head self-attention over all pixels, fused: the (HW, HW) matrix is never stored.

    `pool` averages keys and values over squares of that side, a pool^2-th of the work that grows with the square of
    the image; H and W must be multiples of it.
    """

    def __init__(self, channels: int, norm: str, groups: int, pool: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.norm = make_norm(norm, channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        seen = F.avg_pool2d(h, self.pool) if self.pool > 1 else h  # (N, C, H/pool, W/pool)
        q, k, v = (_tokens(proj(given)) for proj, given in ((self.q, h), (self.k, seen), (self.v, seen)))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2)  # (N, C, HW)
        return x + self.out(h.reshape(x.shape))


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)[:, None]  # (N, 1, HW, C)


class ChannelAttention(nn.Module):
    """Reweights channels by their global mean: 1x1 (reduce 16) - ReLU - 1x1 - sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 16, 1)
        self.expand = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.expand(F.relu(self.reduce(x.mean(dim=(2, 3), keepdim=True))))
        return x * torch.sigmoid(weights)


class Downsample(nn.Module):
    """Stride-2 conv3 after zero-padding right and bottom by one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, C, H/2, W/2)
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest x2, then conv3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) -> (N, C, 2H, 2W)
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
