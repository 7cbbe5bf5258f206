"""The pictures of a benchmark: a dark one of any size to time, and pairs to judge quality on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError

Pixels = NDArray[np.float32]  # (H, W, 3) in [0, 1]
NAMED = {"720p": (1280, 720), "1080p": (1920, 1080), "1440p": (2560, 1440), "4k": (3840, 2160)}
LARGEST, SMALLEST = 16384, 16  # pixels a side


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """(width, height) of each size in "600x400,720p".

    Raises LLDiffusionError for anything else.
    """
    return [_size(part.strip().lower()) for part in dict.fromkeys(text.split(","))]


def _size(text: str) -> tuple[int, int]:
    if text in NAMED:
        return NAMED[text]
    width, cross, height = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise LLDiffusionError(f"size '{text}': give WIDTHxHEIGHT in pixels, such as 600x400, or {', '.join(NAMED)}")
    if not all(SMALLEST <= int(side) <= LARGEST for side in (height, width)):
        raise LLDiffusionError(f"size '{text}': sides of {SMALLEST} to {LARGEST} pixels are accepted")
    return int(width), int(height)


@dataclass(frozen=True)
class QualityPair:
    """A dark picture and the truth."""

    name: str
    low: Pixels
    normal: Pixels


def dark_picture(width: int, height: int, folder: Path) -> Path:
    """A .npy file with a dark photograph of this size, (H, W, 3) float32 in [0, 1]; written once into `folder`."""
    path = folder / f"dark-{width}x{height}.npy"
    if not path.exists():
        from lldiffusion.export.dark import dark_image

        planes = dark_image(height, width, 1)[0, :, :height, :width]
        np.save(path, ((planes.transpose(1, 2, 0) + 1) / 2).clip(0, 1).astype(np.float32))
    return path


def find_quality_pairs(data: Path | None, most: int) -> list[QualityPair]:
    """Pairs of a folder in any known layout; without one the demo's photographs, darkened by the simulator."""
    from lldiffusion.evaluation.baselines import as_float

    if data is None:
        from lldiffusion.data.photographs import dark_photographs

        photographs = islice(dark_photographs(), most)
        return [QualityPair(name, as_float(dark), as_float(original)) for name, original, dark in photographs]
    from lldiffusion.data.layouts import find_pairs, validate_pairs
    from lldiffusion.images import read_image

    chosen = list(validate_pairs(find_pairs(data, "test")))[:most]
    return [
        QualityPair(p.name, as_float(read_image(p.low).pixels), as_float(read_image(p.normal).pixels)) for p in chosen
    ]


def decode_seconds(width: int, height: int, folder: Path, repeats: int = 5) -> float:
    """Median time to read a PNG of this size from the (cached) disk, as `lldiff enhance` does."""
    import time
    from statistics import median

    from lldiffusion.images import Image, read_image, write_image

    path = folder / f"dark-{width}x{height}.png"
    if not path.exists():
        write_image(path, Image(pixels=np.load(dark_picture(width, height, folder)), format="png"))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        read_image(path)
        times.append(time.perf_counter() - start)
    return median(times)
