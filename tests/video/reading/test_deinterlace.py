"""Interlaced video: whole pictures as FFmpeg's program makes them, or fields that stay fields and say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.video import VideoSource  # noqa: E402
from lldiffusion.video.reading.deinterlace import field_order  # noqa: E402

FIELD_ORDERS = {"top": (2, 4), "bottom": (3, 5)}  # FFmpeg's numbers: stored one after the other, or line by line


def interlaced(path: Path, order: str = "top") -> Path:
    """25 frames of 50 fields a second, the upper or the lower one first."""
    scan = {"top": "tff", "bottom": "bff"}[order]
    shape = f"interlace=scan={scan},setfield={scan},format=yuv420p"
    moving = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=50:duration=1", *clips.SOUND)
    coded = ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", "2", "-bf", "2", "-c:a", "aac")
    clips.ffmpeg(*moving, "-vf", shape, *coded, path)
    return path


def interlaced_frames(path: Path) -> int:
    return sum(frame.interlaced_frame for frame in clips.decoded(path))


def coded_order(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        next(container.decode(stream))
        return int(stream.codec_context.field_order)


@pytest.mark.parametrize("order", ["top", "bottom"])
def test_fields_become_the_pictures_that_ffmpegs_bwdif_makes(order: str, tmp_path: Path) -> None:
    source, oracle, target = interlaced(tmp_path / "in.mkv", order), tmp_path / "oracle.mkv", tmp_path / "out.mkv"
    clips.ffmpeg("-i", source, "-an", "-vf", "bwdif=mode=send_frame:deint=interlaced", "-c:v", "ffv1", oracle)
    listener = Listener()
    pass_through(source, target, codec="ffv1", listener=listener)
    assert listener.said == [f"'{source}' is interlaced: fields become whole pictures (--deinterlace off keeps them)"]
    assert interlaced_frames(source) == 25
    assert interlaced_frames(target) == 0
    assert clips.times(target) == clips.times(source)
    assert clips.packets(target, "a:0") == clips.packets(source, "a:0")
    assert not np.array_equal(clips.samples(target, "yuv420p"), clips.samples(source, "yuv420p"))
    difference = np.abs(clips.samples(target, "yuv420p") - clips.samples(oracle, "yuv420p")).reshape(25, -1)
    assert difference[1:].max() <= 1
    assert difference[0].mean() < 1  # it has none before it, which versions of FFmpeg treat differently


@pytest.mark.parametrize("codec", ["libx264", "ffv1", "prores_ks"])
@pytest.mark.parametrize("order", ["top", "bottom"])
def test_fields_stay_fields_when_asked_and_are_marked(order: str, codec: str, tmp_path: Path) -> None:
    source, listener = interlaced(tmp_path / "in.mkv", order), Listener()
    target = tmp_path / ("out.mov" if codec == "prores_ks" else "out.mkv")
    crf = 0.0 if codec == "libx264" else None
    pass_through(source, target, codec=codec, crf=crf, listener=listener, fields=True)
    assert "is interlaced and enhanced as it is" in listener.said[0]
    assert interlaced_frames(target) == 25
    assert [float(time) for time in clips.times(target)] == pytest.approx([float(t) for t in clips.times(source)])
    assert coded_order(target) in FIELD_ORDERS[order]
    assert [field_order(frame) for frame in clips.decoded(target)] == [order] * 25
    if codec != "prores_ks":
        assert np.array_equal(clips.samples(target, "yuv420p"), clips.samples(source, "yuv420p"))


def test_a_codec_that_cannot_mark_fields_is_refused(tmp_path: Path) -> None:
    source = interlaced(tmp_path / "in.mkv")
    with pytest.raises(LLDiffusionError, match=r"codec libx265 cannot write interlaced video: .*libx264, ffv1"):
        pass_through(source, tmp_path / "out.mkv", codec="libx265", fields=True)


def test_only_what_is_interlaced_is_changed(tmp_path: Path) -> None:
    """A clip whose second half is interlaced: its first half stays as it was."""
    halves = []
    for name, shape in (("first", "setfield=prog"), ("second", "interlace=scan=tff,setfield=tff")):
        halves.append(tmp_path / f"{name}.ts")
        moving = f"testsrc2=size=96x64:rate={25 if name == 'first' else 50}:duration=0.4"
        flags = ("-flags", "+ildct+ilme") if name == "second" else ()
        shaped = ("-vf", f"{shape},format=yuv420p", "-c:v", "mpeg2video", *flags, "-g", "1", "-q:v", "2")
        clips.ffmpeg("-f", "lavfi", "-i", moving, *shaped, halves[-1])
    source = tmp_path / "in.ts"
    clips.ffmpeg("-i", f"concat:{halves[0]}|{halves[1]}", "-c", "copy", source)
    target = tmp_path / "out.mkv"
    summary = pass_through(source, target, codec="ffv1")
    before, after = (clips.samples(path, "yuv420p").reshape(20, -1) for path in (source, target))
    assert np.array_equal(before[:10], after[:10])
    assert not any(np.array_equal(one, other) for one, other in zip(before[10:], after[10:]))
    assert "10 interlaced frames were made whole pictures" in summary.notes


def test_reading_on_gives_what_reading_through_gives(tmp_path: Path) -> None:
    source = interlaced(tmp_path / "in.mkv")
    whole = list(VideoSource(str(source)).frames(0.2))
    rest = list(VideoSource(str(source)).frames(0.2, skip=7))
    assert [frame.pts for frame in rest] == [frame.pts for frame in whole[7:]]
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(rest, whole[7:], strict=True))
