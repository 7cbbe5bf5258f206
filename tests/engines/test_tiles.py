"""Tiles: every pixel covered, no seams, little difference from the whole image."""

import numpy as np
import pytest

from lldiffusion.engines.backends.base import Conditions, Engine, Floats
from lldiffusion.engines.sampler import Step, make_noise
from lldiffusion.engines.tiles import grid, ramp, resize, sample_tiled

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


@pytest.mark.parametrize("height", [64, 160, 224, 352])
@pytest.mark.parametrize("width", [128, 288, 640])
@pytest.mark.parametrize("side", [128, 192])
def test_every_pixel_is_covered(height: int, width: int, side: int) -> None:
    covered = np.zeros((height, width))
    for window in grid(height, width, side, 32):
        assert window.top % 32 == window.left % 32 == window.height % 32 == window.width % 32 == 0
        assert window.top + window.height <= height
        assert window.left + window.width <= width
        weights = ramp(window, height, width)
        assert weights.min() > 0
        covered[window.rows_columns] += weights
    assert covered.min() > 0.4  # edges too: nothing is divided by nearly nothing


def test_one_tile_is_the_whole_image() -> None:
    low = np.random.default_rng(0).random((1, 3, 96, 128), dtype=np.float32)
    noise = make_noise(0, low.shape)
    whole = Affine().sample(low, ONE_STEP, noise)
    tiled = sample_tiled(Affine(), low, ONE_STEP, noise, side=128, multiple=32)
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_a_smooth_scene_has_no_seams() -> None:
    rows, columns = np.mgrid[0:384, 0:512].astype(np.float32)
    scene = np.sin(rows / 60)[None, None] * np.cos(columns / 80)[None, None] * np.ones((1, 3, 1, 1), np.float32)
    noise = make_noise(0, scene.shape)
    whole = Affine().sample(scene, ONE_STEP, noise)
    tiled = sample_tiled(Affine(), scene, ONE_STEP, noise, side=160, multiple=32)
    assert np.abs(tiled - whole).max() < 0.15  # features come from the image at half size
    jump = np.abs(np.diff(tiled - whole, axis=3)).max()
    assert jump < 0.06, "neighbouring pixels must not differ across a seam more than the features' own steps"


def test_area_resampling_keeps_the_mean_and_agrees_with_box_averages() -> None:
    planes = np.random.default_rng(1).random((1, 2, 12, 18), dtype=np.float32)
    small = resize(planes, np.linspace(0, 12, 7), np.linspace(0, 18, 7))
    expected = planes.reshape(1, 2, 6, 2, 6, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(small, expected, atol=1e-6)
    odd = resize(planes, np.linspace(0, 12, 6), np.linspace(0, 18, 8))
    assert odd.mean() == pytest.approx(planes.mean(), abs=1e-6)
