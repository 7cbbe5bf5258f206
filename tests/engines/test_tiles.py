"""Tiles: every pixel covered, no seams, and of a network of convolutions no difference from the whole image."""

from dataclasses import replace

import numpy as np
import pytest

from lldiffusion.config import load_config
from lldiffusion.engines.backends.base import Conditions, Engine, Floats
from lldiffusion.engines.memory import TILE
from lldiffusion.engines.pipeline import Pipeline
from lldiffusion.engines.pixels import pad_to_multiple
from lldiffusion.engines.sampler import Step, make_noise
from lldiffusion.engines.tiles import MARGIN, Window, count, grid, resize, tile_of

ONE_STEP = (Step(t=999, k_x=0.0, k_p=1.0, a=0.0, b=1.0, c=0.0),)


class Affine(Engine):
    """An engine whose prediction is its inputs: what comes back shows where every pixel and feature went."""

    def encode(self, low: Floats) -> tuple[Floats, ...]:
        n, c, h, w = low.shape
        return (low.reshape(n, c, h // 8, 8, w // 8, 8).mean(axis=(3, 5)),)

    def color_map(self, low: Floats) -> Floats:
        return low * 0.5

    def step(self, x: Floats, conditions: Conditions, step: Step, previous: Floats) -> tuple[Floats, Floats]:
        feature = conditions.features[0].repeat(8, axis=2).repeat(8, axis=3)
        assert feature.shape == x.shape, "features must have the size that E would give the tile"
        x0 = conditions.low + conditions.color_map + feature
        return step.a * x + step.b * x0, x0

    def numpy(self, values: Floats) -> Floats:
        return values

    def info(self) -> dict[str, str]:
        return {"backend": "affine"}

    def free_memory(self) -> int:
        return 1 << 40


def pipeline(side: int | str, *overrides: str) -> Pipeline:
    """The engine above as a model with norms, whose tiles share the whole picture's features, or as one without."""
    return Pipeline(Affine(), load_config("tiny", ["model.level=none", *overrides]), tile=side)


NORMS = ("model.denoiser.norm=pixel", "model.denoiser.activation=silu")


@pytest.mark.parametrize("height", [64, 160, 224, 352])
@pytest.mark.parametrize("width", [128, 288, 640])
@pytest.mark.parametrize("side", [128, 192, 256])
def test_every_pixel_is_covered(height: int, width: int, side: int) -> None:
    total, tiles = np.zeros((height, width)), grid(height, width, side, 32)
    assert len(tiles) == count(height, width, side, 32)
    for tile in tiles:
        window = tile.window
        assert window.top % 32 == window.left % 32 == window.height % 32 == window.width % 32 == 0
        assert window.height <= side and window.width <= side
        assert window.top + window.height <= height and window.left + window.width <= width
        assert tile.weights.min() >= 0
        total[window.slices[2:]] += tile.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_margins_count_nothing_and_no_pixel_is_computed_for_nothing() -> None:
    tiles = grid(640, 1600, 512, 32)
    assert {(tile.window.height, tile.window.width) for tile in tiles} == {(448, 512)}  # as long as they must be
    inner = tiles[1]
    assert inner.window.top == 0 and inner.window.left > 0
    assert not inner.weights[:, :MARGIN].any() and inner.weights[0, 256] == pytest.approx(1)


def test_one_tile_is_the_whole_image() -> None:
    low = np.random.default_rng(0).random((1, 3, 96, 128), dtype=np.float32)
    noise = make_noise(0, low.shape)
    tiled = pipeline(128, *NORMS).sample(low, ONE_STEP, noise)
    np.testing.assert_allclose(tiled, Affine().sample(low, ONE_STEP, noise), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_tiles_of_a_network_of_convolutions_are_the_whole_image(steps: int) -> None:
    low = np.random.default_rng(0).random((2, 3, 300, 420), dtype=np.float32)
    plan = tuple(replace(ONE_STEP[0], a=0.5, c=0.1) for _ in range(steps))
    whole, tiled = (pipeline(side).sample(low, plan) for side in ("none", 160))
    assert whole.shape == low.shape
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_a_smooth_scene_has_no_seams() -> None:
    rows, columns = np.mgrid[0:384, 0:512].astype(np.float32)
    scene = np.sin(rows / 60)[None, None] * np.cos(columns / 80)[None, None] * np.ones((1, 3, 1, 1), np.float32)
    noise = make_noise(0, scene.shape)
    whole = Affine().sample(scene, ONE_STEP, noise)
    tiled = pipeline(160, *NORMS).sample(scene, ONE_STEP, noise)
    assert np.abs(tiled - whole).max() < 0.15  # features come from the image at half size
    jump = np.abs(np.diff(tiled - whole, axis=3)).max()
    assert jump < 0.06, "neighbouring pixels must not differ across a seam more than the features' own steps"


@pytest.mark.parametrize("size", [(300, 420), (1, 420), (33, 2), (70, 40), (320, 416)])
def test_a_window_beyond_the_picture_is_that_of_the_padded_picture(size: tuple[int, int]) -> None:
    planes = np.random.default_rng(2).random((1, 3, *size), dtype=np.float32)
    padded = pad_to_multiple(planes, 32)
    height, width = padded.shape[2:]
    for window in (Window(0, 0, height, width), Window(height - 32, width - 64, 32, 64), Window(0, width - 32, 32, 32)):
        np.testing.assert_array_equal(tile_of(planes, window), tile_of(padded, window))


def test_large_pictures_of_a_network_of_convolutions_are_tiled_by_themselves() -> None:
    local, normed = pipeline("auto"), pipeline("auto", *NORMS)
    assert local.tile_side((1, 3, 1088, 1920)) is None
    assert local.tile_side((1, 3, 3008, 4000)) == TILE
    assert normed.tile_side((1, 3, 3008, 4000)) is None  # its tiles differ from the whole: only where memory asks


def test_area_resampling_keeps_the_mean_and_agrees_with_box_averages() -> None:
    planes = np.random.default_rng(1).random((1, 2, 12, 18), dtype=np.float32)
    small = resize(planes, np.linspace(0, 12, 7), np.linspace(0, 18, 7))
    expected = planes.reshape(1, 2, 6, 2, 6, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(small, expected, atol=1e-6)
    odd = resize(planes, np.linspace(0, 12, 6), np.linspace(0, 18, 8))
    assert odd.mean() == pytest.approx(planes.mean(), abs=1e-6)
