"""Video in and out: what a model does not touch stays as it was."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import clips
from support.passing import pass_through

av = pytest.importorskip("av")

from lldiffusion.video import VideoSource  # noqa: E402

LOSSLESS: dict[str, Any] = {"codec": "libx264", "crf": 0}


def same_video(source: Path, target: Path, pixels: str, tolerance: int = 0) -> None:
    """Frames, their times and their samples agree, by ffprobe and ffmpeg."""
    assert clips.times(target) == clips.times(source)
    difference = clips.samples(source, pixels) - clips.samples(target, pixels)
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("plain.mp4", []),
        ("late.mp4", ["-output_ts_offset", "3.5"]),
        ("stream.ts", []),
        ("plain.mkv", []),
        ("fine.mov", ["-video_track_timescale", "90000"]),
    ],
)
def test_samples_times_and_sound_stay(name: str, extra: list[str], tmp_path: Path) -> None:
    source = clips.plain(tmp_path / name, *extra)
    target = tmp_path / f"out{source.suffix}"
    summary = pass_through(source, target, **LOSSLESS)
    assert summary.frames == 25
    same_video(source, target, "yuv420p")
    assert clips.packets(target, "a:0") == clips.packets(source, "a:0")
    assert not target.with_name(f"{target.name}.parts").exists()


def test_variable_frame_rate_stays(tmp_path: Path) -> None:
    source, target = clips.variable(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert len(set(np.diff([float(time) for time in clips.times(source)]).round(4))) > 1
    pass_through(source, target, **LOSSLESS)
    same_video(source, target, "yuv420p")
    assert clips.packets(target, "a:0") == clips.packets(source, "a:0")


def test_reordered_frames_keep_their_times(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    pass_through(source, target, codec="libx264", crf=30)
    assert clips.stream(target)["has_b_frames"] > 0
    assert clips.times(target) == clips.times(source)
    decoding = [packet["dts"] for packet in clips.packet_table(target)]
    assert decoding == sorted(set(decoding))
    assert clips.samples(source, "yuv420p").mean() == pytest.approx(clips.samples(target, "yuv420p").mean(), abs=1)


def test_an_edit_list_stays_cut(tmp_path: Path) -> None:
    whole = clips.plain(tmp_path / "whole.mp4")
    source, target = tmp_path / "cut.mp4", tmp_path / "out.mp4"
    clips.ffmpeg(
        "-ss", "0.2", "-i", whole, "-c", "copy", source
    )  # keeps packets before the cut, hidden by an edit list
    shown = len(clips.times(source))
    assert shown < clips.stream(source)["nb_frames"]
    pass_through(source, target, **LOSSLESS)
    same_video(source, target, "yuv420p")
    assert len(clips.times(target)) == shown


@pytest.mark.parametrize(
    ("pixels", "codec", "matrix", "full"),
    [
        ("yuv420p", "libx264", "bt709", False),
        ("yuv420p", "libx264", "smpte170m", True),
        ("yuv422p10le", "ffv1", "bt709", True),
        ("yuv420p10le", "libx265", "bt2020nc", False),
        ("yuv444p", "libx264", "bt2020nc", True),
    ],
)
def test_depth_and_colour_tags_stay(pixels: str, codec: str, matrix: str, full: bool, tmp_path: Path) -> None:
    suffix = ".mkv" if codec == "ffv1" else ".mp4"
    source = clips.coloured(tmp_path / f"in{suffix}", pixels, matrix, full, codec)
    target = tmp_path / f"out{suffix}"
    pass_through(source, target, codec=codec, crf=None if codec == "ffv1" else 0)
    before, after = clips.stream(source), clips.stream(target)
    if codec == "libx265":
        assert after["codec_tag_string"] == "hvc1"  # QuickTime plays no hev1
    for field in ("pix_fmt", "color_range", "colorspace", "color_trc", "color_primaries"):
        assert after[field] == before[field], field
    same_video(source, target, pixels)


def test_untagged_colours_stay_untagged(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    pass_through(source, target, **LOSSLESS)
    for field in ("colorspace", "color_trc", "color_primaries"):
        assert clips.stream(target)[field] == clips.stream(source)[field] == 2  # unspecified


def test_rotation_and_pixel_shape_stay(tmp_path: Path) -> None:
    flat, source, target = tmp_path / "flat.mp4", tmp_path / "in.mp4", tmp_path / "out.mp4"
    clips.plain(flat, "-vf", "setsar=4/3")
    clips.ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", "rotate=90", source)
    before = clips.stream(source)
    assert clips.turn(source) in (90, -90)
    pass_through(source, target, **LOSSLESS)
    after = clips.stream(target)
    assert VideoSource(str(target)).info.display_matrix == VideoSource(str(source)).info.display_matrix
    assert clips.turn(target) == clips.turn(source)
    assert after["sample_aspect_ratio"] == before["sample_aspect_ratio"] == Fraction(4, 3)
    same_video(source, target, "yuv420p")


def test_a_part_begins_at_zero_and_in_sync(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    pass_through(source, target, **LOSSLESS, start=0.31, end=0.75)
    shown = [time for time in clips.times(source) if 0.31 <= float(time) < 0.75]
    assert [float(time) for time in clips.times(target)] == pytest.approx([float(t) - float(shown[0]) for t in shown])
    wanted = clips.samples(source, "yuv420p").reshape(25, -1)[8:19]
    assert np.array_equal(clips.samples(target, "yuv420p").reshape(len(shown), -1), wanted)
    sound = {data: float(time) for time, data in clips.packets(source, "a:0")}
    kept = clips.packets(target, "a:0")
    assert len(kept) >= 18
    assert all(sound[data] - float(time) == pytest.approx(float(shown[0]), abs=1e-3) for time, data in kept)


@pytest.mark.parametrize("name", ["in.ts", "in.mkv"])
def test_a_part_of_open_groups_begins_where_it_should(name: str, tmp_path: Path) -> None:
    source, target = tmp_path / name, tmp_path / f"out{Path(name).suffix}"
    clips.ffmpeg(*clips.VIDEO, "-c:v", "mpeg2video", "-bf", "2", "-g", "8", "-q:v", "4", source)  # open by default
    whole, part = tmp_path / f"whole{source.suffix}", 0.52
    pass_through(source, whole, **LOSSLESS)
    pass_through(source, target, **LOSSLESS, start=part)
    frames = clips.samples(whole, "yuv420p").reshape(25, -1)
    assert np.array_equal(clips.samples(target, "yuv420p").reshape(-1, frames.shape[1]), frames[13:])
