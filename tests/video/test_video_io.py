"""Video in and out: what a model does not touch stays as it was, checked with ffprobe and ffmpeg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.video import VideoSource  # noqa: E402
from lldiffusion.video.planes import Origin, colour_tags, frame_to_rgb, rgb_to_frame, to_planar  # noqa: E402

LOSSLESS: dict[str, Any] = {"codec": "libx264", "crf": 0}
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


def same_video(source: Path, target: Path, pixels: str, tolerance: int = 0) -> None:
    """Frames, their times and their samples agree, by ffprobe and ffmpeg."""
    assert clips.times(target) == clips.times(source)
    difference = clips.samples(source, pixels) - clips.samples(target, pixels)
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("plain.mp4", []),
        ("late.mp4", ["-output_ts_offset", "3.5"]),
        ("stream.ts", []),
        ("plain.mkv", []),
        ("fine.mov", ["-video_track_timescale", "90000"]),
    ],
)
def test_samples_times_and_sound_stay(name: str, extra: list[str], tmp_path: Path) -> None:
    source = clips.plain(tmp_path / name, *extra)
    target = tmp_path / f"out{source.suffix}"
    summary = pass_through(source, target, **LOSSLESS)
    assert summary.frames == 25
    same_video(source, target, "yuv420p")
    assert clips.packets(target, "a:0") == clips.packets(source, "a:0")
    assert not target.with_name(f"{target.name}.parts").exists()


def test_variable_frame_rate_stays(tmp_path: Path) -> None:
    source, target = clips.variable(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert len(set(np.diff([float(time) for time in clips.times(source)]).round(4))) > 1
    pass_through(source, target, **LOSSLESS)
    same_video(source, target, "yuv420p")
    assert clips.packets(target, "a:0") == clips.packets(source, "a:0")


def test_reordered_frames_keep_their_times(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    pass_through(source, target, codec="libx264", crf=30)
    assert clips.stream(target)["has_b_frames"] > 0
    assert clips.times(target) == clips.times(source)
    decoding = [float(p["dts_time"]) for p in clips.probe(target, "-show_packets", "-select_streams", "v")["packets"]]
    assert decoding == sorted(set(decoding))
    assert clips.samples(source, "yuv420p").mean() == pytest.approx(clips.samples(target, "yuv420p").mean(), abs=1)


def test_an_edit_list_stays_cut(tmp_path: Path) -> None:
    whole = clips.plain(tmp_path / "whole.mp4")
    source, target = tmp_path / "cut.mp4", tmp_path / "out.mp4"
    clips.ffmpeg(
        "-ss", "0.2", "-i", whole, "-c", "copy", source
    )  # keeps packets before the cut, hidden by an edit list
    shown = len(clips.times(source))
    assert shown < int(clips.stream(source)["nb_frames"])
    pass_through(source, target, **LOSSLESS)
    same_video(source, target, "yuv420p")
    assert len(clips.times(target)) == shown


@pytest.mark.parametrize(
    ("pixels", "codec", "matrix", "full"),
    [
        ("yuv420p", "libx264", "bt709", False),
        ("yuv420p", "libx264", "smpte170m", True),
        ("yuv422p10le", "ffv1", "bt709", True),
        ("yuv420p10le", "libx265", "bt2020nc", False),
        ("yuv444p", "libx264", "bt2020nc", True),
    ],
)
def test_depth_and_colour_tags_stay(pixels: str, codec: str, matrix: str, full: bool, tmp_path: Path) -> None:
    suffix = ".mkv" if codec == "ffv1" else ".mp4"
    source = clips.coloured(tmp_path / f"in{suffix}", pixels, matrix, full, codec)
    target = tmp_path / f"out{suffix}"
    pass_through(source, target, codec=codec, crf=None if codec == "ffv1" else 0)
    before, after = clips.stream(source), clips.stream(target)
    if codec == "libx265":
        assert after["codec_tag_string"] == "hvc1"  # QuickTime plays no hev1
    for field in ("pix_fmt", "color_range", "color_space", "color_transfer", "color_primaries"):
        assert after[field] == before[field], field
    same_video(source, target, pixels)


def test_untagged_colours_stay_untagged(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    pass_through(source, target, **LOSSLESS)
    for field in ("color_space", "color_transfer", "color_primaries"):
        assert clips.stream(target).get(field) == clips.stream(source).get(field)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_refused(transfer: str, tmp_path: Path) -> None:
    tags = ("-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    clips.ffmpeg(*clips.VIDEO, "-c:v", "ffv1", "-pix_fmt", "yuv420p10le", *tags, tmp_path / "hdr.mkv")
    with pytest.raises(LLDiffusionError, match="HDR"):
        VideoSource(str(tmp_path / "hdr.mkv"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_stream_chapter_and_tag_stays(suffix: str, tmp_path: Path) -> None:
    source, target = clips.rich(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    listener = Listener()
    pass_through(source, target, **LOSSLESS, listener=listener)
    assert listener.said == []
    before, after = (clips.probe(path, "-show_streams", "-show_chapters", "-show_format") for path in (source, target))
    assert [s["codec_name"] for s in after["streams"]] == [s["codec_name"] for s in before["streams"]]
    assert [s["tags"].get("language") for s in after["streams"]] == [
        s["tags"].get("language") for s in before["streams"]
    ]
    assert [s["disposition"] for s in after["streams"]] == [s["disposition"] for s in before["streams"]]
    for chapter, was in zip(after["chapters"], before["chapters"], strict=True):
        assert (chapter["start_time"], chapter["end_time"], chapter["tags"]) == (
            was["start_time"],
            was["end_time"],
            was["tags"],
        )
    for tag in ("title", "artist"):
        found = {key.lower(): value for key, value in after["format"]["tags"].items()}
        assert found[tag] == {key.lower(): value for key, value in before["format"]["tags"].items()}[tag]
    for which in ("a:0", "a:1", "s:0"):
        assert clips.packets(target, which) == clips.packets(source, which)


def test_a_timecode_track_stays(tmp_path: Path) -> None:
    source, target, listener = (
        clips.plain(tmp_path / "in.mov", "-timecode", "01:02:03:04"),
        tmp_path / "out.mov",
        Listener(),
    )
    pass_through(source, target, **LOSSLESS, listener=listener)
    assert clips.stream(source, "d:0")["tags"]["timecode"] == "01:02:03:04"
    assert clips.stream(target, "d:0")["tags"]["timecode"] == "01:02:03:04"
    assert listener.said == []


def test_an_attached_font_stays(tmp_path: Path) -> None:
    font, source, target = tmp_path / "font.ttf", tmp_path / "in.mkv", tmp_path / "out.mkv"
    font.write_bytes(b"letters" * 100)
    kind = ("-metadata:s:t", "mimetype=application/x-truetype-font")
    clips.ffmpeg("-i", clips.plain(tmp_path / "plain.mkv"), "-c", "copy", "-attach", font, *kind, source)
    pass_through(source, target, **LOSSLESS)
    clips.ffmpeg("-dump_attachment:t:0", tmp_path / "dumped.ttf", "-i", target, "-t", "0", "-f", "null", "-")
    assert (tmp_path / "dumped.ttf").read_bytes() == font.read_bytes()


def test_what_the_container_cannot_hold_is_said_beforehand(tmp_path: Path) -> None:
    source, target, listener = clips.rich(tmp_path / "in.mkv"), tmp_path / "out.mp4", Listener()
    pass_through(source, target, **LOSSLESS, listener=listener)
    assert len(listener.said) == 1
    assert "subtitle stream 3 (srt) is left out" in listener.said[0]
    kept = [held["codec_type"] for held in clips.probe(target, "-show_streams")["streams"]]
    assert kept[:3] == ["video", "audio", "audio"]
    assert "subtitle" not in kept


def test_rotation_and_pixel_shape_stay(tmp_path: Path) -> None:
    flat, source, target = tmp_path / "flat.mp4", tmp_path / "in.mp4", tmp_path / "out.mp4"
    clips.plain(flat, "-vf", "setsar=4/3")
    clips.ffmpeg("-i", flat, "-c", "copy", "-metadata:s:v:0", "rotate=90", source)
    before = clips.stream(source)
    assert before["side_data_list"][0]["rotation"] in (90, -90)
    pass_through(source, target, **LOSSLESS)
    after = clips.stream(target)
    assert after["side_data_list"][0]["displaymatrix"] == before["side_data_list"][0]["displaymatrix"]
    assert after["sample_aspect_ratio"] == before["sample_aspect_ratio"] == "4:3"
    same_video(source, target, "yuv420p")


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    cover, source, target = tmp_path / "cover.png", tmp_path / "in.mp4", tmp_path / "out.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=red:size=32x32", "-frames:v", "1", cover)
    tune = clips.plain(tmp_path / "tune.mp4")
    clips.ffmpeg(
        "-i", cover, "-i", tune, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic", source
    )
    pass_through(source, target, **LOSSLESS)
    pictures = [
        s["codec_name"] for s in clips.probe(target, "-show_streams")["streams"] if s["disposition"]["attached_pic"]
    ]
    assert pictures == ["png"]
    assert clips.packets(target, "a:0") == clips.packets(tune, "a:0")


def test_a_part_begins_at_zero_and_in_sync(tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    pass_through(source, target, **LOSSLESS, start=0.31, end=0.75)
    shown = [time for time in clips.times(source) if 0.31 <= float(time) < 0.75]
    assert [float(time) for time in clips.times(target)] == pytest.approx([float(t) - float(shown[0]) for t in shown])
    wanted = clips.samples(source, "yuv420p").reshape(25, -1)[8:19]
    assert np.array_equal(clips.samples(target, "yuv420p").reshape(len(shown), -1), wanted)
    sound = {data: float(time) for time, data in clips.packets(source, "a:0")}
    kept = clips.packets(target, "a:0")
    assert len(kept) >= 18
    assert all(sound[data] - float(time) == pytest.approx(float(shown[0]), abs=1e-3) for time, data in kept)


@pytest.mark.parametrize(("suffix", "precision"), [(".mkv", 5.1e-4), (".mov", 1e-6), (".ts", 1.2e-5)])
def test_into_another_container(suffix: str, precision: float, tmp_path: Path) -> None:
    source, target = clips.plain(tmp_path / "in.mp4"), tmp_path / f"out{suffix}"
    pass_through(source, target, codec="libx264", crf=20)
    before, after = (np.array([float(time) for time in clips.times(path)]) for path in (source, target))
    late = after[0] - before[0]
    assert 0 < late < 0.09 if suffix == ".ts" else late == 0  # it has no negative times: reordering delays everything
    assert np.abs(after - late - before).max() < precision
    sound, copied = clips.packets(source, "a:0"), clips.packets(target, "a:0")
    assert abs(float(copied[-1][0]) - float(sound[-1][0]) - late) < 2e-3
    if suffix != ".ts":  # which wraps AAC in frames of its own
        assert [data for _, data in copied] == [data for _, data in sound]


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


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_second_video_is_copied(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    small = ("-f", "lavfi", "-i", "testsrc=size=48x32:rate=10:duration=1")
    clips.ffmpeg(*clips.VIDEO, *small, "-map", "0", "-map", "1", *clips.X264, source)
    pass_through(source, target, codec="libx264", crf=30)
    assert clips.packets(target, "v:1") == clips.packets(source, "v:1")
    assert clips.packets(target, "v:0") != clips.packets(source, "v:0")


@pytest.mark.parametrize("name", ["in.ts", "in.mkv"])
def test_a_part_of_open_groups_begins_where_it_should(name: str, tmp_path: Path) -> None:
    source, target = tmp_path / name, tmp_path / f"out{Path(name).suffix}"
    clips.ffmpeg(*clips.VIDEO, "-c:v", "mpeg2video", "-bf", "2", "-g", "8", "-q:v", "4", source)  # open by default
    whole, part = tmp_path / f"whole{source.suffix}", 0.52
    pass_through(source, whole, **LOSSLESS)
    pass_through(source, target, **LOSSLESS, start=part)
    frames = clips.samples(whole, "yuv420p").reshape(25, -1)
    assert np.array_equal(clips.samples(target, "yuv420p").reshape(-1, frames.shape[1]), frames[13:])
