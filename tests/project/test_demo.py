"""`make demo` on small cuts of its photographs, with the model in the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lldiffusion import demo
from lldiffusion.data import photographs
from lldiffusion.evaluation.metrics import psnr
from lldiffusion.images import read_image, to_uint8


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two photographs of 128x192 instead of four large ones."""
    window = (slice(60, 188), slice(140, 332))
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", {"astronaut": window, "chelsea": window})


@pytest.mark.usefixtures("small")
def test_demo_brightens_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = demo.make_demo(tmp_path / "demo")
    assert read_image(sheet).pixels.shape[1] > 4 * demo.CELL
    printed = capsys.readouterr().out
    for name in photographs.PHOTOGRAPHS:
        assert name in printed
        dark, _, bright, original = (
            to_uint8(read_image(sheet.parent / f"{name}-{kind}.png").pixels) for kind in demo.KINDS
        )
        assert psnr(bright, original) > psnr(dark, original) + 3


@pytest.mark.usefixtures("small")
def test_the_dark_photographs_are_always_the_same_and_noisy() -> None:
    first, again = list(photographs.dark_photographs()), list(photographs.dark_photographs())
    for (_, original, dark), (_, _, repeated) in zip(first, again, strict=True):
        assert np.array_equal(dark, repeated)
        assert dark.mean() < original.mean() / 3
        steps = np.abs(np.diff(dark.astype(int), axis=1))  # between neighbours: noise of a level or more
        assert np.mean(steps >= 1) > 0.2
