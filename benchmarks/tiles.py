"""How like the whole picture it is when it is cut into tiles, by picture and tile size.

    python -m benchmarks.tiles --dark DARK... --normal NORMAL... --clip CLIP -o benchmarks/results

Dark pictures are taken as they are, normal ones are darkened by the project's simulator, each by a stop more than the
one before; all are scaled to `--long` pixels, so that even the largest tiles must meet.  A frame of a clip is
scaled to each `--frame` size, darkened, and goes the way of videos, whole against the tiles that "auto" would take.
Differences are of 8-bit numbers before they are rounded: |tiled - whole| * 255.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from lldiffusion.data.simulate import at_exposure, simulate
from lldiffusion.engines import DEFAULT_MODEL, Enhancer
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.engines.memory import TILE
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import read_image
from lldiffusion.video import Frame, VideoEnhancer, VideoSource

from .markdown import table_lines
from .program import run_program
from .result_file import write_result

Pixels = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]
FIRST_STOPS = 1.5  # of light that the first normal picture loses; a stop more for each that follows
MEAN, MOST = 1.0, 4.0  # of 1/255: what is promised


@dataclass(frozen=True)
class Difference:
    """One picture, whole against one way to tile it, in 1/255."""

    picture: str
    width: int
    height: int
    light: float  # mean of the dark picture, in [0, 1]
    after: float  # mean of the result
    tile: int  # side in pixels, at most
    mean: float
    most: float

    @property
    def kept(self) -> bool:
        """Whether it is as like as is promised."""
        return self.mean <= MEAN and self.most <= MOST


def scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    """(H, W, 3) resized, bicubic where it grows and by area where it shrinks, in [0, 1]."""
    from skimage.transform import resize

    shrinks = height < pixels.shape[0]
    return np.clip(resize(pixels, (height, width), order=3, anti_aliasing=shrinks), 0, 1).astype(np.float32)


def pictures(dark: list[Path], normal: list[Path], long: int) -> Iterator[tuple[str, Pixels]]:
    """Every picture by its name, dark, its longer side of `long` pixels."""
    for number, path in enumerate([*dark, *normal], -len(dark)):
        pixels = read_image(path).pixels
        factor = long / max(pixels.shape[:2])
        pixels = scaled(pixels, round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
        name = f"{path.parent.name}/{path.stem}"
        if number < 0:
            yield name, pixels
        else:
            stops = FIRST_STOPS + number
            yield f"{name}, {stops:g} stops darker", simulate(pixels, np.random.default_rng(number), at_exposure(stops))


def frame_of(clip: Path, size: str) -> Frame:
    """The first frame of a clip as one of WIDTHxHEIGHT, dark."""
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise LLDiffusionError(f"--frame '{size}': write WIDTHxHEIGHT, such as 3840x2160")
    source = VideoSource(str(clip))
    try:
        frame = next(islice(source.frames(), 1))
    finally:
        source.close()
    pixels = scaled(frame.pixels, int(width), int(height))
    return replace(frame, pixels=simulate(pixels, np.random.default_rng(0), at_exposure(4)))


def compare(enhancer: Enhancer, name: str, low: Pixels, sides: list[int]) -> Iterator[Difference]:
    """A picture in tiles of every size against the whole of it."""
    whole = with_tiles(enhancer, low, "none")
    for side in sides:
        yield difference(name, low, side, with_tiles(enhancer, low, side), whole)


def compare_frame(enhancer: Enhancer, name: str, frame: Frame) -> Difference:
    """A frame as videos are enhanced, in tiles of the size that "auto" takes at most, against the whole of it."""
    made = {}
    for tile in ("none", TILE):
        enhancer.pipeline.tile = tile
        made[tile] = VideoEnhancer(enhancer).enhance(frame)[0].pixels
    return difference(name, frame.pixels, TILE, made[TILE], made["none"])


def with_tiles(enhancer: Enhancer, low: Pixels, tile: str | int) -> Pixels:
    """`low` enhanced in tiles of a side, or as a whole ("none")."""
    enhancer.pipeline.tile = tile
    bright: Pixels = enhancer(low)
    return bright


def difference(name: str, low: Pixels, tile: int, tiled: Pixels, whole: Pixels) -> Difference:
    """Two pictures (H, W, 3) of one dark one, compared by strips: an 8K frame is held a few times already."""
    total, most = 0.0, 0.0
    for one, other in zip(tiled, whole, strict=True):
        apart = np.abs(one - other)
        total, most = total + float(apart.sum(dtype=np.float64)), max(most, float(apart.max()))
    height, width = low.shape[:2]
    light, after = (round(float(each.mean(dtype=np.float64)), 4) for each in (low, whole))
    return Difference(name, width, height, light, after, tile, round(255 * total / low.size, 5), round(255 * most, 4))


def to_markdown(results: list[Difference], model: str) -> str:
    """The table and what is promised."""
    heads = ["picture", "size", "light, before", "after", "tile", "mean, /255", "most, /255"]
    rows = [
        [
            r.picture,
            f"{r.width}x{r.height}",
            f"{r.light:.3f}",
            f"{r.after:.3f}",
            str(r.tile),
            f"{r.mean:.4f}",
            f"{r.most:.3f}",
        ]
        for r in results
    ]
    broken = [r for r in results if not r.kept]
    promise = f"Promised: {MEAN:g} on average and {MOST:g} at most. "
    promise += f"Broken by {len(broken)} of {len(results)}." if broken else f"Kept by all {len(results)}."
    lines = ["# Tiled against whole", "", *table_lines(heads, rows), "", promise, "", f"- model: {model}"]
    return "\n".join(lines) + "\n"


def main(
    dark: list[Path] = typer.Option([], help="Dark picture; again for more."),
    normal: list[Path] = typer.Option([], help="Normal picture, which is darkened; again for more."),
    clip: Path | None = typer.Option(None, help="Of which a frame is scaled and darkened."),
    frame: list[str] = typer.Option([], help="WIDTHxHEIGHT of a frame; again for more."),
    side: list[int] = typer.Option([256, 512, 1024], help="Of tiles, in pixels; again for more."),
    long: int = typer.Option(1280, min=64, help="Longer side that pictures are scaled to, in pixels."),
    model: str = typer.Option(DEFAULT_MODEL, help="Checkpoint folder, bundle or shipped model."),
    out: Path = typer.Option(Path("tiles"), "-o", "--out", help="Folder for tiles.json and tiles.md."),
) -> None:
    """Compare tiles with whole pictures; exit code 1 when they differ more than is promised."""
    if not dark and not normal and not (clip and frame):
        raise LLDiffusionError("nothing to compare: give --dark or --normal pictures, or --clip with --frame")
    keep_freed_memory()
    results: list[Difference] = []
    out.mkdir(parents=True, exist_ok=True)
    with Enhancer.open(model) as enhancer:
        about = enhancer.info()
        for name, low in pictures(dark, normal, long):
            results += compare(enhancer, name, low, side)
            typer.echo(f"{name}: {', '.join(f'{r.tile}: {r.mean:.4f} {r.most:.3f}' for r in results[-len(side) :])}")
        for size in frame if clip else []:
            results.append(compare_frame(enhancer, f"{clip.stem}, a frame", frame_of(clip, size)))  # type: ignore[arg-type, union-attr]
            typer.echo(f"{size}: {results[-1].mean:.4f} {results[-1].most:.3f}")
    named = f"{about['model']}, {about['backend']} {about['version']}, {about['precision']}, steps {about['steps']}"
    body = {"model": about, "results": [asdict(r) for r in results]}
    typer.echo(f"written: {write_result(out / 'tiles.json', body, to_markdown(results, named))}")
    if not all(r.kept for r in results):
        raise SystemExit(1)


if __name__ == "__main__":
    run_program(main)
