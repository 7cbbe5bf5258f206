"""Fits the level head: from a whole dark image, how bright its normal-light picture is on average.

A few numbers of each image and a small MLP: hundreds of images suffice, and seconds.  Pairs say what their cameras
and photographers did; normal photographs say that a picture that is bright already stays as it is.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lldiffusion.config import DataConfig
from lldiffusion.data.dataset import Source, load_pixels
from lldiffusion.model.level import LevelHead

STEPS = 800  # of Adam, on all images at once
RATE = 1e-2
DECAY = 0.1  # weight decay: the head is fitted to few images
HUBER = 0.5  # logit: an image that is further off than this pulls no harder
EDGE = 0.02  # means are kept this far from black and white, where the logit is infinite


def fit_level(head: LevelHead, sources: list[Source], config: DataConfig, seed: int = 0) -> float:
    """Fit `head` in place; returns the mean absolute error on its own images, in 1/255."""
    moments, means, weights = _samples(head, sources, config)
    generator = torch.Generator().manual_seed(seed)
    for layer in (head.hidden, head.out):
        torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
        torch.nn.init.zeros_(layer.bias)
    head.centre.copy_((moments * weights[:, None]).sum(dim=0))
    head.requires_grad_(True)
    _descend(head, moments, torch.logit(means.clamp(EDGE, 1 - EDGE)), weights)
    head.requires_grad_(False)
    head.zero_grad()  # or the trainer would clip by these too
    with torch.no_grad():
        return 255 * float((head.logit(moments)[:, 0].sigmoid() - means).abs().mean())


def _descend(head: LevelHead, moments: Tensor, wanted: Tensor, weights: Tensor) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        error = F.huber_loss(head.logit(moments)[:, 0], wanted, reduction="none", delta=HUBER)
        optimizer.zero_grad()
        (weights * error).sum().backward()
        optimizer.step()
        rate.step()


def _samples(head: LevelHead, sources: list[Source], config: DataConfig) -> tuple[Tensor, Tensor, Tensor]:
    """(images, MOMENTS), (images,) means of the normal images and (images,) weights that sum to 1."""
    moments, means, weights = [], [], []
    shares = config.weights or [float(len(source.pairs)) for source in sources]
    for source, share in zip(sources, shares, strict=True):
        for pair in source.pairs:
            low = load_pixels(pair.normal if source.simulated else pair.low)
            planes = torch.from_numpy(np.ascontiguousarray(low.transpose(2, 0, 1)))[None]
            moments.append(head.moments(2 * planes - 1)[0])
            means.append(float(load_pixels(pair.normal).mean()))
            weights.append(share / len(source.pairs))
    whole = torch.tensor(weights)
    return torch.stack(moments), torch.tensor(means), whole / whole.sum()
