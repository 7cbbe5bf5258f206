"""Windows bitmaps through Pillow, which `images` uses for them: the libvips that its wheels bring reads none."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, printable

from .decoded import Decoded, Opened

MODES = {"L": "L", "1": "L", "RGBA": "RGBA"}  # Pillow's, as they are read; all others become RGB
INCH = 25.4  # millimetres


def open_bmp(path: Path) -> Opened:
    """Palettes, 16-bit and run-length coded bitmaps are expanded.

    Raises LLDiffusionError when the file is damaged or of a kind that Pillow does not know.
    """
    from PIL import BmpImagePlugin  # itself: PIL.Image.open would try other formats, and warn of large pictures

    with _named(path), BmpImagePlugin.BmpImageFile(os.fspath(path)) as picture:
        width, height = picture.size
    return Opened(width, height, "bmp", lambda: _decode(path))


def _decode(path: Path) -> Decoded:
    from PIL import BmpImagePlugin

    with _named(path), BmpImagePlugin.BmpImageFile(os.fspath(path)) as picture:
        values = np.asarray(picture.convert(MODES.get(picture.mode, "RGB")))
        across, down = picture.info.get("dpi", (0.0, 0.0))
    density = (float(across) / INCH, float(down) / INCH)
    return Decoded(values.reshape(*values.shape[:2], -1), "bmp", density=density)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # OSError, SyntaxError, ValueError or struct.error, as it happens
        raise LLDiffusionError(
            f"cannot read '{printable(path)}': damaged, or a kind of BMP that Pillow does not know ({error})"
        ) from error


def write_bmp(path: Path, values: NDArray[np.uint8], density: tuple[float, float] | None) -> None:
    """Write (H, W, 1 or 3) as a bitmap, uncompressed; the file's name need not end in .bmp."""
    from PIL import Image

    dots = {"dpi": (density[0] * INCH, density[1] * INCH)} if density and all(density) else {}
    encoded = io.BytesIO()  # straight to a file, Pillow takes a short write for a whole one
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(encoded, "BMP", **dots)
    path.write_bytes(encoded.getbuffer())
