"""A U-Net of convolutions alone: no norm, no attention, nothing that looks at the whole picture.

A tile with enough margin therefore equals the whole, and a runtime sees 3x3 convolutions, ReLU and additions: no
transposes, no reductions.  Without norms the blocks must not let the signal grow: the second convolution of each
starts at a fifth of its weight, so that the network starts close to its own shortcuts.

Nor may they die.  The timestep reaches a block as one number a channel, through 128 weights that Adam moves at once:
twenty times as fast as a bias, enough to push every ReLU of a block below zero within fifty steps, where nothing
brings it back.  So it starts at next to nothing and learns slowly (`slow_parameters`).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.config import UNetConfig

from .blocks import TimeEmbedding, activate
from .tint import NUMBERS

RESIDUAL_START = 0.2  # of the second convolution's usual weight
TINT = 32  # channels of what the blocks are told of the picture's mean colour

Told = tuple[Tensor | None, Tensor | None]  # embeddings of the timestep and of the tint, (N, C) each


class PlainBlock(nn.Module):
    """x + conv3(act(conv3(x) + projections of what it is told)), with a 1x1 shortcut where the channels change."""

    def __init__(self, c_in: int, c_out: int, told: tuple[int, int], activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time, self.tint = (nn.Linear(channels, c_out) if channels else None for channels in told)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        with torch.no_grad():
            self.conv2.weight.mul_(RESIDUAL_START)
        for say in (self.time, self.tint):
            if say is not None:
                nn.init.normal_(say.weight, std=1e-3)
                nn.init.zeros_(say.bias)

    def forward(self, x: Tensor, told: Told) -> Tensor:
        h = self.conv1(x)
        said = self._said(told)
        h = h if said is None else h + said[:, :, None, None]
        return self.shortcut(x) + self.conv2(activate(h, self.activation))

    def _said(self, told: Told) -> Tensor | None:
        """(N, c_out): one sum, so that a step's numbers and a picture's tint pass over the pixels once."""
        time, tint = told
        said = [self.time(time)] if self.time is not None and time is not None else []
        said += [self.tint(tint)] if self.tint is not None and tint is not None else []
        return sum(said[1:], start=said[0]) if said else None


class Down(nn.Module):
    """Blocks at one resolution, after a stride-2 conv3 that leads there (not at the finest)."""

    def __init__(self, c_in: int, c_out: int, blocks: int, told: tuple[int, int], activation: str, first: bool) -> None:
        super().__init__()
        self.reduce = None if first else nn.Conv2d(c_in, c_out, 3, stride=2, padding=1)
        start = c_in if first else c_out
        self.blocks = nn.ModuleList(
            [PlainBlock(start if j == 0 else c_out, c_out, told, activation) for j in range(blocks)]
        )

    def forward(self, h: Tensor, told: Told) -> Tensor:
        h = h if self.reduce is None else self.reduce(h)
        for block in self.blocks:
            h = block(h, told)
        return h


class Up(nn.Module):
    """1x1 to the finer level's width, nearest x2, the feature and the skip beside it, then blocks."""

    def __init__(
        self, c_in: int, c_out: int, feature: int, skip: int, blocks: int, told: tuple[int, int], activation: str
    ) -> None:
        super().__init__()
        self.widen = nn.Conv2d(c_in, c_out, 1)
        joined = c_out + feature + skip
        self.blocks = nn.ModuleList(
            [PlainBlock(joined if j == 0 else c_out, c_out, told, activation) for j in range(blocks)]
        )

    def forward(self, h: Tensor, beside: list[Tensor], told: Told) -> Tensor:
        h = F.interpolate(self.widen(h), scale_factor=2.0, mode="nearest")
        h = torch.cat([h, *beside], dim=1)
        for block in self.blocks:
            h = block(h, told)
        return h


def _embedding() -> nn.Sequential:
    """The tint (N, 3) -> (N, TINT), which each block projects."""
    return nn.Sequential(nn.Linear(NUMBERS, TINT), nn.SiLU(), nn.Linear(TINT, TINT), nn.SiLU())


class PlainUNet(nn.Module):
    """The same contract as `unet.UNet`: feature i joins decoder level i + 1, coarse to fine.

    Args:
        config: sizes; `blocks` at each level going down and going up, and as many in the middle.
        c_in, c_out: channels of the input and of the prediction.
        features: channels of the degradation features, coarse to fine.
        timed: whether `forward` gets a timestep.
        tinted: whether it gets the tint of the whole picture.
    """

    def __init__(
        self,
        config: UNetConfig,
        c_in: int,
        c_out: int,
        features: tuple[int, ...],
        timed: bool,
        tinted: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.activation = config.patch, config.activation
        widths = [config.channels * m for m in config.multipliers]
        told = (4 * config.channels if timed else 0, TINT if tinted else 0)
        self.time = TimeEmbedding(config.channels) if timed else None
        self.tint = _embedding() if tinted else None
        self.conv_in = nn.Conv2d(c_in * self.patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            [
                Down(widths[max(0, i - 1)], width, config.blocks, told, config.activation, first=i == 0)
                for i, width in enumerate(widths)
            ]
        )
        self.middle = nn.ModuleList(
            [PlainBlock(widths[-1], widths[-1], told, config.activation) for _ in range(config.blocks)]
        )
        beside = [*features, *[0] * len(widths)]  # a level without a feature has its skip alone
        self.up = nn.ModuleList(
            [
                Up(widths[-i], widths[-i - 1], beside[i - 1], widths[-i - 1], config.blocks, told, config.activation)
                for i in range(1, len(widths))
            ]
        )
        self.conv_out = nn.Conv2d(widths[0], c_out * self.patch**2, 3, padding=1)

    def slow_parameters(self) -> list[nn.Parameter]:
        """Those of the timestep's way into the blocks."""
        return [value for name, value in self.named_parameters() if "time." in name]

    def forward(
        self, x: Tensor, features: tuple[Tensor, ...], t: Tensor | None = None, tint: Tensor | None = None
    ) -> Tensor:
        """(N, c_in, H, W), features coarse to fine, t (N,), tint (N, 3) -> (N, c_out, H, W)."""
        told = self._told(t, tint)
        h = self.conv_in(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)  # (N, C, H/patch, W/patch)
        skips = []
        for down in self.down:
            h = down(h, told)
            skips.append(h)
        skips.pop()  # the coarsest goes on as it is
        for block in self.middle:
            h = block(h, told)
        for i, up in enumerate(cast("list[Up]", list(self.up))):
            h = up(h, [*features[i : i + 1], skips.pop()], told)
        h = self.conv_out(activate(h, self.activation))
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h

    def _told(self, t: Tensor | None, tint: Tensor | None) -> Told:
        time = F.silu(self.time(t)) if self.time is not None else None
        return time, self.tint(tint) if self.tint is not None else None
