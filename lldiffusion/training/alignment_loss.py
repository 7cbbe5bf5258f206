"""What is left of the error once global colour is taken away: photometric alignment (arXiv 2604.08172).

    A = argmin sum over pixels |A [x0; 1] - normal|^2 + ridge |A - I|^2          one 3x4 colour transform a picture
    loss = L1(A [x0; 1], normal)

A small error of exposure or tint otherwise drowns the gradient of structure and of colour contrast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1e-3  # of the mean squared value: flat crops keep the identity


def aligned_l1(x0: Tensor, normal: Tensor) -> Tensor:
    """x0, normal (N, 3, H, W) in [-1, 1].  A is held fixed in the gradient: at its optimum it has none of its own."""
    with torch.no_grad(), torch.autocast(x0.device.type, enabled=False):
        transform = _fit(x0.float(), normal.float())
    moved = torch.einsum("nij,njhw->nihw", transform[:, :, :3], x0) + transform[:, :, 3, None, None]
    return F.l1_loss(moved, normal)


def _fit(x0: Tensor, normal: Tensor) -> Tensor:
    """(N, 3, 4): the transform of each picture."""
    x, y = x0.flatten(2), normal.flatten(2)  # (N, 3, P)
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)  # (N, 4, P)
    pixels, identity = x.shape[2], torch.eye(4, device=x.device)
    gram = x @ x.transpose(1, 2) / pixels + RIDGE * identity
    cross = y @ x.transpose(1, 2) / pixels + RIDGE * identity[:3]
    return torch.linalg.solve(gram, cross.transpose(1, 2)).transpose(1, 2)
