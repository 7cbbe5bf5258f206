"""Image sequences: a folder or a pattern of pictures as a video, and a video as numbered pictures."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion.atomic import flush, new_path
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import IMAGE_SUFFIXES, Image, list_images, read_image, write_image

from ..colour import BT709, FULL, RGB, Colour
from ..frame import Frame
from ..planes import Origin
from ..video_info import Facts, as_written
from ..writing.segment import Segment
from .damage import Damage

_NUMBER = re.compile(r"%(0\d+)?d")
_PLAIN_NAME = "%06d.png"  # of the pictures in a folder that is named as output
_SRGB = 13  # transfer function of ITU-T H.273


def is_stills(name: str) -> bool:
    """Whether `name` means pictures: a folder, or a pattern such as frames/%06d.png or "frames/*.png"."""
    path = Path(name)
    if name == "-" or "://" in name:
        return False
    pattern = _NUMBER.search(path.name) is not None or "*" in path.name
    return path.is_dir() or name.endswith(("/", os.sep)) or (pattern and path.suffix.lower() in IMAGE_SUFFIXES)


class StillsSource:
    """Pictures in the order of their names (of their numbers, for a pattern with %d), `rate` a second.

    Raises LLDiffusionError when there is none; while reading, for one that is damaged or of another size.
    """

    def __init__(self, name: str, rate: Fraction = Fraction(25)) -> None:
        self.damage = Damage()
        self._paths = _pictures(name)
        first = read_image(self._paths[0])
        height, width = first.pixels.shape[:2]
        self.facts = Facts(
            name=name,
            width=width,
            height=height,
            format="gbrp" if first.bits == 8 else "gbrp16le",
            bits=first.bits,
            colour=Colour(RGB, FULL, _SRGB, BT709),
            time_base=1 / rate,
            rate=rate,
            frames=len(self._paths),
            duration=float(len(self._paths) / rate),
            rgb=True,
        )

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """As `VideoSource.frames`."""
        for pts in range(len(self._paths)):
            time = pts * self.facts.time_base
            if end is not None and time >= as_written(end):
                return
            if time < as_written(start):
                continue
            if skip > 0:
                skip -= 1
                continue
            yield self._frame(pts)

    def close(self) -> None:
        """Nothing is open."""

    def _frame(self, pts: int) -> Frame:
        path = self._paths[pts]
        image = read_image(path)
        height, width = image.pixels.shape[:2]
        if (width, height) != (self.facts.width, self.facts.height):
            raise LLDiffusionError(
                f"'{path}' is {width}x{height}, the pictures before it {self.facts.width}x{self.facts.height}: "
                "a video has one size"
            )
        return Frame(image.pixels, pts, self.facts.time_base, Origin(self.facts.colour, 1))


def _pictures(name: str) -> list[Path]:
    path, pattern = Path(name), _NUMBER.search(Path(name).name)
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


def upright(pixels: NDArray[np.float32], matrix: tuple[int, ...] | None) -> NDArray[np.float32]:
    """(H, W, 3) as FFmpeg's display matrix turns and mirrors it, by right angles: x' = a x + c y, y' = b x + d y."""
    if matrix is None:
        return pixels
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(b) > abs(a):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


class StillsWriter:
    """One piece of an image sequence: a folder of pictures, as `SegmentWriter` is for video."""

    def __init__(self, folder: Path, name: str, target: str, facts: Facts, number: int) -> None:
        self._path, self._part = folder / name, folder / f"{name}.part"
        self._pattern, self._facts, self._number = pattern_of(target), facts, number
        self._shown: list[int] = []
        self._part.mkdir(parents=True, exist_ok=True)

    def add(self, frame: Frame) -> None:
        """Write one picture, upright; 16 bits where the video has more than 8 and the format can."""
        bits = 16 if self._facts.bits > 8 else 8
        image = Image(
            upright(frame.pixels, self._facts.matrix), bits=bits, lossless=not self._pattern.endswith(".webp")
        )
        write_image(self._part / (self._pattern % (self._number + len(self._shown))), image)
        self._shown.append(frame.pts)

    def close(self) -> Segment:
        """Bring the pictures to the disk and give their folder its name."""
        flush(self._part)
        with new_path(self._path) as temporary:
            os.replace(self._part, temporary)
        return Segment(self._path.name, len(self._shown), self._shown[0], self._shown[-1], 0, 0, 0)

    def abandon(self) -> None:
        """Drop what was written."""
        for picture in self._part.glob("*"):
            picture.unlink()
        self._part.rmdir()


def pattern_of(target: str) -> str:
    """The name of a picture with a place for its number."""
    name = Path(target).name
    return name if _NUMBER.search(name) else _PLAIN_NAME


def folder_of(target: str) -> Path:
    """Where the pictures go."""
    return Path(target).parent if _NUMBER.search(Path(target).name) else Path(target)


def gather(target: str, folder: Path, segments: list[Segment]) -> None:
    """Move the pictures of all pieces to their place; those that a killed run has moved are there already."""
    home = folder_of(target)
    home.mkdir(parents=True, exist_ok=True)
    for segment in segments:
        for picture in sorted((folder / segment.name).glob("*")):
            os.replace(picture, home / picture.name)
    flush(home)
