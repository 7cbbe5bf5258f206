"""A job with a model that changes nothing, or nearly: what goes in must come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.video import Frame, VideoSource
from lldiffusion.video.jobs.job import Job, run_job
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.jobs.pipeline import PipelineProgress
from lldiffusion.video.jobs.progress import JobSummary
from lldiffusion.video.reading.animation import AnimatedWebpSource, is_animated_webp
from lldiffusion.video.stability.frame_state import StateArrays
from lldiffusion.video.writing.animation import AnimationOutput
from lldiffusion.video.writing.encoding import choose_encoding
from lldiffusion.video.writing.outputs import ANIMATIONS, VideoFileOutput, VideoOutput, parts_folder


class PassThrough:
    """A `FrameEnhancer` without a model; `memory` mixes the mean of earlier frames into each, as smoothing does."""

    def __init__(self, memory: float = 0.0) -> None:
        self._memory, self._mean = memory, 0.5

    def enhance(self, frame: Frame) -> list[Frame]:
        if not self._memory:
            return [frame]
        self._mean = self._memory * self._mean + (1 - self._memory) * float(frame.pixels.mean())
        return [replace(frame, pixels=np.clip(frame.pixels + np.float32(self._mean - 0.5), 0, 1))]

    def flush(self) -> list[Frame]:
        return []

    def state(self) -> StateArrays:
        return {"mean": np.array(self._mean)}

    def restore(self, state: StateArrays) -> None:
        self._mean = float(state.get("mean", 0.5))

    def close(self) -> None:
        return


class Listener:
    """A `ProgressListener` that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.frames = 0

    @property
    def lost(self) -> list[str]:
        """What was said, less what concerns phones."""
        return [line for line in self.said if "phones" not in line]

    def started(self, total: int | None, done: int) -> None:
        self.total, self.done = total, done

    def frame_written(self, progress: PipelineProgress) -> None:
        self.frames += 1

    def saving(self) -> None:
        self.said_saving = True

    def message(self, line: str) -> None:
        self.said.append(line)


def pass_through(
    source: Path,
    target: Path,
    codec: str | None = None,
    crf: float | None = None,
    memory: float = 0.0,
    journal: JobJournal | None = None,
    listener: Listener | None = None,
    **job: Any,
) -> JobSummary:
    """Send `source` through a job into `target`, in segments of 0.4 s."""
    reading = {name: job.pop(name) for name in ("fields", "keep_hdr") if name in job}
    webp = is_animated_webp(source)
    opened = AnimatedWebpSource(str(source)) if webp else VideoSource(str(source), **reading)
    output: VideoOutput
    if target.suffix in ANIMATIONS:
        output = AnimationOutput(target, opened.info, crf, None if webp else str(source))
    else:
        encoding = choose_encoding(opened.info, target, codec, crf, 1, job.pop("compatible", False))
        part = {name: job[name] for name in ("start", "end") if name in job}
        output = VideoFileOutput(target, opened.info, encoding, None if webp else str(source), **part)
    journal = journal or JobJournal({}, 1, folder=parts_folder(str(target)))
    open_enhancer = job.pop("open_enhancer", lambda tile, exact: PassThrough(memory))
    try:
        seconds = job.pop("segment_seconds", 0.4)
        whole = Job(open_enhancer, segment_seconds=seconds, **job)
        return run_job(whole, opened, output, journal, listener or Listener())
    finally:
        opened.close()
