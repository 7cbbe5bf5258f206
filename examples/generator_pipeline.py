"""Generators: enhancing is one link in a chain of them, and one frame at a time is in memory.

    python examples/generator_pipeline.py frames/ bright/     # a folder of numbered pictures

Put your own source and sink at the ends: anything that yields (H, W, 3) arrays, anything that takes them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion import Enhancer, LLDiffusionError
from lldiffusion.images import Image, list_images, read_image, write_image

Picture = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]


def read(folder: Path) -> Iterator[Picture]:
    """Source: the pictures of a folder, by name."""
    for path in list_images(folder):
        yield read_image(path).pixels


def denoised(frames: Iterable[Picture], share: float = 0.5) -> Iterator[Picture]:
    """A link of your own, as an example: a running mean over time, for a camera that stands still."""
    mean = None
    for frame in frames:
        mean = frame if mean is None else mean + share * (frame - mean)
        yield mean


def write(frames: Iterable[Picture], folder: Path) -> int:
    """Sink: numbered PNG files; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for frame in frames:
        write_image(folder / f"{count:06d}.png", Image(frame))
        count += 1
    return count


def main(source: str, target: str) -> int:
    """Returns the number of pictures written."""
    with Enhancer.open("tiny") as enhancer:
        return write(enhancer.stream(denoised(read(Path(source))), fps=25.0), Path(target))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/generator_pipeline.py FRAMES/ BRIGHT/")
    try:
        print(f"{main(*sys.argv[1:])} pictures")
    except (LLDiffusionError, OSError) as error:
        sys.exit(f"error: {error}")
