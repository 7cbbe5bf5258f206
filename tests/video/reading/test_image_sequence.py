"""Pictures as a video, a video as pictures, and which way up they are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from support import clips
from support.passing import Listener, PassThrough

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.images import Image, read_image, write_image  # noqa: E402
from lldiffusion.video import VideoSource  # noqa: E402
from lldiffusion.video.jobs.job import Job, run_job  # noqa: E402
from lldiffusion.video.jobs.journal import JobJournal  # noqa: E402
from lldiffusion.video.orientation import rotation_matrix, upright  # noqa: E402
from lldiffusion.video.reading.image_sequence import ImageSequenceSource  # noqa: E402
from lldiffusion.video.writing.outputs import ImageSequenceOutput  # noqa: E402


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
    source = ImageSequenceSource(str(tmp_path / name), Fraction(10))
    output = ImageSequenceOutput(str(tmp_path / "out" / "f%03d.png"), source.info)
    journal, listener = JobJournal({}, 1, folder=tmp_path / "out.parts"), Listener()
    summary = run_job(Job(lambda tile, exact: PassThrough(), segment_seconds=0.5), source, output, journal, listener)
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
        list(ImageSequenceSource(str(folder)).frames())


@pytest.mark.parametrize("turn", ["90", "180", "270"])
def test_turned_video_becomes_upright_pictures(turn: str, tmp_path: Path) -> None:
    flat, source = clips.plain(tmp_path / "flat.mp4", "-frames:v", "1"), tmp_path / "in.mp4"
    clips.ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", f"rotate={turn}", source)
    opened = VideoSource(str(source))
    picture = upright(next(opened.frames()).pixels, opened.info.display_matrix)
    raw = clips.ffmpeg("-i", source, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")  # turns by itself
    wanted = np.frombuffer(raw, np.uint8).reshape(picture.shape) / 255
    assert np.abs(picture - wanted).mean() < 0.02


def test_a_motion_jpeg_with_exif_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "shot.jpg", Image(np.full((32, 48, 3), 0.5, np.float32)))  # libvips adds EXIF
    assert b"Exif" in (tmp_path / "shot.jpg").read_bytes()
    source = VideoSource(str(tmp_path / "shot.jpg"))
    assert source.info.display_matrix is None
    assert abs(next(source.frames()).pixels.mean() - 0.5) < 0.02


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_the_matrix_of_a_turn_is_ffmpegs(turn: int, tmp_path: Path) -> None:
    flat, source = clips.plain(tmp_path / "flat.mp4", "-frames:v", "1"), tmp_path / "in.mp4"
    clips.ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", f"rotate={turn}", source)
    opened = VideoSource(str(source))
    with av.open(str(source)) as container:
        assert rotation_matrix(next(container.decode(video=0)).rotation)[:5] == (opened.info.display_matrix or ())[:5]
