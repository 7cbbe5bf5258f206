"""What light means in sRGB values."""

from __future__ import annotations

DISPLAY_GAMMA = 2.2  # of a display, about: a stop of light multiplies sRGB values by 2^(1 / 2.2)
