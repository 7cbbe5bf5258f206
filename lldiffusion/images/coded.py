"""Colours said by code points or PNG chunks instead of a profile: made into the profile that means the same.

Sources: ITU-T H.273 tables 2 and 3 (PNG's cICP chunk, the nclx box of AVIF and HEIC); PNG, third edition, 11.3.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lldiffusion.errors import LLDiffusionError, printable

from .icc import Curve, Point, make_profile, power, shaper_of

D65: Point = (0.3127, 0.3290)
BT709: tuple[Point, Point, Point, Point] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
PRIMARIES = {
    1: BT709,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),
}
# Others (the camera curves of BT.709 and BT.2020 among them) are shown as sRGB is.
TRANSFERS = {4: power(2.2), 5: power(2.8), 8: power(1.0)}
# Adobe RGB (1998) Color Image Encoding, section 4.3
ADOBE_RGB = make_profile((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65, power(563 / 256), "AdobeRGB")
HDR = {16: "PQ", 18: "HLG"}
SRGB_GAMMA = 0.45455  # what PNG writers say beside, or instead of, "sRGB"
ALIKE, EXACT = 0.005, 0.00005  # how near counts as that: with sRGB's primaries, with others


def refuse_hdr(transfer: int, path: Path) -> None:
    """Raises LLDiffusionError for the transfer functions of high dynamic range."""
    if transfer in HDR:
        raise LLDiffusionError(
            f"cannot read '{printable(path)}': an HDR picture ({HDR[transfer]}), which no model here takes: "
            "convert it to SDR first (sRGB, Display P3 or AdobeRGB)"
        )


def coded_profile(primaries: int, transfer: int, path: Path) -> bytes | None:
    """The profile of H.273 code points; None when they mean sRGB, or nothing; raises as `refuse_hdr`."""
    refuse_hdr(transfer, path)
    points, curve = PRIMARIES.get(primaries, BT709), TRANSFERS.get(transfer, Curve())
    return _unless_srgb(points, curve, f"H.273 {primaries}/{transfer}")


@dataclass(frozen=True)
class PngHeader:
    """What a PNG says before its pixels."""

    profile: bytes | None = None  # of cICP, or of gAMA and cHRM where there is no iCCP; None: iCCP or sRGB
    frames: int = 1  # of an animation


def png_header(path: Path) -> PngHeader:
    """Read the chunks before the pixels; damaged ones are ignored, as PNG's section 13.1 advises."""
    chunks: dict[bytes, bytes] = {}
    with Path(path).open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
            size = struct.unpack(">I", head[:4])[0]
            if head[4:] in (b"cICP", b"gAMA", b"cHRM", b"acTL"):
                chunks[head[4:]] = file.read(size)[:64]
            else:
                chunks[head[4:]] = b""
                file.seek(size, 1)
            file.seek(4, 1)
    frames = struct.unpack(">I", chunks.get(b"acTL", b"")[:4].rjust(4, b"\0"))[0]
    return PngHeader(_png_profile(chunks, path), max(frames, 1))


def _png_profile(chunks: dict[bytes, bytes], path: Path) -> bytes | None:
    """By precedence: cICP, iCCP (None: libvips reads it), sRGB, then gAMA with cHRM."""
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) >= 2 and cicp[0] in PRIMARIES:
        return coded_profile(cicp[0], cicp[1], path)
    if b"iCCP" in chunks or b"sRGB" in chunks or not {b"gAMA", b"cHRM"} & chunks.keys():
        return None
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100000 if len(chunks.get(b"gAMA", b"")) == 4 else SRGB_GAMMA
    points = BT709
    if len(chunks.get(b"cHRM", b"")) == 32:
        white, *rest = [(x / 100000, y / 100000) for x, y in struct.iter_unpack(">2I", chunks[b"cHRM"])]
        points = (rest[0], rest[1], rest[2], white)
    if not 0.1 <= gamma <= 10:
        gamma = SRGB_GAMMA
    usual = np.abs(np.subtract(points, BT709)).max() < 0.01
    curve = Curve() if abs(gamma - SRGB_GAMMA) < (ALIKE if usual else EXACT) else power(1 / gamma)
    return _unless_srgb(points, curve, f"gamma {1 / gamma:.4g}")


def _unless_srgb(points: tuple[Point, Point, Point, Point], curve: Curve, name: str) -> bytes | None:
    try:
        profile = make_profile(*points, curve, name)
    except ValueError:
        return None
    shaper = shaper_of(profile)
    return None if shaper is None or shaper.is_srgb() else profile
