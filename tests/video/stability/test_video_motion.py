"""What moves and what changes in a video: cuts, optical flow, and the meter of flicker."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lldiffusion.video.stability.flicker import FlickerMeter
from lldiffusion.video.stability.flow import consistent, optical_flow, tone_mapped_luma, warp
from lldiffusion.video.stability.scenes import is_cut, luma_grid
from support.pictures import photograph

# -- cuts


def planes(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture.transpose(2, 0, 1)) * 2 - 1


def test_luma_grids_are_area_averages_of_luma() -> None:
    from skimage.color import rgb2gray  # BT.709 weights: only grey pictures agree
    from skimage.transform import downscale_local_mean

    grey = photograph(height=36, width=64).mean(axis=2, keepdims=True).repeat(3, axis=2)
    expected = downscale_local_mean(rgb2gray(grey), (2, 2))
    np.testing.assert_allclose(luma_grid(planes(grey)), expected, atol=1e-5)
    coloured = np.zeros((18, 32, 3), np.float32) + np.array([1, 0.5, 0.25], np.float32)
    np.testing.assert_allclose(luma_grid(planes(coloured)), 0.299 + 0.587 / 2 + 0.114 / 4, atol=1e-5)


def test_noise_pans_and_small_lights_are_no_cuts_and_other_pictures_are() -> None:
    from lldiffusion.data.simulate import LowLight, simulate

    settings, rng = LowLight(stops=(6, 6), jpeg=0.0), np.random.default_rng(0)
    wide = photograph("coffee", 108, 200)
    pan = [
        luma_grid(planes(simulate(np.ascontiguousarray(wide[:, i : i + 160]), rng, settings))) for i in range(0, 40, 3)
    ]
    assert not any(is_cut(a, b) for a, b in pairwise(pan))
    other = [simulate(photograph(name, 108, 160), rng, settings) for name in ("astronaut", "chelsea", "rocket")]
    grids = [pan[0], *(luma_grid(planes(low)) for low in other)]
    assert all(is_cut(a, b) for a, b in pairwise(grids))


def test_tiny_frames_have_luma_grids() -> None:
    assert luma_grid(np.zeros((3, 1, 5), np.float32)).shape == (1, 5)


# -- motion


def test_flow_finds_a_shift_and_warping_undoes_it() -> None:
    pytest.importorskip("cv2")
    scene = photograph("coffee", 120, 200)
    before, now = scene[:, 10:170], scene[:, 6:166]  # what was at x is at x + 4
    there = optical_flow(tone_mapped_luma(now), tone_mapped_luma(before))
    assert np.median(there[..., 0]) == pytest.approx(-4, abs=0.3)
    assert np.median(there[..., 1]) == pytest.approx(0, abs=0.3)
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(warp(before, there) - now)[inner].mean() < 0.3 * np.abs(before - now)[inner].mean()
    assert consistent(there, optical_flow(tone_mapped_luma(before), tone_mapped_luma(now)))[inner].mean() > 0.9


def test_hidden_pixels_are_not_consistent() -> None:
    """Flows made by hand: a square moves 10 to the right over a still ground."""
    pytest.importorskip("cv2")
    there, back = np.zeros((2, 60, 80, 2), np.float32)
    there[20:40, 20:40, 0], back[20:40, 30:50, 0] = 10, -10
    sure = consistent(there, back)
    hidden = np.zeros((60, 80), bool)
    hidden[20:40, 40:50] = True  # ground that the square will cover
    assert not sure[hidden].any()
    assert sure[~hidden].all()


def test_warping_is_scipys_interpolation() -> None:
    pytest.importorskip("cv2")
    from scipy.ndimage import map_coordinates

    rng = np.random.default_rng(0)
    image, flow = rng.random((40, 50), dtype=np.float32), rng.normal(0, 5, (40, 50, 2)).astype(np.float32)
    rows, columns = np.mgrid[:40, :50]
    expected = map_coordinates(image, [rows + flow[..., 1], columns + flow[..., 0]], order=1, mode="nearest")
    np.testing.assert_allclose(warp(image, flow), expected, atol=0.02)  # OpenCV interpolates in 32nds of a pixel


def test_pictures_too_small_for_flow_stand_still() -> None:
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for size in ((8, 64), (31, 200), (100, 31)):
        assert not optical_flow(*rng.integers(0, 255, (2, *size), np.uint8)).any()
    for size in ((32, 1900), (250, 32)):
        assert np.isfinite(optical_flow(*rng.integers(0, 255, (2, *size), np.uint8))).all()


# -- the meter


def test_the_flicker_meter_is_numpys_variance_and_differences() -> None:
    values = np.random.default_rng(0).uniform(20, 200, 50)
    meter = FlickerMeter()
    for value in values:
        meter.add(float(value))
    assert meter.frames == 50
    assert meter.mean == pytest.approx(values.mean())
    assert meter.variance == pytest.approx(values.var())
    assert meter.change == pytest.approx(np.abs(np.diff(values)).mean())
    assert meter.stops == pytest.approx(np.abs(np.diff(np.log2(values))).mean())
    empty = FlickerMeter()
    assert (empty.variance, empty.change, empty.stops) == (0, 0, 0)
    empty.add(0.0)
    empty.add(0.0)
    assert empty.stops == 0
