"""GIF, APNG and animated WebP in and out: pictures, times, how often they play, what is transparent."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray

from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.video.reading.animation import AnimatedWebpSource, is_animated_webp, plays_of  # noqa: E402

SUFFIXES = (".gif", ".apng", ".webp")
DELAYS = [100, 250, 50, 200]  # ms


def animation(path: Path, plays: int = 0, clear: bool = False) -> Path:
    """Four pictures of 48x32 with uneven times, by libvips; APNG by ffmpeg of the GIF."""
    path.write_bytes(made(path.suffix, plays, clear))
    return path


@lru_cache
def made(suffix: str, plays: int, clear: bool) -> bytes:
    """Made once for all tests."""
    with TemporaryDirectory() as folder:
        return make(Path(folder) / f"a{suffix}", plays, clear).read_bytes()


def make(path: Path, plays: int, clear: bool) -> Path:
    if path.suffix == ".apng":
        source = make(path.with_suffix(".gif"), plays, clear)
        clips.ffmpeg("-i", source, "-f", "apng", "-plays", str(plays), "-final_delay", "200/1000", path)
        return path
    pictures = np.zeros((4, 32, 48, 4), np.uint8)
    pictures[..., 3] = 255
    for number, picture in enumerate(pictures):
        picture[..., 0] = 60 * number
        picture[8:24, 8 * number : 8 * number + 16, 1] = 200
    if clear:
        pictures[:, :8, :, 3] = 0
    joined = pyvips.Image.new_from_array(pictures.reshape(128, 48, 4))
    joined = joined.copy(interpretation="srgb")
    for key, kind, value in (("page-height", "gint", 32), ("loop", "gint", plays)):
        joined.set_type(getattr(pyvips.GValue, f"{kind}_type"), key, value)
    joined.set_type(pyvips.GValue.array_int_type, "delay", DELAYS)
    joined.write_to_file(str(path), **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


def shown(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Pictures (N, H, W, 4) and how long each is shown, in ms; by libvips, APNG by FFmpeg."""
    if path.suffix == ".apng":
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        delays = [round(1000 * float(frame.duration * frame.time_base)) for frame in frames]
        return np.stack([frame.reformat(format="rgba").to_ndarray() for frame in frames]), delays
    image = pyvips.Image.new_from_file(str(path), n=-1)
    rgba = image if image.bands == 4 else image.bandjoin(255)
    return rgba.numpy().reshape(-1, image.get("page-height"), image.width, 4), list(image.get("delay"))


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_pictures_times_and_loops_are_kept(source: str, target: str, tmp_path: Path) -> None:
    given, result = animation(tmp_path / f"in{source}", plays=3), tmp_path / f"out{target}"
    listener = Listener()
    pass_through(given, result, crf=0 if target == ".webp" else None, listener=listener)
    assert listener.said == (["GIF has 256 colours"] if target == ".gif" else [])
    pictures, delays = shown(result)
    assert delays == DELAYS
    assert plays_of(result) == plays_of(given) == 3
    wanted, _ = shown(given)
    assert np.abs(pictures[..., :3].astype(int) - wanted[..., :3]).max() <= (8 if target == ".gif" else 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_transparent_stays_so(suffix: str, tmp_path: Path) -> None:
    given, result = animation(tmp_path / f"in{suffix}", clear=True), tmp_path / f"out{suffix}"
    pass_through(given, result)
    alpha = shown(result)[0][..., 3]
    assert (alpha[:, :8] == 0).all()
    assert (alpha[:, 8:] == 255).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("plays", [0, 1, 2])
def test_how_often_it_plays_is_read_as_it_was_written(suffix: str, plays: int, tmp_path: Path) -> None:
    assert plays_of(animation(tmp_path / f"in{suffix}", plays)) == plays


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_video_becomes_an_animation_that_never_ends(suffix: str, tmp_path: Path) -> None:
    source, target, listener = clips.plain(tmp_path / "in.mp4"), tmp_path / f"out{suffix}", Listener()
    pass_through(source, target, end=0.4, listener=listener)
    assert f"audio stream 1 (aac) is left out: {suffix[1:]} holds pictures only" in listener.said
    pictures, delays = shown(target)
    assert delays == [40] * 10
    assert plays_of(target) == 0
    samples = clips.opened(source).decode(video=0)
    wanted = np.stack([frame.to_ndarray(format="rgb24") for frame, _ in zip(samples, range(10))])
    assert np.abs(pictures[..., :3].astype(int) - wanted).mean() < 8


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_animation_becomes_a_video_and_loops_are_named(suffix: str, tmp_path: Path) -> None:
    source, target, listener = animation(tmp_path / f"in{suffix}", plays=0), tmp_path / "out.mp4", Listener()
    pass_through(source, target, codec="libx264", crf=0, listener=listener)
    assert listener.lost == [f"'{source}' plays for ever: mp4 plays once"]
    assert [float(time) for time in clips.times(target)] == pytest.approx([0, 0.1, 0.35, 0.4])


def test_a_gif_of_60_pictures_a_second_says_what_it_leaves_out(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=60:duration=0.5", "-c:v", "ffv1", source)
    summary = pass_through(source, tmp_path / "out.gif")
    kept = len(shown(tmp_path / "out.gif")[1])
    assert summary.notes == [f"{30 - kept} pictures are left out: gif shows at most 50 a second"]
    assert 15 <= kept < 30


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    flat, source = clips.plain(tmp_path / "flat.mp4"), tmp_path / "in.mp4"
    clips.ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", "rotate=90", source)
    pass_through(source, tmp_path / "out.apng", end=0.1)
    assert shown(tmp_path / "out.apng")[0].shape[1:3] == (96, 64)


def test_a_part_of_a_webp(tmp_path: Path) -> None:
    source = AnimatedWebpSource(str(animation(tmp_path / "in.webp")))
    assert (source.info.frames, source.info.duration, source.info.time_base) == (4, 0.6, Fraction(1, 1000))
    assert [frame.pts for frame in source.frames(0.1, 0.4)] == [100, 350]


def test_a_webp_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    source = animation(tmp_path / "in.webp")
    source.write_bytes(source.read_bytes()[:-60])
    assert is_animated_webp(source)
    with pytest.raises(LLDiffusionError, match=r"cannot read '.*in\.webp'"):
        pass_through(source, tmp_path / "out.mp4")


@pytest.mark.parametrize(("suffix", "options"), [(".gif", {"crf": 3}), (".apng", {"crf": 3})])
def test_what_has_no_quality_says_so(suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="no quality setting"):
        pass_through(animation(tmp_path / "in.webp"), tmp_path / f"out{suffix}", **options)
