"""Windows bitmaps through Pillow, which `images` uses for them: the libvips that its wheels bring reads none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, printable

MAGIC = b"BM"
MODES = {"L": "L", "1": "L", "RGBA": "RGBA"}  # Pillow's, as they are read; all others become RGB
INCH = 25.4  # millimetres


def is_bmp(path: Path) -> bool:
    """Whether a file starts like a bitmap."""
    with path.open("rb") as file:
        return file.read(2) == MAGIC


def read_bmp(path: Path) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Pixels (H, W, 1, 3 or 4) and pixels a millimetre; palettes, 16-bit and run-length coded bitmaps are expanded.

    Raises LLDiffusionError when the file is damaged or of a kind that Pillow does not know.
    """
    from PIL import BmpImagePlugin  # itself: PIL.Image.open would try other formats, and warn of large pictures

    try:
        with BmpImagePlugin.BmpImageFile(os.fspath(path)) as picture:
            values = np.asarray(picture.convert(MODES.get(picture.mode, "RGB")))
            across, down = picture.info.get("dpi", (0.0, 0.0))
    except Exception as error:  # OSError, SyntaxError, ValueError or struct.error, as it happens
        raise LLDiffusionError(
            f"cannot read '{printable(path)}': damaged, or a kind of BMP that Pillow does not know ({error})"
        ) from error
    return values.reshape(*values.shape[:2], -1), (float(across) / INCH, float(down) / INCH)


def write_bmp(path: Path, values: NDArray[np.uint8], density: tuple[float, float] | None) -> None:
    """Write (H, W, 1 or 3) as a bitmap, uncompressed; the file's name need not end in .bmp."""
    from PIL import Image

    dots = {"dpi": (density[0] * INCH, density[1] * INCH)} if density and all(density) else {}
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(path, "BMP", **dots)
