"""Tiled against whole: the shipped model on small pictures, the way of frames, and what the program says of it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks import tiles
from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import Image, write_image
from lldiffusion.video import Frame
from support.pictures import dark, photograph

pytest.importorskip("onnxruntime")


def test_tiles_of_a_shipped_model_are_the_whole(tmp_path: Path) -> None:
    for name in ("astronaut", "coffee"):
        write_image(tmp_path / f"{name}.png", Image(photograph(name, 150, 210)))
    write_image(tmp_path / "dark.png", Image(dark(photograph("chelsea", 150, 210))))
    normal = [tmp_path / "astronaut.png", tmp_path / "coffee.png"]
    tiles.main([tmp_path / "dark.png"], normal, None, [], [128, 160], 256, "tiny", tmp_path / "out")
    results = json.loads((tmp_path / "out" / "tiles.json").read_text())["results"]
    assert [(r["tile"], r["width"], r["height"]) for r in results] == [(side, 256, 183) for side in (128, 160)] * 3
    assert all(r["mean"] <= 1 and r["most"] <= 4 for r in results)
    assert all(r["after"] > 1.5 * r["light"] for r in results if r["light"] < 0.1)  # there is something to compare
    page = (tmp_path / "out" / "tiles.md").read_text()
    assert "Kept by all 6." in page and str(tmp_path) not in page


def test_large_tiles_hold_what_the_model_that_looks_furthest_sees(tmp_path: Path) -> None:
    write_image(tmp_path / "dark.png", Image(dark(photograph("chelsea", 150, 210))))
    tiles.main([tmp_path / "dark.png"], [], None, [], [512], 800, "tiny-lol", tmp_path / "out")
    (result,) = json.loads((tmp_path / "out" / "tiles.json").read_text())["results"]
    assert result["mean"] <= 1 and result["most"] <= 4


def test_frames_go_the_way_of_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TILE", 128)
    frame = Frame(dark(photograph(height=160, width=224)), 3, Fraction(1, 25))
    with Enhancer.open("tiny") as enhancer:
        found = tiles.compare_frame(enhancer, "clip", frame)
    assert found.kept and (found.width, found.height, found.tile) == (224, 160, 128)


def test_a_difference_is_in_8_bit_numbers_and_may_be_too_large() -> None:
    whole = np.zeros((2, 2, 3), np.float32)
    tiled = whole.copy()
    tiled[0, 0, 0] = 6 / 255
    found = tiles.difference("p", whole, 256, tiled, whole)
    assert (found.mean, found.most, found.kept) == (0.5, 6.0, False)
    assert "Broken by 1 of 1." in tiles.to_markdown([found], "m")


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="nothing to compare"):
        tiles.main([], [], None, ["3840x2160"], [256], 256, "tiny", tmp_path)
    with pytest.raises(LLDiffusionError, match="write WIDTHxHEIGHT"):
        tiles.frame_of(tmp_path / "clip.mp4", "4k")
