"""Fits the guess of the level head: from a whole reduced picture, how bright its result shall be on average.

Pairs say what their cameras and photographers did; normal photographs say that a picture that is bright already stays
as it is.  Hundreds of pictures and a small network: a minute.  What it can know is limited: on scenes left out, every
head tried is off by 15 to 20 of 255 on LOL, where a constant is off by 28; so `--exposure` exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lldiffusion.config import DataConfig
from lldiffusion.data.dataset import Source, load_bytes
from lldiffusion.data.layouts import Pair
from lldiffusion.engines.level import reduce_picture
from lldiffusion.model.level import LevelHead, log_mean

STEPS = 1500
BATCH = 32
RATE = 2e-3
DECAY = 0.02  # weight decay: few pictures
SHIFT = 0.15  # random exposure of the low picture, +- this many log2 of the sRGB value
SMALLEST = 0.85  # of each side of a thumbnail: random parts stand for the whole
AVERAGE = 0.995  # decay of the averaged weights, which are kept
HUBER = 0.25  # log2: a picture that is further off than this pulls no harder


@dataclass(frozen=True)
class Thumbnails:
    """Whole pictures reduced: low and normal (P, 3, 32, 48) in [-1, 1], weight (P,) of each in the draw."""

    low: Tensor
    normal: Tensor
    weight: Tensor


def collect(sources: list[Source], config: DataConfig) -> Thumbnails:
    """All pictures of the sources; a simulated source's are low and normal at once, for they need nothing.

    So is a share of the pairs' normal pictures: `data.simulated_share` times `data.as_is`.
    """
    lows, normals, weights = [], [], []
    shares = config.weights or [float(len(source.pairs)) for source in sources]
    spared = config.simulated_share * config.as_is
    for source, share in zip(sources, shares, strict=True):
        low, normal = _of(source.pairs)
        each = share / max(1, len(source.pairs))
        kinds = [(normal, 1.0)] if source.simulated else [(low, 1 - spared), (normal, spared)]
        for given, part in kinds:
            if part:
                lows.append(given)
                normals.append(normal)
                weights.append(torch.full((len(given),), each * part))
    return Thumbnails(torch.cat(lows), torch.cat(normals), torch.cat(weights))


def _of(pairs: tuple[Pair, ...] | list[Pair]) -> tuple[Tensor, Tensor]:
    sides = [[reduce_picture(load_bytes(path)) for path in paths] for paths in zip(*((p.low, p.normal) for p in pairs))]
    low, normal = (torch.from_numpy(np.stack(side).transpose(0, 3, 1, 2) / np.float32(127.5) - 1) for side in sides)
    return F.avg_pool2d(low, 2), F.avg_pool2d(normal, 2)


def fit_guess(head: LevelHead, seen: Thumbnails, seed: int = 0, steps: int = STEPS) -> None:
    """Fit `head.guess` in place; its averaged weights are kept."""
    generator = torch.Generator().manual_seed(seed)
    parameters = list(head.mean.parameters())
    head.mean.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    average = [p.detach().clone() for p in parameters]
    for step in range(steps):
        low, wanted = _draw(seen, generator)
        loss = F.huber_loss(head.guess_of(low), wanted, delta=HUBER)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        with torch.no_grad():
            for kept, p in zip(average, parameters, strict=True):
                kept.lerp_(p, 1 - min(AVERAGE, (1 + step) / (10 + step)))
    with torch.no_grad():
        for kept, p in zip(average, parameters, strict=True):
            p.copy_(kept)
    head.mean.requires_grad_(False)
    head.zero_grad()  # or the trainer would clip by these too


def _draw(seen: Thumbnails, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of parts of pictures, flipped and lit otherwise, and the log2 means they shall get."""
    which = torch.multinomial(seen.weight, BATCH, replacement=True, generator=generator)
    low, normal = seen.low[which], seen.normal[which]
    corners = torch.rand(BATCH, 4, generator=generator)
    kept = SMALLEST + (1 - SMALLEST) * corners[:, :2]
    middle = (corners[:, 2:] * 2 - 1) * (1 - kept)
    flip = torch.randint(2, (BATCH, 2), generator=generator) * 2.0 - 1
    place = torch.zeros(BATCH, 2, 3)
    place[:, 0, 0], place[:, 1, 1] = kept[:, 0] * flip[:, 0], kept[:, 1] * flip[:, 1]
    place[:, :, 2] = middle
    grid = F.affine_grid(place, list(low.shape), align_corners=False)
    low, normal = (F.grid_sample(side, grid, align_corners=False, padding_mode="border") for side in (low, normal))
    shift = torch.exp2(SHIFT * (2 * torch.rand(BATCH, 1, 1, 1, generator=generator) - 1))
    lit = ((low + 1) * shift - 1).clamp(-1, 1)
    same = (low == normal).flatten(1).all(dim=1)[:, None, None, None]
    return torch.where(same, low, lit), log_mean(normal)


@torch.no_grad()
def guess_error(head: LevelHead, low: Tensor, normal: Tensor) -> float:
    """Mean absolute error of the guessed mean in 1/255."""
    return 255 * float((torch.exp2(head.guess_of(low)) - torch.exp2(log_mean(normal))).abs().mean())
