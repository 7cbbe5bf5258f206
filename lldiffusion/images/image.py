"""A picture in memory."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError

from .colour import Beyond
from .formats import FORMATS, Format


@dataclass(frozen=True)
class Image:
    """An upright picture and what must survive processing; `dataclasses.replace(image, pixels=...)` changes it."""

    pixels: NDArray[np.float32]  # (H, W, 3) sRGB in [0, 1]
    _: KW_ONLY
    alpha: NDArray[np.float32] | None = None  # (H, W) in [0, 1], not premultiplied
    bits: int = 8  # of the source: 8 or 16
    grey: bool = False  # the source had one colour channel
    icc: bytes | None = None  # the profile that the file has, to which writing converts; None: sRGB
    beyond: Beyond | None = None  # colours of the source outside sRGB
    exif: bytes | None = None  # its orientation is 1; it has no thumbnail
    xmp: bytes | None = None
    iptc: bytes | None = None  # records, without Photoshop's wrapping
    text: tuple[tuple[str, str], ...] = ()  # of a PNG: keyword, text
    format: Format = "png"
    lossless: bool = True  # decides how WebP is written
    density: tuple[float, float] | None = None  # pixels per millimetre: the printed size
    notes: tuple[str, ...] = ()  # what reading left out or changed, a clause each

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
