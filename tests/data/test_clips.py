"""Clips made of photographs: what moves, what stays, and what is drawn anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.config import DataConfig
from lldiffusion.data.clips import ClipCrops, Guest, settle
from lldiffusion.data.dataset import Source
from lldiffusion.data.layouts import Pair
from lldiffusion.data.simulate import LowLight, at_exposure, simulate
from lldiffusion.images import Image, read_image, write_image

SIDE, FRAMES = 64, 5


@pytest.fixture
def clips(tmp_path: Path) -> ClipCrops:
    """Simulated clips of one photograph whose colours say where each pixel lies."""
    y, x = np.meshgrid(np.linspace(0, 1, 120), np.linspace(0, 1, 160), indexing="ij")
    pixels = np.stack([y, x, 0.5 + 0 * x], axis=-1).astype(np.float32)
    write_image(tmp_path / "a.png", Image(pixels))
    pair = Pair(low=tmp_path / "a.png", normal=tmp_path / "a.png", name="a")
    config = DataConfig(normal=("x",), crop=SIDE, frames=FRAMES)
    return ClipCrops([Source((pair,), simulated=True)], config, seed=0, length=40)


def test_a_clip_is_a_function_of_its_number(clips: ClipCrops) -> None:
    first, again, other = clips[3], clips[3], clips[4]
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["low"], other["low"])
    assert first["low"].shape == first["normal"].shape == (FRAMES, 3, SIDE, SIDE)
    assert first["window"].shape == (FRAMES, 4)
    assert first["thumbnail"].shape == (3, 64, 96)


def test_the_window_says_where_the_crop_is(clips: ClipCrops) -> None:
    """The clean frames are parts of the photograph, whose red or green rises along its sides, at their windows."""
    moved = 0
    for number in range(20):
        clip = clips[number]
        normal, window = clip["normal"].numpy(), clip["window"].numpy()
        for top, left, bottom, right in window:
            assert bottom > top and right > left and window.min() >= 0 and window.max() <= 1
        shifts = np.abs(np.diff(window[:, :2], axis=0)).max()
        changes = np.abs(np.diff(normal, axis=0)).max()
        moved += shifts > 0
        assert shifts == 0 or changes > 0
    assert 3 < moved < 20


def test_noise_is_drawn_anew_and_light_is_not(clips: ClipCrops) -> None:
    photo = read_image(clips.sources[0].pairs[0].normal).pixels
    camera = settle(at_exposure(6.0), np.random.default_rng(1))
    first, second = (simulate(photo, np.random.default_rng(i), camera) for i in range(2))
    assert not np.array_equal(first, second)
    assert np.abs(first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))).max() < 0.002
    assert all(getattr(camera, name)[0] == getattr(camera, name)[1] for name in ("stops", "red", "shot", "quality"))
    low, high = LowLight().read
    assert low <= camera.read[0] <= high


def test_a_guest_shows_the_same_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
    guest = Guest((10, 20), (16, 12), np.array([4.0, -6.0]), np.array([0.0, 4.0]))
    still = np.zeros((SIDE, SIDE, 3), np.uint8)
    first, third = guest.cross(still, picture, 0), guest.cross(still, picture, 2)
    assert np.array_equal(first[4:20, :6], picture[10:26, 26:32])  # half of it is outside
    assert np.array_equal(third[4:20, 2:14], picture[10:26, 20:32])
    assert not first[20:].any() and not still.any()
    assert not guest.cross(still, picture, 40).any()  # it has left


def test_a_photograph_smaller_than_the_crop_is_enlarged(clips: ClipCrops) -> None:
    small = ClipCrops(clips.sources, replace(clips.config, crop=160, part_min=0.75), seed=0, length=4)
    assert small[0]["low"].shape == (FRAMES, 3, 160, 160)
