"""Photometry: what light means in sRGB values, and how much red, green and blue weigh in luma.

Y' = kr R' + kg G' + kb B',   of gamma-coded R'G'B'
"""

from __future__ import annotations

DISPLAY_GAMMA = 2.2  # of a display, about: a stop of light multiplies sRGB values by 2^(1 / 2.2)
LUMA_BT601 = (0.299, 0.587, 0.114)  # (kr, kg, kb): ITU-R BT.601-7, section 2.5.1
LUMA_BT709 = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709-6, section 3.2
