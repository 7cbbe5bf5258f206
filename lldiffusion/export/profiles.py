"""Optimisation profiles: the range of picture sizes an engine is built for, and the size it is fastest at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lldiffusion.errors import LLDiffusionError


@dataclass(frozen=True)
class Profile:
    """Smallest, usual and largest picture, each (width, height) in pixels."""

    smallest: tuple[int, int]
    usual: tuple[int, int]
    largest: tuple[int, int]

    def __str__(self) -> str:
        return ":".join(f"{width}x{height}" for width, height in (self.smallest, self.usual, self.largest))


# Buckets of 512 pixels, 720p and 1080p, landscape and portrait; the short sides are the next multiples of 32.
# Portraits have profiles of their own: scratch memory is that of the largest height and width of a profile
# together, so one range up to 1920x1920 for both takes 2.2 times as much (RTX 1.7, float16 denoiser of tiny: 1.26 GB,
# against 0.58 GB for each of the two).  Their price is an engine file of 71 MB instead of 44.
DEFAULT_PROFILES = (
    "64x64:512x512:512x512",
    "64x64:1280x736:1280x736",
    "64x64:736x1280:736x1280",
    "64x64:1920x1088:1920x1088",
    "64x64:1088x1920:1088x1920",
)


def parse_profile(text: str, multiple: int) -> Profile:
    """Read "64x64:608x416:1920x1088" (smallest:usual:largest, width x height).

    Raises LLDiffusionError when it is not of that form, a side is no multiple of `multiple`, or the sizes do not rise.
    """
    found = re.fullmatch(r"(\d+)x(\d+):(\d+)x(\d+):(\d+)x(\d+)", text.strip().lower())
    if found is None:
        raise LLDiffusionError(
            f"profile '{text}': write smallest:usual:largest as width x height, e.g. 64x64:608x416:1920x1088"
        )
    numbers = [int(number) for number in found.groups()]
    for number in numbers:
        if number % multiple or number < 2 * multiple:
            raise LLDiffusionError(
                f"profile '{text}': {number} is not a multiple of {multiple} of at least {2 * multiple}; "
                f"the nearest is {max(2, round(number / multiple)) * multiple}"
            )
    for axis in (0, 1):
        if sorted(numbers[axis::2]) != numbers[axis::2]:
            raise LLDiffusionError(f"profile '{text}': smallest, usual and largest must not shrink")
    (a, b, c, d, e, f) = numbers
    return Profile((a, b), (c, d), (e, f))


def parse_profiles(texts: list[str] | tuple[str, ...], multiple: int) -> tuple[Profile, ...]:
    """Profiles given by hand, or the default buckets when there are none."""
    return tuple(parse_profile(text, multiple) for text in texts or DEFAULT_PROFILES)


def shape_at(shape: list[str | int], size: tuple[int, int], multiple: int, count: int = 1) -> tuple[int, ...]:
    """The shape of an input such as ["n", 48, "4*h", "4*w"] for pictures of `size` (width, height)."""
    width, height = size
    symbols = {"n": count, "h": height // multiple, "w": width // multiple}
    return tuple(dim if isinstance(dim, int) else _evaluate(dim, symbols) for dim in shape)


def _evaluate(dim: str, symbols: dict[str, int]) -> int:
    factor, star, symbol = dim.rpartition("*")
    return (int(factor) if star else 1) * symbols[symbol]
