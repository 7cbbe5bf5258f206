"""HDR video: transfer functions against published values, and clips in and out."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video.colour import BT709, BT2020, LIMITED, Colour, to_rgb
from lldiffusion.video.hdr import (
    DISPLAY_GAMMA,
    HLG,
    PQ,
    conversion,
    from_signal,
    hlg_to_light,
    light_to_hlg,
    light_to_pq,
    pq_to_light,
    to_signal,
)
from lldiffusion.video.mastering import Mastering, read_mastering
from lldiffusion.video.planes import Origin, rgb_to_frame
from lldiffusion.video.tone_map import mapped, tone_map
from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from lldiffusion.images import read_image  # noqa: E402
from lldiffusion.video import VideoSource  # noqa: E402
from lldiffusion.video.video_info import VideoInfo  # noqa: E402
from lldiffusion.video.writing.animation import AnimationOutput  # noqa: E402
from lldiffusion.video.writing.encoding import choose_encoding  # noqa: E402
from lldiffusion.video.writing.image_sequence import ImageSegmentWriter  # noqa: E402
from lldiffusion.video.writing.outputs import ImageSequenceOutput  # noqa: E402
from lldiffusion.video.writing.pipes import PipeWriter  # noqa: E402

Floats = NDArray[np.float32]
# Rows of ITU-R BT.2408-7, table 1: reflectance chart, cd/m2, percent of PQ, percent of HLG.
BT2408 = [(26, 38, 38), (162, 56, 71), (179, 57, 73), (203, 58, 75)]
# SMPTE ST 2084: cd/m2 of PQ numbers (annex; 0.5 as in BT.2100's table of code values).
ST2084 = [(0.0, 0.0), (0.5, 92.246), (0.508078, 100.0), (0.751827, 1000.0), (0.902572, 4000.0), (1.0, 10000.0)]
# ITU-R BT.2087-0, section 4: BT.2020 to BT.709 is the inverse of the one given there.
BT2087 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
TRANSFERS = {"hlg": HLG, "pq": PQ}


def grey(*values: float) -> Floats:
    """(1, N, 3)."""
    return np.repeat(np.array(values, np.float32)[None, :, None], 3, axis=2)


def test_pq_as_published() -> None:
    coded, light = (grey(*column) for column in zip(*ST2084))
    assert np.allclose(pq_to_light(coded), light, rtol=2e-4)
    assert np.allclose(light_to_pq(light), coded, atol=1e-5)


@pytest.mark.parametrize(("light", "pq", "hlg"), BT2408)
def test_reference_levels_as_published(light: float, pq: float, hlg: float) -> None:
    assert 100 * light_to_pq(grey(light))[0, 0, 0] == pytest.approx(pq, abs=0.5)
    assert 100 * light_to_hlg(grey(light))[0, 0, 0] == pytest.approx(hlg, abs=0.5)


def test_hlg_as_published() -> None:
    """BT.2100: a twelfth of the scene's light is half the signal; its whole is 1, and 1000 cd/m2."""
    scene = hlg_to_light(grey(0, 0.5, 1))[0, :, 1] / 1000
    assert scene ** (1 / 1.2) == pytest.approx([0, 1 / 12, 1], abs=1e-6)


def test_primaries_as_published() -> None:
    assert conversion(BT709, BT2020) == pytest.approx(np.array(BT2087), abs=1e-4)
    assert conversion(BT2020, BT709).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)  # white stays


def test_pq_agrees_with_zimg(tmp_path: Path) -> None:
    """FFmpeg's own program has zscale; PyAV's libraries have not."""
    coded = np.random.default_rng(0).random((64, 96, 3), np.float32)
    planes = coded.transpose(2, 0, 1)[[1, 2, 0]]  # FFmpeg's order is green, blue, red
    (tmp_path / "in.raw").write_bytes(planes.tobytes())
    given = ("-f", "rawvideo", "-pix_fmt", "gbrpf32le", "-s", "96x64", "-i", tmp_path / "in.raw")
    spec = "zscale=tin=smpte2084:min=gbr:pin=bt2020:rin=pc:t=linear:m=gbr:p=bt709:r=pc:npl=203"
    sent = clips.ffmpeg(*given, "-vf", f"{spec},format=gbrpf32le", "-f", "rawvideo", "-")
    theirs = np.frombuffer(sent, np.float32).reshape(3, 64, 96)[[2, 0, 1]].transpose(1, 2, 0)
    ours = to_signal(coded, Colour(transfer=PQ, primaries=BT2020))
    linear = np.sign(ours) * np.abs(ours) ** DISPLAY_GAMMA
    assert (np.abs(linear - theirs).max(axis=2) < 1e-3 * np.abs(theirs).max(axis=2) + 1e-4).all()


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_there_and_back_is_within_a_code_of_10_bits(transfer: int) -> None:
    random = np.random.default_rng(1)
    coded = random.random((32, 48, 1), np.float32) * 0.8 + random.random((32, 48, 3), np.float32) * 0.2
    coded[0, :5] = [[0, 0, 0], [1, 1, 1], [1, 0, 0], [-0.05, 0.02, 0.5], [0.3, 0.3, 1.05]]
    colour = Colour(BT2020, LIMITED, transfer, BT2020)
    assert np.abs(from_signal(to_signal(coded, colour), colour) - coded).max() < 1 / 1023


def test_the_tone_curve_is_bt2390s() -> None:
    light = np.linspace(0, 1000, 500, dtype=np.float32)
    shown = mapped(light, 1000)
    assert shown[-1] == pytest.approx(203, abs=0.1)
    assert (np.diff(shown) > -1e-3).all()
    # KS = 1.5 maxLum - 0.5 with maxLum = PQ(203) / PQ(1000) = 0.7724: nothing changes below 89 cd/m2
    assert np.allclose(shown[light < 88], light[light < 88], rtol=1e-3)
    assert float(mapped(np.array([203], np.float32), 1000)[0]) == pytest.approx(159, abs=2)
    assert np.allclose(mapped(light, 203), np.minimum(light, 203))


def test_hues_stay_when_highlights_are_mapped() -> None:
    signal = np.array([[[1.8, 0.9, 0.45], [0.5, 0.25, 0.1], [9, 9, 9]]], np.float32)
    shown = tone_map(signal, 1000)
    assert shown[0, 0] / shown[0, 0, 0] == pytest.approx([1, 0.5, 0.25], abs=1e-4)
    assert shown[0, 0, 0] < 1
    assert shown[0, 1] == pytest.approx(signal[0, 1], abs=1e-4)
    assert (shown[0, 2] == 1).all()


# -- clips


def light_of_scene() -> Floats:
    """cd/m2 (64, 96, 3): a ramp to diffuse white, a lamp of 800, a saturated green that BT.709 has not."""
    light = np.repeat(np.linspace(0, 203, 96, dtype=np.float32)[None, :, None], 64, axis=0).repeat(3, axis=2)
    light[16:32, 16:32] = 800
    light[40:56, 60:76] = [1, 60, 1]
    return light


def hdr_clip(path: Path, kind: str, *x265: str) -> Path:
    """Three frames of H.265, 10 bits, lossless, 4:4:4, tagged as a phone does."""
    path.write_bytes(made(kind, x265))
    return path


@lru_cache
def made(kind: str, x265: tuple[str, ...]) -> bytes:
    """Made once for all tests."""
    file = io.BytesIO()
    coded = light_to_hlg(light_of_scene()) if kind == "hlg" else light_to_pq(light_of_scene())
    colour = Colour(BT2020, LIMITED, TRANSFERS[kind], BT2020)
    with av.open(file, "w", format="mp4") as output:
        params = ":".join(["log-level=none", "lossless=1", *x265])
        stream = output.add_stream("libx265", rate=25, options={"preset": "ultrafast", "x265-params": params})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p10le"
        context = stream.codec_context
        context.color_range, context.colorspace = colour.range, colour.matrix
        context.color_trc, context.color_primaries = colour.transfer, colour.primaries
        for number in range(3):
            frame = rgb_to_frame(coded, Origin(colour=Colour()), "yuv444p10le", colour)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def first_rgb(path: Path) -> Floats:
    """R'G'B' of the first frame, by the matrix in its tags."""
    about = clips.stream(path)
    bits = 10 if "10" in about["pix_fmt"] else 8
    samples = clips.samples(path, about["pix_fmt"]).reshape(-1, 3, 64, 96)[0].astype(np.uint16)
    return to_rgb(samples[0], samples[1], samples[2], bits, Colour(about["colorspace"], LIMITED))


@pytest.mark.parametrize("kind", ["hlg", "pq"])
def test_hdr_that_is_kept_stays_as_it_was(kind: str, tmp_path: Path) -> None:
    source, target, listener = hdr_clip(tmp_path / "in.mp4", kind), tmp_path / "out.mp4", Listener()
    pass_through(source, target, crf=0, keep_hdr=True, listener=listener)
    assert listener.lost == []
    before, after = clips.stream(source), clips.stream(target)
    assert after["codec_name"] == "hevc"
    for tag in ("pix_fmt", "color_range", "colorspace", "color_trc", "color_primaries"):
        assert after[tag] == before[tag], tag
    difference = clips.samples(source, "yuv444p10le") - clips.samples(target, "yuv444p10le")
    assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 0.01


@pytest.mark.parametrize("kind", ["hlg", "pq"])
def test_hdr_becomes_sdr_and_that_is_said(kind: str, tmp_path: Path) -> None:
    source, target, listener = hdr_clip(tmp_path / "in.mp4", kind), tmp_path / "out.mp4", Listener()
    pass_through(source, target, codec="libx264", crf=0, listener=listener)
    assert listener.said[0] == (
        f"'{source}' is HDR ({kind.upper()}): tone-mapped to SDR BT.709 (--hdr keep writes HDR)"
    )
    about = clips.stream(target)
    assert (about["pix_fmt"], about["colorspace"], about["color_trc"], about["color_primaries"]) == ("yuv444p", 1, 1, 1)
    shown = first_rgb(target)
    lit = 203 * np.clip(shown, 0, 1) ** DISPLAY_GAMMA  # on a BT.1886 display whose white is diffuse white
    dim = light_of_scene()[4, :40]
    assert np.abs(shown[4, :40] - (dim / 203) ** (1 / DISPLAY_GAMMA)).max() < 2.5 / 255
    assert 140 < lit[4, -1, 1] < lit[24, 24, 1] <= 203  # the lamp is brighter than white, and neither is cut off
    assert shown[48, 68, 1] > 0.5 > shown[48, 68, [0, 2]].max()  # green stays green


def test_the_model_sees_diffuse_white_as_white(tmp_path: Path) -> None:
    source = VideoSource(str(hdr_clip(tmp_path / "in.mp4", "pq")))
    frame = next(source.frames())
    source.close()
    assert frame.pixels[4, -1] == pytest.approx(np.ones(3), abs=0.01)
    assert frame.pixels[24, 24] == pytest.approx(np.ones(3))
    assert frame.origin.outside is not None
    assert frame.origin.outside[24, 24, 0] > 0 > frame.origin.outside[48, 68, 0]


def lights(path: Path) -> list[Fraction]:
    """The display's brightest, MaxCLL and MaxFALL of the first frame, in cd/m2."""
    side = clips.probe(path, "-show_frames", "-read_intervals", "%+#1", "-select_streams", "v:0")["frames"][0]
    known = ("max_luminance", "max_content", "max_average")
    return [Fraction(data[key]) for data in side["side_data_list"] for key in known if key in data]


def test_metadata_that_an_encoder_does_not_write_is_named(tmp_path: Path) -> None:
    source, listener = hdr_clip(tmp_path / "in.mp4", "pq", "hdr10=1", "max-cll=900,400"), Listener()
    pass_through(source, tmp_path / "out.mkv", codec="libx264", crf=30, keep_hdr=True, listener=listener)
    assert listener.lost == ["HDR10's static metadata is dropped: libx264 does not write it (libx265 does)"]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx265"), (".mkv", "libsvtav1")])
def test_hdr10_metadata_is_kept(suffix: str, codec: str, tmp_path: Path) -> None:
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    source = hdr_clip(tmp_path / "in.mp4", "pq", "hdr10=1", display, "max-cll=900,400")
    target = tmp_path / f"out{suffix}"
    pass_through(source, target, codec=codec, crf=30, keep_hdr=True)
    assert lights(target) == lights(source) == [1000, 900, 400]


@pytest.mark.parametrize(
    ("codec", "suffix", "words"),
    [("libvpx-vp9", ".webm", "HDR needs 10 bits"), ("h264_nvenc", ".mp4", "h264_nvenc cannot write")],
)
def test_hdr_is_never_written_with_8_bits(codec: str, suffix: str, words: str, tmp_path: Path) -> None:
    source = hdr_clip(tmp_path / "in.mp4", "hlg")
    with pytest.raises(LLDiffusionError, match=words):
        pass_through(source, tmp_path / f"out{suffix}", codec=codec, keep_hdr=True)


def test_changing_metadata_is_named() -> None:
    frame = SimpleNamespace(side_data={"DOVI_METADATA": b"1234", "DYNAMIC_HDR_PLUS": b"1"})
    found = read_mastering(frame)
    assert found.changing == ("Dolby Vision", "HDR10+")
    assert not found.told
    info = VideoInfo("a", 2, 2, "yuv420p10le", 10, Colour(transfer=HLG), Fraction(1, 25), Fraction(25), mastering=found)
    assert info.warnings()[1] == "'a': Dolby Vision's metadata is dropped, which described the old pictures"


def test_dolby_vision_that_others_cannot_show_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile 5 says so by its metadata beside untagged colours."""
    monkeypatch.setattr(
        "lldiffusion.video.reading.source.read_mastering", lambda frame: Mastering(changing=("Dolby Vision",))
    )
    with pytest.raises(LLDiffusionError, match="Dolby Vision without a picture for other players"):
        VideoSource(str(clips.plain(tmp_path / "in.mp4")))
    VideoSource(str(hdr_clip(tmp_path / "hlg.mp4", "hlg"))).close()


def test_pictures_of_hdr_are_tone_mapped(tmp_path: Path) -> None:
    source = VideoSource(str(hdr_clip(tmp_path / "in.mp4", "hlg")))
    writer = ImageSegmentWriter(tmp_path, "part", "%d.png", source.info, 0)
    writer.add(next(source.frames()))
    writer.close()
    source.close()
    image = read_image(tmp_path / "part" / "0.png")
    assert image.bits == 16
    assert 0.8 < image.pixels[4, -1, 1] < image.pixels[24, 24, 1] < 1  # white, and the lamp


def test_hdr_is_kept_in_video_files_only(tmp_path: Path) -> None:
    source = VideoSource(str(hdr_clip(tmp_path / "in.mp4", "hlg")), keep_hdr=True)
    source.close()
    with pytest.raises(LLDiffusionError, match="pictures are written in SDR"):
        ImageSequenceOutput("%d.png", source.info)
    with pytest.raises(LLDiffusionError, match="animations are SDR"):
        AnimationOutput(tmp_path / "a.gif", source.info)
    with pytest.raises(LLDiffusionError, match="a pipe says nothing of HDR"):
        PipeWriter(source.info, "y4m", io.BytesIO())


def test_hdr_of_8_bits_is_written_with_10() -> None:
    colour, rate = Colour(BT2020, LIMITED, HLG, BT2020), Fraction(25)
    info = VideoInfo("a", 96, 64, "yuv420p", 8, colour, 1 / rate, rate, keep_hdr=True)
    encoding = choose_encoding(info, Path("a.mp4"))
    assert (encoding.codec, encoding.pixel_format) == ("libx265", "yuv420p10le")


def test_hdr_of_unknown_primaries_is_refused() -> None:
    with pytest.raises(LLDiffusionError, match="colour primaries 8"):
        Colour(BT2020, LIMITED, PQ, primaries=8).check("a.mp4")
