"""Video: frames in and out, enhanced without flicker, in jobs that resume.

    VideoEnhancer    frames in, frames out, stable over time
    Frame            one picture of a video and its place in time
    VideoSource      the frames of a file, a URL, a camera or standard input
    run_pipeline     decoding, enhancing and encoding at the same time

The rooms: `reading` (files to frames), `stability` (what keeps frames alike over time), `writing` (frames to files) and
`jobs` (a whole video, segment by segment).  Names are loaded when they are first used; PyAV and OpenCV only when a
video is opened or motion is measured.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .enhancer import VideoEnhancer as VideoEnhancer
    from .frame import Frame as Frame
    from .jobs.pipeline import run_pipeline as run_pipeline
    from .reading.source import VideoSource as VideoSource

_HOMES = {
    "Frame": ".frame",
    "VideoEnhancer": ".enhancer",
    "VideoSource": ".reading.source",
    "run_pipeline": ".jobs.pipeline",
}
__all__ = ["Frame", "VideoEnhancer", "VideoSource", "run_pipeline"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value  # the next access skips this function
    return value
