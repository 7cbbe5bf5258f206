"""Reading and writing photographs: PNG, JPEG, WebP and TIFF, 8 and 16 bit, through libvips; BMP through Pillow.

What comes in, and how it is treated:

- grey becomes three equal channels (and is written back as one channel); a palette is expanded; bilevel becomes 8 bit;
- EXIF orientation is applied, so pixels are always upright; the tag is 1 in what is written;
- an RGB or grey ICC profile other than sRGB is *not* converted: its numbers are processed as they are and the profile
  is written back, so colours keep their meaning;
- CMYK is converted to sRGB through its own profile, which is then dropped;
- float (and CIELAB), signed and 32-bit TIFF are refused: they have no agreed white point;
- of several pages or frames the first is read;
- EXIF is kept in JPEG, PNG and WebP; TIFF keeps size, depth, alpha, profile and resolution, but not its camera tags;
  BMP has 8 bits and keeps resolution only;
- a damaged or truncated file is an error, never a half-grey picture.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lldiffusion.atomic import new_path
from lldiffusion.errors import LLDiffusionError

from .bmp import is_bmp, read_bmp, write_bmp

Format = Literal["png", "jpeg", "webp", "tiff", "bmp"]
FORMATS: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
}
IMAGE_SUFFIXES: tuple[str, ...] = tuple(FORMATS)
_ACCEPTED = "PNG, JPEG, WebP, TIFF and BMP"
_DEPTHS = {"uchar": 8, "ushort": 16}
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709, of the encoded values
_ORIENTATION = 0x0112
_threads_of: set[int] = set()  # the process in which libvips has started its threads


@dataclass(frozen=True)
class Image:
    """An upright picture and what must survive processing; `dataclasses.replace(image, pixels=...)` changes it."""

    pixels: NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]
    alpha: NDArray[np.float32] | None = None  # (H, W) in [0, 1], not premultiplied
    bits: int = 8  # of the source: 8 or 16
    grey: bool = False  # the source had one colour channel
    icc: bytes | None = None
    exif: bytes | None = None  # its orientation is 1
    format: Format = "png"
    lossless: bool = True  # decides how WebP is written
    density: tuple[float, float] | None = None  # pixels per millimetre: the printed size

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3:
            raise LLDiffusionError(f"an image's pixels have shape (height, width, 3), given {self.pixels.shape}")
        if self.alpha is not None and self.alpha.shape != self.pixels.shape[:2]:
            raise LLDiffusionError(f"alpha has shape {self.alpha.shape}, the pixels {self.pixels.shape[:2]}")
        if self.bits not in (8, 16):
            raise LLDiffusionError(f"an image has 8 or 16 bits a channel, given {self.bits}")


def list_images(folder: Path) -> list[Path]:
    """The image files directly in `folder`, by suffix, hidden ones left out, sorted by name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise LLDiffusionError(f"'{folder}' is not a folder")
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in FORMATS and p.is_file() and p.name[0] != ".")


def to_uint8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """[0, 1] to 0..255, clipped, halves rounded up; uint8 passes through."""
    if pixels.dtype == np.uint8:
        return pixels
    return np.floor(np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright picture, from the header (a BMP is read whole); raises as `read_image` does."""
    with _naming(path, "read"):
        header = _open(path, memory=False)
        size = (int(header.width), int(header.height))
        return size[::-1] if _orientation(header) >= 5 else size


def read_image(path: Path) -> Image:
    """Read a picture.  Raises LLDiffusionError if it is missing, no image, damaged, or of an unsupported kind."""
    _refuse_after_fork()
    with _naming(path, "read"):
        source = _open(path, memory=True)
        format_, icc = FORMATS["." + _loader(source)], _blob(source, "icc-profile-data")
        if source.interpretation == "cmyk":
            source, icc = _cmyk_to_srgb(source, has_profile=icc is not None), None
        values = np.atleast_3d(source.autorot().numpy())  # (H, W, bands)
    bits, colours = _DEPTHS[source.format], 3 if source.bands >= 3 else 1
    planes = values.astype(np.float32) / np.float32(2**bits - 1)
    return Image(
        pixels=np.ascontiguousarray(np.broadcast_to(planes[..., :colours], (*planes.shape[:2], 3))),
        alpha=np.ascontiguousarray(planes[..., colours]) if source.hasalpha() else None,
        bits=bits,
        grey=colours == 1,
        icc=icc,
        exif=_upright_exif(_blob(source, "exif-data")),
        format=format_,
        lossless=format_ in ("png", "tiff", "bmp") or (format_ == "webp" and _is_lossless_webp(Path(path))),
        density=(float(source.xres), float(source.yres)),
    )


def write_image(path: Path, image: Image) -> None:
    """Write `image` in the format of the path's suffix, to a temporary file in the same folder that is then renamed.

    16 bits where the image has them and the format can (PNG, TIFF).  JPEG and BMP have no alpha: what is transparent is
    laid over white.  JPEG is written at quality 95 without chroma subsampling.  WebP is lossless where the source was.
    """
    path = Path(path)
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise LLDiffusionError(f"cannot write '{path}': accepted suffixes are {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise LLDiffusionError(f"cannot write '{path}': the folder '{path.parent}' does not exist")
    _refuse_after_fork()
    with _naming(path, "write"), new_path(path) as temporary:
        ready = _to_vips(image, format_)
        if format_ == "bmp":
            write_bmp(temporary, np.atleast_3d(ready.numpy()), image.density)
        else:  # by its format: the temporary name has no suffix
            getattr(ready, f"{format_}save")(str(temporary), **_save_options(image, format_))


def through_jpeg(values: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """(H, W, 3) as it comes back from a JPEG file of that quality, 1 to 100, with the usual halved chroma."""
    _refuse_after_fork()
    height, width, _ = values.shape
    image = _vips().Image.new_from_memory(values.tobytes(), width, height, 3, "uchar").copy(interpretation="srgb")
    encoded = image.jpegsave_buffer(Q=quality, subsample_mode="on")
    decoded: NDArray[np.uint8] = _vips().Image.jpegload_buffer(encoded).numpy()
    return decoded


@lru_cache(1)
def _vips() -> ModuleType:
    """pyvips, made silent: warnings would land on the terminal, errors still raise."""
    os.environ.setdefault("VIPS_WARNING", "0")  # libvips reads this when it starts
    import pyvips

    # pyvips answers every message of libvips in Python, where a Ctrl-C that arrives just then is swallowed
    getattr(pyvips, "_remove_log_handler", lambda: None)()
    return pyvips


def _refuse_after_fork() -> None:
    """libvips would wait for ever for the threads it had before the fork: say so instead."""
    if _threads_of and os.getpid() not in _threads_of:
        raise LLDiffusionError(
            "cannot read or write images in a process forked from one that already did (libvips' threads do not "
            "survive it): start workers by 'spawn' or 'forkserver' (PyTorch: DataLoader(multiprocessing_context=...))"
        )
    _threads_of.add(os.getpid())


@contextmanager
def _naming(path: Path, verb: str) -> Iterator[None]:
    """Turn libvips' errors into one that names the file."""
    vips = _vips()
    try:
        yield
    except vips.Error as error:
        reason = "; ".join(line.strip() for line in str(error.detail or error).splitlines() if line.strip())
        if "not a known file format" in reason:
            reason = f"not an image, or damaged at its start; accepted are {_ACCEPTED}"
        raise LLDiffusionError(f"cannot {verb} '{path}': {reason}") from error


def _open(path: Path, memory: bool) -> Any:
    """The vips image of a supported file; with `memory` its pixels are decoded, so that damage is found here."""
    path, vips = Path(path), _vips()
    if not path.is_file():
        raise LLDiffusionError(f"cannot read '{path}': {'it is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise LLDiffusionError(f"cannot read '{path}': the file is empty")
    if is_bmp(path):
        return _open_bmp(path)
    # revalidate: libvips would otherwise answer from its cache after the file was rewritten
    source = vips.Image.new_from_file(str(path), memory=memory, fail_on="error", revalidate=True)
    if _loader(source) not in FORMATS.values():
        raise LLDiffusionError(f"cannot read '{path}': {_loader(source)} is not supported; accepted are {_ACCEPTED}")
    if source.format not in _DEPTHS:
        raise LLDiffusionError(f"cannot read '{path}': {source.format} samples; convert it to 8 or 16 bits a channel")
    return source


def _open_bmp(path: Path) -> Any:
    values, density = read_bmp(path)
    height, width, bands = values.shape
    source = _vips().Image.new_from_memory(values.tobytes(), width, height, bands, "uchar")
    source = source.copy(interpretation="b-w" if bands == 1 else "srgb", xres=density[0], yres=density[1])
    source.set_type(_vips().GValue.gstr_type, "vips-loader", "bmpload")
    return source


def _loader(source: Any) -> str:
    """ "png" of "pngload", "pngload_buffer" and the like."""
    return str(source.get("vips-loader")).partition("load")[0]


def _blob(source: Any, field: str) -> bytes | None:
    return bytes(source.get(field)) if source.get_typeof(field) else None


def _orientation(source: Any) -> int:
    return int(source.get("orientation")) if source.get_typeof("orientation") else 1


def _cmyk_to_srgb(source: Any, has_profile: bool) -> Any:
    profile = {"embedded": True} if has_profile else {"input_profile": "cmyk"}
    return source.icc_transform("srgb", depth=_DEPTHS[source.format], **profile)


def _upright_exif(exif: bytes | None) -> bytes | None:
    """The EXIF block with its orientation set to 1 in place; nothing else is touched.  TIFF 6.0 section 2."""
    if exif is None:
        return None
    start = 6 if exif[:6] == b"Exif\0\0" else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None or len(exif) < start + 8:
        return exif
    patched = bytearray(exif)
    directory = start + struct.unpack_from(f"{order}I", exif, start + 4)[0]
    entries = struct.unpack_from(f"{order}H", exif, directory)[0] if directory + 2 <= len(exif) else 0
    for entry in range(directory + 2, min(directory + 2 + 12 * entries, len(exif) - 11), 12):
        if struct.unpack_from(f"{order}H", exif, entry)[0] == _ORIENTATION:
            struct.pack_into(f"{order}H", patched, entry + 8, 1)
    return bytes(patched)


def _is_lossless_webp(path: Path) -> bool:
    """Whether the first frame is a VP8L chunk.  RIFF container: https://developers.google.com/speed/webp/docs"""
    with path.open("rb") as file:
        file.seek(12)  # RIFF, size, WEBP
        while len(head := file.read(8)) == 8:
            name, size = head[:4], struct.unpack("<I", head[4:])[0]
            if name in (b"VP8L", b"VP8 "):
                return name == b"VP8L"
            if name == b"ANMF":  # a frame: 16 bytes, then its own chunks
                size = 16
            file.seek(size + size % 2, os.SEEK_CUR)
    return False


def _to_vips(image: Image, format_: Format) -> Any:
    """The vips image to save, with its metadata."""
    bits = image.bits if format_ in ("png", "tiff") else 8
    pixels = image.pixels @ _LUMA[:, None] if image.grey else image.pixels  # (H, W, 1 or 3)
    if image.alpha is not None and format_ in ("jpeg", "bmp"):
        pixels = pixels * image.alpha[..., None] + (1 - image.alpha[..., None])
    elif image.alpha is not None:
        pixels = np.concatenate([pixels, image.alpha[..., None]], axis=2)
    values = _quantised(pixels, bits)
    height, width, bands = values.shape
    target = _vips().Image.new_from_memory(values.tobytes(), width, height, bands, "uchar" if bits == 8 else "ushort")
    space = {(True, 8): "b-w", (True, 16): "grey16", (False, 8): "srgb", (False, 16): "rgb16"}[image.grey, bits]
    density = dict(zip(("xres", "yres"), image.density)) if image.density else {}
    return _with_metadata(target.copy(interpretation=space, **density), image)


def _quantised(pixels: NDArray[np.float32], bits: int) -> NDArray[Any]:
    if bits == 8:
        return to_uint8(pixels)
    return np.floor(np.clip(pixels, 0, 1).astype(np.float64) * 65535 + 0.5).astype(np.uint16)


def _with_metadata(target: Any, image: Image) -> Any:
    for field, value in (("icc-profile-data", image.icc), ("exif-data", image.exif)):
        if value is not None:
            target.set_type(_vips().GValue.blob_type, field, value)
    return target


def _save_options(image: Image, format_: Format) -> dict[str, Any]:
    if format_ == "jpeg":
        return {"Q": 95, "subsample_mode": "off"}
    if format_ == "webp":  # exact: colours under full transparency survive
        return {"lossless": True, "exact": True} if image.lossless else {"Q": 95, "smart_subsample": True}
    return {"compression": "deflate", "predictor": "horizontal"} if format_ == "tiff" else {}
