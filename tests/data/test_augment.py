"""What happens to the low side: JPEG as it would lie over the whole picture, for as many pictures as asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PIL

from lldiffusion.config import DataConfig
from lldiffusion.data.augment import QUALITY, Changes, draw_changes
from lldiffusion.images import through_jpeg

PLAIN = draw_changes(DataConfig(), False, np.random.default_rng(0))  # nothing asked for: the identity


def dark_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Coloured noise of one to twenty levels."""
    return np.random.default_rng(3).integers(0, 20, (height, width, 3)).astype(np.uint8)


def low_of(changes: Changes, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    low = changes.of_low(picture.astype(np.float32) / np.float32(255), np.random.default_rng(0))
    return np.round(low * 255).astype(np.uint8)


@pytest.mark.parametrize("corner", [(0, 0), (5, 13)])
def test_a_crop_is_compressed_as_a_part_of_its_picture(corner: tuple[int, int]) -> None:
    """Blocks that lie in the crop are those of the whole picture, wherever the crop begins."""
    picture = dark_picture(96, 112)
    top, left = 16 + corner[0], 32 + corner[1]
    changes = replace(PLAIN, quality=70, corner=corner)
    crop = low_of(changes, picture[top:, left:])
    whole = through_jpeg(picture, 70)
    # Blocks alone that lie inside: their chroma is smoothed over their edges.
    inside = (slice(34 - corner[0], 60 - corner[0]), slice(34 - corner[1], 58 - corner[1]))
    np.testing.assert_array_equal(crop[inside], whole[top:, left:][inside])
    assert crop.shape == picture[top:, left:].shape


def test_little_is_left_of_the_colour_of_noise() -> None:
    """Quality 50 leaves of such noise little but the mean colour of each 16x16 block."""
    picture = dark_picture(64, 64)
    ours = low_of(replace(PLAIN, quality=50), picture).astype(float)
    spread = (ours - ours.mean(axis=2, keepdims=True)).std()
    before = (picture - picture.mean(axis=2, keepdims=True)).std()
    assert spread < 0.4 * before
    ycc = np.asarray(PIL.fromarray(ours.astype(np.uint8)).convert("YCbCr"), float)
    assert ycc[..., 0].std() > 2 * ycc[..., 1].std()


def test_as_many_pictures_as_asked_for_by_any_quality() -> None:
    config, rng = DataConfig(jpeg=0.25), np.random.default_rng(1)
    drawn = [draw_changes(config, False, rng) for _ in range(2000)]
    some = [changes for changes in drawn if changes.quality]
    assert len(some) / len(drawn) == pytest.approx(0.25, abs=0.03)
    assert {changes.corner[0] for changes in some} == set(range(16))
    assert min(c.quality for c in some) == QUALITY[0] and max(c.quality for c in some) == QUALITY[1] - 1


def test_without_it_a_run_draws_what_it_drew_before() -> None:
    rng, other = np.random.default_rng(2), np.random.default_rng(2)
    assert draw_changes(DataConfig(jpeg=0.0, expose=0.3), False, rng).quality == 0
    draw_changes(DataConfig(expose=0.3), False, other)
    assert rng.random() == other.random()
