"""Image sequences: a folder or a pattern of pictures, read as a video."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import IMAGE_SUFFIXES, list_images, read_image

from ..colour import BT709, FULL, RGB, Colour
from ..frame import Frame
from ..planes import Origin
from ..video_info import VideoInfo, exact_seconds
from .damage import DamageReport

NUMBER = re.compile(r"%(0\d+)?d")  # the place of a picture's number in a pattern
_SRGB = 13  # transfer function of ITU-T H.273


def is_image_sequence(name: str) -> bool:
    """Whether `name` means pictures: a folder, or a pattern such as frames/%06d.png or "frames/*.png"."""
    path = Path(name)
    if name == "-" or "://" in name:
        return False
    pattern = NUMBER.search(path.name) is not None or "*" in path.name
    return path.is_dir() or name.endswith(("/", os.sep)) or (pattern and path.suffix.lower() in IMAGE_SUFFIXES)


class ImageSequenceSource:
    """Pictures in the order of their names (of their numbers, for a pattern with %d), `rate` a second.

    Raises LLDiffusionError when there is none; while reading, for one that is damaged or of another size.
    """

    def __init__(self, name: str, rate: Fraction = Fraction(25)) -> None:
        self.damage = DamageReport()
        self._paths = _find_images(name)
        first = read_image(self._paths[0])
        height, width = first.pixels.shape[:2]
        self.info = VideoInfo(
            name=name,
            width=width,
            height=height,
            pixel_format="gbrp" if first.bits == 8 else "gbrp16le",
            bits=first.bits,
            colour=Colour(matrix=RGB, range=FULL, transfer=_SRGB, primaries=BT709),
            time_base=1 / rate,
            frame_rate=rate,
            frames=len(self._paths),
            duration=float(len(self._paths) / rate),
            rgb=True,
            alpha=first.alpha is not None,
        )

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """As `VideoSource.frames`."""
        for pts in range(len(self._paths)):
            time = pts * self.info.time_base
            if end is not None and time >= exact_seconds(end):
                return
            if time < exact_seconds(start):
                continue
            if skip > 0:
                skip -= 1
                continue
            yield self._read_frame(pts)

    def close(self) -> None:
        """Nothing is open."""

    def _read_frame(self, pts: int) -> Frame:
        path = self._paths[pts]
        image = read_image(path)
        height, width = image.pixels.shape[:2]
        if (width, height) != (self.info.width, self.info.height):
            raise LLDiffusionError(
                f"'{path}' is {width}x{height}, the pictures before it {self.info.width}x{self.info.height}: "
                "a video has one size"
            )
        return Frame(image.pixels, pts, self.info.time_base, Origin(self.info.colour, 1, alpha=image.alpha))


def _find_images(name: str) -> list[Path]:
    path, pattern = Path(name), NUMBER.search(Path(name).name)
    if path.is_dir():
        found = list_images(path)
    elif pattern:
        shape = re.compile(re.escape(path.name).replace(re.escape(pattern.group()), r"(\d+)") + "$")
        numbered = {int(m.group(1)): p for p in path.parent.glob("*") if (m := shape.match(p.name))}
        found = [numbered[number] for number in sorted(numbered)]
    else:
        found = sorted(Path(match) for match in glob.glob(name))
    if not found:
        raise LLDiffusionError(f"no pictures at '{name}': accepted are {', '.join(IMAGE_SUFFIXES)}")
    return found
