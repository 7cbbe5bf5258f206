"""GIF, APNG and animated WebP as videos: how often they play, and WebP's pictures, which FFmpeg does not read."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.images.libvips import errors_named, libvips

from ..colour import BT709, FULL, RGB, Colour
from ..frame import Frame
from ..planes import Origin
from ..video_info import VideoInfo, exact_seconds
from .damage import DamageReport

FOREVER = 0  # of `plays`
_HEAD = 1 << 16  # bytes in which a file says how often it plays
_SRGB = 13  # transfer function of ITU-T H.273
_MILLISECOND = Fraction(1, 1000)


def plays_of(path: Path) -> int | None:
    """How often an animation plays, FOREVER or more; None for a file that is none."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"GIF8"):
        place = head.find(b"NETSCAPE2.0\x03\x01")
        repeats = int.from_bytes(head[place + 13 : place + 15], "little")
        return 1 if place < 0 else repeats + 1 if repeats else FOREVER
    if head.startswith(b"\x89PNG") and (place := head.find(b"acTL")) > 0:
        return int.from_bytes(head[place + 8 : place + 12], "big")
    if is_animated_webp(path) and (place := head.find(b"ANIM")) > 0:
        return int.from_bytes(head[place + 12 : place + 14], "little")
    return None


def is_animated_webp(path: Path) -> bool:
    """Whether a file is a WebP with the flag of an animation."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


class AnimatedWebpSource:
    """The pictures of an animated WebP, by libvips, each with its own time; as `VideoSource`."""

    def __init__(self, name: str) -> None:
        self.damage = DamageReport()
        self._path = Path(name)
        self._image = self._open()
        told = {key: self._image.get(key) for key in self._image.get_fields() if key in ("page-height", "delay")}
        height = told.get("page-height", self._image.height)
        self._delays = [_shown(delay) for delay in told.get("delay", [0])][: self._image.height // height]
        self._times = [0, *accumulate(self._delays)]
        self._size = (self._image.width, height)
        first = self._picture(0)
        seconds = self._times[-1] * _MILLISECOND
        self.info = VideoInfo(
            name=name,
            width=self._image.width,
            height=height,
            pixel_format="gbrp",
            bits=8,
            colour=Colour(matrix=RGB, range=FULL, transfer=_SRGB, primaries=BT709),
            time_base=_MILLISECOND,
            frame_rate=(len(self._delays) / seconds).limit_denominator(1001),
            frames=len(self._delays),
            duration=float(seconds),
            rgb=True,
            alpha=first[1] is not None,
            plays=plays_of(self._path),
        )
        self._image = self._open()  # read once from its beginning to its end

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """As `VideoSource.frames`."""
        for number, (pts, duration) in enumerate(zip(self._times, self._delays)):
            seconds = pts * _MILLISECOND
            if end is not None and seconds >= exact_seconds(end):
                return
            pixels, alpha = self._picture(number)
            if seconds < exact_seconds(start):
                continue
            if skip > 0:
                skip -= 1
                continue
            self.damage.transparent += alpha is not None and not self.info.alpha
            yield Frame(pixels, pts, _MILLISECOND, Origin(self.info.colour, duration, alpha=alpha))

    def close(self) -> None:
        """Nothing is open."""

    def _open(self) -> Any:
        with errors_named(self._path, "read"):
            return libvips().Image.new_from_file(str(self._path), n=-1, access="sequential")

    def _picture(self, number: int) -> tuple[Any, Any]:
        """Pixels (H, W, 3) in [0, 1] and alpha (H, W), None where all is opaque."""
        width, height = self._size
        with errors_named(self._path, "read"):
            data = libvips().Region.new(self._image).fetch(0, number * height, width, height)
        values = np.frombuffer(data, np.uint8).reshape(height, width, -1).astype(np.float32) / np.float32(255)
        opaque = values.shape[2] < 4 or bool((values[..., 3] == 1).all())
        return np.ascontiguousarray(values[..., :3]), None if opaque else np.ascontiguousarray(values[..., 3])


def _shown(delay: int) -> int:
    """Milliseconds that a picture is shown: browsers take 10 and less for 100."""
    return 100 if delay <= 10 else delay
