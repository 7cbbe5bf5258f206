"""Rules that bound the guessed level: lamps, backlight, night, and pictures that need nothing.

u is a thumbnail (N, 3, H, W) in [0, 1]; an offset is a log2 gain, (N, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BRIGHT = 0.9  # a channel from here on counts as white already
BURNT = 64  # pixels of a thumbnail that may become white: 1 %
SHADE, LIT = 0.2, 0.5  # sRGB values below and above which a pixel counts as in the shade, as lit
BLACK = 2.5 / 255  # sRGB value at which a pixel begins to count as black
NIGHT = 2.2  # log2: the most that a night with a lamp in it is lifted, five stops of light


def most_at_night(u: Tensor) -> Tensor:
    """(N, 1): the most that a picture is lifted; no bound but for one that is half black and has a lamp.

    Who took it exposed for the lamp.  What is black beside it holds noise alone, and is black to who stood there.
    """
    black = plane_mean(((BLACK - u.mean(dim=1)) * 255).clamp(0, 1))[:, None]
    lamp = u.amax(dim=(1, 2, 3))[:, None]
    night = ((black - 0.45) / 0.1).clamp(0, 1) * ((lamp - 0.4) / 0.2).clamp(0, 1)
    return NIGHT + 10 * (1 - night)


def backlit(u: Tensor) -> Tensor:
    """(N, 1): 1 for a picture u (N, 3, H, W) in [0, 1] with much in the shade beside much light, 0 for most pictures.

    Its mean is right, and nothing of the guess would lift it; its shadows are lifted, its light stays as it is.
    """
    grey = u.mean(dim=1)
    dark, light = (plane_mean((edge * 10).clamp(0, 1))[:, None] for edge in (SHADE + 0.05 - grey, grey - LIT + 0.05))
    return ((dark - 0.35) / 0.1).clamp(0, 1) * ((light - 0.1) / 0.1).clamp(0, 1)


def needed_of(change: Tensor, rest: float) -> Tensor:
    """0 for a picture whose brightness shall stay, 1 from a change of log2 `rest` / 3 on."""
    return (3 * change / rest).clamp(0, 1)


def bearable(lit: Tensor, u: Tensor, white: float) -> Tensor:
    """(N, 1): the offset at which BURNT pixels of a thumbnail, not white before, come to `white` in one channel."""
    brightest = torch.where(u.amax(dim=1) < BRIGHT, lit.amax(dim=1), torch.zeros_like(lit[:, 0])).flatten(1)
    last = brightest.topk(BURNT, dim=1).values[:, -1:]
    return math.log2(white) - torch.log2(last.clamp_min(2.0**-10))


def plane_mean(planes: Tensor) -> Tensor:
    """(..., H, W) -> (...), by rows: a sum over a whole picture in float32 loses 0.3 % in some runtimes."""
    return planes.mean(dim=-1).mean(dim=-1)
