"""Every picture on one page, as it was taken and as each method makes it, to be looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lldiffusion.evaluation.baselines import as_float
from lldiffusion.evaluation.metrics import Uint8
from lldiffusion.images import Image, write_image

SIDE = 400  # pixels of a picture's longer side
GAP = 6  # pixels between pictures


class Sheet:
    """Pictures in rows of `across`, in the order in which they are added; scaled down at once to take little memory."""

    def __init__(self, across: int) -> None:
        self._across = across
        self._cells: list[Any] = []

    def add(self, pixels: Uint8) -> None:
        """Put a picture in the next place."""
        import pyvips

        image = pyvips.Image.new_from_array(pixels, interpretation="srgb")
        self._cells.append(image.thumbnail_image(SIDE).copy_memory())

    def write(self, path: Path) -> Path:
        """Write a JPEG; returns its path.  A sheet without pictures has no file."""
        import pyvips

        if self._cells:
            join = {"across": self._across, "shim": GAP, "background": [255, 255, 255]}
            sheet = pyvips.Image.arrayjoin(self._cells, **join)
            write_image(path, Image(as_float(sheet.numpy()), format="jpeg"))
        return path
