"""Processor time of a frame of 1280x720: from file to file, and only looked at, as the driver of a cluster does."""

from __future__ import annotations

import time
from pathlib import Path

from lldiffusion.cli import run
from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.video_pieces import Checksum, LevelsOnly
from lldiffusion.video import VideoSource

from .photo import dark_clip


def frame_seconds(model: str, folder: Path, frames: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time of each way, in turns."""
    clip, found = dark_clip(folder, frames), dict[str, list[float]](enhanced=[], looked_at=[])
    asked = ["video", str(clip), str(folder / "bright.mp4"), "--model", model, "--device", "cpu", "-q", "-y"]
    with Enhancer.open(model, device="cpu") as enhancer:
        for _ in range(rounds):
            start = time.process_time()
            if run(asked):
                raise LLDiffusionError("the clip could not be enhanced")
            found["enhanced"].append((time.process_time() - start) / frames)
            start, source = time.process_time(), VideoSource(str(clip))
            levels = LevelsOnly(enhancer)
            for frame in Checksum().of(source.frames()):
                levels.enhance(frame)
            source.close()
            found["looked_at"].append((time.process_time() - start) / frames)
    return found
