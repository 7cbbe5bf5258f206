"""AVI: one frame rate, packets in order, sound that its players know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402


def test_pictures_and_sound(tmp_path: Path) -> None:
    source, target, listener = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.avi", Listener()
    summary = pass_through(source, target, crf=0, listener=listener)
    assert listener.said == ["audio stream 1 (aac) is re-encoded to MP3: avi cannot hold it as it is"]
    assert summary.notes == []
    about = clips.stream(target)
    assert (about["codec_name"], about["r_frame_rate"], about["nb_frames"]) == ("h264", 25, 25)
    assert clips.stream(target, "a:0")["codec_name"] in ("mp3", "mp3float")
    assert np.array_equal(clips.samples(target, "yuv420p"), clips.samples(source, "yuv420p"))


def test_uneven_times_are_said(tmp_path: Path) -> None:
    source, target = clips.variable(tmp_path / "in.mp4"), tmp_path / "out.avi"
    summary = pass_through(source, target, crf=30)
    assert [line.split(":")[0] for line in summary.notes] == ["AVI has one frame rate"]
    assert len(clips.times(target)) == len(clips.times(source))


def test_a_part_begins_at_zero(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.avi"
    pass_through(source, target, crf=0, start=0.4)
    assert np.array_equal(
        clips.samples(target, "yuv420p").reshape(15, -1), clips.samples(source, "yuv420p").reshape(25, -1)[10:]
    )


def test_other_codecs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match=r"AVI holds H\.264 and FFV1, not libx265"):
        pass_through(clips.plain(tmp_path / "in.mp4"), tmp_path / "out.avi", codec="libx265")
