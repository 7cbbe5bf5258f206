"""One picture: bytes in, bytes out, as `lldiff enhance` makes them of files."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from lldiffusion.atomic import remove
from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError, printable
from lldiffusion.images import FORMATS, Image, image_size, read_image, write_image

from .query import Wishes
from .queue import Check
from .refusals import Refusal

NAME = "picture"  # what messages call it
MEDIA_TYPES = {format_: f"image/{format_}" for format_ in FORMATS.values()}


@dataclass
class Result:
    """An enhanced picture."""

    body: bytes = b""
    media_type: str = ""
    notes: tuple[str, ...] = ()  # what was left out of it, a clause each
    pixels: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # by stage: decode, enhance, encode

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """The block is that stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def enhance_bytes(
    body: bytes,
    enhancer: Enhancer,
    wishes: Wishes,
    folder: Path,
    max_pixels: int,
    check: Check = lambda: None,
    suffix: str = "",
) -> Result:
    """Enhance a picture file given as bytes.

    Args:
        folder: where it lies meanwhile, under a name of ours.
        max_pixels: a larger one is refused by its header.
        suffix: of the file's name, where that is known: some camera RAW can be told by nothing else.
        check: called after every step (of every tile); what it raises ends the work.
    Raises Refusal: 413 for too many pixels, 422 for what is no picture or a damaged one.
    """
    result, name = Result(), secrets.token_hex(8)
    source = target = folder / f"{name}{suffix}"
    try:
        with result.timed("decode"):
            image = _decoded(body, source, max_pixels)
        height, width = image.pixels.shape[:2]
        result.pixels = height * width
        check()
        with result.timed("enhance"):
            pixels = enhancer(image.pixels, progress=check, exposure=wishes.exposure)
        format_ = wishes.format or image.format
        target = folder / f"{name}-result.{format_}"
        with result.timed("encode"):
            lost = write_image(target, replace(image, pixels=pixels), wishes.quality)
            result.body, result.media_type = target.read_bytes(), MEDIA_TYPES[format_]
        result.notes = image.notes + lost
    finally:
        remove(source)
        remove(target)
    return result


def _decoded(body: bytes, path: Path, max_pixels: int) -> Image:
    path.write_bytes(body)
    try:
        width, height = image_size(path)
        if width * height > max_pixels:
            size, most = f"{width}x{height}", f"{max_pixels / 1e6:g} million pixels"
            raise Refusal(413, f"the picture is {size}: at most {most} are taken here; send it smaller")
        return read_image(path, max_pixels)
    except Refusal:
        raise
    except LLDiffusionError as error:  # its messages name the file: ours, which nobody needs to know
        raise Refusal(422, str(error).replace(printable(path), NAME)) from error
