"""The picture at the head of the README: photographs in low and in mixed light, and what the model makes of them.

    python -m benchmarks.showcase KODAK/kodim04.jpg KODAK/kodim23.jpg -o docs/showcase.jpg

Each row is one photograph: dark, automatic gamma, enhanced, original.  The first, third ... stand in even low light,
the others in mixed light (lamps, windows, backlight); both with the noise of `lldiffusion.data.simulate`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from lldiffusion.data.illumination import draw_light
from lldiffusion.data.simulate import at_exposure, simulate
from lldiffusion.demo import contact_sheet
from lldiffusion.engines import DEFAULT_MODEL, Enhancer
from lldiffusion.evaluation.baselines import automatic_gamma
from lldiffusion.evaluation.metrics import Pixels
from lldiffusion.images import Image, read_image, to_uint8, write_image

from .program import run_program

STOPS = 4.0  # of even low light
ACROSS = 4  # dark, gamma, enhanced, original
QUALITY = 88  # of the JPEG


def darkened(pixels: Pixels, seed: int, mixed: bool) -> Pixels:
    """`pixels` (H, W, 3) in [0, 1] in low light, or with light here and there; always the same for a seed."""
    rng = np.random.default_rng(seed)
    if not mixed:
        return simulate(pixels, rng, at_exposure(STOPS))
    height, width = pixels.shape[:2]
    return simulate(pixels, rng, at_exposure(0.0), draw_light(height, width, rng))


def main(
    photographs: list[Path] = typer.Argument(help="Pictures of normal light."),
    out: Path = typer.Option(Path("showcase.jpg"), "-o", "--out", help="The page, a JPEG."),
    model: str = typer.Option(DEFAULT_MODEL, help="A model, as of `lldiff enhance`."),
    seed: int = typer.Option(0, help="Of light and noise; the next picture has the next."),
) -> None:
    """Write one page of before and after."""
    cells = []
    with Enhancer.open(model) as enhancer:
        for number, path in enumerate(photographs):
            original = read_image(path).pixels
            dark = darkened(original, seed + number, mixed=number % 2 == 1)
            versions = [dark, automatic_gamma(to_uint8(dark)), enhancer(dark), original]
            cells += [to_uint8(version) for version in versions]
    write_image(out, Image(contact_sheet(cells, across=ACROSS), format="jpeg"), QUALITY)
    typer.echo(f"{len(photographs)} photographs: {out}")


if __name__ == "__main__":
    run_program(main)
