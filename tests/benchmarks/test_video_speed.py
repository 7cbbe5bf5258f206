"""The speed of whole videos: what is measured, and what the program writes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import latency_table, video_speed
from benchmarks.gpu_video import make_clip
from benchmarks.readme_table import insert
from benchmarks.video_run import LEAST, Speed, Wish, measure
from lldiffusion.errors import LLDiffusionError
from support import clips
from support.toy import toy_bundle

pytest.importorskip("av")
pytest.importorskip("onnxruntime")


def test_a_run_is_measured_whole_and_in_parts(tmp_path: Path) -> None:
    model = str(toy_bundle(tmp_path / "toy"))
    clip = make_clip(tmp_path, (96, 64), 12, sound=True)
    assert [clips.stream(clip, kind)["codec_name"] for kind in ("v:0", "a:0")] == ["h264", "aac"]
    row = measure(Wish(model, "fp32", clip, preset="ultrafast", seconds=1.0))
    assert (row.model, row.precision, row.width, row.height, row.frames) == ("toy", "fp32", 96, 64, 12)
    assert row.frames_per_second == pytest.approx(11 / (sum(row.frame_ms) / 1000))
    assert row.about["encoder"] == "libx264 ultrafast"
    assert min(row.engine, row.decoding, row.encoding) > 0
    assert row.total >= row.engine + row.decoding + row.encoding
    assert row.peak is not None and row.peak > 20 * 2**20
    assert 0 <= row.live_dropped < 1
    assert len(row.live_ms) >= LEAST - 1
    assert measure(Wish(model, "fp32", clip, seconds=0.0)).frames in range(LEAST, 12)


def test_the_page_says_shares_growth_and_what_is_missing() -> None:
    small = Speed("live", "int8", 320, 180, 10, 20.0, 1.0, 2**28, 30.0, 2.0, 6.0, 2.0, frame_ms=[50.0] * 9)
    large = Speed("live", "int8", 640, 360, 10, 5.0, 1.0, 2**29, 120.0, 8.0, 24.0, 8.0, [30.0, 40.0, 50.0], 0.2)
    large.frame_ms = [100.0, 200.0, 300.0]
    page = video_speed.page([small, large], {"live bf16 dark": "no such graphs"})
    assert "| live | int8 | 320x180 | 20.00 | 50 (50 .. 50) | 256 | 40 | 75% | 5% | 15% | 5% |" in page
    assert "| 640x360 | 5.00 | 200 (110 .. 290) | 512 | 160 |" in page
    assert "live, int8: the time of a frame grows as its pixels to the power of 1.00." in page
    assert "| live | int8 | 640x360 | 40 (49) | 20.0 | 20% |" in page
    assert "not measured: live bf16 dark: no such graphs" in page


def test_a_model_that_cannot_run_does_not_stop_the_others(tmp_path: Path) -> None:
    model, out = str(toy_bundle(tmp_path / "toy")), tmp_path / "out"
    video_speed.main([model], ["fp32", "int8"], "96x64", 6, 0.5, "auto", None, None, None, out)
    table = json.loads((out / "video_speed.json").read_text())
    assert [row["precision"] for row in table["rows"]] == ["fp32"]
    assert "int8" in next(iter(table["failed"].values()))
    assert (out / "video_speed.md").read_text().startswith("# Video")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{latency_table.BEGIN}\nold\n{latency_table.END}\nafter\n")
    latency_table.main(out / "video_speed.json", page)
    assert "| toy | fp32 | 96x64 |" in page.read_text()
    assert "old" not in page.read_text()


def test_nothing_measured_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_speed, "measure_all", lambda wishes: ([], {"tiny bf16": "no OpenVINO"}))
    with pytest.raises(LLDiffusionError, match="nothing could be measured: no OpenVINO"):
        video_speed.main(["tiny"], ["bf16"], "96x64", 6, 0.5, "auto", None, None, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_documentation_says_what_was_measured() -> None:
    text = latency_table.PAGE.read_text(encoding="utf-8")
    assert latency_table.BEGIN in text
    if latency_table.RESULT.exists():
        made = latency_table.table(latency_table.RESULT)
        assert insert(text, made, latency_table.BEGIN, latency_table.END) == text, "python -m benchmarks.latency_table"
