"""The colour map C(y): chromaticity without brightness (paper, equation 7)."""

from __future__ import annotations

from torch import Tensor, nn


class ColorMap(nn.Module):
    """u = (y + 1) / 2;  c = clip(u / (sum over channels of u + 1e-4), 0, 1);  C = 2c - 1.

    (N, 3, H, W) in [-1, 1] -> (N, 3, H, W) in [-1, 1], in float32 whatever the input: the sum is near zero in the dark.
    """

    def forward(self, y: Tensor) -> Tensor:
        u = (y.float() + 1) / 2
        c = (u / (u.sum(dim=1, keepdim=True) + 1e-4)).clamp(0, 1)
        return 2 * c - 1
