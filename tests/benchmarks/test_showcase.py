"""The page at the head of the README: four versions of each photograph, in low and in mixed light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import showcase
from lldiffusion.images import Image, read_image, write_image
from support.pictures import photograph
from support.toy import toy_bundle

pytest.importorskip("onnxruntime")


def test_rows_of_four(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("astronaut", "coffee")]
    for path in paths:
        write_image(path, Image(photograph(path.stem, 96, 144)))
    showcase.main(paths, tmp_path / "page.jpg", str(toy_bundle(tmp_path / "toy")), seed=0)
    page = read_image(tmp_path / "page.jpg").pixels
    assert page.shape == (2 * 180 + 6, 4 * 270 + 3 * 6, 3)


def test_low_light_is_even_and_mixed_light_is_not() -> None:
    grey = np.full((96, 144, 3), 0.5, np.float32)
    low, mixed = (showcase.darkened(grey, 3, mixed) for mixed in (False, True))
    steps = [side.reshape(4, 24, 6, 24, 3).mean(axis=(1, 3, 4)) for side in (low, mixed)]  # of 24x24 pixels
    assert steps[0].max() < 0.25 and steps[0].max() < 1.2 * steps[0].min()
    assert steps[1].max() > 0.4 and steps[1].max() > 1.4 * steps[1].min()
    assert np.array_equal(low, showcase.darkened(grey, 3, False))
