"""Between FFmpeg's frames and pictures: nothing is lost, and colours are those of swscale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import clips

av = pytest.importorskip("av")

from lldiffusion.video import VideoSource  # noqa: E402
from lldiffusion.video.planes import Origin, colour_tags, frame_to_rgb, rgb_to_frame, to_planar  # noqa: E402

BT709, BT601, BT2020 = 1, 6, 9
FORMATS = ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv420p10le", "yuv444p12le", "nv12"]
FORMATS += ["p010le", "yuyv422", "rgb24", "bgr0", "gbrp10le", "gray", "gray10le"]


def noise(pixels: str, width: int = 34, height: int = 18) -> Any:
    """A PyAV frame of random colours: half of its samples lie outside the R'G'B' cube."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return av.VideoFrame.from_ndarray(values, "rgb24").reformat(format=pixels)


@pytest.mark.parametrize("matrix", [BT709, BT601, BT2020])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixels", FORMATS)
def test_pictures_there_and_back(pixels: str, full: bool, matrix: int) -> None:
    frame = noise(pixels, 33 if pixels == "yuv420p" else 34, 17 if pixels == "yuv420p" else 18)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    same = to_planar(frame)
    picture, outside = frame_to_rgb(frame)
    assert picture.min() >= 0
    assert picture.max() <= 1
    back = rgb_to_frame(picture, Origin(outside=outside), same.format.name.replace("yuvj", "yuv"), colour_tags(frame))
    kind = np.uint8 if same.format.components[0].bits == 8 else np.uint16
    for was, now in zip(same.planes, back.planes, strict=True):
        difference = np.frombuffer(was, kind).astype(int) - np.frombuffer(now, kind)
        lines = difference.reshape(-1, was.line_size // np.dtype(kind).itemsize)[: was.height, : was.width]
        assert np.abs(lines).max() <= 1


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixels", ["yuv444p", "yuv444p10le"])
def test_colours_are_those_of_swscale(pixels: str, full: bool, matrix: str, tmp_path: Path) -> None:
    clip = clips.coloured(tmp_path / "in.mkv", pixels, matrix, full)
    read = next(VideoSource(str(clip)).frames()).pixels
    name, span = matrix.removesuffix("nc"), "pc" if full else "tv"
    convert = f"scale=in_color_matrix={name}:in_range={span}:flags=accurate_rnd+full_chroma_int,format=rgb48le"
    raw = clips.ffmpeg("-i", clip, "-frames:v", "1", "-vf", convert, "-f", "rawvideo", "-")
    wanted = np.frombuffer(raw, np.uint16).reshape(read.shape) / 65535
    assert np.abs(read - wanted).max() < 1.1 / 255


def test_chroma_upsampling_beats_repeating_it(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 96, dtype=np.float32)
    colour = np.stack(
        [np.broadcast_to(ramp, (64, 96)), np.full((64, 96), 0.3), 1 - ramp[None] + np.zeros((64, 1))], axis=2
    )
    frame = rgb_to_frame(colour.astype(np.float32), Origin(), "yuv420p", colour_tags(noise("yuv420p")))
    picture, _ = frame_to_rgb(frame)
    assert np.abs(picture - colour).max() < 2.5 / 255


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pixels", ["nv12", "p010le", "yuyv422"])
def test_packed_samples_are_only_put_in_order(pixels: str, full: bool) -> None:
    frame = noise(pixels)
    frame.colorspace, frame.color_range = BT601, 2 if full else 1
    kind = np.dtype(np.uint16 if pixels == "p010le" else np.uint8)
    held = [np.frombuffer(p, kind).reshape(-1, p.line_size // kind.itemsize)[: p.height] for p in frame.planes]
    if pixels == "yuyv422":
        packed = held[0][:, : 2 * frame.width]
        wanted = [packed[:, 0::2], packed[:, 1::4], packed[:, 3::4]]
    else:
        shift = 6 if pixels == "p010le" else 0
        pairs = held[1][:, : frame.width]
        wanted = [plane >> shift for plane in (held[0][:, : frame.width], pairs[:, 0::2], pairs[:, 1::2])]
    for plane, samples in zip(to_planar(frame).planes, wanted, strict=True):
        lines = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
        assert np.array_equal(lines[: plane.height, : plane.width], samples)
