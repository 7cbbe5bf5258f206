"""Curves of brightness: u in [0, 1] as the networks see it, and means in powers of two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .color_map import ColorMap
from .level_rules import plane_mean

LOG_TONE = 100.0  # strength a of the tone curve log(1 + a u) / log(1 + a)
DARKEST = 2.0**-10  # mean brightness below which a picture counts as black


def exp2(x: Tensor) -> Tensor:
    """2^x as e^(x ln 2): runtimes have a fast exponential, and of `torch.exp2` an ONNX graph makes a general power."""
    return torch.exp(x * math.log(2))


def log_tone(u: Tensor) -> Tensor:
    """log(1 + a u) / log(1 + a) for u in [0, 1]: with a = 100, a mean of 0.04 becomes 0.35."""
    return torch.log1p(LOG_TONE * u) / math.log1p(LOG_TONE)


def unit(y: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], float32."""
    return ((y.float() + 1) / 2).clamp(0, 1)


def log_mean(y: Tensor) -> Tensor:
    """(N, 1): log2 of the mean sRGB value of y (N, 3, H, W) in [-1, 1]."""
    return torch.log2(plane_mean(unit(y)).mean(dim=1).clamp_min(DARKEST))[:, None]


def look(thumbnail: Tensor) -> Tensor:
    """(N, 6, H, W): log-toned y and its colour map, both in [-1, 1]."""
    return torch.cat([2 * log_tone(unit(thumbnail)) - 1, ColorMap()(thumbnail)], dim=1)
