"""Pipes, cameras and the network: what can be read only once, and what other programs read."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from support import clips
from support.passing import Listener, PassThrough

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.video import VideoSource  # noqa: E402
from lldiffusion.video.jobs.job import Job, run_stream  # noqa: E402
from lldiffusion.video.reading.inputs import DEVICES, open_input  # noqa: E402
from lldiffusion.video.writing.pipes import PipeWriter, raw_options  # noqa: E402


def piped(source: VideoSource, kind: str) -> bytes:
    """What a stream writes to a pipe."""
    pipe = io.BytesIO()
    writer = PipeWriter(source.info, kind, pipe)
    run_stream(Job(lambda tile, exact: PassThrough()), source, writer.add, Listener())
    writer.close()
    return pipe.getvalue()


def test_y4m_on_a_pipe_is_what_ffmpeg_reads(tmp_path: Path) -> None:
    clip = clips.plain(tmp_path / "in.mp4")
    (tmp_path / "out.y4m").write_bytes(piped(VideoSource(str(clip)), "y4m"))
    assert clips.stream(tmp_path / "out.y4m")["r_frame_rate"] == 25
    assert np.array_equal(clips.samples(tmp_path / "out.y4m", "yuv420p"), clips.samples(clip, "yuv420p"))


def test_raw_frames_on_a_pipe(tmp_path: Path) -> None:
    clip = clips.plain(tmp_path / "in.mp4")
    raw = np.frombuffer(piped(VideoSource(str(clip)), "rawvideo"), np.uint8)
    assert np.array_equal(raw, clips.samples(clip, "yuv420p"))


@pytest.mark.parametrize("kind", ["y4m", "rawvideo"])
def test_standard_input(kind: str, tmp_path: Path) -> None:
    clip = clips.plain(tmp_path / "in.mp4")
    form = "yuv4mpegpipe" if kind == "y4m" else kind
    sent = clips.ffmpeg("-i", clip, "-f", form, "-pix_fmt", "yuv420p", "-")
    options = "None" if kind == "y4m" else repr(raw_options("96x64,yuv420p,25"))
    code = (
        "import numpy as np\nfrom lldiffusion.video import VideoSource\n"
        f"source = VideoSource('-', {options})\n"
        "count = sum(1 for frame in source.frames() if frame.pixels.std() > 0.1)\n"
        "print(source.info.frame_rate, source.info.rereadable, count)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["25", "False", "25"]


@pytest.mark.parametrize("text", ["640x480", "640x480,yuv420p", "axb,yuv420p,25", "640x480,purple,25"])
def test_raw_video_must_be_described(text: str) -> None:
    with pytest.raises(LLDiffusionError, match=r"raw video|pixel format"):
        raw_options(text)


def test_a_camera_that_this_ffmpeg_cannot_open_has_a_way_round() -> None:
    known = {alias for name in av.formats_available for alias in name.split(",")}
    lacking = [device for device in DEVICES if device not in known]
    for device in lacking:
        with pytest.raises(LLDiffusionError, match=rf"ffmpeg -f {device} -i 0 .* \| lldiff video - OUT"):
            open_input(f"{device}:0", {}, None)
    assert lacking  # nobody has those of all systems


def test_a_camera_is_opened_under_each_of_its_names() -> None:
    if not any("v4l2" in name.split(",") for name in av.formats_available):
        pytest.skip("this build of PyAV has no v4l2")
    with pytest.raises(LLDiffusionError, match=r"cannot read 'v4l2:/dev/video77': No such file"):
        open_input("v4l2:/dev/video77", {}, None)


def test_sound_that_can_be_read_only_once_is_kept(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.ts"), tmp_path / "out.ts"
    code = (
        "from pathlib import Path\n"
        "from support.passing import Listener, PassThrough\n"
        "from lldiffusion.video.writing.encoding import choose_encoding\n"
        "from lldiffusion.video.jobs.job import Job, run_job\n"
        "from lldiffusion.video.jobs.journal import JobJournal\n"
        "from lldiffusion.video.writing.outputs import SPOOL, VideoFileOutput, parts_folder\n"
        "from lldiffusion.video import VideoSource\n"
        f"target = Path({str(target)!r})\n"
        "folder = parts_folder(str(target))\n"
        "source = VideoSource('-', spool=folder / SPOOL)\n"
        "encoding = choose_encoding(source.info, target, 'libx264', 0, threads=1)\n"
        "output = VideoFileOutput(target, source.info, encoding)\n"
        "job = Job(lambda tile, exact: PassThrough(), segment_seconds=0.4)\n"
        "print(run_job(job, source, output, JobJournal({}, 1, folder=folder), Listener()).frames)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with source.open("rb") as file:
        command = ["sh", "-c", 'cat | "$0" -c "$1"', sys.executable, code]
        done = subprocess.run(command, stdin=file, capture_output=True, env=environment)
    assert done.stdout.split() == [b"25"], done.stderr.decode()
    assert clips.times(target) == clips.times(source)
    assert np.array_equal(clips.samples(target, "yuv420p"), clips.samples(source, "yuv420p"))
    assert clips.packets(target, "a:0") == clips.packets(source, "a:0")


def test_a_stream_from_the_network(tmp_path: Path) -> None:
    clip = clips.plain(tmp_path / "in.ts")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    sender = [clips.program("ffmpeg"), "-v", "error", "-i", str(clip), "-c", "copy", "-f", "mpegts"]
    with subprocess.Popen([*sender, f"{address}?listen"], stdin=subprocess.DEVNULL) as server:
        source = _connected(address)
        assert not source.info.rereadable
        assert len(list(source.frames())) == 25
        source.close()
        server.kill()


def _connected(address: str) -> VideoSource:
    for _ in range(100):
        try:
            return VideoSource(address)
        except LLDiffusionError as error:
            if "refused" not in str(error):
                raise
            time.sleep(0.1)
    raise AssertionError(f"nobody listens at {address}")
