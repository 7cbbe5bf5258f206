"""`make demo`: photographs anyone may use, darkened with visible noise, enhanced by the model in the package."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion.data.photographs import dark_photographs
from lldiffusion.engines import DEFAULT_MODEL, Enhancer
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.baselines import as_float, automatic_gamma
from lldiffusion.evaluation.metrics import psnr
from lldiffusion.images import Image, to_uint8, write_image

Uint8 = NDArray[np.uint8]  # (H, W, 3) RGB

CELL = 270  # width in pixels of a picture on the contact sheet
KINDS = ("dark", "gamma", "enhanced", "original")


def make_demo(out: Path) -> Path:
    """Write every photograph in four versions, print what was measured, and return the page that shows them all."""
    out.mkdir(parents=True, exist_ok=True)
    cells = []
    with Enhancer.open(DEFAULT_MODEL, many=False) as enhancer:
        print(f"model '{DEFAULT_MODEL}', {enhancer.info()['steps']} steps")
        print("PSNR in dB    dark   gamma   model   seconds")
        for name, original, dark in dark_photographs():
            start = time.perf_counter()
            bright = enhancer(dark)
            seconds = time.perf_counter() - start
            versions = [dark, to_uint8(automatic_gamma(dark)), bright, original]
            print(f"{name:10}", *(f"{psnr(version, original):7.2f}" for version in versions[:3]), f"{seconds:9.2f}")
            write_versions(out, name, versions)
            cells += versions
    sheet = out / "contact-sheet.jpg"
    write_image(sheet, Image(contact_sheet(cells, across=len(KINDS)), format="jpeg"))
    return sheet


def write_versions(out: Path, name: str, versions: list[Uint8]) -> None:
    """One PNG for each of KINDS."""
    for kind, pixels in zip(KINDS, versions, strict=True):
        write_image(out / f"{name}-{kind}.png", Image(as_float(pixels)))


def contact_sheet(pictures: list[Uint8], across: int) -> NDArray[np.float32]:
    """The pictures in rows of `across`, scaled to the same width; (H, W, 3) in [0, 1]."""
    import pyvips

    cells = [pyvips.Image.new_from_array(picture, interpretation="srgb") for picture in pictures]
    cells = [cell.thumbnail_image(CELL, height=CELL * 2 // 3, size="force") for cell in cells]
    sheet = pyvips.Image.arrayjoin(cells, across=across, shim=6, background=[255, 255, 255])
    return as_float(sheet.numpy())


def main() -> None:
    """`python -m lldiffusion.demo [FOLDER]`."""
    keep_freed_memory()
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    try:
        sheet = make_demo(out)
    except LLDiffusionError as error:
        sys.exit(f"error: {error}")
    print(f"\n{', '.join(KINDS)}: {out}/*.png\nall on one page: {sheet}")


if __name__ == "__main__":
    main()
