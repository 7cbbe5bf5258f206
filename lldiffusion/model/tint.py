"""The tint: the mean colour of the whole picture as it is, which the denoiser's blocks are told.

What a dark colour was cannot be said from its pixels alone: the camera's black and the light's colour lie over it, and
the mean colour tells of both (the grey-world assumption: Buchsbaum, "A spatial processor model for object colour
perception", 1980).  Fitted to LOL's training set, three numbers a picture halved the error of colour in scenes
left out; more statistics of the picture made it larger again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .level_rules import plane_mean

NUMBERS = 3  # of a tint
FAINTEST = 2.0**-10  # mean of a channel below which it counts as black
USUAL, SPREAD = -4.0, 2.0  # log2 of dark pictures' means: 2^-6 to 2^-2


def mean_color(u: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] -> (N, 3): log2 of red's and blue's means against the mean of all, and of that itself.

    Of about unit size; green follows from these.
    """
    means = plane_mean(u).clamp_min(FAINTEST)
    grey = torch.log2(means.mean(dim=1, keepdim=True))
    return torch.cat([torch.log2(means[:, ::2]) - grey, (grey - USUAL) / SPREAD], dim=1)
