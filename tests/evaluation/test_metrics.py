"""PSNR, SSIM and brightness against torchmetrics and against their formulas written with SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.baselines import automatic_gamma, fixed_gamma, get_baseline
from lldiffusion.evaluation.metrics import Uint8, brightness_error, luminance, psnr, ssim_gaussian, ssim_uniform
from lldiffusion.evaluation.table import load_table, rank


@pytest.fixture(scope="module")
def pair() -> tuple[Uint8, Uint8]:
    """A prediction (darker, noisy) and its target, 120x160."""
    target = np.ascontiguousarray(data.astronaut()[60:180, 100:260])
    noise = np.random.default_rng(1).normal(0, 12, target.shape)
    return np.clip(target * 0.8 + noise, 0, 255).astype(np.uint8), target


def tensor(pixels: Uint8) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float64)).permute(2, 0, 1)[None]


def test_psnr_agrees_with_torchmetrics_and_is_infinite_for_equal_images(pair: tuple[Uint8, Uint8]) -> None:
    prediction, target = pair
    from torchmetrics.functional.image import peak_signal_noise_ratio

    expected = peak_signal_noise_ratio(tensor(prediction), tensor(target), data_range=255.0)
    assert psnr(prediction, target) == pytest.approx(float(expected), abs=1e-5)
    assert psnr(target, target) == math.inf


def test_gaussian_ssim_agrees_with_torchmetrics(pair: tuple[Uint8, Uint8]) -> None:
    prediction, target = pair
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, similarity = structural_similarity_index_measure(
        tensor(prediction), tensor(target), data_range=255.0, sigma=1.5, return_full_image=True
    )
    inside = similarity[..., 5:-5, 5:-5]  # torchmetrics' own mean counts the padded borders too; the paper does not
    assert ssim_gaussian(prediction, target) == pytest.approx(float(inside.mean()), abs=1e-6)
    assert ssim_gaussian(target, target) == pytest.approx(1)


def test_uniform_ssim_agrees_with_its_formula_in_scipy(pair: tuple[Uint8, Uint8]) -> None:
    def channel(x: np.ndarray, y: np.ndarray) -> float:
        mean = lambda values: ndimage.uniform_filter(values, 7)  # noqa: E731
        sample = 49 / 48  # of the 7x7 window: sample covariance
        mx, my = mean(x), mean(y)
        vx, vy, vxy = (sample * (mean(a * b) - mean(a) * mean(b)) for a, b in ((x, x), (y, y), (x, y)))
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        ssim = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        return float(ssim[3:-3, 3:-3].mean())

    prediction, target = (pixels.astype(np.float64) for pixels in pair)
    expected = np.mean([channel(prediction[..., c], target[..., c]) for c in range(3)])
    assert ssim_uniform(*pair) == pytest.approx(expected, abs=1e-9)


def test_brightness_error_is_the_signed_difference_of_mean_luminance() -> None:
    grey = np.full((16, 16, 3), 100, np.uint8)
    assert brightness_error(grey + np.uint8(7), grey) == pytest.approx(7)
    assert brightness_error(grey - np.uint8(7), grey) == pytest.approx(-7)
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    assert luminance(red).mean() == pytest.approx(0.299 * 200)


def test_automatic_gamma_sends_the_mean_grey_to_the_target() -> None:
    flat = np.full((8, 8, 3), 20, np.uint8)
    assert automatic_gamma(flat).mean() == pytest.approx(0.4, abs=1e-4)
    bright = np.full((8, 8, 3), 0.7, np.float32)
    np.testing.assert_allclose(automatic_gamma(bright), bright, rtol=1e-6)  # nothing is darkened
    assert not automatic_gamma(np.zeros((8, 8, 3), np.uint8)).any()
    np.testing.assert_allclose(fixed_gamma(bright), 0.7**0.3, rtol=1e-5)


def test_an_unknown_baseline_names_the_nearest() -> None:
    with pytest.raises(LLDiffusionError, match="did you mean 'gamma'"):
        get_baseline("gama")


def test_every_published_number_has_a_source_and_runs_are_ranked_among_them() -> None:
    table = load_table()
    assert len({row.method for row in table.rows}) == len(table.rows) == 16
    ours = next(row for row in table.rows if row.method == "LLDiffusion")
    assert (ours.psnr, ours.ssim, ours.lpips) == (24.65, 0.843, None)  # LPIPS was not found: absent, not invented
    assert all(0 < (row.ssim or 0) < 1 and 5 < (row.psnr or 0) < 40 for row in table.rows)
    run = type(ours)("this run", 22.0, 0.8, None, ours=True)
    unknown = type(ours)("unmeasured", None, None, None)
    ranked = rank((*table.rows, unknown), [run])
    assert ranked[-1] is unknown
    below = ranked[ranked.index(run) + 1]
    assert (ranked[ranked.index(run) - 1].psnr or 0) >= 22 >= (below.psnr or 0)
