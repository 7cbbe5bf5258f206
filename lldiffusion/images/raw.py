"""Camera RAW through rawpy (extra `raw`): developed neutrally, 16 bits, the camera's white balance, sRGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError, printable, require

from .decoded import Decoded, Opened
from .exif import exif_of_tiff, without_maker_note

SIDEWAYS = (5, 6)  # LibRaw's flips that exchange width and height


def open_raw(path: Path) -> Opened:
    """Raises LLDiffusionError without the extra, and for a file that LibRaw cannot read."""
    rawpy = require("rawpy", "raw", f"'{printable(path)}' is a camera's RAW file (or a thumbnail's), which")
    try:
        with path.open("rb") as file:
            picture = rawpy.imread(file)
        size = (picture.sizes.width, picture.sizes.height)
    except Exception as error:  # rawpy.LibRawError and what Python makes of a damaged file
        raise LLDiffusionError(f"cannot read '{printable(path)}' as RAW: {_said(error)}") from error
    width, height = size[::-1] if picture.sizes.flip in SIDEWAYS else size
    return Opened(width, height, "tiff", lambda: _develop(picture, path))


def _develop(picture: Any, path: Path) -> Decoded:
    import rawpy

    try:
        with picture:
            values = picture.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_bps=16,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=(2.4, 12.92),
            )
    except Exception as error:
        raise LLDiffusionError(f"cannot read '{printable(path)}' as RAW: {_said(error)}") from error
    exif = without_maker_note(exif_of_tiff(path))  # DNG, CR2, NEF and ARW are TIFF files
    notes = ("developed with the camera's white balance",) + (() if exif else ("EXIF dropped",))
    return Decoded(values, "tiff", exif=exif, notes=notes)


def _said(error: Exception) -> str:
    """LibRaw's messages are bytes."""
    first = error.args[0] if error.args else error
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)
