"""Numbers of light and colour that several parts share, each with its standard.

Luma is a weighted sum of *encoded* (gamma-corrected) R', G', B', as video engineering defines it; luminance would be
the same sum of linear light.  Which weights are right depends on whose formula is computed: ask the caller's source.
"""

from __future__ import annotations

# Exponent that stands for the display's curve: a stop of light is a factor of 2^(1 / 2.2) in sRGB values, about.
# (sRGB, IEC 61966-2-1, is a line and an exponent of 2.4, together close to a plain 2.2.)
DISPLAY_GAMMA = 2.2

# Weights of R', G', B' in luma.
LUMA_BT601 = (0.299, 0.587, 0.114)  # ITU-R BT.601-7, 2.5.1: SD video, JPEG (JFIF), OpenCV's RGB2GRAY
LUMA_BT709 = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709-6, 3.2: HD video, and the primaries of sRGB
# rgb2gray of MATLAB: BT.601's weights from the inverse of the NTSC matrix, before they were rounded to three places.
LUMA_MATLAB = (0.298936, 0.587043, 0.114021)
