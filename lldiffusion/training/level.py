"""Fits the guess of the level head: from a whole reduced picture, how bright its result shall be on average.

Pairs say what their cameras and photographers did; normal photographs say that a picture that is bright already stays
as it is.  Hundreds of pictures and a small network: a minute.  What it can know is limited: on scenes left out, every
head tried is off by 15 to 20 of 255 on LOL, where a constant is off by 28; so `--exposure` exists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lldiffusion.config import DataConfig
from lldiffusion.data.dataset import Source, load_bytes
from lldiffusion.data.layouts import Pair
from lldiffusion.engines.level import reduce_picture
from lldiffusion.model.guess import Places, Tones, darkness, knots_of, tones_of
from lldiffusion.model.level import LevelHead
from lldiffusion.model.tone import log_mean

BATCH = 24
RATE = 3e-3
DECAY = 0.04  # weight decay
SHIFT = 0.05  # random exposure of the low picture, +- this many log2 of the sRGB value
TONES_BATCH, TONES_RATE, TONES_DECAY = 64, 5e-3, 0.2  # of `Tones`: small networks on a few numbers
NOISE = 0.3  # spreads of each number, added in training: pictures with nearby tones are to be lit alike
SMALLEST = 1e-3  # log2: spread of a number
PRIOR = 1e-3  # of the curve: weight of "no change" against all pictures together
FORGET = 0.3  # share of what is seen that is dropped in each step
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


def fit_guess(head: LevelHead, seen: Thumbnails, steps: int, seed: int = 0) -> None:
    """Fit `head.guess` in place, its networks one after the other, each in `steps` with draws of its own."""
    dark, numbers = _dark(seen), tones_of(seen.low)
    for guess, number in [(guess, n) for several in (head.mean, head.tones) for n, guess in enumerate(several)]:
        guess.requires_grad_(True)
        with torch.random.fork_rng(devices=[]):  # what is forgotten is drawn from the global numbers
            generator = torch.manual_seed(seed * len(head.mean) + number)
            if isinstance(guess, Places):
                _fit_places(guess, seen, generator, steps)
            elif isinstance(guess, Tones):
                _fit_tones(guess, numbers, dark, generator, steps // 2)
        guess.requires_grad_(False)
    head.zero_grad()  # or the trainer would clip by these too


def _fit_places(guess: Places, seen: Thumbnails, generator: torch.Generator, steps: int) -> None:
    guess.usual.data.copy_(_usual(seen))
    learnt = [value for name, value in guess.named_parameters() if name != "usual"]

    def loss() -> Tensor:
        low, wanted = _draw(seen, generator)
        return F.huber_loss(guess(low, FORGET), wanted - log_mean(low), delta=HUBER)

    _descend(torch.optim.AdamW(learnt, RATE, weight_decay=DECAY, fused=True), loss, steps)


def _fit_tones(guess: Tones, numbers: Tensor, seen: Thumbnails, generator: torch.Generator, steps: int) -> None:
    """numbers: `tones_of` the pictures of `seen`, whose weights say which are looked at."""
    share = (seen.weight / seen.weight.sum())[:, None]
    guess.usual.copy_((numbers * share).sum(dim=0))
    guess.spread.copy_(((numbers - guess.usual).square() * share).sum(dim=0).sqrt() + SMALLEST)
    change = log_mean(seen.normal) - log_mean(seen.low)

    def loss() -> Tensor:
        which = torch.multinomial(seen.weight, TONES_BATCH, replacement=True, generator=generator)
        noise = NOISE * torch.randn(TONES_BATCH, numbers.shape[1], generator=generator)
        return F.huber_loss(guess(numbers[which], noise), change[which], delta=HUBER)

    optimizer = torch.optim.AdamW(guess.parameters(), TONES_RATE, weight_decay=TONES_DECAY, fused=True)
    _descend(optimizer, loss, steps)


def _descend(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], steps: int) -> None:
    """`steps` of a rate that falls to zero along a cosine."""
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        rate.step()


def _dark(seen: Thumbnails) -> Thumbnails:
    """The same, with the weights of pictures that are dark and become brighter; the others are hardly drawn."""
    before, after = log_mean(seen.low)[:, 0], log_mean(seen.normal)[:, 0]
    wanted = (darkness(before) > 0) & (after > before)
    return replace(seen, weight=seen.weight * wanted.float().clamp_min(1e-6))


def _usual(seen: Thumbnails) -> Tensor:
    """(KNOTS,): the curve closest to the changes of all pictures, drawn to zero where there are none."""
    shares, changes = knots_of(log_mean(seen.low)), log_mean(seen.normal) - log_mean(seen.low)
    weighted = shares * (seen.weight / seen.weight.sum())[:, None]
    gram = weighted.T @ shares + PRIOR * torch.eye(shares.shape[1])
    return torch.linalg.solve(gram, weighted.T @ changes)[:, 0]


def _draw(seen: Thumbnails, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of pictures, mirrored and lit a little otherwise, and the log2 means that they shall get."""
    which = torch.multinomial(seen.weight, BATCH, replacement=True, generator=generator)
    low, wanted = seen.low[which], log_mean(seen.normal[which])
    mirrored = [axis for axis in (2, 3) if torch.rand(1, generator=generator) < 0.5]
    shift = torch.exp2(SHIFT * (2 * torch.rand(BATCH, 1, 1, 1, generator=generator) - 1))
    needs_nothing = (log_mean(low) == wanted)[:, :, None, None]  # a shift would ask to undo it
    shift = torch.where(needs_nothing, torch.ones_like(shift), shift)
    return ((low.flip(mirrored) + 1) * shift - 1).clamp(-1, 1), wanted


@torch.no_grad()
def guess_error(head: LevelHead, low: Tensor, normal: Tensor) -> float:
    """Mean absolute error of the guessed mean in 1/255; low, normal (P, 3, 32, 48)."""
    return 255 * float((torch.exp2(head.guess_of(low)) - torch.exp2(log_mean(normal))).abs().mean())
