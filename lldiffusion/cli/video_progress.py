"""The progress of one video on the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lldiffusion.errors import printable

if TYPE_CHECKING:
    from lldiffusion.video.jobs.pipeline import PipelineProgress

RECENT = 100  # frames whose latency is shown


class ProgressBar:
    """The job's progress on the terminal: frames, speed, the slowest stage, how long it will take."""

    def __init__(self, quiet: bool = False) -> None:
        from lldiffusion.progress import progress_bar

        self._quiet = quiet
        self._bar = progress_bar(note=True, shown=not quiet)
        self._started = time.monotonic()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, total: int | None, done: int) -> None:
        """As `ProgressListener.started`."""
        self._done = done
        self._started = time.monotonic()
        self._task = self._bar.add_task("frames", total=total, completed=done, note="")

    def frame_written(self, progress: PipelineProgress) -> None:
        """As `ProgressListener.frame_written`."""
        frames = progress.written + 1
        rate = frames / max(time.monotonic() - self._started, 1e-9)
        note = f"{rate:.2f} frames/s, waits for {progress.slowest}"
        if progress.live is not None:
            note = f"{rate:.1f} frames/s, {progress.live.line(RECENT)}"
        self._bar.update(self._task, completed=self._done + frames, note=note)

    def message(self, line: str) -> None:
        """As `ProgressListener.message`."""
        if not self._quiet:
            self._bar.console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def saving(self) -> None:
        """As `ProgressListener.saving`."""
        self._bar.update(self._task, note="saving")
