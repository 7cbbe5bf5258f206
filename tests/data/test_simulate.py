"""The low-light simulator: its formula, its seed, and its likeness to real pictures."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage import color

from lldiffusion.data.layouts import find_pairs
from lldiffusion.data.simulate import LowLight, at_exposure, simulate
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import read_image
from support.pictures import photograph

# nothing but exposure; a test adds the one effect it looks at
PLAIN = {
    "stops": (0, 0),
    "headroom": (0, 0),
    "red": (0, 0),
    "blue": (0, 0),
    "floor": (0, 0),
    "shot": (1e-12, 1e-12),
    "read": (1e-12, 1e-12),
    "relative": (0, 0),
    "noise_red": (1, 1),
    "noise_blue": (1, 1),
    "smooth": (0, 0),
    "jpeg": 0,
}


def plain(**changes: object) -> LowLight:
    return LowLight(**{**PLAIN, **changes})  # type: ignore[arg-type]


def linear(pixels: np.ndarray) -> np.ndarray:
    """sRGB to linear light, by scikit-image's conversion to XYZ and the inverse of its matrix."""
    return color.rgb2xyz(pixels) @ np.linalg.inv(color.colorconv.xyz_from_rgb).T


def grey(level: float, side: int = 256) -> np.ndarray:
    return np.full((side, side, 3), level, np.float32)


def test_no_loss_of_light_changes_nothing() -> None:
    pixels = photograph()
    low = simulate(pixels, np.random.default_rng(0), plain())
    assert low.dtype == np.float32
    assert low.shape == pixels.shape
    np.testing.assert_allclose(low, pixels, atol=0.6 / 255)


def test_stops_halve_linear_light() -> None:
    pixels = photograph()
    low = simulate(pixels, np.random.default_rng(0), plain(stops=(2, 2)))
    np.testing.assert_allclose(linear(low), linear(pixels) / 4, atol=0.003)


def test_white_balance_and_floor() -> None:
    low = simulate(grey(0.5), np.random.default_rng(0), plain(red=(-1, -1), blue=(1, 1)))
    expected = linear(grey(0.5))[0, 0] * [0.5, 1, 2]
    np.testing.assert_allclose(linear(low)[0, 0], expected, atol=0.004)
    black = simulate(grey(0), np.random.default_rng(0), plain(floor=(0.01, 0.01), floor_tint=(2, 2)))
    np.testing.assert_allclose(linear(black)[0, 0], [0.02, 0.01, 0.02], atol=0.0005)


def test_headroom_brightens_only_what_was_white() -> None:
    settings = plain(stops=(4, 4), headroom=(2, 2))
    ratio = [
        linear(simulate(grey(v), np.random.default_rng(0), settings))[0, 0, 1] / linear(grey(v))[0, 0, 1] * 16
        for v in (0.5, 1.0)
    ]
    assert ratio == pytest.approx([1, 4], rel=0.05)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_noise_variance_is_the_formula(level: float) -> None:
    shot, read, relative = 1e-4, 3e-3, 0.01
    settings = plain(shot=(shot, shot), read=(read, read), relative=(relative, relative), noise_red=(2, 2))
    light = linear(simulate(grey(level), np.random.default_rng(1), settings))
    u = linear(grey(level))[0, 0, 0]
    deviation = np.sqrt(shot * u + read**2 + (relative * u) ** 2)
    np.testing.assert_allclose(light.std(axis=(0, 1)), deviation * np.array([2, 1, 1]), rtol=0.03)
    np.testing.assert_allclose(light.mean(axis=(0, 1)), u, rtol=0.01)
    assert abs(np.corrcoef(light[..., 0].ravel(), light[..., 1].ravel())[0, 1]) < 0.02


def test_smoothing_keeps_the_variance_and_correlates_neighbours() -> None:
    a = 0.2
    light = [
        linear(simulate(grey(0.5), np.random.default_rng(1), plain(read=(0.01, 0.01), smooth=(s, s)))) for s in (0, a)
    ]
    assert light[1].std() == pytest.approx(light[0].std(), rel=0.02)
    for x, y in ((light[1][1:], light[1][:-1]), (light[1][:, 1:], light[1][:, :-1])):
        assert np.corrcoef(x.ravel(), y.ravel())[0, 1] == pytest.approx(2 * a / (1 + 2 * a * a), abs=0.02)
    assert abs(np.corrcoef(light[0][1:].ravel(), light[0][:-1].ravel())[0, 1]) < 0.01


def test_the_seed_decides() -> None:
    pixels = photograph()
    first, same, other = (simulate(pixels, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_answer_has_8_bits_and_the_input_is_left_alone() -> None:
    pixels = photograph()
    before = pixels.copy()
    for seed in range(8):
        low = simulate(pixels, np.random.default_rng(seed), LowLight(jpeg=0.5)) * 255
        np.testing.assert_allclose(low, np.round(low), atol=1e-4)
        assert low.min() >= 0
        assert low.max() <= 255
    np.testing.assert_array_equal(pixels, before)


def test_jpeg_leaves_its_traces() -> None:
    clean, coded = (simulate(photograph(), np.random.default_rng(0), plain(jpeg=j, quality=(30, 30))) for j in (0, 1))
    assert 0.5 / 255 < np.abs(clean - coded).mean() < 20 / 255


@pytest.mark.parametrize("height", [1, 7])
def test_any_size(height: int) -> None:
    assert simulate(grey(0.5)[:height, :5], np.random.default_rng(0)).shape == (height, 5, 3)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"stops": (3, 1)}, r"stops = \(3, 1\): expected \(lowest, highest\)"),
        ({"shot": (0, 1e-5)}, "shot.*above 0"),
        ({"smooth": (-0.1, 0.1)}, "smooth.*at least 0"),
        ({"jpeg": 1.5}, "jpeg.*share"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(LLDiffusionError, match=reason):
        LowLight(**wrong)  # type: ignore[arg-type]


def test_resembles_real_pictures(shared: Path) -> None:
    """Brightness, cast and noise of simulated pictures against the real ones of the same scenes."""
    rng = np.random.default_rng(0)
    real, made = [], []
    for pair in find_pairs(shared / "data" / "pairs")[::4]:
        normal = read_image(pair.normal).pixels
        flat = ndimage.generic_gradient_magnitude(normal.mean(axis=2), ndimage.sobel) < 0.08
        real.append(_describe(read_image(pair.low).pixels, flat))
        made.append(_describe(simulate(normal, rng), flat))
    real_, made_ = np.median(real, axis=0), np.median(made, axis=0)
    np.testing.assert_allclose(made_[:3], real_[:3], rtol=0.35)  # mean of each channel
    np.testing.assert_allclose(made_[3:], real_[3:], rtol=0.35)  # noise of each channel


def _describe(low: np.ndarray, flat: np.ndarray) -> list[float]:
    grain = low - ndimage.uniform_filter(low, (7, 7, 1))
    return [*low.mean(axis=(0, 1)), *(grain[flat].std(axis=0))]


def test_a_picture_that_loses_no_light_stays_as_it_is() -> None:
    normal = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32).repeat(16, 0).repeat(16, 1)
    same, dark = (simulate(normal, np.random.default_rng(1), at_exposure(stops)) for stops in (0.0, 6.0))
    assert abs(same.mean() - normal.mean()) < 0.01 and np.abs(same - normal).mean() < 0.04
    assert dark.mean() < 0.2 * normal.mean()
    assert at_exposure(7.0) == LowLight(stops=(7.0, 7.0))
