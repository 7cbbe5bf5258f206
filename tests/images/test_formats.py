"""Files that people have: phones', cameras' and browsers' pictures in and out, and what is said about them."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from skimage import data

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import FORMATS, Image, image_size, read_image, to_uint8, write_image
from lldiffusion.images.coded import ADOBE_RGB
from lldiffusion.images.icc import SRGB_CURVE, Curve, make_profile
from support.extras import need_extra
from support.toy import toy_bundle

PHOTO = data.astronaut()[60:156, 150:278]  # (96, 128, 3) uint8
P3 = make_profile((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.3127, 0.3290), Curve(SRGB_CURVE), "P3")


def vips(pixels: np.ndarray = PHOTO) -> Any:
    import pyvips

    height, width, bands = pixels.shape
    kind = "uchar" if pixels.dtype == np.uint8 else "ushort"
    picture = pyvips.Image.new_from_memory(pixels.tobytes(), width, height, bands, kind)
    return picture.copy(interpretation="srgb" if kind == "uchar" else "rgb16")


def like(image: Image, pixels: np.ndarray = PHOTO, tolerance: float = 3.0) -> bool:
    return float(np.abs(to_uint8(image.pixels).astype(float) - pixels).mean()) <= tolerance


def dng(path: Path, height: int = 64, width: int = 96, **more: Any) -> Path:
    """A small camera's file: a mosaic under a white balance, as DNG 1.4 asks for it."""
    red, green, blue = 0.4, 0.8, 0.5  # of a grey wall, as the sensor sees it
    mosaic = np.full((height, width), green)
    mosaic[::2, ::2], mosaic[1::2, 1::2] = red, blue
    values = (mosaic * np.linspace(0.2, 1, width) * 16383).astype(np.uint16)
    matrix = (3240454, -1537138, -498531, -969266, 1876010, 41556, 55643, -204025, 1057225)
    tags = [
        (33421, "H", 2, (2, 2), True),  # the mosaic's period, and its colours
        (33422, "B", 4, b"\0\1\1\2", True),
        (50706, "B", 4, b"\1\4\0\0", True),  # DNGVersion
        (50708, "s", 0, "Test Camera", True),
        (50717, "I", 1, 16383, True),  # white
        (50721, "2i", 9, [n for value in matrix for n in (value, 1000000)], True),  # XYZ to camera
        (50728, "2I", 3, [4, 10, 8, 10, 5, 10], True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # D65
        (271, "s", 0, "Test", True),
        (272, "s", 0, "Test Camera", True),
    ]
    tifffile.imwrite(path, values, photometric=32803, extratags=tags, **more)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy_bundle(tmp_path_factory.mktemp("toy") / "toy"))


def test_an_ultra_hdr_jpeg_is_a_jpeg_without_its_gain_map(tmp_path: Path) -> None:
    vips().colourspace("scrgb").uhdrsave(str(tmp_path / "a.jpg"))
    image = read_image(tmp_path / "a.jpg")
    assert image.format == "jpeg" and image.notes == ("gain map (Ultra HDR) dropped",)
    assert like(image, np.asarray(Pillow.open(tmp_path / "a.jpg"))) and image_size(tmp_path / "a.jpg") == (128, 96)
    write_image(tmp_path / "b.jpg", image)
    assert read_image(tmp_path / "b.jpg").notes == ()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_read_and_a_shorter_one_is_not(tmp_path: Path, progressive: bool) -> None:
    Pillow.fromarray(PHOTO).save(tmp_path / "a.jpg", progressive=progressive, quality=95)
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[:-2])
    np.testing.assert_array_equal(read_image(tmp_path / "b.jpg").pixels, read_image(tmp_path / "a.jpg").pixels)
    for missing in (20, 200, len(whole) // 2):
        (tmp_path / "c.jpg").write_bytes(whole[:-missing])
        with pytest.raises(LLDiffusionError, match=r"cannot read .*c\.jpg"):
            read_image(tmp_path / "c.jpg")


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "avif"])
def test_further_suffixes_are_read_and_written(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a.{suffix}", Image(PHOTO.astype(np.float32) / 255))
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.format == FORMATS[f".{suffix}"] and like(image) and not image.lossless


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_deep_pictures_keep_ten_bits_colours_and_alpha(tmp_path: Path, suffix: str) -> None:
    need_extra(suffix)
    ramp = np.repeat(np.linspace(0, 1, 1024, dtype=np.float32)[None, :, None], 64, axis=0)
    image = Image(np.repeat(ramp, 3, axis=2), bits=16, icc=P3, alpha=np.ones((64, 1024), np.float32))
    write_image(tmp_path / f"a.{suffix}", image)
    again = read_image(tmp_path / f"a.{suffix}")
    assert again.bits == 16 and again.icc == P3 and again.alpha is not None
    assert np.unique(again.pixels[32, :, 1]).size > 400  # 8 bits have 256
    assert np.abs(again.pixels - image.pixels).max() < 4 / 255 and again.pixels.max() > 0.999


@pytest.mark.parametrize("suffix", ["heic", "jxl"])
def test_pictures_of_the_extras_come_and_go(tmp_path: Path, suffix: str) -> None:
    need_extra(suffix)
    exif = Pillow.Exif()
    exif[0x010F] = "Camera"
    for grey in (False, True):
        pixels = PHOTO if not grey else np.repeat(PHOTO[..., 1:2], 3, axis=2)
        picture = Image((pixels / 255).astype(np.float32), grey=grey, exif=exif.tobytes())
        write_image(tmp_path / f"a.{suffix}", picture)
        image = read_image(tmp_path / f"a.{suffix}")
        assert image.format == suffix and like(image, pixels) and image_size(tmp_path / f"a.{suffix}") == (128, 96)
        assert image.exif is not None and b"Camera" in image.exif
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    for share in (0.02, 0.5, 0.9):
        (tmp_path / f"b.{suffix}").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(LLDiffusionError, match=rf"cannot read .*b\.{suffix}") as error:
            read_image(tmp_path / f"b.{suffix}")
        assert "\n" not in str(error.value)


def test_sizes_of_jpeg_xl_from_the_header(tmp_path: Path) -> None:
    need_extra("jxl")
    for width, height in ((8, 8), (256, 256), (255, 257), (96, 64), (1600, 900), (3, 700)):
        write_image(tmp_path / "a.jxl", Image(np.zeros((height, width, 3), np.float32)))
        assert image_size(tmp_path / "a.jxl") == (width, height)


def test_a_raw_file_is_developed_neutrally(tmp_path: Path, model: str) -> None:
    need_extra("raw")
    image = read_image(dng(tmp_path / "a.dng"))
    assert image.bits == 16 and image.format == "tiff" and image.pixels.shape == (64, 96, 3)
    assert image.exif is not None and b"Test Camera" in image.exif
    middle = image.pixels[8:-8, 8:-8].mean(axis=(0, 1))
    assert np.ptp(middle) < 0.03 and 0.3 < middle.mean() < 0.95  # the wall is grey
    assert image.pixels[32, 80].mean() > image.pixels[32, 16].mean()
    dng(tmp_path / "in.tif")  # by its tags, whatever its name
    assert read_image(tmp_path / "in.tif").pixels.shape == (64, 96, 3)
    assert run(["enhance", str(tmp_path / "a.dng"), "-o", f"{tmp_path}/out/", "--model", model, "-q"]) == 0
    assert read_image(tmp_path / "out" / "a.tif").bits == 16


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.heic", "pillow_heif", "heic"),
        ("a.jxl", "pillow_jxl", "jxl"),
        ("a.dng", "rawpy", "raw"),
        ("a.tif", "rawpy", "raw"),
    ],
)
def test_without_its_extra_a_file_names_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    """A DNG's mosaic, or a file's thumbnail, is never taken for the picture."""
    starts = {"heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "jxl": b"\xff\x0a\0\0\0\0"}
    if extra == "raw":
        dng(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(starts[extra])
    monkeypatch.setitem(sys.modules, module, None)
    for use in (read_image, image_size):
        with pytest.raises(LLDiffusionError, match=rf"{name}.*lldiffusion\[{extra}\]") as error:
            use(tmp_path / name)
        assert "\n" not in str(error.value)
    if extra != "raw":
        with pytest.raises(LLDiffusionError, match=rf"lldiffusion\[{extra}\]"):
            write_image(tmp_path / f"out.{extra}", Image(np.zeros((8, 8, 3), np.float32)))


def test_a_thumbnail_in_front_is_not_the_picture(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(PHOTO[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(PHOTO, photometric="rgb")
    with pytest.raises(LLDiffusionError, match=r"a\.tif.*RAW"):
        read_image(tmp_path / "a.tif")


def test_animations_and_pages_are_said(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [Pillow.fromarray(np.roll(PHOTO, 9 * i, axis=1)) for i in range(3)]
    (tmp_path / "in").mkdir()
    for name in ("a.gif", "b.webp", "c.png", "d.tif"):
        options: dict[str, Any] = {"lossless": True} if name == "b.webp" else {}
        frames[0].save(tmp_path / "in" / name, save_all=True, append_images=frames[1:], **options)
        image = read_image(tmp_path / "in" / name)
        assert image.notes[0].startswith("page 1 of 3") and like(image, tolerance=8), name
    assert run(["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", model]) == 0
    said = capsys.readouterr().err
    assert said.count("page 1 of 3; use `lldiff video` for all") == 3 and "d.tif: page 1 of 3" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.webp", "c.png", "d.tif"}


def test_a_camera_that_says_adobe_rgb_in_exif_is_believed(tmp_path: Path) -> None:
    """By the interoperability index, as cameras without room for a profile do."""
    exif = Pillow.Exif()
    exif.get_ifd(0x8769)[0xA001] = 65535
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Pillow.fromarray(PHOTO).save(tmp_path / "a.jpg", exif=exif, quality=95)
    Pillow.fromarray(PHOTO).save(tmp_path / "b.jpg", icc_profile=ADOBE_RGB, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.icc == ADOBE_RGB
    np.testing.assert_array_equal(image.pixels, read_image(tmp_path / "b.jpg").pixels)


def test_code_points_of_an_avif_say_what_its_numbers_mean(tmp_path: Path) -> None:
    Pillow.fromarray(PHOTO).save(tmp_path / "a.avif", quality=95)
    whole = (tmp_path / "a.avif").read_bytes()
    place = whole.index(b"colrnclx") + 8
    for code, name in (((9, 16), "PQ"), ((9, 18), "HLG")):
        (tmp_path / "b.avif").write_bytes(whole[:place] + struct.pack(">HH", *code) + whole[place + 4 :])
        with pytest.raises(LLDiffusionError, match=rf"HDR picture \({name}\)"):
            read_image(tmp_path / "b.avif")
    (tmp_path / "c.avif").write_bytes(whole[:place] + struct.pack(">HH", 12, 13) + whole[place + 4 :])
    assert read_image(tmp_path / "a.avif").icc is None and read_image(tmp_path / "c.avif").icc is not None


def test_more_pixels_than_the_limit_are_refused_by_the_header(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bitmap of 1.9 KB that says 30000x30000 is not decoded."""
    head = struct.pack("<2sIHHI", b"BM", 1900, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes((head + info).ljust(1900, b"\0"))
    with pytest.raises(LLDiffusionError, match=r"a\.bmp' is 30000x30000, 900 million pixels: at most 200 million"):
        read_image(tmp_path / "a.bmp")
    Pillow.fromarray(PHOTO).save(tmp_path / "b.png")
    command = ["enhance", str(tmp_path / "b.png"), "-o", f"{tmp_path}/out/", "--model", model]
    assert run([*command, "--max-pixels", "0.01"]) == 1
    assert "b.png' is 128x96" in capsys.readouterr().err
    assert run([*command, "--max-pixels", "0.02"]) == 0
