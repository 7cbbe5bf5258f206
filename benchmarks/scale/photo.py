"""A dark photograph as a JPEG file, and a clip of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion.bench.pictures import dark_picture
from lldiffusion.images import Image, read_image, write_image

WIDTH, HEIGHT = 600, 400
FRAME = (1280, 720)
RATE = 25  # frames a second


def dark_photo(folder: Path) -> Path:
    """A JPEG of 600x400, as a camera writes it."""
    path = folder / "dark.jpg"
    write_image(path, Image(np.load(dark_picture(WIDTH, HEIGHT, folder)), format="jpeg"), 92)
    return path


def decoded(path: Path) -> NDArray[np.uint8]:
    """Its pixels (H, W, 3), eight bits."""
    pixels: NDArray[np.uint8] = np.round(read_image(path).pixels * 255).astype(np.uint8)
    return pixels


def dark_clip(folder: Path, frames: int) -> Path:
    """An MP4 of 1280x720: the photograph, moving slowly, with noise of its own in every frame."""
    import av

    width, height = FRAME
    pixels = np.load(dark_picture(width + frames, height, folder))
    dice, path = np.random.default_rng(0), folder / "dark.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=Fraction(RATE), options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            noisy = pixels[:, i : i + width] + dice.normal(0, 0.01, (height, width, 3))
            frame = av.VideoFrame.from_ndarray((noisy.clip(0, 1) * 255).astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path
