"""An alpha channel is kept where the output can, said where it cannot, and never claimed where there is none."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lldiffusion.images import read_image
from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from av.codec import CodecContext  # noqa: E402

COLOURS = "geq=r='mod(X*3+N*20,256)':g='Y*3':b=128:a='clip(X*3+N,0,255)'"  # more opaque to the right


def clear_clip(path: Path, codec: str, pixels: str, *options: str) -> Path:
    """Five frames with alpha, by ffmpeg."""
    path.write_bytes(made(path.suffix, codec, pixels, options))
    return path


@lru_cache
def made(suffix: str, codec: str, pixels: str, options: tuple[str, ...]) -> bytes:
    """Made once for all tests."""
    source = ("-f", "lavfi", "-i", f"color=black:size=96x64:rate=25:duration=0.2,format=rgba,{COLOURS},format={pixels}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        clips.ffmpeg(*source, "-c:v", codec, *options, path)
        return path.read_bytes()


def alpha(path: Path) -> NDArray[np.float32]:
    """(frames, H, W) in [0, 1], as the decoders know it that see alpha."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
        decoder: Any = CodecContext.create(name, "r") if name else stream.codec_context
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    clear = [frame.reformat(format="rgba").to_ndarray()[..., 3] for frame in frames]
    return np.stack(clear).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels", "tolerance"),
    [
        (".mkv", "ffv1", "yuva420p", 0),
        (".mkv", "ffv1", "bgra", 0),
        (".mkv", "ffv1", "yuva444p10le", 0.003),
        (".mov", "prores_ks", "yuva444p10le", 0.01),
        (".mov", "qtrle", "argb", 0.01),
        (".webm", "libvpx-vp9", "yuva420p", 0.03),
    ],
)
def test_alpha_is_kept(suffix: str, codec: str, pixels: str, tolerance: float, tmp_path: Path) -> None:
    source, target, listener = (
        clear_clip(tmp_path / f"in{suffix}", codec, pixels),
        tmp_path / f"out{suffix}",
        Listener(),
    )
    pass_through(source, target, listener=listener)
    assert listener.lost == []
    wanted = alpha(source)
    assert 0.2 < wanted.mean() < 0.8
    assert np.abs(alpha(target) - wanted).max() <= tolerance
    assert clips.times(target) == clips.times(source)


def test_alpha_of_another_codec_is_kept(tmp_path: Path) -> None:
    source, target = (
        clear_clip(tmp_path / "in.webm", "libvpx-vp9", "yuva420p"),
        tmp_path / "out.mov",
    )
    pass_through(source, target)
    assert np.abs(alpha(target) - alpha(source)).max() <= 0.01


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", None), (".mkv", "libx264"), (".webm", "libsvtav1")])
def test_alpha_that_cannot_be_kept_is_said_and_not_claimed(suffix: str, codec: str | None, tmp_path: Path) -> None:
    source, target, listener = (
        clear_clip(tmp_path / "in.webm", "libvpx-vp9", "yuva420p"),
        tmp_path / f"o{suffix}",
        Listener(),
    )
    pass_through(source, target, codec=codec, crf=30, listener=listener)
    assert len(listener.said) == 1
    assert listener.said[0].startswith(f"alpha channel dropped: {codec or 'libx264'} in ")
    shown = clips.probe(target, "-show_streams")["streams"][0]
    assert "alpha_mode" not in {key.lower() for key in shown.get("tags", {})}
    assert not shown["pix_fmt"].startswith("yuva")


def test_colours_stay_where_alpha_is_dropped(tmp_path: Path) -> None:
    source, target = clear_clip(tmp_path / "in.mkv", "ffv1", "yuva420p"), tmp_path / "out.mp4"
    pass_through(source, target, codec="libx264", crf=0)
    assert np.array_equal(clips.samples(source, "yuv420p"), clips.samples(target, "yuv420p"))


def test_frames_that_become_transparent_later_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "in.mov"  # PNG pictures have a channel whether they use it or not: the first frame decides
    shape = "geq=r=200:g=100:b=50:a='if(gt(N,1),X*2,255)'"
    clips.ffmpeg("-f", "lavfi", "-i", f"color=size=96x64:rate=25:duration=0.2,format=rgba,{shape}", "-c:v", "png", path)
    listener = Listener()
    summary = pass_through(path, tmp_path / "out.mkv", listener=listener)
    assert listener.said == []
    assert summary.notes == ["3 frames are transparent in places, the first is not: alpha is dropped"]


def test_pictures_keep_alpha(tmp_path: Path) -> None:
    from lldiffusion.video import VideoSource
    from lldiffusion.video.writing.image_sequence import ImageSegmentWriter

    source = VideoSource(str(clear_clip(tmp_path / "in.mkv", "ffv1", "bgra")))
    writer = ImageSegmentWriter(tmp_path, "part", "%d.png", source.info, 0)
    for frame in source.frames():
        writer.add(frame)
    writer.close()
    source.close()
    for number, wanted in enumerate(alpha(tmp_path / "in.mkv")):
        written = read_image(tmp_path / "part" / f"{number}.png").alpha
        assert written is not None and np.abs(written - wanted).max() < 1e-6
