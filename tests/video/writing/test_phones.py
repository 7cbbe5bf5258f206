"""What plays on every phone, and a line where a result may not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402


def odd(path: Path, *options: str) -> Path:
    """95x63 in 4:4:4, with MP3 sound."""
    shape = ("-f", "lavfi", "-i", "testsrc=size=95x63:rate=25:duration=0.4")
    codec = options or ("-c:v", "libx264", "-crf", "0", "-preset", "ultrafast", "-pix_fmt", "yuv444p")
    clips.ffmpeg(*shape, *clips.SOUND, *codec, "-c:a", "libmp3lame", "-t", "0.4", path)
    return path


def test_compatible_is_420_even_and_aac(tmp_path: Path) -> None:
    source, target, listener = odd(tmp_path / "in.mp4"), tmp_path / "out.mp4", Listener()
    pass_through(source, target, crf=1, compatible=True, listener=listener)
    assert listener.said == ["audio stream 1 (mp3float) is re-encoded to AAC: --compatible"]
    about = clips.stream(target)
    assert (about["codec_name"], about["pix_fmt"], about["width"], about["height"]) == ("h264", "yuv420p", 96, 64)
    assert clips.stream(target, "a:0")["codec_name"] == "aac"
    assert clips.times(target) == clips.times(source)
    luma = clips.samples(target, "yuv420p").reshape(10, -1)[:, : 96 * 64].reshape(10, 64, 96)
    before = clips.samples(source, "yuv444p").reshape(10, 3, 63, 95)[:, 0]
    assert np.abs(luma[:, :63, :95] - before).mean() < 1.5
    assert np.abs(luma[:, 63, :95] - luma[:, 62, :95]).mean() < 8  # the last line again


def test_compatible_copies_what_is_aac_already(tmp_path: Path) -> None:
    source, target, listener = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.mov", Listener()
    pass_through(source, target, crf=30, compatible=True, listener=listener)
    assert listener.said == []
    assert clips.packets(target, "a:0") == clips.packets(source, "a:0")


def test_deep_and_full_range_become_plain(tmp_path: Path) -> None:
    source = clips.coloured(tmp_path / "in.mkv", "yuv422p10le", "bt709", full=True)
    pass_through(source, tmp_path / "out.mp4", crf=10, compatible=True)
    about = clips.stream(tmp_path / "out.mp4")
    assert (about["pix_fmt"], about["color_range"], about["colorspace"]) == ("yuv420p", 1, 1)


@pytest.mark.parametrize(
    ("pixels", "size", "codec", "words"),
    [
        ("yuv444p", "96x64", "libx264", "its pixel format is yuv444p"),
        ("yuv422p", "96x64", "libx264", "its pixel format is yuv422p"),
        ("yuv420p10le", "96x64", "libx264", "its pixel format is yuv420p10le"),
        ("yuv444p", "95x63", "libx264", "its pixel format is yuv444p, 95x63 is an odd size"),
        ("yuv420p", "96x64", "prores_ks", "prores_ks is an unusual codec"),
    ],
)
def test_what_may_not_play_on_phones_is_said(pixels: str, size: str, codec: str, words: str, tmp_path: Path) -> None:
    source, listener = tmp_path / "in.mkv", Listener()
    clips.ffmpeg(
        "-f", "lavfi", "-i", f"testsrc=size={size}:rate=25:duration=0.2", "-c:v", "ffv1", "-pix_fmt", pixels, source
    )
    pass_through(source, tmp_path / ("out.mov" if codec == "prores_ks" else "out.mkv"), codec=codec, listener=listener)
    assert listener.said == [f"may not play on phones: {words} (--compatible writes what plays everywhere)"]


def test_compatible_is_sdr_and_whole_pictures(tmp_path: Path) -> None:
    hdr = tmp_path / "hdr.mkv"
    tags = ("-color_trc", "arib-std-b67", "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    clips.ffmpeg(*clips.VIDEO, "-c:v", "ffv1", "-pix_fmt", "yuv420p10le", *tags, "-frames:v", "3", hdr)
    with pytest.raises(LLDiffusionError, match="--compatible means SDR"):
        pass_through(hdr, tmp_path / "out.mp4", compatible=True, keep_hdr=True)
    pass_through(hdr, tmp_path / "out.mp4", compatible=True)
    assert clips.stream(tmp_path / "out.mp4")["color_trc"] == 1
