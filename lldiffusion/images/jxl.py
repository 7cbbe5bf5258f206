"""JPEG XL through pillow-jxl-plugin (extra `jxl`): the libvips of pyvips[binary] has none.

Results have 8 bits and no profile, which the plugin cannot write: they hold sRGB.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, printable, require

from .decoded import Decoded, Opened

BARE, BOXED = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I": 1}  # channels


def open_jxl(path: Path) -> Opened:
    """Raises LLDiffusionError without the extra, and for a damaged file."""
    require("pillow_jxl", "jxl", f"'{printable(path)}' is JPEG XL, which")
    data = path.read_bytes()
    try:
        width, height = size_of(data)
    except (struct.error, ValueError, IndexError) as error:
        raise LLDiffusionError(f"cannot read '{printable(path)}': damaged at its start") from error
    return Opened(width, height, "jxl", lambda: _decode(data, path))


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) of a codestream, bare or in boxes: ISO/IEC 18181-1, SizeHeader; -2, box jxlc or jxlp."""
    stream = data
    if data.startswith(BOXED):
        start = data.find(b"jxlc")
        stream = data[start + 4 :] if start >= 0 else data[data.index(b"jxlp") + 8 :]
    if not stream.startswith(BARE):
        raise ValueError("no codestream")
    bits, place = int.from_bytes(stream[2:14], "little"), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return bits >> (place - count) & ((1 << count) - 1)

    small = take(1)
    height = (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1
    if ratio := take(3):
        return height * RATIOS[ratio][0] // RATIOS[ratio][1], height
    return ((take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1), height


def _decode(data: bytes, path: Path) -> Decoded:
    import pillow_jxl

    try:
        _, info, packed, icc, boxes = pillow_jxl.Decoder(num_threads=1)(data)
    except Exception as error:  # the plugin's, with advice on how to build it
        raise LLDiffusionError(f"cannot read '{printable(path)}': damaged, or cut short") from error
    channels = MODES.get(info.mode.partition(";")[0])
    depth = len(packed) // (info.width * info.height * (channels or 1))
    if channels is None or depth not in (1, 2):
        raise LLDiffusionError(f"cannot read '{printable(path)}': {info.mode} samples; convert it to 8 or 16 bits")
    values = np.frombuffer(packed, f"u{depth}").reshape(info.height, info.width, channels)
    held = {bytes(box.box_type): bytes(box.data) for box in boxes}
    exif = held.get(b"Exif", b"")
    if exif[:2] not in (b"II", b"MM"):  # which the plugin itself writes; rightly, the place of that comes first
        exif = exif[4 + int.from_bytes(exif[:4], "big") :]
    profile = bytes(icc) if icc else None
    return Decoded(values, "jxl", icc=profile, exif=exif or None, xmp=held.get(b"xml "), lossless=False)


def write_jxl(path: Path, values: NDArray[np.uint8], quality: int, extras: dict[str, bytes]) -> None:
    """Write (H, W, 1 to 4) uint8.  `extras`: exif, xmp, where the picture has them."""
    module = require("pillow_jxl", "jxl", "writing JPEG XL")
    mode = ("L", "LA", "RGB", "RGBA")[values.shape[2] - 1]
    options: dict[str, Any] = {"lossless": False, "quality": quality, "decoding_speed": 0, "effort": 7}
    encoder = module.Encoder(mode=mode, use_container=bool(extras), num_threads=1, **options)
    exif = b"\0\0\0\0" + extras["exif"].removeprefix(b"Exif\0\0") if "exif" in extras else None
    boxes = {"exif": exif, "jumb": None, "xmp": extras.get("xmp"), "compress": False}
    path.write_bytes(encoder(values.tobytes(), values.shape[1], values.shape[0], jpeg_encode=False, **boxes))
