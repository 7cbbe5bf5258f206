"""A folder of simulated pairs from a folder of normal-light photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import list_images, read_image, write_image

from .layouts import find_unpaired
from .simulate import simulate


def make_pairs(
    photographs: Path,
    out: Path,
    seed: int = 0,
    count: int | None = None,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> int:
    """Write `count` pairs (one of each photograph by default) as 8-bit PNG to `out`/low and `out`/normal.

    More pairs than photographs take each several times, with other draws.  Pair i depends on `seed`, i and its
    photograph alone.  `track` wraps the loop, for a progress bar.  Returns the number of pairs.  Raises
    LLDiffusionError when there are no photographs or `out` holds pictures already.
    """
    sources = find_unpaired(photographs)
    low, normal = _empty_sides(out)
    for index in track(range(count or len(sources))):
        source = sources[index % len(sources)]
        image = replace(read_image(source), bits=8, alpha=None, exif=None, grey=False)
        dark = simulate(image.pixels, np.random.default_rng([seed, index]))
        name = _name(source.relative_to(photographs), index // len(sources))
        write_image(normal / name, image)
        write_image(low / name, replace(image, pixels=dark))
    return count or len(sources)


def _empty_sides(out: Path) -> list[Path]:
    sides = [out / "low", out / "normal"]
    if used := [f"'{side}'" for side in sides if side.is_dir() and list_images(side)]:
        raise LLDiffusionError(f"{' and '.join(used)} already hold pictures: name another folder, or empty it first")
    for side in sides:
        side.mkdir(parents=True, exist_ok=True)
    return sides


def _name(source: Path, turn: int) -> str:
    """A flat PNG name that keeps folders, suffix and turn apart: a/b.jpg becomes a_b_jpg.png, then a_b_jpg-1.png."""
    stem = "_".join((*source.parent.parts, source.stem, source.suffix[1:].lower()))
    return f"{stem}{f'-{turn}' if turn else ''}.png"
