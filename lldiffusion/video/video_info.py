"""What is known of a video before its frames are read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fractions import Fraction

from .colour import BT709, LIMITED, Colour
from .mastering import Mastering


def exact_seconds(seconds: float) -> Fraction:
    """A time as a person wrote it: 0.4 is two fifths, not the binary fraction a little above it."""
    return Fraction(str(seconds))


@dataclass(frozen=True)
class VideoInfo:
    """The picture's size, format and timing; what the output takes over."""

    name: str  # as the user named it
    width: int
    height: int
    pixel_format: str  # FFmpeg's name
    bits: int  # a component
    colour: Colour
    time_base: Fraction  # seconds; the unit of every timestamp
    frame_rate: Fraction  # frames a second, on average
    start: int = 0  # timestamp of the first frame
    frames: int | None = None  # about how many there are, where that is known
    duration: float | None = None  # seconds, where that is known
    sample_aspect: Fraction | None = None  # width to height of a pixel, where it is given
    display_matrix: tuple[int, ...] | None = None  # how a player shall turn and mirror the picture, see `orientation`
    field_order: str = ""  # of an interlaced picture: which field is shown first, "top" or "bottom"
    deinterlaced: bool = False  # its fields became whole pictures when it was read
    rereadable: bool = True  # whether it can be read a second time: a file can, a camera or a pipe cannot
    rgb: bool = False  # pixels are stored as R'G'B'
    plays: int | None = None  # of an animation: how often, 0 for ever
    alpha: bool = False  # pixels may be transparent
    mastering: Mastering = field(default_factory=Mastering)  # of HDR10
    keep_hdr: bool = False  # results are HDR again; else they are tone-mapped

    @property
    def tone_mapped(self) -> bool:
        """Whether results are of a standard range where the source is HDR."""
        return bool(self.colour.hdr) and not self.keep_hdr

    @property
    def peak(self) -> float:
        """Of HDR: the light that becomes white when it is tone-mapped, in cd/m2."""
        return self.mastering.peak(self.colour.transfer)

    def of_results(self) -> VideoInfo:
        """The same for what is written: 8 bits of BT.709 where HDR is tone-mapped."""
        if not self.tone_mapped:
            return self
        planar = re.match(r"yuva?\d{3}p|gbra?p|gray", self.pixel_format)
        eight = planar.group() if planar else "yuv420p"
        return replace(self, bits=8, pixel_format=eight, colour=Colour(BT709, LIMITED, BT709, BT709))

    def warnings(self) -> list[str]:
        """What will not be kept or handled well, one line each."""
        lines = []
        if self.tone_mapped:
            lines.append(f"'{self.name}' is HDR ({self.colour.hdr}): tone-mapped to SDR BT.709 (--hdr keep writes HDR)")
        for name in self.mastering.changing:
            lines.append(f"'{self.name}': {name}'s metadata is dropped, which described the old pictures")
        if self.deinterlaced:
            lines.append(f"'{self.name}' is interlaced: fields become whole pictures (--deinterlace off keeps them)")
        if self.field_order:
            lines.append(f"'{self.name}' is interlaced and enhanced as it is: moving edges may look worse")
        return lines

    @property
    def frame_duration(self) -> float:
        """Seconds, on average."""
        return float(1 / self.frame_rate)
