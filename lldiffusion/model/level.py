"""The level: how bright the picture shall become, by place and by brightness, said once from the whole picture.

Most of the error of low-light enhancement is brightness (Liao et al., "GT-Mean Loss", arXiv 2507.20148; Zhou et al.,
"Pyramid Diffusion", IJCAI 2023), and it cannot be told from a crop.  So the head looks at the whole picture, reduced
to a `thumbnail`, and the denoiser starts from y brightened by what it says:

    gain = 2^( sum_b hat_b(log_tone(mean over channels of u)) * bilinear(level_b, place) + exposure / 2.2 )
    b    = shoulder(u * gain)                                                              u = (y + 1) / 2

`level` (N, 6, 8, 12) is a bilateral grid of log2 gain (Chen, Paris, Durand, "Real-time edge-aware image processing
with the bilateral grid", SIGGRAPH 2007; learned as in Gharbi et al., "HDRNet", SIGGRAPH 2017): a shadow is lifted and
a lamp beside it is not.  Hat functions and two matrix products stand for the slicing, so it needs no gather.

    level = shape(thumbnail) + offset        the offset brings the mean of the brightened thumbnail to 2^target
    target = guess(thumbnail)                log2 of the mean sRGB value of the result; in training the truth

A model with a `tint` has three planes more, the same in every cell: the picture's mean colour (`tint`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.photometry import DISPLAY_GAMMA

from .guess import Places, Tones, guessed_change
from .level_rules import backlit, bearable, most_at_night, needed_of, plane_mean
from .tint import mean_color
from .tone import DARKEST, exp2, log_mean, log_tone, look, unit

THUMBNAIL = (64, 96)  # rows and columns of the reduced whole picture, whatever its shape
GRID = (6, 8, 12)  # of the level: bins of brightness, rows, columns
REACH = 0.1  # of a line of the gain, in log-toned brightness, either way: half a bin
STEEPEST = 3.0  # largest log2 gain, either way, that the shape adds to the offset
SHOULDER = 0.6  # brightened values above bend towards twice this
ROUNDS = 8  # of the search for the offset; each leaves at most a third of the error
GUESSES = 3  # networks whose guesses are averaged: one alone is off by a tenth more on scenes it has not seen


def shoulder(x: Tensor) -> Tensor:
    """x below s = 0.6, s + s (1 - exp(-(x - s) / s)) above: highlights keep their order, and their detail."""
    over = (x - SHOULDER).clamp_min(0)
    return x.clamp_max(SHOULDER) + SHOULDER * (1 - torch.exp(-over / SHOULDER))


def whole(count: int, like: Tensor) -> Tensor:
    """(count, 4): the window of whole, unpadded pictures."""
    return like.new_tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float32).expand(count, 4)


def brighten(y: Tensor, level: Tensor, window: Tensor, exposure: Tensor | float = 0.0) -> Tensor:
    """y through the gain of its place and brightness, in [-1, 1.4].

    y (N, 3, H, W) in [-1, 1]; level (N, 6, 8, 12); window (N, 4): top, left, bottom, right of these pixels as
    fractions of the whole picture; exposure: stops, a number or (N, 1, 1, 1).
    """
    return lit_by(y, log_gain(y, level, window, exposure))


def log_gain(y: Tensor, level: Tensor, window: Tensor, exposure: Tensor | float = 0.0) -> Tensor:
    """(N, 1, H, W): log2 gain of each pixel's sRGB value; arguments as of `brighten`."""
    with float32():
        return _slice(log_tone(unit(y).mean(dim=1)), level.float(), window.float()) + exposure / DISPLAY_GAMMA


def gain_line(
    y: Tensor, level: Tensor, window: Tensor, exposure: Tensor | float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """(log2 gain, its slope over log-toned brightness, that brightness) of each pixel, (N, 1, H, W) each.

    A straight line in place of the curve: what a reduced picture can say of the gain of the pixels behind its own.
    """
    with float32():
        grey, level, window = log_tone(unit(y).mean(dim=1)), level.float(), window.float()
        below, above = (grey - REACH).clamp_min(0), (grey + REACH).clamp_max(1)
        rise = _slice(above, level, window) - _slice(below, level, window)
        slope = rise / (above - below)[:, None]
        return _slice(grey, level, window) + exposure / DISPLAY_GAMMA, slope, grey[:, None]


def lit_by(y: Tensor, gain: Tensor) -> Tensor:
    """y in [-1, 1] times 2^gain, through the shoulder: in [-1, 1.4]."""
    with float32():
        return 2 * shoulder(unit(y) * exp2(gain)) - 1


@contextmanager
def float32() -> Iterator[None]:
    """Out of autocast, where one is on: bfloat16 would round the gain by half a percent."""
    device = next((kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)), None)
    with nullcontext() if device is None else torch.autocast(device, enabled=False):
        yield


def _slice(grey: Tensor, level: Tensor, window: Tensor) -> Tensor:
    """(N, 1, H, W): the level at each pixel's place, weighted by hat functions of its own brightness (N, H, W).

    sum_b hat_b(v) level_b = level_0 + sum_b clip(v - b, 0, 1) (level_(b+1) - level_b): fewer planes to make than hats.
    """
    bins, height, width = GRID
    level = level[:, :bins]
    rows = _hats(window[:, 0], window[:, 2], grey.shape[1], height)  # (N, H, 8)
    columns = _hats(window[:, 1], window[:, 3], grey.shape[2], width)  # (N, W, 12)
    one = torch.eye(bins, device=level.device, dtype=level.dtype)
    rises = ((one - one.roll(1, 0).tril()) @ level.flatten(2)).reshape(level.shape)  # (N, 6, 8, 12)
    maps = rows[:, None] @ rises @ columns.transpose(1, 2)[:, None]  # (N, 6, H, W)
    knots = torch.arange(-1, bins - 1, device=grey.device, dtype=grey.dtype)[None, :, None, None]
    weights = (grey[:, None] * (bins - 1) - knots).clamp(0, 1)  # (N, 6, H, W); the first is 1
    return (weights * maps).sum(dim=1, keepdim=True)


def tint_of(level: Tensor) -> Tensor:
    """(N, 3): the tint that the level carries behind its gain, the same in every cell."""
    return level[:, GRID[0] :, 0, 0]


def _hats(start: Tensor, end: Tensor, size: int, cells: int) -> Tensor:
    """(N, size, cells): how much each of `size` pixels between `start` and `end` (N,) takes of each grid cell.

    Cell k stands for the place (k + 1/2) / cells; beyond the outer cells' centres their value holds.
    """
    middle = (torch.arange(size, device=start.device, dtype=torch.float32) + 0.5) / size
    place = start[:, None] + middle[None] * (end - start)[:, None]  # (N, size), of the whole picture
    at = (place * cells - 0.5).clamp(0, cells - 1)[:, :, None]
    knots = torch.arange(cells, device=start.device, dtype=torch.float32)
    return (1 - (at - knots).abs()).clamp_min(0)


class LevelHead(nn.Module):
    """thumbnail (N, 3, 64, 96) in [-1, 1] -> level (N, 6, 8, 12), log2 gain of the sRGB value."""

    def __init__(self, white: float = 0.0, rest: float = 0.0, tinted: bool = False, tones: bool = False) -> None:
        """`white`, `rest`, `tinted`, `tones`: see `config.ModelConfig`."""
        super().__init__()
        self.white, self.rest, self.tinted = white, rest, tinted
        self.grid = _Shape()
        self.mean = nn.ModuleList([Places() for _ in range(GUESSES)])
        self.tones = nn.ModuleList([Tones() for _ in range(GUESSES * tones)])

    def forward(self, thumbnail: Tensor) -> Tensor:
        """The level of the guess, as much of it as lamps and lit surfaces bear; never darker than the picture is."""
        with float32():
            shape, lit = self._lit(thumbnail)
            u, before = unit(thumbnail), log_mean(thumbnail)
            offset, still = (_offset(lit, mean) for mean in (self.guess(thumbnail), before))
            if self.white:
                offset = torch.minimum(offset, bearable(lit, u, self.white))
            if self.rest:
                offset = torch.minimum(offset, still + most_at_night(u))
            level = shape + torch.maximum(offset, still)[:, :, None, None]
            level = self._rested(level, offset - still, u) if self.rest else level
            return self._with_tint(level, thumbnail)

    def _rested(self, level: Tensor, change: Tensor, u: Tensor) -> Tensor:
        """0 where a picture needs nothing; of one with much shade beside much light, the shade's lift alone."""
        needed, shaded = needed_of(change, self.rest), backlit(u)
        kept = torch.lerp(level, level.relu(), shaded[:, :, None, None])  # light beside shade stays as it is
        return kept * torch.maximum(needed, shaded)[:, :, None, None]

    def guess(self, thumbnail: Tensor) -> Tensor:
        """(N, 1): log2 of the mean sRGB value that the result shall have; fitted by `training.level`."""
        return self.guess_of(F.avg_pool2d(thumbnail, 2))

    def guess_of(self, small: Tensor) -> Tensor:
        """The same from a thumbnail of half the size, (N, 3, 32, 48)."""
        return (log_mean(small) + guessed_change(small, self.mean, self.tones)).clamp(math.log2(DARKEST), 0.0)

    def shape(self, thumbnail: Tensor) -> Tensor:
        """(N, 6, 8, 12): log-gain up to an offset; trained with the denoiser."""
        return self.grid(look(thumbnail))

    def level(self, thumbnail: Tensor, target: Tensor) -> Tensor:
        """The shape, moved so that the mean of the brightened thumbnail is 2^target, target (N, 1)."""
        with float32():
            shape, lit = self._lit(thumbnail)
            return self._with_tint(shape + _offset(lit, target)[:, :, None, None], thumbnail)

    def _with_tint(self, level: Tensor, thumbnail: Tensor) -> Tensor:
        """(N, 6 or 9, 8, 12): the gain, and behind it the picture's mean colour in every cell."""
        if not self.tinted:
            return level
        color = mean_color(unit(thumbnail))[:, :, None, None]
        return torch.cat([level, color.expand(-1, -1, *level.shape[2:])], dim=1)

    def _lit(self, thumbnail: Tensor) -> tuple[Tensor, Tensor]:
        """The shape, and the thumbnail in [0, 1] times its gain: (N, 6, 8, 12), (N, 3, 64, 96)."""
        shape, u = self.shape(thumbnail), unit(thumbnail)
        return shape, u * exp2(_slice(log_tone(u.mean(dim=1)), shape, whole(u.shape[0], u)))


def _offset(lit: Tensor, target: Tensor) -> Tensor:
    """(N, 1): the offset o at which the mean of shoulder(lit 2^o) is 2^target.

    The mean rises with o at a slope in (0, 1] of logarithms, so that o += target - log2 mean goes there from below; the
    shoulder alone keeps it from being there at once.
    """
    offset = target - torch.log2(_mean(lit))
    for _ in range(ROUNDS):
        offset = offset + target - torch.log2(_mean(shoulder(lit * exp2(offset)[:, :, None, None])))
    return offset


def _mean(u: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1)."""
    return plane_mean(u).mean(dim=1, keepdim=True).clamp_min(DARKEST)


class _Shape(nn.Module):
    """Four small convolutions, three of stride 2, and their mean; 3 tanh of six maps of 8x12."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(6, 24, 3, stride=2, padding=1),
                nn.Conv2d(24, 48, 3, stride=2, padding=1),
                nn.Conv2d(48, 64, 3, stride=2, padding=1),
                nn.Conv2d(64, 64, 3, padding=1),
            ]
        )
        self.overall = nn.Linear(64, 64)
        self.out = nn.Conv2d(64, GRID[0], 3, padding=1)
        with torch.no_grad():
            self.out.weight.mul_(0.1)  # close to one gain everywhere
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, seen: Tensor) -> Tensor:
        h = seen
        for conv in self.convs:
            h = F.relu(conv(h))  # (N, 24, 32, 48), (N, 48, 16, 24), (N, 64, 8, 12) twice
        h = h + self.overall(plane_mean(h))[:, :, None, None]
        return STEEPEST * torch.tanh(self.out(h) / STEEPEST)
