"""The global level: guessed from the whole image, obeyed by the denoiser, moved by the exposure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lldiffusion.config import DataConfig, load_config
from lldiffusion.data.dataset import PairCrops, Source
from lldiffusion.data.layouts import Pair
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.torch_eager import TorchEngine
from lldiffusion.engines.samples import mean_and_deviation
from lldiffusion.engines.tiles import cut, grid, whole_features
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import Image, write_image
from lldiffusion.model import LLDiffusion
from lldiffusion.model.level import LevelHead, brighten, log_mean, true_level
from lldiffusion.training.level import fit_level
from lldiffusion.training.losses import Objective
from lldiffusion.video.stability.smoothing import exponential_smoothing, feature_means, replace_means


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


def test_brightened_image_has_the_level_and_exposure_moves_it() -> None:
    y = 2 * (torch.rand(2, 3, 64, 64) * 0.1) - 1
    level = torch.cat([torch.full((2, 1), 0.4).log2(), log_mean(y)], dim=1)[:, :, None, None]
    for stops, wanted in ((0.0, 0.4), (1.0, 0.4 * 2 ** (1 / 2.2)), (-2.0, 0.4 * 2 ** (-2 / 2.2))):
        b = brighten(y, level, stops)
        assert torch.allclose((b.mean(dim=(1, 2, 3)) + 1) / 2, torch.full((2,), wanted), atol=2e-3)


def test_black_image_stays_finite() -> None:
    y = torch.full((1, 3, 32, 32), -1.0)
    assert torch.isfinite(brighten(y, LevelHead()(y))).all()


def test_the_guess_does_not_depend_on_the_size(tiny: LLDiffusion) -> None:
    """One picture and the same one four times over have the same level; no crop of it need have."""
    assert tiny.encoder.level is not None
    y = torch.rand(1, 3, 64, 64) * 0.3 - 1
    assert torch.allclose(tiny.encoder.level(y), tiny.encoder.level(y.tile(1, 1, 2, 2)), atol=1e-5)


def test_fitted_head_says_how_bright_the_normal_picture_is(pairs: tuple[Pair, ...]) -> None:
    head, sources = LevelHead(), [Source(pairs, simulated=False), Source(pairs, simulated=True)]
    assert fit_level(head, sources, DataConfig()) < 5  # of 255
    between = torch.full((1, 3, 64, 96), 0.45)  # between two of the pictures
    for given, wanted in ((between / 6, 0.45), (between, 0.45)):  # dark ones are lit, bright ones stay
        said = 2 ** head(2 * given - 1)[0, 0].item()
        assert said == pytest.approx(wanted, abs=0.06)


def test_fitting_is_reproducible(pairs: tuple[Pair, ...]) -> None:
    heads = [LevelHead(), LevelHead()]
    for head in heads:
        fit_level(head, [Source(pairs, simulated=False)], DataConfig(), seed=3)
    for a, b in zip(*(head.state_dict().values() for head in heads), strict=True):
        assert torch.equal(a, b)


def test_training_hands_the_denoiser_the_true_level(tiny: LLDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    low, normal = torch.rand(2, 3, 64, 64) * 0.2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    seen = []
    forward = tiny.denoiser.forward
    monkeypatch.setattr(tiny.denoiser, "forward", lambda *a: seen.append(a[4][-1]) or forward(*a))  # type: ignore[func-returns-value]
    Objective(tiny, tiny.config, "joint")(low, normal, torch.randn_like(low), torch.tensor([999, 999]))
    assert torch.equal(seen[0], true_level(low, normal))
    assert 2 ** seen[0][0, 0].item() == pytest.approx(float((normal[0].mean() + 1) / 2), abs=1e-4)


def test_targets_are_lit_otherwise_half_the_time(pairs: tuple[Pair, ...]) -> None:
    config = DataConfig(crop=32, target_expose=1.0)
    plain = PairCrops([Source(pairs, False)], replace(config, target_expose=0.0), seed=1, length=40)
    lit = PairCrops([Source(pairs, False)], config, seed=1, length=40)
    ratios = [float((lit[i]["normal"].mean() + 1) / (plain[i]["normal"].mean() + 1)) for i in range(40)]
    assert 8 < sum(abs(ratio - 1) < 1e-6 for ratio in ratios) < 32
    assert 2 ** (-1 / 2.2) - 0.01 < min(ratios) < 0.9 < 1.1 < max(ratios) < 2 ** (1 / 2.2) + 0.01


def test_exposure_reaches_the_denoiser_through_the_loop(tiny: LLDiffusion) -> None:
    """Zero offset and unit gain: the picture is y brightened, so its mean is the level's."""
    config, net = tiny.config, tiny.denoiser.net
    assert net.conv_out.bias is not None
    torch.nn.init.zeros_(net.conv_out.weight)
    torch.nn.init.zeros_(net.conv_out.bias)
    net.conv_out.bias.data.view(2, -1)[1] = 1  # channels: offsets, then gains, four pixels each
    assert tiny.encoder.level is not None
    torch.nn.init.zeros_(tiny.encoder.level.out.weight)
    torch.nn.init.constant_(tiny.encoder.level.out.bias, -1.0)  # sigmoid(-1) = 0.269
    dark = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32) * 0.05
    for stops, wanted in ((0.0, 0.269), (1.0, 0.269 * 2 ** (1 / 2.2))):
        assert Enhancer(TorchEngine(tiny), config, exposure=stops)(dark).mean() == pytest.approx(wanted, abs=0.01)


def test_a_wobbling_exposure_is_undone_in_video(tiny: LLDiffusion) -> None:
    """The guess follows slowly, the frame's own mean at once."""
    before, now = (np.array([[[[guess]], [[mean]]]], np.float32) for guess, mean in ((-1.0, -5.0), (-1.4, -5.5)))
    features = ((np.zeros((1, 3, 4, 4), np.float32), 16), (now, 64))
    own = feature_means(features)
    followed = exponential_smoothing((own[0], before), own, elapsed=0.1, time_constant=1.0)
    level = replace_means(features, own, followed)[1][0]
    assert level[0, 1, 0, 0] == np.float32(-5.5)
    assert level[0, 0, 0, 0] == pytest.approx(-1.0 - 0.4 * (1 - np.exp(-0.1)), abs=1e-6)


def test_tiles_are_lit_by_the_whole_picture(tiny: LLDiffusion) -> None:
    low = np.random.default_rng(0).random((1, 3, 256, 384), dtype=np.float32) - 1
    features = whole_features(TorchEngine(tiny), low, 128, 32)
    for window in grid(256, 384, 128, 32):
        assert np.array_equal(cut(TorchEngine(tiny), low, features, window).features[-1], features[-1][0])


def test_spread_shows_where_samples_differ(tiny: LLDiffusion) -> None:
    dark = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32) * 0.1
    enhancer = Enhancer(TorchEngine(tiny), tiny.config, seed=5)
    alone, nothing = mean_and_deviation(enhancer, dark, 1)
    assert np.array_equal(alone, enhancer(dark)) and not nothing.any()
    mean, spread = mean_and_deviation(enhancer, dark, 3)
    others = [Enhancer(TorchEngine(tiny), tiny.config, seed=seed)(dark) for seed in (5, 6, 7)]
    np.testing.assert_allclose(mean, np.mean(others, axis=0), atol=1e-6)
    np.testing.assert_allclose(spread, np.std(others, axis=0).mean(axis=2), atol=1e-6)


def test_a_picture_is_matched(tiny: LLDiffusion) -> None:
    dark = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32) * 0.1
    enhancer = Enhancer(TorchEngine(tiny), tiny.config)
    stops = enhancer.exposure_to_match(dark, 0.3)
    y = torch.from_numpy(dark.transpose(2, 0, 1)[None].copy()) * 2 - 1
    with torch.no_grad():
        brightened = brighten(y, tiny.encoder(y)[-1], stops)
    assert float((brightened.mean() + 1) / 2) == pytest.approx(0.3, abs=5e-3)
    with pytest.raises(LLDiffusionError, match="between 0"):
        enhancer.exposure_to_match(dark, 1.5)
    without = load_config("tiny", ["model.level=false"])
    other = Enhancer(TorchEngine(LLDiffusion(without)), without)
    with pytest.raises(LLDiffusionError, match="no level"):
        other.exposure_to_match(dark, 0.5)


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
