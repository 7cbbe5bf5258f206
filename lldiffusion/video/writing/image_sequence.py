"""Image sequences: a video written as numbered pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lldiffusion.atomic import flush, new_path
from lldiffusion.images import Image, write_image

from ..colour import Colour
from ..frame import Frame
from ..orientation import upright
from ..planes import output_pixels
from ..reading.image_sequence import NUMBER
from ..video_info import VideoInfo
from .segment import Segment

_DEFAULT_NAME = "%06d.png"  # of the pictures in a folder that is named as output


class ImageSegmentWriter:
    """A segment of an image sequence: a folder of pictures, as `VideoSegmentWriter`'s is a file.

    Args:
        folder: of the job; the segment's folder `name` appears in it when it is closed.
        target: the folder or pattern that the user named.
        first_number: of the segment's first picture.
    """

    def __init__(self, folder: Path, name: str, target: str, info: VideoInfo, first_number: int) -> None:
        self._path = folder / name
        self._part = folder / f"{name}.part"
        self._pattern = filename_pattern(target)
        self._info = info
        self._first_number = first_number
        self._times: list[int] = []
        self._part.mkdir(parents=True, exist_ok=True)

    def add(self, frame: Frame) -> None:
        """Write one picture, upright; 16 bits where the video has more than 8 and the format can."""
        matrix = self._info.display_matrix
        pixels = upright(self._shown(frame), matrix)
        bits = 16 if self._info.bits > 8 else 8
        name = self._pattern % (self._first_number + len(self._times))
        alpha = None if frame.origin.alpha is None else upright(frame.origin.alpha[..., None], matrix)[..., 0]
        write_image(self._part / name, Image(pixels, alpha=alpha, bits=bits, lossless=not name.endswith(".webp")))
        self._times.append(frame.pts)

    def _shown(self, frame: Frame) -> NDArray[np.float32]:
        return output_pixels(frame.pixels, frame.origin, Colour()) if self._info.colour.hdr else frame.pixels

    def close(self) -> Segment:
        """Bring the pictures to the disk and give their folder its name."""
        flush(self._part)
        with new_path(self._path) as temporary:
            os.replace(self._part, temporary)
        times = self._times
        return Segment(name=self._path.name, frames=len(times), first_pts=times[0], last_pts=times[-1])

    def abandon(self) -> None:
        """Drop what was written."""
        for picture in self._part.glob("*"):
            picture.unlink()
        self._part.rmdir()


def filename_pattern(target: str) -> str:
    """The name of a picture with a place for its number."""
    name = Path(target).name
    return name if NUMBER.search(name) else _DEFAULT_NAME


def images_folder(target: str) -> Path:
    """Where the pictures go."""
    return Path(target).parent if NUMBER.search(Path(target).name) else Path(target)


def move_images(target: str, folder: Path, segments: list[Segment]) -> None:
    """Move the pictures of all segments to their place; those that a killed run has moved are there already."""
    home = images_folder(target)
    home.mkdir(parents=True, exist_ok=True)
    for segment in segments:
        for picture in sorted((folder / segment.name).glob("*")):
            os.replace(picture, home / picture.name)
    flush(home)
