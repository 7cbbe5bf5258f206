"""A job with a model that changes nothing, or nearly: what goes in must come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.video.frame import Frame
from lldiffusion.video.jobs import pipeline
from lldiffusion.video.jobs.job import Job, run_job
from lldiffusion.video.jobs.journal import Journal, State
from lldiffusion.video.jobs.progress import Summary
from lldiffusion.video.reading.source import VideoSource
from lldiffusion.video.writing.encoding import choose_encoding
from lldiffusion.video.writing.outputs import FileOutput, parts_folder


class PassThrough:
    """The protocol `Work`, without a model; `memory` mixes the mean of earlier frames into each, as smoothing does."""

    def __init__(self, memory: float = 0.0) -> None:
        self._memory, self._mean = memory, 0.5

    def enhance(self, frame: Frame) -> list[Frame]:
        if not self._memory:
            return [frame]
        self._mean = self._memory * self._mean + (1 - self._memory) * float(frame.pixels.mean())
        return [replace(frame, pixels=np.clip(frame.pixels + np.float32(self._mean - 0.5), 0, 1))]

    def flush(self) -> list[Frame]:
        return []

    def state(self) -> State:
        return {"mean": np.array(self._mean)}

    def restore(self, state: State) -> None:
        self._mean = float(state.get("mean", 0.5))

    def close(self) -> None:
        return


class Listener:
    """The protocol `Watcher`: remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.frames = 0

    def begin(self, total: int | None, done: int) -> None:
        self.total, self.done = total, done

    def wrote(self, progress: pipeline.Progress) -> None:
        self.frames += 1

    def say(self, line: str) -> None:
        self.said.append(line)


def pass_through(
    source: Path,
    target: Path,
    codec: str | None = None,
    crf: float | None = None,
    memory: float = 0.0,
    journal: Journal | None = None,
    listener: Listener | None = None,
    **job: Any,
) -> Summary:
    """Send `source` through a job into `target`, in pieces of 0.4 s."""
    opened = VideoSource(str(source))
    encoding = choose_encoding(opened.facts, target, codec, crf, threads=1)
    part = {name: job[name] for name in ("start", "end") if name in job}
    output = FileOutput(target, opened.facts, encoding, str(source), **part)
    journal = journal or Journal({}, 1, folder=parts_folder(str(target)))
    work = job.pop("open_work", lambda tile, exact: PassThrough(memory))
    try:
        return run_job(Job(work, piece=job.pop("piece", 0.4), **job), opened, output, journal, listener or Listener())
    finally:
        opened.close()
