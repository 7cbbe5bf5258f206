"""The global level: how bright the picture shall be, apart from how it is restored.

Most of the error of low-light enhancement is global brightness (Liao et al., "GT-Mean Loss", arXiv 2507.20148;
Zhou et al., "Pyramid Diffusion", IJCAI 2023), and it cannot be told from a crop.  So the encoder says once, from the
whole image, how bright the result shall be on average, and the denoiser starts from y brightened to that level:

    level = log2 sigmoid(MLP(moments of log-toned y))          mean of the result's sRGB values, guessed
    b     = min(u * 2^(level + exposure / 2.2) / mean(u), 2)   u = (y + 1) / 2

In training the level is the normal image's own mean, so the denoiser learns to obey it; `exposure` then moves it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.photometry import DISPLAY_GAMMA

POOL = 8  # pixels a side: noise is averaged away before the moments are taken
MOMENTS = 5  # means of red, green and blue; standard deviation and mean square of their mean
HIDDEN = 16
LOG_TONE = 100.0  # strength a of the tone curve log(1 + a u) / log(1 + a)
DARKEST = 2.0**-10  # mean brightness below which y counts as black
HEADROOM = 2.0  # largest brightened value: what lies above is clipped


def log_tone(u: Tensor) -> Tensor:
    """log(1 + a u) / log(1 + a) for u in [0, 1]: with a = 100, a mean of 0.04 becomes 0.35."""
    return torch.log1p(LOG_TONE * u) / math.log1p(LOG_TONE)


class LevelHead(nn.Module):
    """(N, 3, H, W) in [-1, 1] -> (N, 2, 1, 1): log2 of the mean that the result shall have, and of the mean of y.

    Fitted on whole images (`lldiffusion.training.level`), never by gradient descent of the denoiser.
    """

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(MOMENTS))
        self.hidden = nn.Linear(MOMENTS, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)

    def forward(self, y: Tensor) -> Tensor:
        return torch.cat([self.level(self.moments(y)), log_mean(y)], dim=1)[:, :, None, None]  # (N, 2, 1, 1)

    def moments(self, y: Tensor) -> Tensor:
        """(N, MOMENTS) of the log-toned image."""
        toned = log_tone(F.avg_pool2d(unit(y), POOL))  # (N, 3, H/8, W/8)
        grey = toned.mean(dim=1)
        mean, square = plane_mean(grey), plane_mean(grey * grey)
        deviation = (square - mean * mean).clamp_min(1e-8).sqrt()
        return torch.cat([plane_mean(toned), deviation[:, None], square[:, None]], dim=1)

    def logit(self, moments: Tensor) -> Tensor:
        """(N, 1): logit of the mean that the result shall have."""
        return self.out(torch.tanh(self.hidden((moments - self.centre) / 0.15)))  # 0.15: spread of the moments, about

    def level(self, moments: Tensor) -> Tensor:
        """(N, 1): its log2."""
        return F.logsigmoid(self.logit(moments)) / math.log(2)


def unit(y: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], float32."""
    return ((y.float() + 1) / 2).clamp(0, 1)


def log_mean(y: Tensor) -> Tensor:
    """(N, 1): log2 of the mean sRGB value."""
    return torch.log2(plane_mean(unit(y)).mean(dim=1).clamp_min(DARKEST))[:, None]


def plane_mean(planes: Tensor) -> Tensor:
    """(..., H, W) -> (...), by rows: ONNX Runtime adds up in float32, and over a whole 1080p image lost 0.3 %."""
    return planes.mean(dim=-1).mean(dim=-1)


def true_level(low: Tensor, normal: Tensor) -> Tensor:
    """(N, 2, 1, 1): what the head should have said, for training."""
    return torch.cat([log_mean(normal), log_mean(low)], dim=1)[:, :, None, None]


def brighten(y: Tensor, level: Tensor, exposure: Tensor | float = 0.0) -> Tensor:
    """b in [-1, 3]: y scaled to the level, moved by `exposure` stops.  y (N, 3, H, W), level (N, 2, 1, 1)."""
    level = level.float()
    gain = torch.exp2(level[:, :1] + exposure / DISPLAY_GAMMA - level[:, 1:])  # (N, 1, 1, 1)
    return 2 * (unit(y) * gain).clamp_max(HEADROOM) - 1
