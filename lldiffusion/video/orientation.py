"""Which way up a picture is: FFmpeg's display matrix, and pictures turned and mirrored by it.

x' = a x + c y,   y' = b x + d y,   the matrix being (a, b, u, c, d, v, x, y, w): 16.16 fixed point, u, v, w 2.30
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

DisplayMatrix = tuple[int, ...]  # nine numbers


def display_matrix(frame: Any) -> DisplayMatrix | None:
    """The display matrix that a PyAV frame carries, if it does."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV 18 knows no name for some other side data of the frame, EXIF for one
        return rotation_matrix(frame.rotation) if frame.rotation else None
    return None if matrix is None else tuple(int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:9])


def rotation_matrix(degrees: int) -> DisplayMatrix:
    """The display matrix of a counter-clockwise rotation."""
    cos, sin = (round(f(math.radians(degrees)) * 65536) for f in (math.cos, math.sin))
    return cos, -sin, 0, sin, cos, 0, 0, 0, 1 << 30


def swaps_axes(matrix: DisplayMatrix | None) -> bool:
    """Whether the upright picture is as wide as the stored one is high."""
    return matrix is not None and abs(matrix[1]) > abs(matrix[0])


def upright(pixels: NDArray[np.float32], matrix: DisplayMatrix | None) -> NDArray[np.float32]:
    """Pixels (H, W, 3), turned by right angles and mirrored as the matrix says."""
    if matrix is None:
        return pixels
    a, c, d = matrix[0], matrix[3], matrix[4]
    if swaps_axes(matrix):
        a, d = c, matrix[1]
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
