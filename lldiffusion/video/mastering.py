"""HDR10's static metadata: the display a clip was graded on (SMPTE ST 2086), and how bright it gets (CTA-861.3).

FFmpeg hands both over as side data of a frame; encoders take them as words in their own options (libx264 has such
words, but FFmpeg overrules them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .hdr import DIFFUSE_WHITE, HLG, HLG_PEAK, PQ_PEAK

DOLBY_VISION = "Dolby Vision"
_CHANGING = {"DOVI_METADATA": DOLBY_VISION, "DYNAMIC_HDR_PLUS": "HDR10+", "DYNAMIC_HDR_VIVID": "HDR Vivid"}
_UNTOLD_PEAK = 1000.0  # cd/m2 of PQ that does not say; most of it is graded for that


@dataclass(frozen=True)
class Mastering:
    """As the stream says it; empty, or 0, where it does not."""

    display: tuple[float, ...] = ()  # x, y of red, green, blue and white; least and greatest light in cd/m2
    brightest: int = 0  # MaxCLL, cd/m2 of the brightest pixel
    average: int = 0  # MaxFALL, cd/m2 of the brightest frame on average
    changing: tuple[str, ...] = ()  # names of metadata that differ from frame to frame

    @property
    def told(self) -> bool:
        """Whether there is anything that an encoder could write."""
        return bool(self.display or self.brightest)

    def peak(self, transfer: int) -> float:
        """The brightest light to expect, cd/m2; HLG has its own."""
        greatest = self.brightest or (self.display[-1] if self.display else 0) or _UNTOLD_PEAK
        return HLG_PEAK if transfer == HLG else min(max(float(greatest), DIFFUSE_WHITE), PQ_PEAK)


def read_mastering(frame: Any) -> Mastering:
    """Of a PyAV frame."""
    display = _side_data(frame, "MASTERING_DISPLAY_METADATA", np.int32)
    light = _side_data(frame, "CONTENT_LIGHT_LEVEL", np.uint32)
    numbers: tuple[float, ...] = ()
    if display.size >= 22 and display[20] and display[21] and (display[1:20:2] > 0).all():
        numbers = tuple(float(value) for value in display[0:20:2] / display[1:20:2])
    brightest, average = (int(value) for value in light[:2]) if light.size >= 2 else (0, 0)
    changing = tuple(name for key, name in _CHANGING.items() if _side_data(frame, key, np.uint8).size)
    return Mastering(numbers, brightest, average, changing)


def _side_data(frame: Any, name: str, kind: Any) -> Any:
    try:
        data = frame.side_data.get(name)
    except ValueError:  # PyAV 18 knows no name for some other side data of the frame
        data = None
    return np.frombuffer(b"" if data is None else bytes(data), kind)


def encoder_options(codec: str, mastering: Mastering, options: dict[str, str]) -> dict[str, str]:
    """An encoder's options, with the metadata in its own words; as they were for encoders that have none."""
    if codec not in _WORDS or not mastering.told:
        return options
    key, words = _WORDS[codec]
    return options | {key: ":".join(filter(None, (options.get(key), *words(mastering))))}


def keeps_mastering(codec: str) -> bool:
    """Whether an encoder writes the metadata."""
    return codec in _WORDS


def _x265_words(mastering: Mastering) -> list[str]:
    return ["hdr10=1", "repeat-headers=1", *_display("master-display", mastering), *_light("max-cll", mastering)]


def _svt_words(mastering: Mastering) -> list[str]:
    return [*_display("mastering-display", mastering, whole=False), *_light("content-light", mastering)]


def _display(name: str, mastering: Mastering, whole: bool = True) -> list[str]:
    """As decimals, or in whole units of 0.00002 (places) and 0.0001 cd/m2 (light)."""
    if not mastering.display:
        return []
    units = [50000] * 8 + [10000] * 2
    told = [f"{round(v * unit)}" if whole else f"{v:.5f}" for v, unit in zip(mastering.display, units)]
    red, green, blue, white, light = (",".join(told[i : i + 2]) for i in (0, 2, 4, 6, 8))
    least, most = light.split(",")
    return [f"{name}=G({green})B({blue})R({red})WP({white})L({most},{least})"]


def _light(name: str, mastering: Mastering) -> list[str]:
    return [f"{name}={mastering.brightest},{mastering.average}"] if mastering.brightest else []


_WORDS = {
    "libx265": ("x265-params", _x265_words),
    "libsvtav1": ("svtav1-params", _svt_words),
}
