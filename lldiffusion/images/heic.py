"""HEIC through pillow-heif (extra `heic`): the libvips of pyvips[binary] has no HEVC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, printable, require

from .coded import coded_profile
from .decoded import Decoded, Opened

GAIN_MAP = "hdrgainmap"  # in the name of Apple's auxiliary picture


def open_heic(path: Path) -> Opened:
    """Raises LLDiffusionError without the extra, and for a file that libheif cannot read."""
    heif = require("pillow_heif", "heic", f"'{printable(path)}' is HEIC, which")
    try:
        with path.open("rb") as file:
            picture = heif.open_heif(file.read(), convert_hdr_to_8bit=False)
    except Exception as error:  # ValueError, EOFError, RuntimeError, as libheif has it
        raise LLDiffusionError(f"cannot read '{printable(path)}': damaged ({printable(str(error).strip())})") from error
    width, height = picture.size
    return Opened(width, height, "heic", lambda: _decode(picture, path))


def _decode(picture: Any, path: Path) -> Decoded:
    try:
        values = np.asarray(picture)
    except Exception as error:
        raise LLDiffusionError(f"cannot read '{printable(path)}': damaged ({printable(str(error).strip())})") from error
    info, bits = picture.info, int(picture.info.get("bit_depth", 8))
    coded, icc = info.get("nclx_profile") or {}, info.get("icc_profile")
    if not icc and coded:
        icc = coded_profile(int(coded["color_primaries"]), int(coded["transfer_characteristics"]), path)
    return Decoded(
        values=values.reshape(*values.shape[:2], -1),
        format="heic",
        icc=icc or None,
        exif=info.get("exif") or None,
        xmp=info.get("xmp") or None,
        white=((1 << bits) - 1) << (16 - bits) if bits > 8 else 255,
        lossless=False,
        notes=("gain map (HDR) dropped",) if any(GAIN_MAP in name for name in info.get("aux", {})) else (),
    )


def write_heic(path: Path, values: NDArray[Any], quality: int, extras: dict[str, bytes]) -> None:
    """Write (H, W, 1 to 4); uint16 becomes 10 bits.  `extras`: icc_profile, exif, xmp, where the picture has them."""
    heif = require("pillow_heif", "heic", "writing HEIC")
    if values.shape[2] < 3:  # libheif's grey is read by few
        values = np.concatenate([np.repeat(values[..., :1], 3, axis=2), values[..., 1:]], axis=2)
        extras = {name: value for name, value in extras.items() if name != "icc_profile"}
    mode = ("RGB" if values.shape[2] == 3 else "RGBA") + (";16" if values.dtype == np.uint16 else "")
    picture = heif.from_bytes(mode, (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())
    with path.open("wb") as file:
        picture.save(file, quality=quality, chroma=444, **extras)
