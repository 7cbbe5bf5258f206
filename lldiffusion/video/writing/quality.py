"""How good and how fast encoders work: FFmpeg's options for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lldiffusion.errors import LLDiffusionError, choose

from .repeatable import repeatable_options

# The option that keeps the quality constant, and its value: hard to tell from the source.
_QUALITY = {
    "libx264": ("crf", 18),
    "libx265": ("crf", 20),
    "libsvtav1": ("crf", 26),
    "libvpx-vp9": ("crf", 24),
    "_nvenc": ("cq", 21),
    "_qsv": ("global_quality", 21),
    "_amf": ("qp_i", 21),
    "_vaapi": ("qp", 21),
    "_videotoolbox": ("global_quality", 21),
}
_FIXED = {
    "libx265": {"x265-params": "log-level=none"},
    "libsvtav1": {"preset": "7", "svtav1-params": "fast-decode=0"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "3", "row-mt": "1"},
    "ffv1": {"level": "3", "slices": "4", "slicecrc": "1"},
    "_nvenc": {"preset": "p5", "rc": "vbr"},
}
_LOSSLESS = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}  # crf 0
# A third of the usual time or less: libx264 at 1280x720 takes 17 ms of CPU time a picture instead of 56 (its "medium"),
# for files half as large again of the same crf, which are a little nearer to the picture.
_FAST = {
    "libx264": {"preset": "veryfast"},
    "libx265": {"preset": "superfast"},
    "libsvtav1": {"preset": "11"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "_nvenc": {"preset": "p2"},
    "_qsv": {"preset": "veryfast"},
}
_PROMPT = {"libx264": {"tune": "zerolatency"}, "libx265": {"tune": "zerolatency"}, "_nvenc": {"tune": "ull"}}
_X26 = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_PRESETS = {
    **{"libx264": _X26, "libx265": _X26, "_qsv": _X26[2:9]},
    "libsvtav1": tuple(f"{number}" for number in range(14)),
    "_nvenc": tuple(f"p{number}" for number in range(1, 8)),
    "_amf": ("speed", "balanced", "quality"),
}


@dataclass(frozen=True)
class Pace:
    """How fast an encoder shall be.

    Args:
        preset: FFmpeg's, one of the encoder's own; None: as `fast` says.
        fast: as little work as is reasonable, instead of what is usual.
        prompt: give each picture at once: none is held back to look ahead.
    """

    preset: str | None = None
    fast: bool = False
    prompt: bool = False

    def options(self, codec: str) -> dict[str, str]:
        """For an encoder of this name.  Raises LLDiffusionError for a preset that it does not have."""
        options = dict(codec_entry(_FAST, codec) or {}) if self.fast else {}
        if self.prompt:
            options |= codec_entry(_PROMPT, codec) or {}
        if self.preset is None:
            return options
        known = codec_entry(_PRESETS, codec)
        if known is None:
            raise LLDiffusionError(
                f"codec {codec} has no presets: leave --preset {self.preset} out, or choose another with --codec"
            )
        return options | {"preset": choose(self.preset, known, f"preset of {codec}")}


def codec_options(codec: str, crf: float | None, pace: Pace) -> dict[str, str]:
    """What an encoder is opened with.  Raises LLDiffusionError for a quality or preset that it does not have."""
    quality = codec_entry(_QUALITY, codec)
    options = (codec_entry(_FIXED, codec) or {}) | repeatable_options(codec) | pace.options(codec)
    if quality is None:
        if crf is not None:
            raise LLDiffusionError(f"codec {codec} has no quality setting: leave --crf out, or choose another codec")
        return options
    if crf == 0 and codec in _LOSSLESS:
        return options | _LOSSLESS[codec]
    return options | {quality[0]: f"{quality[1] if crf is None else crf:g}"}


def codec_entry(table: dict[str, Any], codec: str) -> Any:
    """The entry of a codec, or of its kind of hardware."""
    return table.get(codec) or next((entry for end, entry in table.items() if codec.endswith(end)), None)
