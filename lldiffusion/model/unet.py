"""The U-Net that serves as denoiser (with timestep) and as degradation generation network (without)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.config import UNetConfig

from .blocks import Attention, ChannelAttention, Downsample, NAFBlock, ResBlock, TimeEmbedding, Upsample, make_norm


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where asked for, then a change of size."""

    def __init__(self, blocks: list[nn.Module], attentions: list[nn.Module], resize: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resize = resize

    def run(self, index: int, h: Tensor, time: Tensor | None) -> Tensor:
        """Apply block `index` and its attention."""
        h = self.blocks[index](h, time)
        return self.attentions[index](h) if len(self.attentions) else h


def _levels(modules: nn.ModuleList) -> list[Level]:
    return cast("list[Level]", list(modules))


class UNet(nn.Module):
    """U-Net with degradation features injected into its decoder.

    Feature i is concatenated to the input of decoder level i + 1 (coarse to fine); one more feature than the
    decoder has such levels goes before the last norm (the authors' LOL-v2 network).

    Args:
        config: sizes.
        c_in, c_out: channels of the input and of the prediction.
        features: channels of the degradation features, coarse to fine.
        timed: whether `forward` gets a timestep.
    """

    def __init__(self, config: UNetConfig, c_in: int, c_out: int, features: tuple[int, ...], timed: bool) -> None:
        super().__init__()
        self.config, self.patch, self.features = config, config.patch, features
        self.widths = tuple(config.channels * m for m in config.multipliers)
        self.time_channels = 4 * config.channels if timed else 0
        self.time = TimeEmbedding(config.channels) if timed else None
        self.conv_in = nn.Conv2d(c_in * self.patch**2, config.channels, 3, padding=1)
        self.down = self._encoder()
        self.middle = self._middle()
        self.up, self.fusion = self._decoder()
        last = self.widths[0] + (features[-1] if len(features) == len(self.widths) else 0)
        self.norm_out = make_norm(config.norm, last, config.groups)
        self.conv_out = nn.Conv2d(last, c_out * self.patch**2, 3, padding=1)

    def _block(self, c_in: int, c_out: int) -> nn.Module:
        kind = NAFBlock if self.config.block_type == "naf" else ResBlock
        return kind(c_in, c_out, self.time_channels, self.config.norm, self.config.groups)

    def _attention(self, channels: int) -> Attention:
        return Attention(channels, self.config.norm, self.config.groups, self.config.attention_pool)

    def _encoder(self) -> nn.ModuleList:
        levels, c = [], self.config.channels
        self.skips = [c]  # channels of every skip connection, in the order they are made
        for i, width in enumerate(self.widths):
            blocks = [self._block(c if j == 0 else width, width) for j in range(self.config.blocks)]
            attends = i in self.config.attention_down
            last = i == len(self.widths) - 1
            attentions = [self._attention(width) for _ in blocks] if attends else []
            levels.append(Level(list(blocks), list(attentions), None if last else Downsample(width)))
            self.skips += [width] * (len(blocks) + (not last))
            c = width
        return nn.ModuleList(levels)

    def _middle(self) -> nn.ModuleList:
        width = self.widths[-1]
        return nn.ModuleList([self._block(width, width), self._attention(width), self._block(width, width)])

    def _decoder(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        levels, fusions, c, skips = [], [], self.widths[-1], list(self.skips)
        for i, width in enumerate(reversed(self.widths)):
            fused = i > 0 and i <= len(self.features)
            c += self.features[i - 1] if fused else 0
            fusions.append(ChannelAttention(c) if fused and self.config.channel_attention else nn.Identity())
            blocks = []
            for _ in range(self.config.blocks + 1):
                blocks.append(self._block(c + skips.pop(), width))
                c = width
            attends = len(self.widths) - 1 - i in self.config.attention_up
            attentions = [self._attention(width) for _ in blocks] if attends else []
            last = i == len(self.widths) - 1
            levels.append(Level(list(blocks), list(attentions), None if last else Upsample(width)))
        return nn.ModuleList(levels), nn.ModuleList(fusions)

    def forward(self, x: Tensor, features: tuple[Tensor, ...], t: Tensor | None = None) -> Tensor:
        """(N, c_in, H, W), features coarse to fine and t (N,) -> (N, c_out, H, W)."""
        time = self.time(t) if self.time is not None else None
        h = self.conv_in(F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x)  # (N, C, H/patch, W/patch)
        h, skips = self._descend(h, time)
        h = self._ascend(self._bottom(h, time), skips, features, time)
        h = self.conv_out(F.silu(self.norm_out(h)))
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h

    def _descend(self, h: Tensor, time: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        skips = [h]
        for level in _levels(self.down):
            for j in range(len(level.blocks)):
                h = level.run(j, h, time)
                skips.append(h)
            if level.resize is not None:
                h = level.resize(h)
                skips.append(h)
        return h, skips

    def _bottom(self, h: Tensor, time: Tensor | None) -> Tensor:
        time = time if self.config.middle_time else None  # the authors' middle never receives t
        first, attention, second = self.middle
        return second(attention(first(h, time)), time)

    def _ascend(self, h: Tensor, skips: list[Tensor], features: tuple[Tensor, ...], time: Tensor | None) -> Tensor:
        for i, level in enumerate(_levels(self.up)):
            if 0 < i <= len(features):
                h = self.fusion[i](torch.cat([h, features[i - 1]], dim=1))
            for j in range(len(level.blocks)):
                h = level.run(j, torch.cat([h, skips.pop()], dim=1), time)
            if level.resize is not None:
                h = level.resize(h)
        return torch.cat([h, features[-1]], dim=1) if len(features) == len(self.up) else h
