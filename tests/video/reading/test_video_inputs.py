"""Damaged videos, odd ones, and what is no video at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support import clips
from support.passing import pass_through

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.video import VideoSource  # noqa: E402


def damaged(path: Path, packet: int) -> Path:
    """A clip of key frames whose packet `packet` is zeros."""
    whole = path.with_name("whole.mkv")
    clips.ffmpeg(*clips.VIDEO, "-c:v", "mjpeg", "-q:v", "3", whole)
    held = clips.packet_table(whole)[packet]
    data, start = bytearray(whole.read_bytes()), held["pos"]
    body = data.index(b"\xff\xd8", start)  # a JPEG's beginning
    data[body : body + held["size"] - 16] = bytes(held["size"] - 16)
    path.write_bytes(data)
    return path


def test_a_damaged_packet_is_stood_in_for_and_counted(tmp_path: Path) -> None:
    source, target = damaged(tmp_path / "in.mkv", 10), tmp_path / "out.mkv"
    summary = pass_through(source, target, codec="ffv1")
    assert clips.times(target) == clips.times(tmp_path / "whole.mkv")
    shown = clips.samples(target, "yuvj420p").reshape(25, -1)
    whole = clips.samples(tmp_path / "whole.mkv", "yuvj420p").reshape(25, -1)
    assert np.array_equal(shown[10], whole[9])
    assert np.array_equal(np.delete(shown, 10, 0), np.delete(whole, 10, 0))
    assert summary.notes == ["damaged input: 1 packets; the last frame repeated 1 times (at 0.40 s)"]


@pytest.mark.parametrize("make", [clips.plain, clips.key_frames])
def test_damage_between_other_frames_keeps_count_and_times(make: Callable[[Path], Path], tmp_path: Path) -> None:
    whole, source = make(tmp_path / "whole.mp4"), tmp_path / "in.mp4"
    listed = clips.packet_table(whole)
    data = bytearray(whole.read_bytes())
    for packet in (listed[4], listed[5]):
        start = packet["pos"]
        data[start : start + packet["size"]] = b"\xff" * packet["size"]
    source.write_bytes(data)
    summary = pass_through(source, tmp_path / "out.mp4", crf=20)
    assert clips.times(tmp_path / "out.mp4") == clips.times(whole)
    assert "damaged input: 2 packets; the last frame repeated 2 times" in summary.notes[0]


def test_frames_that_the_decoder_patches_are_counted(tmp_path: Path) -> None:
    whole, source = clips.plain(tmp_path / "whole.mp4"), tmp_path / "in.mp4"
    packet = clips.packet_table(whole)[6]
    data, start, size = bytearray(whole.read_bytes()), packet["pos"], packet["size"]
    data[start + size // 2 : start + size] = bytes(size - size // 2)  # a slice that breaks off
    source.write_bytes(data)
    summary = pass_through(source, tmp_path / "out.mp4", crf=20)
    assert clips.times(tmp_path / "out.mp4") == clips.times(whole)
    assert any("frames patched by the decoder" in line for line in summary.notes)


def test_a_stream_that_ends_early_is_kept_and_reported(tmp_path: Path) -> None:
    whole, source = clips.plain(tmp_path / "whole.mp4", "-t", "1", "-movflags", "+faststart"), tmp_path / "in.mp4"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 5])
    summary = pass_through(source, tmp_path / "out.mp4", crf=20)
    shown = clips.times(tmp_path / "out.mp4")
    assert 3 < len(shown) < 20
    assert set(shown) < set(clips.times(whole))
    assert re.search(r"the input (ends early: 0\.\d of 1\.0 s are there|stopped early)", summary.notes[-1])


def test_timestamps_that_do_not_rise_are_moved(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"  # counts in milliseconds: 2500 frames a second share them
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=2500:duration=0.01", "-c:v", "ffv1", path)
    assert len(set(clips.times(path))) < 25
    source = VideoSource(str(path))
    shown = [frame.pts for frame in source.frames()]
    assert len(shown) == 25
    assert shown == sorted(set(shown))
    assert "did not rise" in source.damage.lines()[0]


def make_bad(folder: Path, kind: str) -> Path:
    """Something that is no video."""
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("This is a text, and no video.\n" * 50)
    elif kind == "empty":
        path.touch()
    elif kind == "sound":
        clips.ffmpeg(*clips.SOUND, "-c:a", "aac", path)
    elif kind == "header":
        path.write_bytes(clips.plain(folder / "whole.mp4").read_bytes()[:200])
    elif kind == "unknown":
        clips.ffmpeg(*clips.SOUND, "-c:a", "aac", path)
        path.write_bytes(path.read_bytes().replace(b"mp4a", b"apac").replace(b"esds", b"dapa"))
    elif kind == "nothing":
        clips.ffmpeg(*clips.VIDEO, "-c:v", "mpeg4", "-frames:v", "1", folder / "one.mp4")
        one = bytearray((folder / "one.mp4").read_bytes())
        packet = clips.packet_table(folder / "one.mp4")[0]
        start, size = packet["pos"], packet["size"]
        one[start : start + size] = bytes(size)
        path.write_bytes(one)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "not a video that FFmpeg knows"),
        ("empty", "the file is empty"),
        ("sound", r"holds no video, only audio \(aac\)"),
        ("unknown", r"holds no video, only audio \(unknown\)"),
        ("header", "cannot read"),
        ("nothing", "no video frame that can be decoded"),
        ("missing", "no such file"),
        ("folder", "folder without"),
    ],
)
def test_what_is_no_video_is_named(kind: str, words: str, tmp_path: Path) -> None:
    path = make_bad(tmp_path, kind)
    with pytest.raises(LLDiffusionError, match=words) as caught:
        VideoSource(str(path))
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_hardware_decoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="unknown hardware decoder 'cudda'"):
        VideoSource(str(clips.plain(tmp_path / "in.mp4")), hwaccel="cudda")


def test_hardware_that_is_not_there_is_named(tmp_path: Path) -> None:
    clip = clips.plain(tmp_path / "in.mp4")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is an NVIDIA GPU: decoding on it works")
    with pytest.raises(LLDiffusionError, match="cannot decode on 'cuda' here"):
        VideoSource(str(clip), hwaccel="cuda")


def test_avi_with_reordered_frames_has_times_that_rise(tmp_path: Path) -> None:
    path = tmp_path / "in.avi"  # keeps no presentation times; libavformat's guesses are wrong here
    clips.ffmpeg(*clips.VIDEO, *clips.X264, path)
    source = VideoSource(str(path))
    shown = [frame.time for frame in source.frames()]
    listed = clips.probe(path, "-show_frames", "-select_streams", "v:0")["frames"]
    decoded = [float(frame.get("best_effort_timestamp_time", "nan")) for frame in listed]  # the last have none
    assert len(shown) == len(decoded) == 25
    assert shown[4:20] == pytest.approx(decoded[4:20])
    assert shown == sorted(set(shown))
    assert shown[-1] - shown[4] == pytest.approx(20 / 25)
