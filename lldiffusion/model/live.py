"""A denoiser for video on a plain CPU: it thinks on a coarse grid, acts at full resolution, and remembers.

    s(u) = shoulder(u 2^gain)                  y, brightened by the level                       u = (y + 1) / 2
    z    = offset + factor s(u)                this frame's picture
    d    = previous - z                        0 where there is no previous result
    x0   = z + keep d + lifted refine(z, d)    keep in [0, 1]; lifted in [0, 1]: what needs nothing stays as it is

offset, factor and keep (0 where the scene moved) come from a U-Net that sees squares of `patch` x `patch` pixels
averaged: most of the noise is gone before its first convolution, and everything is 1/patch^2 as large (as in Gharbi et
al., "HDRNet", SIGGRAPH 2017).  They are enlarged to half size, where the gain follows the picture's own brightness,
and so its edges, and where z becomes one straight line a pixel, P + Q y (as in Chen et al., "Bilateral guided
upsampling", SIGGRAPH Asia 2016): at full size, where time is memory traffic, two numbers a value are all that is read.
The recursion averages noise over time (as in Maggioni et al., "EMVD", CVPR 2021); a small network at half size refines
the result.

x_t is the model's own previous result in [-1, 1], and zeros where there is none: a first frame, a cut, a still picture.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.config import Config

from .blocks import activate
from .color_map import ColorMap
from .level import SHOULDER, brighten, float32, gain_line, tint_of, whole
from .plain import RESIDUAL_START, PlainUNet
from .tone import exp2, log_tone, unit

SAID = 7  # planes of the grid's answer: offset (3), factor (3), keep
MISSING = 1e-6  # a previous result whose averages are all below this is none
BLACK = 0.05  # sRGB value that black may become
DOUBT = -1.0  # of the previous result, at the start: keep = sigmoid(-1) = 0.27


class LiveDenoiser(nn.Module):
    """The contract of `network.Denoiser` for one step of a recurrent model; its timestep is always the last one.

    y, x_t: (N, 3, H, W) in [-1, 1]; c: (N, 3, H/patch, W/patch), of the averaged picture; level (N, 6 or 9, 8, 12);
    returns x0 (N, 3, H, W).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        unet = config.model.denoiser
        self.patch, self.rest = unet.patch, config.model.rest
        self.tinted = config.model.tinted
        ladder = config.model.encoder.ladder
        self.net = PlainUNet(replace(unet, patch=1), 12, SAID, ladder, timed=False, tinted=self.tinted)
        self.refine = HalfSizeRefine(unet.refine, unet.activation)
        _start_as_base(self.net)

    def forward(
        self,
        x_t: Tensor,
        y: Tensor,
        c: Tensor,
        t: Tensor | float,
        features: tuple[Tensor, ...],
        level: Tensor | None = None,
        window: Tensor | None = None,
        exposure: Tensor | float = 0.0,
    ) -> Tensor:
        assert level is not None, "checked by the configuration"
        window = whole(y.shape[0], y) if window is None else window
        half = average(y, 2)
        small, before = average(half, self.patch // 2), average(x_t, self.patch)
        known = (before.abs().amax(dim=(1, 2, 3), keepdim=True) > MISSING).to(y.dtype)
        base = brighten(small, level, window, exposure)
        seen = torch.cat([2 * log_tone(unit(small)) - 1, c, base, base + known * (before - base)], dim=1)
        tint = tint_of(level) if self.tinted else None
        said = _grounded(self.net(seen, features, tint=tint).float(), unit(base))
        keep, lifted = known * torch.sigmoid(said[:, 6:]), self._gain(small, level, window, exposure)
        planes = enlarge(torch.cat([said[:, :6], keep, *lifted], dim=1), self.patch // 2, "bilinear")
        return self._lay_over(y, x_t, known, half, planes)

    def _gain(
        self, small: Tensor, level: Tensor, window: Tensor, exposure: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 1, h, w) each: the gain at black, its slope over log-toned brightness, and how much is lifted at all."""
        lift, slope, grey = gain_line(small, level, window, exposure)
        lifted = (lift.abs() / self.rest).clamp_max(1) if self.rest else torch.ones_like(lift)
        return lift - slope * grey, slope, lifted

    def _lay_over(self, y: Tensor, before: Tensor, known: Tensor, half: Tensor, planes: Tensor) -> Tensor:
        """The grid's answer, (N, 10, H/2, W/2), applied to every pixel.

        Pictures are rows of pixels (N, C, H W) here: of four axes some runtimes make pixels of three values beside each
        other, which the arithmetic of vectors handles five at a time instead of sixteen.
        """
        with float32():
            offset, factor, keep, black, slope, lifted = planes.flatten(2).split([3, 3, 1, 1, 1, 1], dim=1)
            seen = half.flatten(2)
            p, q = _straight(seen, offset, factor, black + slope * _grey(seen), lifted)
            p, q, keep = (_doubled(value, half) for value in (p, q, keep))
            z = p + q * y.flatten(2)
            d = before.flatten(2) - known[..., 0] * z
            x0 = z + keep * d
            mended = lifted.view(-1, 1, *half.shape[2:]) * self.refine(z.view_as(y), d.view_as(y)).float()
            return (x0 + F.pixel_shuffle(mended, 2).flatten(2)).view_as(y)


class HalfSizeRefine(nn.Module):
    """z, d (N, 3, H, W) -> a residual (N, 12, H/2, W/2), four pixels' values a place; starts at zero."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.look = nn.Conv2d(3, channels, 4, stride=2, padding=1)
        self.compare = nn.Conv2d(3, channels, 4, stride=2, padding=1, bias=False)
        self.think = nn.Conv2d(channels, channels, 3, padding=1)
        self.mend = nn.Conv2d(channels, 12, 3, padding=1)
        nn.init.zeros_(self.mend.weight)
        nn.init.zeros_(self.mend.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor, d: Tensor) -> Tensor:
        h = activate(self.look(z) + self.compare(d), self.activation)
        return self.mend(activate(self.think(h), self.activation))


class SmallColorMap(ColorMap):
    """C of the picture averaged over squares of `patch` pixels: (N, 3, H, W) -> (N, 3, H/patch, W/patch)."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(average(y, self.patch))


def average(x: Tensor, side: int) -> Tensor:
    """Means over squares of `side` pixels, (N, 3, H, W) -> (N, 3, H/side, W/side); a convolution is the fastest way."""
    if side == 1:
        return x
    with float32():
        weight = torch.eye(3, device=x.device)[:, :, None, None].expand(3, 3, side, side) / side**2
        return F.conv2d(x.float(), weight, stride=side)


def enlarge(x: Tensor, factor: int, how: str) -> Tensor:
    """(N, C, H, W) -> (N, C, factor H, factor W), "nearest" or "bilinear"."""
    return x if factor == 1 else F.interpolate(x, scale_factor=float(factor), mode=how)


def _doubled(rows: Tensor, half: Tensor) -> Tensor:
    """(N, C, h w) of the size of `half` (N, 3, h, w) -> (N, C, 2 h 2 w): every value four times."""
    return enlarge(rows.view(rows.shape[0], -1, *half.shape[2:]), 2, "nearest").flatten(2)


def _grey(y: Tensor) -> Tensor:
    """(N, 3, ...) -> (N, 1, ...): log-toned brightness."""
    return log_tone(unit(y).mean(dim=1, keepdim=True))


def _grounded(said: Tensor, base: Tensor) -> Tensor:
    """The grid's answer with offsets lowered where it would make a picture of nothing.

    The averaged picture may come out twice as bright as its brightened self `base` (in [0, 1]), and BLACK more: squares
    of zeros tell the network nothing, and it made grey fog of them.
    """
    with float32():
        offset, factor, rest = said.split([3, 3, 1], dim=1)
        most = 2 * base.amax(dim=1, keepdim=True) + BLACK
        above = ((offset + factor * base + 1) / 2 - most).clamp_min(0)
        return torch.cat([offset - 2 * above, factor, rest], dim=1)


def _straight(half: Tensor, offset: Tensor, factor: Tensor, gain: Tensor, lifted: Tensor) -> tuple[Tensor, Tensor]:
    """P and Q of z = P + Q y around the averaged picture `half`; where nothing is lifted P = 0, Q = 1."""
    u, g = unit(half), exp2(gain)
    over = (u * g - SHOULDER).clamp_min(0)
    bent = torch.exp(-over / SHOULDER)  # the slope of the shoulder
    s, slope = (u * g).clamp_max(SHOULDER) + SHOULDER * (1 - bent), g * bent
    p = offset + factor * (s - slope * u)  # z = p + factor slope u
    q = lifted * factor * slope / 2 + (1 - lifted)
    return lifted * (p + factor * slope / 2), q


def _start_as_base(net: PlainUNet) -> None:
    """The brightened picture at the start: offset -1, factor 2, and some of the previous result."""
    out = net.conv_out
    with torch.no_grad():
        out.weight.mul_(RESIDUAL_START)
        assert out.bias is not None
        out.bias.copy_(torch.tensor([-1.0] * 3 + [2.0] * 3 + [DOUBT]))
