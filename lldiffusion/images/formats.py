"""The formats of picture files, by their suffix."""

from __future__ import annotations

from typing import Literal

from lldiffusion.errors import require

Format = Literal["png", "jpeg", "webp", "tiff", "bmp", "avif", "heic", "jxl"]
FORMATS: dict[str, Format] = {  # what is read and written
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".avif": "avif",
    ".heic": "heic",
    ".heif": "heic",
    ".hif": "heic",
    ".jxl": "jxl",
}
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf")
# What is only read, and the format that its results have.
READ_ONLY: dict[str, Format] = {".gif": "png", **dict.fromkeys(RAW_SUFFIXES, "tiff")}
IMAGE_SUFFIXES: tuple[str, ...] = (*FORMATS, *READ_ONLY)
ACCEPTED = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, HEIC, JPEG XL and RAW"
DEEP = ("png", "tiff", "avif", "heic")  # written with more than 8 bits
NO_ALPHA = ("jpeg", "bmp")
LOSSY = ("jpeg", "webp", "avif", "heic", "jxl")  # have a quality
PACKAGES = {"heic": ("pillow_heif", "HEIC"), "jxl": ("pillow_jxl", "JPEG XL"), "raw": ("rawpy", "RAW")}  # by extra


def suffixes_of(extra: str) -> tuple[str, ...]:
    """The suffixes of the format that an extra brings."""
    return RAW_SUFFIXES if extra == "raw" else tuple(suffix for suffix, name in FORMATS.items() if name == extra)


def check_format(format_: str) -> None:
    """Raises LLDiffusionError, naming the extra, where a format needs a package that is not here."""
    if format_ in PACKAGES:
        module, name = PACKAGES[format_]
        require(module, format_, name)
