"""The level: a grid of log-gain from the whole picture, obeyed by the denoiser; the mean that it aims at is guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lldiffusion.config import DataConfig, load_config
from lldiffusion.data.dataset import PairCrops, Source
from lldiffusion.data.layouts import Pair
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import Image, write_image
from lldiffusion.model import LLDiffusion
from lldiffusion.model.level import GRID, LevelHead, brighten, shoulder, tint_of, whole
from lldiffusion.model.tone import log_mean, log_tone, unit
from lldiffusion.training.level import collect, fit_guess, guess_error
from lldiffusion.training.losses import Objective


@pytest.fixture
def tiny() -> LLDiffusion:
    torch.manual_seed(0)
    return LLDiffusion(load_config("tiny"))


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Pair, ...]:
    """Flat pictures: every low one a sixth of its normal one, with a little texture."""
    rng, made = np.random.default_rng(0), []
    for i, mean in enumerate(np.linspace(0.2, 0.7, 16)):
        normal = np.clip(mean + 0.05 * rng.standard_normal((64, 96, 3)), 0, 1).astype(np.float32)
        paths = tmp_path / f"low{i}.png", tmp_path / f"normal{i}.png"
        for path, pixels in zip(paths, (normal / 6, normal), strict=True):
            write_image(path, Image(pixels))
        made.append(Pair(*paths, name=str(i)))
    return tuple(made)


def _smooth(*shape: int) -> torch.Tensor:
    """Pictures without detail, which their thumbnails show as they are."""
    coarse = torch.rand(shape[0], 3, 4, 6, generator=torch.Generator().manual_seed(0))
    return 2 * (F.interpolate(coarse, shape[1:], mode="bilinear", align_corners=True) * 0.1) - 1


def _mean(b: torch.Tensor) -> torch.Tensor:
    return (b.mean(dim=(1, 2, 3)) + 1) / 2


def test_the_brightened_picture_has_the_mean_that_was_asked_for() -> None:
    torch.manual_seed(0)
    head, y = LevelHead(), _smooth(2, 128, 192)
    torch.nn.init.normal_(head.grid.out.weight, std=0.3)  # a grid that differs by place and brightness
    small = F.interpolate(y, (64, 96), mode="area")
    for wanted in (0.2, 0.45, 0.7):
        level = head.level(small, torch.full((2, 1), wanted).log2())
        assert level.shape == (2, *GRID)
        assert level.std() > 0.1
        assert torch.allclose(_mean(brighten(y, level, whole(2, y))), torch.full((2,), wanted), atol=5e-3)


def test_exposure_is_a_gain_below_the_shoulder() -> None:
    y = _smooth(2, 64, 64)
    level = torch.zeros(2, *GRID)
    for stops in (1.0, -2.0):
        moved = (brighten(y, level, whole(2, y), stops) + 1) / 2
        assert torch.allclose(moved, (y + 1) / 2 * 2 ** (stops / 2.2), atol=1e-6)


def test_the_shoulder_keeps_the_order_of_highlights() -> None:
    x = torch.linspace(0, 8, 4001)
    b = shoulder(x)
    assert torch.equal(b[x <= 0.6], x[x <= 0.6])
    assert (b.diff()[: 4000 // 2] > 0).all() and b.max() < 1.2
    slopes = b.diff() / x.diff()
    assert (slopes <= 1.001).all()  # no step where it begins


def test_the_grid_is_sliced_as_interpolation_would() -> None:
    """Against SciPy's trilinear interpolation at each pixel's brightness and place."""
    ndimage = pytest.importorskip("scipy.ndimage")
    generator = torch.Generator().manual_seed(4)
    y, level = torch.rand(1, 3, 40, 30, generator=generator) * 2 - 1, torch.randn(1, *GRID, generator=generator)
    window = torch.tensor([[0.25, 0.1, 0.75, 0.6]])
    u = (y + 1) / 2
    toned = log_tone(u.mean(dim=1))[0].numpy()
    rows = (0.25 + (np.arange(40) + 0.5) / 40 * 0.5) * 8 - 0.5
    columns = (0.1 + (np.arange(30) + 0.5) / 30 * 0.5) * 12 - 0.5
    places = np.stack([toned * 5, *np.meshgrid(rows, columns, indexing="ij")])
    gain = 2 ** ndimage.map_coordinates(level[0].numpy(), places, order=1, mode="nearest")
    expected = 2 * shoulder(u * torch.from_numpy(gain.astype(np.float32))[None, None]) - 1
    torch.testing.assert_close(brighten(y, level, window), expected, atol=1e-4, rtol=1e-4)


def test_a_black_picture_stays_finite() -> None:
    y = torch.full((1, 3, 64, 96), -1.0)
    assert torch.isfinite(brighten(y, LevelHead()(y), whole(1, y))).all()


def test_lamps_do_not_burn_and_nothing_gets_darker() -> None:
    """A dim room with a lamp: the guess asks for white everywhere, and gets what the lamp bears."""
    torch.manual_seed(0)
    y = torch.full((1, 3, 64, 96), 2 * 0.02 - 1)
    y[:, :, 10:20, 10:30] = 2 * 0.5 - 1  # 3 % of the picture
    bounded, free = LevelHead(white=1.25), LevelHead()
    free.load_state_dict(bounded.state_dict())
    for head in (bounded, free):
        for guess in head.mean:
            torch.nn.init.constant_(guess.get_parameter("usual"), 4.0)
    with torch.no_grad():
        lamp, lit = (brighten(y, head(y), whole(1, y))[:, :, 10:20, 10:30] for head in (bounded, free))
        assert shoulder(torch.tensor(1.25)) == pytest.approx((lamp.mean().item() + 1) / 2, abs=0.01)
        assert lit.mean() > lamp.mean() + 0.05
        for guess in free.mean:
            torch.nn.init.constant_(guess.get_parameter("usual"), -4.0)
        kept = brighten(y, free(y), whole(1, y))
    assert _mean(kept).item() == pytest.approx(_mean(y).item(), rel=0.01)


def test_shadows_beside_much_light_are_lifted_though_the_mean_is_right() -> None:
    """A man in the shade under a bright sky: the guess asks for no change, and would leave him black."""
    torch.manual_seed(0)
    backlit = torch.full((1, 3, 64, 96), 2 * 0.8 - 1)
    backlit[:, :, 24:] = 2 * 0.1 - 1  # five eighths in the shade
    even = torch.full((1, 3, 64, 96), 2 * 0.4 - 1)
    head = LevelHead(white=1.25, rest=0.3)
    lifting = torch.zeros(6, 8, 12)
    lifting[:3], lifting[4:] = 1.0, -0.5
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "shape", lambda thumbnail: lifting[None])
        assert not head(even).any()
        lit = unit(brighten(backlit, head(backlit), whole(1, backlit)))
        assert lit[:, :, 40:].mean() > 0.15  # 0.1 before
        assert head(backlit)[:, 4:].min() == 0  # and nothing bright gets darker


def test_the_tint_is_the_mean_color_of_the_whole_picture() -> None:
    low = torch.tensor([0.02, 0.04, 0.06])[None, :, None, None].expand(1, 3, 64, 96)
    plain, tinted = LevelHead(), LevelHead(tinted=True)
    tinted.load_state_dict(plain.state_dict())
    grid, level = plain(2 * low - 1), tinted(2 * low - 1)
    assert torch.equal(level[:, : GRID[0]], grid)
    assert level.shape == (1, GRID[0] + 3, *GRID[1:])
    wanted = [np.log2(0.5), np.log2(1.5), (np.log2(0.04) + 4) / 2]
    torch.testing.assert_close(tint_of(level), torch.tensor([wanted], dtype=torch.float32))
    assert torch.equal(brighten(2 * low - 1, level, whole(1, low)), brighten(2 * low - 1, grid, whole(1, low)))


def test_the_blocks_are_told_the_tint(tiny: LLDiffusion) -> None:
    y, level = _smooth(1, 64, 96), torch.ones(1, 9, *GRID[1:])
    redder = level.clone()
    redder[:, GRID[0]] = 0.5
    with torch.no_grad():
        seen = [tiny.denoiser(y, y, tiny.color_map(y), 999, tiny.encoder(y), each) for each in (level, redder)]
    assert not torch.equal(*seen)


def test_an_old_model_is_named() -> None:
    with pytest.raises(LLDiffusionError, match=r"version 0\.1"):
        load_config("tiny", ["model.level=true"])
    assert load_config("paper", ["model.level=false"]).model.level == "none"


def test_the_fitted_guess_says_how_bright_the_normal_picture_is(pairs: tuple[Pair, ...]) -> None:
    torch.manual_seed(0)
    head, sources = LevelHead(), [Source(pairs, simulated=False), Source(pairs, simulated=True)]
    seen = collect(sources, DataConfig())
    fit_guess(head, seen, steps=100)
    assert guess_error(head, seen.low, seen.normal) < 8  # of 255
    between = torch.full((1, 3, 64, 96), 0.45)  # between two of the pictures
    for given, wanted in ((between / 6, 0.45), (between, 0.45)):  # dark ones are lit, bright ones stay
        assert 2 ** head.guess(2 * given - 1).item() == pytest.approx(wanted, abs=0.08)


def test_an_untrained_guess_changes_nothing() -> None:
    y = _smooth(2, 64, 96)
    torch.testing.assert_close(LevelHead().guess(y), log_mean(y), atol=1e-5, rtol=0)


def test_fitting_is_reproducible(pairs: tuple[Pair, ...]) -> None:
    heads = [LevelHead(), LevelHead()]
    heads[1].load_state_dict(heads[0].state_dict())
    for head in heads:
        fit_guess(head, collect([Source(pairs, simulated=False)], DataConfig()), seed=3, steps=5)
    for a, b in zip(*(head.state_dict().values() for head in heads), strict=True):
        assert torch.equal(a, b)


def test_training_hands_the_denoiser_the_true_level(tiny: LLDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    low, normal = _smooth(2, 64, 96), torch.rand(2, 3, 64, 96) * 2 - 1
    seen: list[torch.Tensor] = []
    forward = tiny.denoiser.forward
    monkeypatch.setattr(tiny.denoiser, "forward", lambda *a: seen.append(a[5]) or forward(*a))  # type: ignore[func-returns-value]
    view = {"thumbnail": low, "normal_thumbnail": normal, "window": whole(2, low)}
    terms = Objective(tiny, tiny.config, "joint")(low, normal, torch.randn_like(low), torch.tensor([999, 999]), view)
    assert terms["thumbnail"].item() > 0
    assert torch.allclose(_mean(brighten(low, seen[0], whole(2, low))), _mean(normal), atol=5e-3)


def test_targets_are_lit_otherwise_half_the_time(pairs: tuple[Pair, ...]) -> None:
    config = DataConfig(crop=32, target_expose=1.0)
    plain = PairCrops([Source(pairs, False)], replace(config, target_expose=0.0), seed=1, length=40)
    lit = PairCrops([Source(pairs, False)], config, seed=1, length=40)
    ratios = [float((lit[i]["normal"].mean() + 1) / (plain[i]["normal"].mean() + 1)) for i in range(40)]
    assert 8 < sum(abs(ratio - 1) < 1e-6 for ratio in ratios) < 32
    assert 2 ** (-1 / 2.2) - 0.01 < min(ratios) < 0.9 < 1.05 < max(ratios) < 2 ** (1 / 2.2) + 0.01
    assert max(float(lit[i]["normal"].max()) for i in range(40)) <= 1


def test_half_of_the_low_images_are_rougher(pairs: tuple[Pair, ...]) -> None:
    config = DataConfig(crop=32)
    plain, rough = (
        PairCrops([Source(pairs, False)], c, seed=2, length=40) for c in (config, replace(config, rough=4.0))
    )
    added = [float((rough[i]["low"] - plain[i]["low"]).std()) * 127.5 for i in range(40)]
    assert 8 < sum(value < 0.01 for value in added) < 32
    assert 3 < max(added) < 4 * 1.4 * 4  # strength, channel and photons at their most
    assert all(torch.equal(rough[i]["normal"], plain[i]["normal"]) for i in range(40))
    levels = (rough[int(np.argmax(added))]["low"] + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-3)  # 8 bits


def test_the_black_level_is_moved_by_channel(pairs: tuple[Pair, ...]) -> None:
    config = DataConfig(crop=32)
    plain, moved = (
        PairCrops([Source(pairs, False)], c, seed=3, length=20) for c in (config, replace(config, offset=2.0))
    )
    steps = torch.stack([((moved[i]["low"] - plain[i]["low"]) * 127.5).mean(dim=(1, 2)) for i in range(20)])  # (20, 3)
    assert steps.abs().max() <= 2.001
    assert steps.std(dim=0).min() > 0.5 and (steps[:, 0] - steps[:, 1]).abs().max() > 0.5  # each channel by itself


def test_a_night_with_a_lamp_is_lifted_less() -> None:
    """Half of the picture is black: with a lamp it was meant to be; without one it is a dark picture like others."""
    from lldiffusion.model.level_rules import NIGHT, most_at_night

    dark = torch.full((1, 3, 64, 96), 1 / 255)
    dark[..., :20, :] = 0.05
    night = dark.clone()
    night[..., 40:43, 50:53] = 0.9
    lit = night + 0.03
    assert float(most_at_night(night)) == pytest.approx(NIGHT)
    assert float(most_at_night(dark)) > 10
    assert float(most_at_night(lit)) > 10  # a lamp in a picture that holds something everywhere
