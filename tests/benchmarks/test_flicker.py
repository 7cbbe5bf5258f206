"""The flicker benchmark: a camera that is drawn once, an exposure that wobbles, and what smoothing makes of it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from support.level_engine import level_enhancer
from support.pictures import photograph

av = pytest.importorskip("av")
pytest.importorskip("cv2")

from benchmarks import flicker  # noqa: E402
from lldiffusion.data.simulate import LowLight  # noqa: E402

FAST = {"frame by frame": {"smoothing": 0.0}, "smoothed": {"smoothing": 0.5}}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph, slowly moving, lossless."""
    path, wide = tmp_path_factory.mktemp("clip") / "coffee.mkv", photograph("coffee", 64, 120)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        for i in range(20):
            pixels = np.round(wide[:, i : i + 96] * 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_camera_is_one_draw_within_the_simulators_ranges() -> None:
    drawn, ranges = flicker.camera(np.random.default_rng(0)), LowLight()
    assert drawn != flicker.camera(np.random.default_rng(1))
    for field in fields(LowLight):
        if field.name in ("jpeg", "quality"):
            continue
        (low, high), (least, most) = getattr(drawn, field.name), getattr(ranges, field.name)
        assert least <= low == high <= most


def test_noise_is_new_in_every_frame_and_exposure_wobbles_only_when_asked() -> None:
    still = [photograph("coffee", 64, 96)] * 40
    steady, wobbling = flicker.darken(still, 1, 0.0), flicker.darken(still, 1, 0.1)
    assert np.array_equal(steady[0], flicker.darken(still, 1, 0.0)[0])
    assert not np.array_equal(steady[0], steady[1])
    means = [np.log2([frame.mean() for frame in low]) for low in (steady, wobbling)]
    assert means[0].std() < 0.01
    assert 0.02 < means[1].std() < 0.2  # a stop of light is less than one in sRGB values


def test_smoothing_at_least_halves_the_flicker_of_a_model_that_obeys_its_level(clip: Path) -> None:
    results = list(flicker.run_clip(level_enhancer()[0], clip, 20, range(1, 2), FAST))
    assert [(result.exposure, result.way, result.frames) for result in results] == [
        (exposure, way, 20) for exposure in ("steady", "wobbling") for way in FAST
    ]
    before, after = (result.score for result in results[2:])
    assert after.change < before.change / 2
    assert after.flicker is not None and before.flicker is not None
    assert after.flicker < before.flicker / 2


def test_the_summary_is_the_ratio_of_the_means(clip: Path) -> None:
    results = list(flicker.run_clip(level_enhancer()[0], clip, 6, range(1, 3), FAST))
    wobbling = [result.score for result in results if result.exposure == "wobbling"]  # two draws, each before and after
    before, after = wobbling[::2], wobbling[1::2]
    gains = np.array([score.psnr for score in after], float) - np.array([score.psnr for score in before], float)
    ratio = np.mean([score.change for score in after]) / np.mean([score.change for score in before])
    lines = flicker.compare(results)
    assert len(lines) == 2
    assert f"{ratio:.2f} of the brightness change" in lines[1]
    assert f"{gains.mean():+.2f} ± {gains.std(ddof=1) / 2**0.5:.2f} dB of PSNR (2 runs)" in lines[1]


def test_the_program_writes_what_it_shows(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "flicker.json"
    flicker.main([clip], "tiny", 3, 2, 1, [0.5], [2], [], out)
    shown = capsys.readouterr().out
    assert "every 2 frames" in shown and "wobbling exposure" in shown
    saved = json.loads(out.read_text())
    assert len(saved["results"]) == 2 * 2 * 3
    assert {result["way"] for result in saved["results"]} >= {"frame by frame", "smoothed 0.5 s"}
