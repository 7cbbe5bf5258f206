"""The formats of picture files, by their suffix."""

from __future__ import annotations

from typing import Literal

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
ACCEPTED = "PNG, JPEG, WebP, TIFF and BMP"
