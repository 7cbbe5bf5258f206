"""Damaged videos, pictures and pipes in and out, and what is no video at all."""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
from passing import Listener, PassThrough, pass_through

av = pytest.importorskip("av")

from lldiffusion.engines.video.inputs import open_input  # noqa: E402
from lldiffusion.engines.video.job import Job, run_job, run_stream  # noqa: E402
from lldiffusion.engines.video.journal import Journal  # noqa: E402
from lldiffusion.engines.video.outputs import FolderOutput  # noqa: E402
from lldiffusion.engines.video.pipes import PipeWriter, raw_options  # noqa: E402
from lldiffusion.engines.video.planes import _turn  # noqa: E402
from lldiffusion.engines.video.source import VideoSource  # noqa: E402
from lldiffusion.engines.video.stills import StillsSource, upright  # noqa: E402
from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.images import Image, read_image, write_image  # noqa: E402


def damaged(path: Path, packet: int) -> Path:
    """A clip of key frames whose packet `packet` is zeros."""
    whole = path.with_name("whole.mkv")
    clips.ffmpeg(*clips.VIDEO, "-c:v", "mjpeg", "-q:v", "3", whole)
    held = clips.probe(whole, "-show_packets", "-select_streams", "v")["packets"][packet]
    data, start = bytearray(whole.read_bytes()), int(held["pos"])
    body = data.index(b"\xff\xd8", start)  # a JPEG's beginning
    data[body : body + int(held["size"]) - 16] = bytes(int(held["size"]) - 16)
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


def test_damage_between_reordered_frames_keeps_count_and_times(tmp_path: Path) -> None:
    whole, source = clips.plain(tmp_path / "whole.mp4"), tmp_path / "in.mp4"
    listed = clips.probe(whole, "-show_packets", "-select_streams", "v")["packets"]
    data = bytearray(whole.read_bytes())
    for packet in (listed[4], listed[5]):
        start = int(packet["pos"])
        data[start : start + int(packet["size"])] = b"\xff" * int(packet["size"])
    source.write_bytes(data)
    summary = pass_through(source, tmp_path / "out.mp4", crf=20)
    assert clips.times(tmp_path / "out.mp4") == clips.times(whole)
    assert "damaged input: 2 packets; the last frame repeated 2 times" in summary.notes[0]


def test_a_stream_that_ends_early_is_kept_and_reported(tmp_path: Path) -> None:
    whole, source = clips.plain(tmp_path / "whole.mp4", "-t", "1", "-movflags", "+faststart"), tmp_path / "in.mp4"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 5])
    summary = pass_through(source, tmp_path / "out.mp4", crf=20)
    shown = clips.times(tmp_path / "out.mp4")
    assert 3 < len(shown) < 20
    assert set(shown) < set(clips.times(whole))
    assert re.search(r"the input (ends early: 0\.\d of 1\.0 s are there|stopped early)", summary.notes[-1])


def test_timestamps_that_do_not_rise_are_moved(tmp_path: Path) -> None:
    path = tmp_path / "in.nut"
    clips.ffmpeg(
        *clips.VIDEO, "-vf", "setpts='if(eq(N,5),4,N)/25/TB'", "-fps_mode", "passthrough", "-c:v", "ffv1", path
    )
    source = VideoSource(str(path))
    shown = [frame.pts for frame in source.frames()]
    assert len(shown) == 25
    assert shown == sorted(set(shown))


def stills(folder: Path, count: int = 12) -> Path:
    """Numbered PNG files of 16 bits."""
    folder.mkdir()
    for number in range(count):
        ramp = np.linspace(0, number / count, 32 * 48 * 3, dtype=np.float32).reshape(32, 48, 3)
        write_image(folder / f"{number:04d}.png", Image(ramp, bits=16))
    return folder


@pytest.mark.parametrize("name", ["shots", "shots/%04d.png", "shots/*.png"])
def test_pictures_in_and_out(name: str, tmp_path: Path) -> None:
    folder = stills(tmp_path / "shots")
    source = StillsSource(str(tmp_path / name), Fraction(10))
    output = FolderOutput(str(tmp_path / "out" / "f%03d.png"), source.facts)
    journal, listener = Journal({}, 1, folder=tmp_path / "out.parts"), Listener()
    summary = run_job(Job(lambda tile, exact: PassThrough(), piece=0.5), source, output, journal, listener)
    assert summary.frames == 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"f{n:03d}.png" for n in range(12)]
    for number in range(12):
        was, now = read_image(folder / f"{number:04d}.png"), read_image(tmp_path / "out" / f"f{number:03d}.png")
        assert now.bits == 16
        assert np.abs(was.pixels - now.pixels).max() < 1 / 65535
    assert not journal.folder.exists()


def test_pictures_of_another_size_are_named(tmp_path: Path) -> None:
    folder = stills(tmp_path / "shots", 3)
    write_image(folder / "0003.png", Image(np.zeros((16, 16, 3), np.float32)))
    with pytest.raises(LLDiffusionError, match=r"0003\.png' is 16x16, the pictures before it 48x32"):
        list(StillsSource(str(folder)).frames())


@pytest.mark.parametrize("turn", ["90", "180", "270"])
def test_turned_video_becomes_upright_pictures(turn: str, tmp_path: Path) -> None:
    flat, source = clips.plain(tmp_path / "flat.mp4", "-frames:v", "1"), tmp_path / "in.mp4"
    clips.ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", f"rotate={turn}", source)
    opened = VideoSource(str(source))
    picture = upright(next(opened.frames()).pixels, opened.facts.matrix)
    raw = clips.ffmpeg("-i", source, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")  # turns by itself
    wanted = np.frombuffer(raw, np.uint8).reshape(picture.shape) / 255
    assert np.abs(picture - wanted).mean() < 0.02


def piped(source: VideoSource, kind: str) -> bytes:
    """What a stream writes to a pipe."""
    pipe = io.BytesIO()
    writer = PipeWriter(source.facts, kind, pipe)
    run_stream(Job(lambda tile, exact: PassThrough()), source, writer.add, Listener())
    writer.close()
    return pipe.getvalue()


def test_y4m_on_a_pipe_is_what_ffmpeg_reads(tmp_path: Path) -> None:
    clip = clips.plain(tmp_path / "in.mp4")
    (tmp_path / "out.y4m").write_bytes(piped(VideoSource(str(clip)), "y4m"))
    assert clips.stream(tmp_path / "out.y4m")["r_frame_rate"] == "25/1"
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
        "import numpy as np\nfrom lldiffusion.engines.video.source import VideoSource\n"
        f"source = VideoSource('-', {options})\n"
        "print(source.facts.rate, source.facts.again, sum(1 for frame in source.frames() if frame.pixels.std() > 0.1))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["25", "False", "25"]


@pytest.mark.parametrize("text", ["640x480", "640x480,yuv420p", "axb,yuv420p,25", "640x480,purple,25"])
def test_raw_video_must_be_described(text: str) -> None:
    with pytest.raises(LLDiffusionError, match=r"raw video|pixel format"):
        raw_options(text)


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
    elif kind == "nothing":
        clips.ffmpeg(*clips.VIDEO, "-c:v", "mpeg4", "-frames:v", "1", folder / "one.mp4")
        one = bytearray((folder / "one.mp4").read_bytes())
        packet = clips.probe(folder / "one.mp4", "-show_packets")["packets"][0]
        start, size = int(packet["pos"]), int(packet["size"])
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


def test_a_camera_that_this_ffmpeg_cannot_open_has_a_way_round() -> None:
    if "v4l2" in av.formats_available:
        pytest.skip("this build of PyAV opens v4l2")
    with pytest.raises(LLDiffusionError, match=r"ffmpeg -f v4l2 -i /dev/video0 .* \| lldiff video - OUT"):
        open_input("v4l2:/dev/video0", {}, None)


def test_an_unknown_hardware_decoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="unknown hardware decoder 'cudda'"):
        VideoSource(str(clips.plain(tmp_path / "in.mp4")), hwaccel="cudda")


def test_hardware_that_is_not_there_is_named(tmp_path: Path) -> None:
    clip = clips.plain(tmp_path / "in.mp4")
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is an NVIDIA GPU: decoding on it works")
    with pytest.raises(LLDiffusionError, match="cannot decode on 'cuda' here"):
        VideoSource(str(clip), hwaccel="cuda")


def test_what_is_odd_is_said(tmp_path: Path) -> None:
    fields, listener = tmp_path / "fields.mkv", Listener()
    clips.ffmpeg(*clips.VIDEO, "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-vf", "setfield=tff,interlace", fields)
    pass_through(fields, tmp_path / "out.mkv", codec="ffv1", listener=listener)
    assert "is interlaced and enhanced as it is" in listener.said[0]
    clear = tmp_path / "clear.mkv"
    clips.ffmpeg(*clips.VIDEO, "-c:v", "ffv1", "-pix_fmt", "yuva420p", clear)
    listener = Listener()
    pass_through(clear, tmp_path / "opaque.mkv", codec="ffv1", listener=listener)
    assert "has an alpha channel, which is not kept" in listener.said[0]
    assert clips.stream(tmp_path / "opaque.mkv")["pix_fmt"] == "yuv420p"
    assert np.array_equal(clips.samples(clear, "yuv420p"), clips.samples(tmp_path / "opaque.mkv", "yuv420p"))


def test_sound_that_can_be_read_only_once_is_kept(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.ts"), tmp_path / "out.ts"
    code = (
        "from pathlib import Path\n"
        "from passing import Listener, PassThrough\n"
        "from lldiffusion.engines.video.encoding import choose_encoding\n"
        "from lldiffusion.engines.video.job import Job, run_job\n"
        "from lldiffusion.engines.video.journal import Journal\n"
        "from lldiffusion.engines.video.outputs import SPOOL, FileOutput, parts_folder\n"
        "from lldiffusion.engines.video.source import VideoSource\n"
        f"target = Path({str(target)!r})\n"
        "folder = parts_folder(str(target))\n"
        "source = VideoSource('-', spool=folder / SPOOL)\n"
        "encoding = choose_encoding(source.facts, target, 'libx264', 0, threads=1)\n"
        "output = FileOutput(target, source.facts, encoding)\n"
        "job = Job(lambda tile, exact: PassThrough(), piece=0.4)\n"
        "print(run_job(job, source, output, Journal({}, 1, folder=folder), Listener()).frames)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
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
        assert not source.facts.again
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


def test_a_motion_jpeg_with_exif_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "shot.jpg", Image(np.full((32, 48, 3), 0.5, np.float32)))  # libvips adds EXIF
    assert b"Exif" in (tmp_path / "shot.jpg").read_bytes()
    source = VideoSource(str(tmp_path / "shot.jpg"))
    assert source.facts.matrix is None
    assert abs(next(source.frames()).pixels.mean() - 0.5) < 0.02


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_the_matrix_of_a_turn_is_ffmpegs(turn: int, tmp_path: Path) -> None:
    flat, source = clips.plain(tmp_path / "flat.mp4", "-frames:v", "1"), tmp_path / "in.mp4"
    clips.ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", f"rotate={turn}", source)
    opened = VideoSource(str(source))
    with av.open(str(source)) as container:
        assert _turn(next(container.decode(video=0)).rotation)[:5] == (opened.facts.matrix or ())[:5]
