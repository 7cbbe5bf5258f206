"""The level in the engines: the whole picture reduced, told to every part, moved by the exposure, matched to a mean."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lldiffusion.config import load_config
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.torch_eager import TorchEngine
from lldiffusion.engines.level import exposure_for, lifted, reduce_picture, thumbnail_of
from lldiffusion.engines.samples import mean_and_deviation
from lldiffusion.errors import LLDiffusionError
from lldiffusion.model import LLDiffusion
from lldiffusion.model.level import brighten, whole
from support.untrained import see_all


@pytest.fixture(scope="module")
def tiny() -> LLDiffusion:
    """An untrained model returns the brightened picture, nearly; its grid differs by place and brightness."""
    return untrained()


def untrained(*overrides: str) -> LLDiffusion:
    torch.manual_seed(0)
    model = see_all(LLDiffusion(load_config("tiny", overrides), with_degrader=False)).eval().requires_grad_(False)
    assert model.level is not None
    torch.nn.init.normal_(model.level.grid.out.weight, std=0.1)
    return model


def dark(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth dark picture with a little grain, (H, W, 3) float32."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 4, 6), dtype=np.float32))
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)[0].permute(1, 2, 0).numpy()
    return np.clip(0.1 * smooth + 0.005 * rng.standard_normal((height, width, 3)), 0, 1).astype(np.float32)


@pytest.mark.parametrize("size", [(64, 96), (128, 288), (333, 517), (31, 40), (1000, 70)])
def test_a_thumbnail_is_the_exact_area_average(size: tuple[int, int]) -> None:
    """Against averages of the picture with every pixel repeated until both sizes divide it."""
    picture = np.random.default_rng(1).random((*size, 3), dtype=np.float32)
    rows = np.repeat(picture.astype(np.float64), 64, axis=0).reshape(64, size[0], size[1], 3).mean(axis=1)
    wanted = np.repeat(rows, 96, axis=1).reshape(64, 96, size[1], 3).mean(axis=2)
    np.testing.assert_allclose(reduce_picture(picture), wanted, atol=1e-6)
    planes = picture.transpose(2, 0, 1)[None].repeat(2, axis=0)
    np.testing.assert_allclose(thumbnail_of(planes)[1].transpose(1, 2, 0), wanted, atol=1e-6)
    eight_bits = np.round(picture * 255).astype(np.uint8)
    np.testing.assert_allclose(reduce_picture(eight_bits), wanted * 255, atol=0.51)


def test_only_the_gain_of_a_level_is_lifted_and_matched() -> None:
    rng = np.random.default_rng(0)
    gain, tint = rng.normal(1, 0.3, (1, 6, 8, 12)).astype(np.float32), np.full((1, 3, 8, 12), 5, np.float32)
    both, thumbnail = np.concatenate([gain, tint], axis=1), rng.uniform(-1, -0.8, (1, 3, 64, 96)).astype(np.float32)
    assert exposure_for(0.4, thumbnail, both) == exposure_for(0.4, thumbnail, gain)
    moved = lifted(both, 0.5)
    np.testing.assert_array_equal(moved[:, :6], gain + np.float32(0.5))
    np.testing.assert_array_equal(moved[:, 6:], tint)


def test_exposure_reaches_the_denoiser_through_the_loop() -> None:
    tiny = untrained("model.rest=0")  # or what is hardly lifted fades into the input
    enhancer, picture = Enhancer(TorchEngine(tiny), tiny.config), dark(64, 96)
    means = [float(enhancer(picture, exposure=stops).mean()) for stops in (-1.0, 0.0, 1.0)]
    for lower, higher in pairwise(means):
        assert higher / lower == pytest.approx(2 ** (1 / 2.2), rel=0.05)  # random weights have a say, too
    told = Enhancer(TorchEngine(tiny), tiny.config, exposure=1.0)
    assert float(told(picture).mean()) == pytest.approx(means[2], abs=1e-6)


def test_a_picture_is_lit_as_a_whole_whatever_its_size_and_padding(tiny: LLDiffusion) -> None:
    """The window leaves the padding out: an odd size is lit like the part of it that needs none."""
    picture = dark(150, 230)
    result = Enhancer(TorchEngine(tiny), tiny.config, exposure=2.0)(picture)
    y = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()) * 2 - 1
    assert tiny.level is not None
    level = tiny.level(torch.from_numpy(thumbnail_of(y.numpy())))
    wanted = (brighten(y, level, whole(1, y), 2.0)[0].permute(1, 2, 0).numpy() + 1) / 2
    assert np.abs(result - wanted).mean() < 0.02 < np.abs(result - picture).mean()


@pytest.mark.parametrize("side", [256, 320])
def test_tiles_equal_the_whole_picture(tiny: LLDiffusion, side: int) -> None:
    picture = dark(400, 520)
    whole_picture, tiled = (Enhancer(TorchEngine(tiny), tiny.config, tile=tile)(picture) for tile in ("none", side))
    difference = np.abs(tiled - whole_picture) * 255
    assert difference.mean() < 0.05 and difference.max() < 1


def test_a_picture_is_matched(tiny: LLDiffusion) -> None:
    picture = dark(96, 128)
    enhancer = Enhancer(TorchEngine(tiny), tiny.config)
    for wanted in (0.2, 0.5, 0.8):
        stops = enhancer.exposure_to_match(picture, wanted)
        y = torch.from_numpy(reduce_picture(picture).transpose(2, 0, 1)[None].copy()) * 2 - 1
        assert tiny.level is not None
        lit = brighten(y, tiny.level(y), whole(1, y), stops)
        assert float((lit.mean() + 1) / 2) == pytest.approx(wanted, abs=1e-4)
    with pytest.raises(LLDiffusionError, match="between 0"):
        enhancer.exposure_to_match(picture, 1.5)
    without = load_config("tiny", ["model.level=none"])
    other = Enhancer(TorchEngine(LLDiffusion(without, with_degrader=False)), without)
    with pytest.raises(LLDiffusionError, match="no level"):
        other.exposure_to_match(picture, 0.5)


def test_a_black_picture_matches_nothing_and_stays_finite(tiny: LLDiffusion) -> None:
    black = np.full((1, 3, 64, 96), -1, np.float32)
    engine = TorchEngine(tiny)
    assert np.isfinite(exposure_for(0.5, black, engine.numpy(engine.level(black))))
    assert np.isfinite(Enhancer(engine, tiny.config)(np.zeros((64, 96, 3), np.float32))).all()


def test_planes_are_lit_like_pictures(tiny: LLDiffusion) -> None:
    picture, enhancer = dark(64, 96), Enhancer(TorchEngine(tiny), tiny.config)
    planes = picture.transpose(2, 0, 1)[None] * 2 - 1
    result = enhancer.pipeline.engine.numpy(enhancer.enhance_planes(np.ascontiguousarray(planes)))
    np.testing.assert_allclose((result[0].transpose(1, 2, 0) + 1) / 2, enhancer(picture), atol=1e-5)


def test_the_deviation_shows_where_samples_differ(tiny: LLDiffusion) -> None:
    picture = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32) * 0.1
    enhancer = Enhancer(TorchEngine(tiny), tiny.config, seed=5)
    alone, nothing = mean_and_deviation(enhancer, picture, 1)
    assert np.array_equal(alone, enhancer(picture)) and not nothing.any()
    mean, deviation = mean_and_deviation(enhancer, picture, 3)
    others = [Enhancer(TorchEngine(tiny), tiny.config, seed=seed)(picture) for seed in (5, 6, 7)]
    np.testing.assert_allclose(mean, np.mean(others, axis=0), atol=1e-6)
    np.testing.assert_allclose(deviation, np.std(others, axis=0).mean(axis=2), atol=1e-6)
