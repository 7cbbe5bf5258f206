"""The whole file: streams, chapters, tags and attachments of the input beside the new video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

LOSSLESS: dict[str, Any] = {"codec": "libx264", "crf": 0}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_stream_chapter_and_tag_stays(suffix: str, tmp_path: Path) -> None:
    source, target = clips.rich(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    listener = Listener()
    pass_through(source, target, **LOSSLESS, listener=listener)
    assert listener.said == []
    before, after = clips.streams(source), clips.streams(target)
    assert [held["codec_name"] for held in after] == [held["codec_name"] for held in before]
    assert [held["tags"].get("language") for held in after] == [held["tags"].get("language") for held in before]
    assert [held["disposition"] for held in after] == [held["disposition"] for held in before]
    assert clips.chapters(target) == clips.chapters(source) == [(0, 0.4, "one"), (0.4, 1, "two")]
    for tag in ("title", "artist"):
        assert clips.tags(target)[tag] == clips.tags(source)[tag]
    for which in ("a:0", "a:1", "s:0"):
        assert clips.packets(target, which) == clips.packets(source, which)


def test_a_timecode_track_stays(tmp_path: Path) -> None:
    source, target, listener = (
        clips.plain(tmp_path / "in.mov", "-timecode", "01:02:03:04"),
        tmp_path / "out.mov",
        Listener(),
    )
    pass_through(source, target, **LOSSLESS, listener=listener)
    assert clips.stream(source, "d:0")["tags"]["timecode"] == "01:02:03:04"
    assert clips.stream(target, "d:0")["tags"]["timecode"] == "01:02:03:04"
    assert listener.said == []


def test_an_attached_font_stays(tmp_path: Path) -> None:
    font, source, target = tmp_path / "font.ttf", tmp_path / "in.mkv", tmp_path / "out.mkv"
    font.write_bytes(b"letters" * 100)
    kind = ("-metadata:s:t", "mimetype=application/x-truetype-font")
    clips.ffmpeg("-i", clips.plain(tmp_path / "plain.mkv"), "-c", "copy", "-attach", font, *kind, source)
    pass_through(source, target, **LOSSLESS)
    clips.ffmpeg("-dump_attachment:t:0", tmp_path / "dumped.ttf", "-i", target, "-t", "0", "-f", "null", "-")
    assert (tmp_path / "dumped.ttf").read_bytes() == font.read_bytes()


def test_what_the_container_cannot_hold_is_said_beforehand(tmp_path: Path) -> None:
    source, target, listener = clips.rich(tmp_path / "in.mkv"), tmp_path / "out.ts", Listener()
    pass_through(source, target, **LOSSLESS, listener=listener)
    assert len(listener.said) == 1
    assert "subtitle stream 3 (srt) is left out" in listener.said[0]
    kept = [held["codec_type"] for held in clips.streams(target)]
    assert kept[:3] == ["video", "audio", "audio"]
    assert "subtitle" not in kept


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    cover, source, target = tmp_path / "cover.png", tmp_path / "in.mp4", tmp_path / "out.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1", cover)
    tune = clips.plain(tmp_path / "tune.mp4")
    clips.ffmpeg(
        "-i", cover, "-i", tune, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic", source
    )
    pass_through(source, target, **LOSSLESS)
    attached = av.stream.Disposition.attached_pic
    pictures = [held["codec_name"] for held in clips.streams(target) if held["disposition"] & attached]
    assert pictures == ["png"]
    assert clips.packets(target, "a:0") == clips.packets(tune, "a:0")


@pytest.mark.parametrize(("suffix", "precision"), [(".mkv", 5.1e-4), (".mov", 1e-6), (".ts", 1.2e-5)])
def test_into_another_container(suffix: str, precision: float, tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / f"out{suffix}"
    pass_through(source, target, codec="libx264", crf=20)
    before, after = (np.array([float(time) for time in clips.times(path)]) for path in (source, target))
    late = after[0] - before[0]
    assert 0 < late < 0.09 if suffix == ".ts" else late == 0  # it has no negative times: reordering delays everything
    assert np.abs(after - late - before).max() < precision
    sound, copied = clips.packets(source, "a:0"), clips.packets(target, "a:0")
    assert abs(float(copied[-1][0]) - float(sound[-1][0]) - late) < 2e-3
    if suffix != ".ts":  # which wraps AAC in frames of its own
        assert [data for _, data in copied] == [data for _, data in sound]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_second_video_is_copied(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    small = ("-f", "lavfi", "-i", "testsrc=size=48x32:rate=10:duration=1")
    clips.ffmpeg(*clips.VIDEO, *small, "-map", "0", "-map", "1", *clips.X264, source)
    pass_through(source, target, codec="libx264", crf=30)
    assert clips.packets(target, "v:1") == clips.packets(source, "v:1")
    assert clips.packets(target, "v:0") != clips.packets(source, "v:0")
