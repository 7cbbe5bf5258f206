"""Frames sent on as they come: through pipes with their times, and over the network."""

from __future__ import annotations

import io
import socket
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import clips

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.video import VideoSource  # noqa: E402
from lldiffusion.video.orientation import rotation_matrix  # noqa: E402
from lldiffusion.video.writing.live import LiveWriter  # noqa: E402
from lldiffusion.video.writing.quality import Pace  # noqa: E402


def sent(source: VideoSource, every: int = 1, **options: Any) -> bytes:
    pipe = io.BytesIO()
    writer = LiveWriter(source.info, stream=pipe, **options)
    for number, frame in enumerate(source.frames()):
        if number % every == 0:
            writer.add(frame)
    writer.close()
    return pipe.getvalue()


def test_nut_has_the_samples_and_the_times(tmp_path: Path) -> None:
    clip, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.nut"
    target.write_bytes(sent(VideoSource(str(clip)), every=3))
    assert [float(t) for t in clips.times(target)] == pytest.approx([i * 0.12 for i in range(9)])
    wanted = clips.samples(clip, "yuv420p").reshape(25, -1)[::3]
    assert np.array_equal(clips.samples(target, "yuv420p").reshape(9, -1), wanted)


def test_mpegts_is_coded_and_holds_nothing_back(tmp_path: Path) -> None:
    source = VideoSource(str(clips.plain(tmp_path / "in.mp4")))
    pipe = io.BytesIO()
    writer = LiveWriter(source.info, kind="mpegts", stream=pipe)
    sizes = []
    for frame in source.frames():
        writer.add(frame)
        sizes.append(len(pipe.getvalue()))
    assert all(before < after for before, after in pairwise(sizes)), "a frame waits for another"
    writer.close()
    (tmp_path / "out.ts").write_bytes(pipe.getvalue())
    assert clips.stream(tmp_path / "out.ts")["codec_name"] == "h264"
    gaps = np.diff([float(t) for t in clips.times(tmp_path / "out.ts")])
    np.testing.assert_allclose(gaps, 0.04, atol=1e-4)


def test_pictures_are_sent_upright(tmp_path: Path) -> None:
    source = VideoSource(str(clips.plain(tmp_path / "in.mp4")))
    source.info = replace(source.info, display_matrix=rotation_matrix(90))
    (tmp_path / "out.nut").write_bytes(sent(source))
    about = clips.stream(tmp_path / "out.nut")
    assert (about["width"], about["height"]) == (64, 96)


def test_over_the_network(tmp_path: Path) -> None:
    source = VideoSource(str(clips.plain(tmp_path / "in.mp4")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    seen: list[float] = []

    def watch() -> None:
        with av.open(f"{address}?listen", timeout=20) as container:
            seen.extend(frame.time for frame in container.decode(video=0))

    viewer = threading.Thread(target=watch)
    viewer.start()
    writer = connected(source, address)
    for frame in source.frames():
        writer.add(frame)
    writer.close()
    viewer.join(20)
    np.testing.assert_allclose(np.diff(seen), 0.04, atol=1e-4)
    assert len(seen) == 25


def connected(source: VideoSource, address: str) -> LiveWriter:
    for _ in range(100):
        try:
            return LiveWriter(source.info, address)
        except LLDiffusionError as error:
            if "Connection refused" not in str(error):
                raise
            time.sleep(0.1)
    raise AssertionError(f"nobody listens at {address}")


def test_what_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    info = VideoSource(str(clips.plain(tmp_path / "in.mp4"))).info
    with pytest.raises(LLDiffusionError, match=r"cannot write to 'tcp://127\.0\.0\.1:1': Connection refused$"):
        LiveWriter(info, "tcp://127.0.0.1:1")
    with pytest.raises(LLDiffusionError, match=r"accepted are udp://, .*rtsps://, a file and -$"):
        LiveWriter(info, "gopher://here")
    with pytest.raises(LLDiffusionError, match="unknown pipe format 'flv': accepted are nut, mpegts"):
        LiveWriter(info, kind="flv", stream=io.BytesIO())


def test_a_pace_is_the_users_own_or_a_fast_one() -> None:
    assert Pace().options("libx264") == {}
    assert Pace(fast=True).options("libx264") == {"preset": "veryfast"}
    assert Pace("p6", fast=True).options("h264_nvenc") == {"preset": "p6"}
    assert Pace("slow", fast=True, prompt=True).options("libx264") == {"preset": "slow", "tune": "zerolatency"}
    assert Pace(fast=True).options("ffv1") == {}
    with pytest.raises(LLDiffusionError, match=r"unknown preset of libx264 'fasst': .*did you mean 'fast'"):
        Pace("fasst").options("libx264")
    with pytest.raises(LLDiffusionError, match="ffv1 has no presets: leave --preset fast out"):
        Pace("fast").options("ffv1")
