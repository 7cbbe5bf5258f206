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

    def write(self, path: Path) -> bool:
        """Write a JPEG; False where there are no pictures for it."""
        import pyvips

        if not self._cells:
            return False
        sheet = pyvips.Image.arrayjoin(self._cells, across=self._across, shim=GAP, background=[255, 255, 255])
        write_image(path, Image(as_float(sheet.numpy()), format="jpeg"))
        return True
