"""The guess by tones: what it sees, when it has a say, and that it learns cameras that places do not tell apart."""

import pytest

pytest.importorskip("torch")

import numpy as np
import torch

from lldiffusion.config import load_config
from lldiffusion.model import LLDiffusion
from lldiffusion.model.guess import DARK, FARTHEST, LIGHT, PARTS, SHARE, Tones, darkness, guessed_change, tones_of
from lldiffusion.model.level import LevelHead
from lldiffusion.model.tone import log_mean
from lldiffusion.training.level import Thumbnails, fit_guess
from lldiffusion.training.losses import Objective


def _pictures(count: int, brightness: float, seed: int) -> torch.Tensor:
    noise = torch.rand(count, 3, 32, 48, generator=torch.Generator().manual_seed(seed))
    return 2 * (brightness * (0.5 + noise)).clamp(0, 1) - 1


def _fitted(seen: Thumbnails, steps: int) -> LevelHead:
    """A head whose tones alone are fitted, in half of `steps`."""
    head = LevelHead(tones=True)
    places, head.mean = head.mean, torch.nn.ModuleList()
    fit_guess(head, seen, steps)
    head.mean = places
    return head


def test_the_tones_are_the_quantiles_of_each_channel() -> None:
    small = _pictures(2, 0.1, 0)
    u = ((small + 1) / 2).flatten(2).numpy()
    wanted = np.log2(np.quantile(u, PARTS, axis=2).transpose(1, 2, 0).reshape(2, -1) + 2e-3)
    numbers = tones_of(small)
    assert numbers.shape == (2, 3 * len(PARTS) + 1)
    np.testing.assert_allclose(numbers[:, :-1], wanted, atol=0.02)  # of the nearest pixel, not between two
    torch.testing.assert_close(numbers[:, -1:], log_mean(small))
    torch.testing.assert_close(tones_of(small.flip(2, 3)), numbers)


def test_tones_have_their_say_in_dark_pictures_alone() -> None:
    edges = torch.tensor([DARK - 1, DARK, (DARK + LIGHT) / 2, LIGHT, LIGHT + 1])
    assert darkness(edges).tolist() == pytest.approx([1, 1, 0.5, 0, 0])
    tones = Tones()
    torch.nn.init.constant_(tones.layers[-1].get_parameter("bias"), 2.0)
    places = LevelHead().mean  # say: no change
    dark, bright = (guessed_change(_pictures(1, b, 1), places, [tones]).item() for b in (0.05, 0.5))
    assert dark == pytest.approx(2 * SHARE, abs=0.02)  # but for what a small doubt would take
    assert bright == 0
    assert guessed_change(_pictures(1, 0.05, 1), places, []).item() == 0


def test_two_cameras_are_told_apart_by_their_black() -> None:
    """One camera's black is greenish and its normal pictures bright, the other's is neutral and they are dim."""
    low, wanted = _pictures(40, 0.04, 2), torch.full((40, 1, 1, 1), 0.25)
    low[::2, 1] += 2 * 0.02
    low[::2, [0, 2]] -= 2 * 0.01  # the same mean
    wanted[::2] = 0.5
    seen = Thumbnails(low, (2 * wanted - 1).expand_as(low), torch.ones(40))
    head = _fitted(seen, steps=200)
    for tones in head.tones:
        told = log_mean(low) + tones(tones_of(low))
        assert (2**told - wanted[:, :, 0, 0]).abs().max() < 0.06


def test_numbers_beyond_what_was_seen_count_as_the_last_that_were() -> None:
    tones = Tones()
    torch.nn.init.ones_(tones.layers[-1].get_parameter("weight"))
    usual, spread = tones.get_buffer("usual").fill_(-3), tones.get_buffer("spread").fill_(0.5)
    far, farther = (tones((usual + times * spread)[None]) for times in (FARTHEST, 20))
    assert torch.equal(far, farther)
    assert not torch.equal(far, tones(usual[None]))


def test_training_leaves_the_guess_alone() -> None:
    """It is fitted apart: the denoiser learns with the true level."""
    model = LLDiffusion(load_config("tiny"))
    Objective(model, model.config, "joint")
    assert model.level is not None and len(model.level.tones)
    guesses = [*model.level.mean.parameters(), *model.level.tones.parameters()]
    assert not any(value.requires_grad for value in guesses)
    assert all(value.requires_grad for value in model.level.grid.parameters())


def test_a_far_picture_is_not_lit_without_bound() -> None:
    low = _pictures(8, 0.05, 3)
    head = _fitted(Thumbnails(low, (low + 1) * 8 - 1, torch.ones(8)), steps=40)
    black = torch.full((1, 3, 32, 48), -1.0)
    black[:, 0, 0, 0] = 1.0
    assert torch.isfinite(head.guess_of(black)).all()
    assert head.guess_of(black).item() <= 0


def test_pictures_that_stay_are_left_to_the_places() -> None:
    """Dark pictures that stay dark beside dark ones that are lit: the tones hear of the second alone."""
    lit, stays = _pictures(8, 0.05, 4), _pictures(8, 0.15, 5)
    seen = Thumbnails(torch.cat([lit, stays]), torch.cat([(lit + 1) * 8 - 1, stays]), torch.ones(16))
    head = _fitted(seen, steps=200)
    for tones in head.tones:
        assert tones(tones_of(lit)).mean().item() == pytest.approx(3, abs=0.15)
        assert tones(tones_of(stays)).mean().item() > 2
