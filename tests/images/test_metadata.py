"""What a picture carries: kept, or named as dropped; read back by Pillow and tifffile."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import IptcImagePlugin, PngImagePlugin
from skimage import data

from lldiffusion.cli import run
from lldiffusion.images import FORMATS, Image, read_image, write_image
from lldiffusion.images.metadata import KEPT, unwrapped_iptc, wrapped_iptc
from support.extras import need_extra
from support.toy import toy_bundle

PHOTO = data.astronaut()[60:124, 150:230]  # (64, 80, 3) uint8
MAKER, TIME, EXPOSURE, LATITUDE = 0x010F, 0x0132, 0x829A, 2
XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:ProjectionType="equirectangular"%s/>
</rdf:RDF></x:xmpmeta>"""
MOTION = b""" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"
 GCamera:MicroVideoOffset="99"
 xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0\""""
IPTC = b"\x1c\x02\x78\x00\x07A night"  # caption


def exif() -> Pillow.Exif:
    tags = Pillow.Exif()
    tags[MAKER], tags[TIME] = "Camera & Co", "2026:01:26 20:57:04"
    tags.get_ifd(0x8769)[EXPOSURE] = 0.02
    tags.get_ifd(0x8825)[LATITUDE] = (48.0, 8.0, 0.5)
    return tags


def with_thumbnail() -> bytes:
    """An EXIF block with a thumbnail in its second directory, as cameras write them."""
    import pyvips

    small = io.BytesIO()
    Pillow.fromarray(PHOTO[::4, ::4]).save(small, "JPEG")
    picture = pyvips.Image.new_from_memory(PHOTO.tobytes(), 80, 64, 3, "uchar").copy(interpretation="srgb")
    picture.set_type(pyvips.GValue.blob_type, "exif-data", exif().tobytes())
    picture.set_type(pyvips.GValue.blob_type, "jpeg-thumbnail-data", small.getvalue())
    block = Pillow.open(io.BytesIO(picture.jpegsave_buffer())).info["exif"]
    assert small.getvalue() in block
    return block


def full() -> Image:
    return Image(
        PHOTO.astype(np.float32) / 255, exif=exif().tobytes(), xmp=XMP % b"", iptc=IPTC, text=(("Title", "Night"),)
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "avif", "heic", "jxl"])
def test_what_a_picture_carries_is_kept_or_named(tmp_path: Path, suffix: str) -> None:
    need_extra(suffix)
    format_ = FORMATS[f".{suffix}"]
    notes = write_image(tmp_path / f"a.{suffix}", full())
    image = read_image(tmp_path / f"a.{suffix}")
    held = {"EXIF": image.exif, "XMP": image.xmp, "IPTC": image.iptc, "text": image.text}
    for name, value in held.items():
        assert bool(value) == (name in KEPT[format_]), name
        assert any(name in note for note in notes) == (name not in KEPT[format_]), name
    if image.exif:
        again = Pillow.Exif()
        again.load(image.exif)
        assert again[MAKER] == "Camera & Co" and again[TIME] == "2026:01:26 20:57:04"
        assert float(again.get_ifd(0x8769)[EXPOSURE]) == pytest.approx(0.02)
        assert [float(x) for x in again.get_ifd(0x8825)[LATITUDE]] == pytest.approx([48, 8, 0.5])
    assert image.xmp is None or b"equirectangular" in image.xmp
    assert image.iptc in (None, IPTC) and image.text in ((), (("Title", "Night"),))
    write_image(tmp_path / f"b.{suffix}", image)  # and once more
    assert read_image(tmp_path / f"b.{suffix}").exif is None or "EXIF" in KEPT[format_]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_exif_goes_through_tiff_as_pillow_and_tifffile_have_it(tmp_path: Path, order: str, bits: int) -> None:
    values = PHOTO.astype(np.uint16) * 257 if bits == 16 else PHOTO
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", byteorder=order, datetime=True, software="Maker")
    image = read_image(tmp_path / "a.tif")
    assert image.exif is not None
    block = exif()
    block.endian = order
    for number, given in enumerate((image, Image(image.pixels, bits=bits, exif=block.tobytes()))):
        write_image(tmp_path / f"{number}.tif", given)
        with tifffile.TiffFile(tmp_path / f"{number}.tif") as file:
            np.testing.assert_array_equal(file.asarray(), values)
            assert len(file.pages) == 1
            tags = file.pages[0].tags
            if number == 0:
                assert tags["Software"].value == "Maker"
            else:
                assert tags["Make"].value == "Camera & Co"
                assert tags["ExifTag"].value["ExposureTime"] == pytest.approx(0.02)
    if bits == 8:
        with Pillow.open(tmp_path / "1.tif") as seen:
            assert float(seen.getexif().get_ifd(0x8769)[EXPOSURE]) == pytest.approx(0.02)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_thumbnail_is_removed(tmp_path: Path, suffix: str) -> None:
    block = with_thumbnail()
    thumbnail = block[block.index(b"\xff\xd8") :]
    Pillow.fromarray(PHOTO).save(tmp_path / "a.jpg", exif=block, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.exif is not None and thumbnail[:200] not in image.exif
    write_image(tmp_path / f"b.{suffix}", image)
    assert thumbnail[:200] not in (tmp_path / f"b.{suffix}").read_bytes()
    tags = Pillow.open(tmp_path / f"b.{suffix}").getexif()
    assert tags[MAKER] == "Camera & Co" and not tags.get_ifd(1)
    for length in range(0, len(block), 37):  # a block cut short breaks nothing
        write_image(tmp_path / "c.png", Image(image.pixels, exif=read_cut(block[:length])))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_blocks_too_large_for_a_format_are_named(tmp_path: Path, suffix: str) -> None:
    tags = exif()
    tags.get_ifd(0x8769)[0x927C] = bytes(100_000)  # a maker's note
    image = Image((PHOTO / 255).astype(np.float32), exif=tags.tobytes(), xmp=b"<x>" + b"y" * 70_000 + b"</x>")
    notes = write_image(tmp_path / f"a.{suffix}", image)
    again = read_image(tmp_path / f"a.{suffix}")
    assert again.exif is not None and b"Camera & Co" in again.exif
    assert (len(again.exif) > 100_000) == (suffix == "tif")
    assert any("maker note of EXIF dropped" in note for note in notes) == (suffix != "tif")
    assert (again.xmp is None) == any("XMP dropped: too large" in note for note in notes) == (suffix == "jpg")


def read_cut(block: bytes) -> bytes | None:
    from lldiffusion.images.exif import without_thumbnail

    return without_thumbnail(block) if len(block) > 8 else None


def test_xmp_says_nothing_of_what_is_gone(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", Image(PHOTO.astype(np.float32) / 255, xmp=XMP % MOTION))
    image = read_image(tmp_path / "a.jpg")
    assert image.notes == ("motion photo's video dropped",)
    assert image.xmp is not None and b"equirectangular" in image.xmp
    assert not any(word in image.xmp for word in (b"MotionPhoto=", b"MicroVideoOffset=", b"hdrgm:Version"))


def test_iptc_is_wrapped_for_jpeg_as_pillow_reads_it(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", full())
    with Pillow.open(tmp_path / "a.jpg") as picture:
        info: Any = IptcImagePlugin.getiptcinfo(picture)
        assert info[(2, 120)] == b"A night"
    assert unwrapped_iptc(wrapped_iptc(IPTC)) == IPTC and unwrapped_iptc(b"Photoshop 3.0\0") is None


def test_png_text_is_as_pillow_reads_it(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "Someone")
    Pillow.fromarray(PHOTO).save(tmp_path / "a.png", pnginfo=info)
    write_image(tmp_path / "b.png", read_image(tmp_path / "a.png"))
    with Pillow.open(tmp_path / "b.png") as picture:
        assert picture.text == {"Author": "Someone"}  # type: ignore[attr-defined]


def test_enhance_says_once_what_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(toy_bundle(tmp_path / "toy"))
    write_image(tmp_path / "a.jpg", full())
    command = ["enhance", str(tmp_path / "a.jpg"), "-o", str(tmp_path / "b.webp"), "--model", model]
    assert run(command) == 0
    assert capsys.readouterr().err.count("a.jpg: IPTC dropped: not kept in WEBP") == 1
    assert run([*command, "-y", "-q"]) == 0
    assert capsys.readouterr().err == ""
