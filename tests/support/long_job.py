"""A job in a process of its own, to be killed:  python long_job.py IN OUT SECONDS_A_FRAME [resume].

Its stand-in for a model remembers earlier frames, so a run that is resumed without its state gives other pictures.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lldiffusion.video import Frame
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.writing.outputs import parts_folder
from support.passing import Listener, PassThrough, pass_through


class Slow(PassThrough):
    """Takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(memory=0.9)
        self._seconds = seconds

    def enhance(self, frame: Frame) -> list[Frame]:
        time.sleep(self._seconds)
        return super().enhance(frame)


def main(source: str, target: str, seconds: str, *resume: str) -> None:
    """Run or resume the job; what it says goes to standard error."""
    folder = parts_folder(target)
    journal = JobJournal.open(folder) if resume and (folder / "journal.json").exists() else None
    listener = Listener()
    listener.message = lambda line: print(line, file=sys.stderr, flush=True)  # type: ignore[method-assign]
    try:
        summary = pass_through(
            Path(source),
            Path(target),
            codec="libx264",
            crf=25,
            open_enhancer=lambda tile, exact: Slow(float(seconds)),
            journal=journal,
            listener=listener,
        )
    except KeyboardInterrupt as interrupt:
        print(interrupt, file=sys.stderr)
        sys.exit(130)
    print(summary.earlier_frames, summary.frames)


if __name__ == "__main__":
    main(*sys.argv[1:])
