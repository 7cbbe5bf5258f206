"""Colours: the same photograph in any encoding is the same picture, and goes back to its own profile."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms
from skimage import data

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import Image, read_image, to_uint8, write_image
from lldiffusion.images.icc import SRGB_CURVE, Curve, make_profile, power, shaper_of, tags_of
from support.toy import toy_bundle

Pixels = NDArray[np.float64]
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65)
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65)
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), D50)
PROFILES = {
    "sRGB": make_profile(*BT709, Curve(SRGB_CURVE), "sRGB"),
    "AdobeRGB": make_profile(*ADOBE, power(563 / 256), "AdobeRGB"),
    "Display P3": make_profile(*P3, Curve(SRGB_CURVE), "Display P3"),
    "ProPhoto": make_profile(*PROPHOTO, power(1.8), "ProPhoto"),
    "linear": make_profile(*BT709, power(1.0), "linear"),
}
# Bradford, from brucelindbloom.com
D50_TO_D65 = np.array(
    ((0.9555766, -0.0230393, 0.0631636), (-0.0282895, 1.0099416, 0.0210077), (0.0122982, -0.0204830, 1.3299098))
)
PHOTO = data.astronaut()[60:156, 150:278]  # (96, 128, 3) uint8, sRGB


def littlecms(numbers: NDArray[np.uint8], source: bytes, target: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) from one profile to another by LittleCMS, the oracle."""
    given, wanted = (ImageCms.ImageCmsProfile(io.BytesIO(icc)) for icc in (source, target))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return np.asarray(ImageCms.profileToProfile(Pillow.fromarray(numbers), given, wanted, renderingIntent=intent))


def encoded(name: str, srgb: NDArray[np.uint8]) -> Pixels:
    """An sRGB picture's numbers in another encoding, in [0, 1], through its profile as pyvips' LittleCMS has it."""
    import pyvips

    height, width, _ = srgb.shape
    picture = pyvips.Image.new_from_memory(srgb.tobytes(), width, height, 3, "uchar").copy(interpretation="srgb")
    lab = picture.icc_import(input_profile="srgb", intent="relative")
    lab.set_type(pyvips.GValue.blob_type, "icc-profile-data", PROFILES[name])
    return lab.icc_export(intent="relative", depth=16).numpy().astype(float) / 65535


def in_srgb(name: str, numbers: Pixels) -> Pixels:
    """Numbers of an encoding in 8-bit sRGB steps, by the standards' formulas: LittleCMS is 7 steps off near black."""
    points, gamma = {"AdobeRGB": (ADOBE, 563 / 256), "Display P3": (P3, 0), "ProPhoto": (PROPHOTO, 1.8)}.get(
        name, (BT709, 1.0 if name == "linear" else 0)
    )
    linear = (
        numbers**gamma if gamma else np.where(numbers > 0.04045, ((numbers + 0.055) / 1.055) ** 2.4, numbers / 12.92)
    )
    columns = [np.array([(x / y, 1, (1 - x - y) / y) for x, y in p]).T for p in (points, BT709)]
    source, target = (c[:, :3] * np.linalg.solve(c[:, :3], c[:, 3]) for c in columns)  # SMPTE RP 177
    if name == "ProPhoto":
        source = D50_TO_D65 @ source
    light = np.clip(linear @ np.linalg.solve(target, source).T, 0, 1)
    return 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def save(path: Path, numbers: Pixels, icc: bytes | None, bits: int) -> Path:
    values = np.floor(np.clip(numbers, 0, 1) * (2**bits - 1) + 0.5).astype(np.uint8 if bits == 8 else np.uint16)
    tifffile.imwrite(path, values, photometric="rgb", iccprofile=icc)
    return path


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with(path: Path, pixels: NDArray[np.uint8], *chunks: bytes) -> Path:
    """A PNG with further chunks right after its header."""
    packed = io.BytesIO()
    Pillow.fromarray(pixels).save(packed, "PNG")
    path.write_bytes(packed.getvalue()[:33] + b"".join(chunks) + packed.getvalue()[33:])
    return path


def chromaticities(red: tuple, green: tuple, blue: tuple, white: tuple) -> bytes:
    numbers = [round(value * 100000) for point in (white, red, green, blue) for value in point]
    return chunk(b"cHRM", struct.pack(">8I", *numbers))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy_bundle(tmp_path_factory.mktemp("toy") / "toy"))


def test_one_photograph_in_five_encodings_is_enhanced_to_one_picture(tmp_path: Path, model: str) -> None:
    """Each result, read by its standard's formula, is the sRGB result within 2/255.

    Of 8 bits all but a few pixels are: a step of AdobeRGB's green is 5 steps of a red near black.  Black itself is
    left out: the toy divides by it.
    """
    import pyvips

    photo = (PHOTO * 0.85 + 24).astype(np.uint8)
    (tmp_path / "in").mkdir()
    files = [(name, bits) for name in PROFILES for bits in (8, 16) if bits == 16 or name not in ("ProPhoto", "linear")]
    for name, bits in files:
        save(tmp_path / "in" / f"{name} {bits}.tif", encoded(name, photo), PROFILES[name], bits)
    assert run(["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", model, "-q"]) == 0
    seen = {}
    for name, bits in files:
        picture = pyvips.Image.new_from_file(str(tmp_path / "out" / f"{name} {bits}.tif"))
        assert bytes(picture.get("icc-profile-data")) == PROFILES[name]
        assert picture.format == ("uchar" if bits == 8 else "ushort")
        seen[name, bits] = in_srgb(name, picture.numpy() / (2.0**bits - 1))
    assert seen["sRGB", 16].std() > 20  # a picture, not a flat field
    for (name, bits), pixels in seen.items():
        error = np.abs(pixels - seen["sRGB", 16])
        assert error.max() <= 2 if bits == 16 else np.quantile(error, 0.995) <= 2, (name, bits, error.max())


@pytest.mark.parametrize("name", PROFILES)
def test_numbers_are_read_as_littlecms_reads_them(tmp_path: Path, name: str) -> None:
    Pillow.fromarray(PHOTO).save(tmp_path / "a.png", icc_profile=PROFILES[name])
    wanted = littlecms(PHOTO, PROFILES[name], PROFILES["sRGB"])
    assert np.abs(to_uint8(read_image(tmp_path / "a.png").pixels).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("bits", [8, 16])
def test_an_unchanged_picture_comes_back_to_its_numbers(tmp_path: Path, name: str, bits: int) -> None:
    """Colours outside sRGB included: every number of the profile's whole gamut."""
    numbers = np.random.default_rng(0).random((40, 60, 3))
    path = save(tmp_path / "a.tif", numbers, PROFILES[name], bits)
    image = read_image(path)
    outside = image.beyond.places.size if image.beyond else 0
    assert (outside > 100) == (name in ("AdobeRGB", "Display P3", "ProPhoto"))
    assert image.pixels.min() >= 0 and image.pixels.max() <= 1
    write_image(tmp_path / "b.tif", image)
    was, now = tifffile.imread(path).astype(int), tifffile.imread(tmp_path / "b.tif").astype(int)
    assert np.abs(was - now).max() <= (0 if bits == 8 else 60)  # float32 near black, under a steep curve


def test_a_sequence_of_pictures_is_read_as_srgb_too(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from lldiffusion.video.reading.image_sequence import ImageSequenceSource

    for name in ("AdobeRGB", "ProPhoto"):
        (tmp_path / name).mkdir()
        save(tmp_path / name / "1.tif", encoded(name, PHOTO), PROFILES[name], 16)
        (frame,) = ImageSequenceSource(str(tmp_path / name)).frames()
        assert np.abs(to_uint8(frame.pixels).astype(int) - PHOTO).max() <= 1


def test_strips_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from lldiffusion.images import colour

    numbers = np.random.default_rng(0).random((50, 40, 3)).astype(np.float32)
    whole, beyond = colour.to_srgb(numbers, PROFILES["ProPhoto"])
    monkeypatch.setattr(colour, "STRIP", 300)
    strips, parts = colour.to_srgb(numbers, PROFILES["ProPhoto"])
    np.testing.assert_array_equal(strips, whole)
    assert beyond is not None and parts is not None and np.array_equal(beyond.places, parts.places)
    np.testing.assert_allclose(colour.from_srgb(strips, PROFILES["ProPhoto"], parts), numbers, atol=1e-3)


def test_srgb_stays_on_its_path_to_the_byte(tmp_path: Path) -> None:
    """Under any profile that means sRGB, or none: the numbers are not touched, the profile stays."""
    littlecms_srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for icc in (None, PROFILES["sRGB"], littlecms_srgb):
        Pillow.fromarray(PHOTO).save(tmp_path / "a.png", icc_profile=icc)
        image = read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(image.pixels, PHOTO.astype(np.float32) / np.float32(255))
        assert image.icc == icc and image.beyond is None


def test_colours_outside_srgb_follow_the_brightening(tmp_path: Path) -> None:
    """Twice the light: the pure green of AdobeRGB stays pure; a pixel made grey stays grey."""
    from dataclasses import replace

    numbers = np.zeros((8, 8, 3))
    numbers[..., 1] = 0.5
    image = read_image(save(tmp_path / "a.tif", numbers, PROFILES["AdobeRGB"], 16))
    twice = Curve().encode(2 * Curve().decode(image.pixels))
    write_image(tmp_path / "b.tif", replace(image, pixels=twice))
    brighter = tifffile.imread(tmp_path / "b.tif")[0, 0] / 65535
    np.testing.assert_allclose(brighter, (0, 0.5 * 2 ** (256 / 563), 0), atol=0.01)
    write_image(tmp_path / "c.tif", replace(image, pixels=np.full_like(image.pixels, 0.5)))
    assert np.ptp(tifffile.imread(tmp_path / "c.tif")[0, 0].astype(int)) < 10


def test_png_chunks_say_what_numbers_mean(tmp_path: Path) -> None:
    """cICP before iCCP before sRGB before gAMA and cHRM; what comes out carries a profile that means the same."""
    p3 = to_uint8(encoded("Display P3", PHOTO))
    linear = chunk(b"gAMA", struct.pack(">I", 100000))
    adobe = chunk(b"gAMA", struct.pack(">I", 45470)) + chromaticities(*ADOBE)
    files = {
        "cicp": png_with(tmp_path / "cicp.png", p3, chunk(b"cICP", bytes((12, 13, 0, 1))), linear),
        "srgb": png_with(tmp_path / "srgb.png", PHOTO, chunk(b"sRGB", b"\0"), linear),
        "usual": png_with(tmp_path / "usual.png", PHOTO, chunk(b"gAMA", struct.pack(">I", 45455))),
        "chrm": png_with(tmp_path / "chrm.png", p3, chunk(b"gAMA", struct.pack(">I", 45455)), chromaticities(*P3)),
        "damaged": png_with(tmp_path / "damaged.png", PHOTO, chunk(b"gAMA", bytes(4)), chunk(b"cHRM", bytes(32))),
    }
    for name, path in files.items():
        image = read_image(path)
        assert np.abs(to_uint8(image.pixels).astype(int) - PHOTO).max() <= 1, name
        assert (image.icc is not None) == (name in ("cicp", "chrm"))
        write_image(tmp_path / "out.png", image)
        again = read_image(tmp_path / "out.png")
        assert np.abs(to_uint8(again.pixels).astype(int) - PHOTO).max() <= 1, name
    light = read_image(png_with(tmp_path / "gama.png", PHOTO, linear)).pixels
    np.testing.assert_allclose(light, Curve().encode(PHOTO.astype(np.float32) / 255), atol=1e-3)
    green = read_image(png_with(tmp_path / "adobe.png", PHOTO, adobe)).pixels
    assert np.abs(to_uint8(green).astype(int) - littlecms(PHOTO, PROFILES["AdobeRGB"], PROFILES["sRGB"])).mean() < 1


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_in_one_line(tmp_path: Path, transfer: int, name: str) -> None:
    path = png_with(tmp_path / "a.png", PHOTO, chunk(b"cICP", bytes((9, transfer, 0, 1))))
    with pytest.raises(LLDiffusionError, match=rf"cannot read .*a\.png': an HDR picture \({name}\)") as error:
        read_image(path)
    assert "\n" not in str(error.value)
    icc = with_code_points(PROFILES["Display P3"], bytes((9, transfer, 0, 1)))
    with pytest.raises(LLDiffusionError, match=rf"HDR picture \({name}\)"):
        read_image(save(tmp_path / "a.tif", PHOTO / 255, icc, 16))


def with_code_points(icc: bytes, code: bytes) -> bytes:
    """The profile with a `cicp` tag (ICC.1:2022, 10.3)."""
    count = struct.unpack_from(">I", icc, 128)[0]
    table = b"".join(
        struct.pack(">4sII", name, start + 12, size)
        for name, start, size in struct.iter_unpack(">4sII", icc[132 : 132 + 12 * count])
    )
    tag = b"cicp" + bytes(4) + code
    table += struct.pack(">4sII", b"cicp", len(icc) + 12, len(tag))
    body = icc[:128] + struct.pack(">I", count + 1) + table + icc[132 + 12 * count :] + tag
    return struct.pack(">I", len(body)) + body[4:]


def test_a_grey_profile_is_undone_and_done_again(tmp_path: Path) -> None:
    icc = grey_profile(gamma=1.0)
    Pillow.fromarray(PHOTO[..., 1]).save(tmp_path / "a.png", icc_profile=icc)
    image = read_image(tmp_path / "a.png")
    assert image.grey and image.pixels.shape == PHOTO.shape
    np.testing.assert_allclose(image.pixels[..., 0], Curve().encode(PHOTO[..., 1].astype(np.float32) / 255), atol=1e-3)
    write_image(tmp_path / "b.png", image)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "b.png")), PHOTO[..., 1])


def grey_profile(gamma: float) -> bytes:
    """An RGB profile's header with one curve and a white point."""
    icc = bytearray(make_profile(*BT709, power(gamma), "grey"))
    icc[16:20] = b"GRAY"
    return bytes(icc.replace(b"rTRC", b"kTRC", 1))


def test_profiles_of_tables_go_through_littlecms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path through Lab agrees with the matrix, there and back (libvips brings no RGB profile of tables)."""
    from lldiffusion.images import colour

    path = save(tmp_path / "a.tif", encoded("AdobeRGB", PHOTO), PROFILES["AdobeRGB"], 16)
    by_matrix = read_image(path).pixels
    monkeypatch.setattr(colour, "shaper_of", lambda icc: None)
    monkeypatch.setattr("lldiffusion.images.reading.can_go_back", lambda icc: True)
    by_tables = read_image(path)
    assert np.abs(by_tables.pixels - by_matrix).max() < 2 / 255
    write_image(tmp_path / "b.tif", by_tables)
    error = tifffile.imread(path).astype(int) - tifffile.imread(tmp_path / "b.tif")
    assert np.abs(error).max() < 3 * 257 and np.abs(error).mean() < 16


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda icc: icc[:200],
    "no profile": lambda icc: b"x" * 300,
    "CMYK": lambda icc: icc[:16] + b"CMYK" + icc[20:],
    "span no colours": lambda icc: icc.replace(tags_of(icc)["rXYZ"], b"XYZ ".ljust(20, b"\0")),
    "falls": lambda icc: icc.replace(tags_of(icc)["rTRC"], b"curv" + bytes(4) + b"\0\0\0\2\xff\xff\0\0" + bytes(24)),
    "lacks": lambda icc: icc.replace(b"gXYZ", b"zzzz"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_profile_that_cannot_be_used_is_said(tmp_path: Path, fault: str) -> None:
    Pillow.fromarray(PHOTO).save(tmp_path / "a.png", icc_profile=BROKEN[fault](PROFILES["AdobeRGB"]))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(to_uint8(image.pixels), PHOTO)
    assert image.icc is None or not image.notes
    if image.notes:
        assert fault in image.notes[0] and "taken as sRGB" in image.notes[0]


def test_a_bitmap_has_no_profile_and_holds_srgb(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.tif", encoded("ProPhoto", PHOTO), PROFILES["ProPhoto"], 16))
    write_image(tmp_path / "b.bmp", image)
    assert np.abs(np.asarray(Pillow.open(tmp_path / "b.bmp")).astype(int) - PHOTO).max() <= 1


def test_matrices_and_curves_of_made_profiles() -> None:
    """The columns add up to D50, and curves undo themselves."""
    x = np.linspace(0, 1, 1001, dtype=np.float32)
    for name, icc in PROFILES.items():
        shaper = shaper_of(icc)
        assert shaper is not None and shaper.is_srgb() == (name == "sRGB")
        np.testing.assert_allclose(np.sum(shaper.to_xyz, axis=1), (0.9642, 1, 0.8249), atol=2e-4)
        np.testing.assert_allclose(shaper.curves[0].encode(shaper.curves[0].decode(x)), x, atol=2e-4)
    sampled = Curve(samples=tuple(np.linspace(0, 1, 64) ** 2))
    np.testing.assert_allclose(sampled.encode(sampled.decode(x)), x, atol=1e-4)
    assert Image(np.zeros((2, 2, 3), np.float32)).beyond is None
