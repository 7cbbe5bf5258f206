"""Reading and writing pictures, against Pillow and tifffile."""

import os
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms
from skimage import data

from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import Image, image_size, list_images, read_image, through_jpeg, to_uint8, write_image

PHOTO = data.astronaut()[100:160, 150:240]  # (60, 90, 3) uint8
SUFFIXES = ("png", "jpg", "webp", "tif", "bmp")
ORIENTATION, MAKER, EXPOSURE = 0x0112, 0x010F, 0x829A


def save(path: Path, pixels: np.ndarray = PHOTO, mode: str | None = None, **options: Any) -> Path:
    picture = Pillow.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def exif(orientation: int = 1) -> Pillow.Exif:
    tags = Pillow.Exif()
    tags[ORIENTATION], tags[MAKER] = orientation, "Camera & Co"
    tags.get_ifd(0x8769)[EXPOSURE] = 0.02
    return tags


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(float) - b).mean()) <= tolerance


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reads_what_pillow_reads(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}")
    image = read_image(path)
    assert image.pixels.dtype == np.float32
    assert image.format == {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
    assert (image.bits, image.grey, image.alpha, image.icc, image.exif) == (8, False, None, None, None)
    assert close(to_uint8(image.pixels), np.asarray(Pillow.open(path).convert("RGB")), 0.5)  # WebP chroma upsampling
    assert image_size(path) == (90, 60)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_writes_what_pillow_reads(tmp_path: Path, suffix: str) -> None:
    write_image(tmp_path / f"a.{suffix}", Image(pixels=PHOTO.astype(np.float32) / 255))
    back = np.asarray(Pillow.open(tmp_path / f"a.{suffix}"))
    assert close(back, PHOTO, 3 if suffix == "jpg" else 0)
    assert [p.name for p in tmp_path.iterdir()] == [f"a.{suffix}"]  # no temporary file is left


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_keeps_16_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, channels), np.uint16)
    kind: dict[int, dict[str, Any]] = {
        1: {},
        3: {"photometric": "rgb"},
        4: {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    }
    tifffile.imwrite(tmp_path / "in.tif", values[..., 0] if channels == 1 else values, **kind[channels])
    image = read_image(tmp_path / "in.tif")
    assert (image.bits, image.grey, image.alpha is not None) == (16, channels == 1, channels == 4)
    write_image(tmp_path / f"out.{suffix}", image)
    again = read_image(tmp_path / f"out.{suffix}")
    assert again.bits == 16
    np.testing.assert_array_equal(again.pixels, image.pixels)
    if suffix == "tif":
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif").reshape(values.shape), values)
    elif channels == 1:
        np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "out.png")), values[..., 0])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_bitmap_comes_and_goes_as_pillow_has_it(tmp_path: Path, mode: str) -> None:
    """Even one that is named as another format."""
    picture = Pillow.fromarray(PHOTO).convert(mode)
    picture.save(tmp_path / "a.png", "BMP", dpi=(300, 300))
    image = read_image(tmp_path / "a.png")
    assert image.format == "bmp" and image.bits == 8 and image.grey == (mode in ("1", "L"))
    write_image(tmp_path / "b.bmp", image)
    back = Pillow.open(tmp_path / "b.bmp")
    np.testing.assert_array_equal(np.asarray(back), np.asarray(picture.convert({"1": "L", "P": "RGB"}.get(mode, mode))))
    assert back.info["dpi"] == pytest.approx((300, 300), abs=1)


def test_a_bitmap_with_alpha_is_read_with_it_and_written_over_white(tmp_path: Path) -> None:
    """A version 4 header with masks, the one kind of bitmap whose fourth byte means something."""
    blue_first = np.dstack([PHOTO[..., ::-1], PHOTO[..., 0]])[::-1]  # from the lowest row up
    info = struct.pack("<IiiHHIIiiII", 108, 90, 60, 1, 32, 3, 0, 0, 0, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    header = struct.pack("<2sIHHI", b"BM", 122 + blue_first.size, 0, 0, 122)
    (tmp_path / "a.bmp").write_bytes(header + info + masks + blue_first.tobytes())
    image = read_image(tmp_path / "a.bmp")
    assert image.alpha is not None
    np.testing.assert_array_equal(to_uint8(image.alpha), PHOTO[..., 0])
    np.testing.assert_array_equal(to_uint8(image.pixels), PHOTO)
    write_image(tmp_path / "b.bmp", replace(image, alpha=np.zeros((60, 90), np.float32)))
    assert np.asarray(Pillow.open(tmp_path / "b.bmp")).min() == 255


def test_16_bits_become_8_where_the_format_has_no_more(tmp_path: Path) -> None:
    image = Image(pixels=PHOTO.astype(np.float32) / 255, bits=16)
    write_image(tmp_path / "a.webp", image)
    assert close(np.asarray(Pillow.open(tmp_path / "a.webp")), PHOTO, 0)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_keeps_alpha(tmp_path: Path, suffix: str) -> None:
    rgba = np.dstack([PHOTO, np.arange(60 * 90).reshape(60, 90) % 256]).astype(np.uint8)
    exactly: dict[str, Any] = {"lossless": True, "exact": True} if suffix == "webp" else {}
    image = read_image(save(tmp_path / f"a.{suffix}", rgba, **exactly))
    write_image(tmp_path / f"b.{suffix}", image)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / f"b.{suffix}")), rgba)


def test_jpeg_lays_alpha_over_white(tmp_path: Path) -> None:
    image = Image(pixels=np.zeros((16, 16, 3), np.float32), alpha=np.zeros((16, 16), np.float32))
    write_image(tmp_path / "a.jpg", image)
    assert np.asarray(Pillow.open(tmp_path / "a.jpg")).min() == 255


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_grey_stays_grey(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"a.{suffix}", mode="L"))
    assert image.grey
    assert image.pixels.shape == (60, 90, 3)
    write_image(tmp_path / f"b.{suffix}", image)
    back = Pillow.open(tmp_path / f"b.{suffix}")
    assert back.mode == "L"
    assert close(np.asarray(back), np.asarray(Pillow.open(tmp_path / f"a.{suffix}")), 1)


@pytest.mark.parametrize("mode", ["P", "1", "LA"])
def test_other_modes_are_expanded(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "a.png", mode=mode)
    assert close(to_uint8(read_image(path).pixels), np.asarray(Pillow.open(path).convert("RGB")), 0)


def test_cmyk_becomes_srgb_without_its_profile(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.jpg", mode="CMYK", quality=95))
    assert (image.pixels.shape, image.icc) == ((60, 90, 3), None)
    assert np.corrcoef(image.pixels.ravel(), PHOTO.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_pixels_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    from PIL import ImageOps

    path = save(tmp_path / f"a.{suffix}", exif=exif(orientation))
    upright = np.asarray(ImageOps.exif_transpose(Pillow.open(path)))
    image = read_image(path)
    assert close(to_uint8(image.pixels), upright, 0.5)
    assert image_size(path) == upright.shape[1::-1]
    write_image(tmp_path / f"b.{suffix}", image)
    back = Pillow.open(tmp_path / f"b.{suffix}")
    assert back.getexif().get(ORIENTATION, 1) == 1
    assert back.size == upright.shape[1::-1]


@pytest.mark.parametrize("source", ["jpg", "png", "webp"])
@pytest.mark.parametrize("target", ["jpg", "png", "webp"])
def test_keeps_exif_and_profile(tmp_path: Path, source: str, target: str) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = read_image(save(tmp_path / f"a.{source}", exif=exif(6), icc_profile=icc))
    write_image(tmp_path / f"b.{target}", image)
    back = Pillow.open(tmp_path / f"b.{target}")
    assert back.info["icc_profile"] == icc
    assert back.getexif()[MAKER] == "Camera & Co"
    assert float(back.getexif().get_ifd(0x8769)[EXPOSURE]) == pytest.approx(0.02)


def test_tiff_keeps_its_profile(tmp_path: Path) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = read_image(save(tmp_path / "a.tif", icc_profile=icc))
    write_image(tmp_path / "b.tif", image)
    assert Pillow.open(tmp_path / "b.tif").info["icc_profile"] == icc


def test_keeps_resolution(tmp_path: Path) -> None:
    write_image(tmp_path / "b.jpg", read_image(save(tmp_path / "a.jpg", dpi=(300, 300))))
    assert Pillow.open(tmp_path / "b.jpg").info["dpi"] == pytest.approx((300, 300), abs=1)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("extended", [True, False])
def test_webp_is_written_as_it_came(tmp_path: Path, lossless: bool, extended: bool) -> None:
    options: dict[str, Any] = {"exif": exif()} if extended else {}
    image = read_image(save(tmp_path / "a.webp", lossless=lossless, quality=90, **options))
    assert image.lossless == lossless
    write_image(tmp_path / "b.webp", image)
    assert (b"VP8L" in (tmp_path / "b.webp").read_bytes()) == lossless


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_errors(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    whole = save(tmp_path / f"a.{suffix}", noise).read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(LLDiffusionError, match=f"cannot read .*a.{suffix}"):
        read_image(tmp_path / f"a.{suffix}")


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    tifffile.imwrite(tmp_path / "float.tif", PHOTO.astype(np.float32), photometric="rgb")
    for name, reason in {
        "missing.png": "no such file",
        "empty.png": "the file is empty",
        "text.jpg": "not an image",
        "a.svg": "svg is not supported; accepted are PNG, JPEG, WebP, TIFF, BMP",
        "float.tif": "8 or 16 bits",
        "": "it is a folder",
    }.items():
        with pytest.raises(LLDiffusionError, match=reason):
            read_image(tmp_path / name)


def test_bad_targets_are_named_and_nothing_is_overwritten(tmp_path: Path) -> None:
    image = Image(pixels=PHOTO.astype(np.float32) / 255)
    with pytest.raises(LLDiffusionError, match=r"accepted suffixes are \.png"):
        write_image(tmp_path / "a.gif", image)
    with pytest.raises(LLDiffusionError, match="does not exist"):
        write_image(tmp_path / "no" / "a.png", image)
    wide = replace(image, pixels=np.zeros((2, 17000, 3), np.float32))  # WebP ends at 16383
    (tmp_path / "a.webp").write_text("keep me")
    with pytest.raises(LLDiffusionError, match=r"cannot write .*a\.webp"):
        write_image(tmp_path / "a.webp", wide)
    assert (tmp_path / "a.webp").read_text() == "keep me"
    assert len(list(tmp_path.iterdir())) == 1


def test_image_checks_its_shapes() -> None:
    with pytest.raises(LLDiffusionError, match=r"\(height, width, 3\)"):
        Image(pixels=np.zeros((4, 4), np.float32))
    with pytest.raises(LLDiffusionError, match="alpha"):
        Image(pixels=np.zeros((4, 4, 3), np.float32), alpha=np.zeros((4, 5), np.float32))
    with pytest.raises(LLDiffusionError, match="bits"):
        Image(pixels=np.zeros((4, 4, 3), np.float32), bits=10)


def test_a_rewritten_file_is_read_anew(tmp_path: Path) -> None:
    for level in (0, 255):
        save(tmp_path / "a.png", np.full((8, 8, 3), level, np.uint8))
        assert read_image(tmp_path / "a.png").pixels.mean() == level / 255


def test_to_uint8_rounds_halves_up() -> None:
    values = np.array([-1, 0, 0.5 / 255, 1.5 / 255, 1, 2], np.float64)
    assert to_uint8(values).tolist() == [0, 0, 1, 2, 255, 255]
    assert to_uint8(PHOTO) is PHOTO


def test_list_images_sorts_and_skips(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in list_images(tmp_path)] == ["a.jpeg", "b.PNG"]
    with pytest.raises(LLDiffusionError, match="not a folder"):
        list_images(tmp_path / "nothing")


def test_through_jpeg_is_a_jpeg() -> None:
    assert close(through_jpeg(PHOTO, 95), PHOTO, 4)
    assert not close(through_jpeg(PHOTO, 10), PHOTO, 4)


def test_warnings_stay_off_the_terminal_and_import_is_quick(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:-20])
    code = (
        "import sys, lldiffusion.images as images, lldiffusion.errors as errors\n"
        "assert 'pyvips' not in sys.modules and 'torch' not in sys.modules\n"
        f"try: images.read_image({str(path)!r})\n"
        "except errors.LLDiffusionError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_messages_of_libvips_do_not_run_python_code(tmp_path: Path) -> None:
    """A Ctrl-C that arrives in a callback is swallowed, and libvips sends a message for every file."""
    import pyvips

    read_image(save(tmp_path / "a.png"))
    assert pyvips._log_handler_id is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_after_reading_is_an_error_not_a_hang(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    code = f"""
import os, sys
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import read_image
read_image({str(path)!r})
if os.fork() == 0:
    try:
        read_image({str(path)!r})
    except LLDiffusionError as error:
        os._exit(7 if "forkserver" in str(error) else 1)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 7
    assert time.monotonic() - started < 60
