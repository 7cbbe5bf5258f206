"""How bright a picture's result shall be on average, guessed from the picture: by its places, and by its tones.

What is seen where tells a scene that is known, or one like it; how bright the darkest, the middle and the brightest
of each channel are tells the camera, where it is known, and how much light there was.  On scenes left out both
together are off by less than places alone.  Both say log2 of the change of the mean, (N, 1); `training.level` fits
them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .tone import log_mean, look, unit

KNOTS = 10  # of the curve of `Places`, at means of 2^-9 ... 1
REST = 0.12  # log2: a change of the mean by less is mostly not made
PARTS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)  # of each channel's pixels: those that `Tones` sees
NUMBERS = 3 * len(PARTS) + 1  # that `Tones` sees, the log mean the last
FAINT = 2e-3  # added to brightness before its logarithm
FARTHEST = 3.0  # spreads from the usual that a number counts at most
WIDTH = 64  # of the layers of `Tones`
SHARE = 0.65  # of the guess that the tones have in dark pictures
DARK, LIGHT = -2.25, -1.75  # log2 of the mean from which on down they have it, and above which they have none


def knots_of(mean: Tensor) -> Tensor:
    """(N, 1) log2 of means -> (N, KNOTS): the share of each knot of the curve of `Places`."""
    at = (mean + (KNOTS - 1)).clamp(0, KNOTS - 1)
    knots = torch.arange(KNOTS, device=mean.device, dtype=torch.float32)
    return (1 - (at - knots).abs()).clamp_min(0)


class Places(nn.Module):
    """A curve of the picture's own mean, and what its places say besides.

    The curve is linear between knots a factor of two apart; it says what is usual (dark pictures are lit, bright ones
    stay).  Three convolutions, pooled to 2x3 cells, and one layer say how this picture differs.  Both start at zero,
    change nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.usual = nn.Parameter(torch.zeros(KNOTS))
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(6, 24, 3, stride=2, padding=1),
                nn.Conv2d(24, 48, 3, stride=2, padding=1),
                nn.Conv2d(48, 64, 3, stride=2, padding=1),
            ]
        )
        self.out = nn.Linear(64 * 2 * 3, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, small: Tensor, forget: float = 0.0) -> Tensor:
        """small (N, 3, 32, 48) in [-1, 1]; `forget`: share of what is seen that is dropped, in training."""
        usual = (knots_of(log_mean(small)) * self.usual).sum(dim=1, keepdim=True)
        h = look(small)  # (N, 6, 32, 48)
        for conv in self.convs:
            h = F.relu(conv(h))  # ... (N, 64, 4, 6)
        cells = F.avg_pool2d(h, 2).flatten(1)  # (N, 384): what is seen in each of 2x3 cells
        return usual + self.out(F.dropout(cells, forget, forget > 0))


def tones_of(small: Tensor) -> Tensor:
    """(N, 3, 32, 48) in [-1, 1] -> (N, NUMBERS): log2 of the brightness at PARTS of each channel, and the log mean."""
    planes = unit(small).flatten(2)  # (N, 3, 1536)
    count = planes.shape[2]
    falling = planes.topk(count, dim=2).values
    at = torch.tensor([round((1 - part) * (count - 1)) for part in PARTS], device=small.device)
    return torch.cat([torch.log2(falling.index_select(2, at).flatten(1) + FAINT), log_mean(small)], dim=1)


class Tones(nn.Module):
    """Two hidden layers on the numbers of `tones_of`; starts at zero, changes nothing."""

    usual: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("usual", torch.zeros(NUMBERS))
        self.register_buffer("spread", torch.ones(NUMBERS))
        self.layers = nn.Sequential(
            nn.Linear(NUMBERS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
        )
        for value in self.layers[-1].parameters():
            nn.init.zeros_(value)

    def forward(self, numbers: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        """numbers (N, NUMBERS); `noise` in spreads of each is added to them, in training."""
        standard = (numbers - self.usual) / self.spread
        return self.layers(standard.clamp(-FARTHEST, FARTHEST) + noise)


def guessed_change(small: Tensor, places: Iterable[nn.Module], tones: Iterable[nn.Module]) -> Tensor:
    """(N, 1): log2 of the change of the mean; the mean over the networks, and over the four mirror images of small.

    `tones` (none: the places alone say it) have SHARE of it in dark pictures.
    """
    mirrored = [small.flip(axes) if axes else small for axes in ([], [2], [3], [2, 3])]
    change = torch.stack([guess(seen) for seen in mirrored for guess in places]).mean(dim=0)
    if tones := list(tones):
        numbers = tones_of(small)
        told = torch.stack([guess(numbers) for guess in tones]).mean(dim=0)
        change = change + SHARE * darkness(log_mean(small)) * (told - change)
    return change * change.square() / (change.square() + REST**2)  # small doubts leave the picture as it is


def darkness(mean: Tensor) -> Tensor:
    """Of log2 of means: 1 at DARK and below, 0 at LIGHT and above."""
    return ((LIGHT - mean) / (LIGHT - DARK)).clamp(0, 1)
