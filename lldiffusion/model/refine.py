"""A last look at full resolution: a network on patches weaves their grid into flat, noisy regions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import activate


class Refine(nn.Module):
    """x0 + conv3(act(conv3([x0, base]))); starts as the identity."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.look = nn.Conv2d(6, channels, 3, padding=1)
        self.mend = nn.Conv2d(channels, 3, 3, padding=1)
        nn.init.zeros_(self.mend.weight)
        nn.init.zeros_(self.mend.bias)  # type: ignore[arg-type]

    def forward(self, x0: Tensor, base: Tensor) -> Tensor:  # both (N, 3, H, W)
        return x0 + self.mend(activate(self.look(torch.cat([x0, base.to(x0.dtype)], dim=1)), self.activation))
