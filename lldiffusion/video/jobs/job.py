"""A video from beginning to end, piece by piece: whatever happens, what is finished stays."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Protocol

from lldiffusion.atomic import remove
from lldiffusion.errors import LLDiffusionError
from lldiffusion.interrupts import Interrupts

from ..frame import Frame
from ..reading.damage import Damage
from ..video_info import Facts, as_written
from ..writing.outputs import Output
from . import pipeline
from .fallback import Careful, Open, Tile
from .journal import Journal
from .progress import Summary, Watched

QUEUE = 3  # frames that may wait before each stage


class Source(Protocol):
    """`VideoSource` or `StillsSource`."""

    facts: Facts
    damage: Damage

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """Frames between two times, the first few left out."""

    def close(self) -> None:
        """Let go of the input."""


class Watcher(Protocol):
    """Is told how a job goes, from any thread."""

    def begin(self, total: int | None, done: int) -> None:
        """The work begins: about so many frames, so many done by earlier runs."""

    def wrote(self, progress: pipeline.Progress) -> None:
        """One frame more."""

    def say(self, line: str) -> None:
        """Something worth knowing."""


@dataclass(frozen=True)
class Job:
    """What is to be done with a source.

    Args:
        start, end: the part of the source, in seconds after its first frame; None: to its end.
        piece: seconds of video in a piece, which is what a kill may cost.
        tile: as `Enhancer`'s.
        preview: a picture file that shows before and after, renewed now and then.

    """

    open_work: Open
    start: float = 0.0
    end: float | None = None
    piece: float = 5.0
    tile: Tile = "auto"
    preview: Path | None = None

    def total(self, facts: Facts) -> int | None:
        """About how many frames there will be."""
        if self.end is None and facts.frames is None:
            return None
        seconds = facts.frames / facts.rate if facts.frames is not None else Fraction(self.end or 0)
        until = seconds if self.end is None else min(seconds, Fraction(self.end))
        return max(0, round((until - Fraction(self.start)) * facts.rate))


def run_job(job: Job, source: Source, output: Output, journal: Journal, watcher: Watcher) -> Summary:
    """Enhance `source` into `output`; the journal's folder goes when the whole is in its place.

    Args:
        journal: a new one, or that of an earlier run, whose pieces are kept.
    Raises KeyboardInterrupt after Ctrl-C, when the piece under way is finished (a second Ctrl-C drops that), and
    LLDiffusionError; both say how to go on where something is finished.
    """
    clock = time.monotonic()
    for line in [*source.facts.oddities(), *output.lost()]:
        watcher.say(line)
    run = _Run(job, source, output, journal, watcher)
    with run.kept():
        run.enhance()
        source.close()  # what it kept of the other streams is complete
        lost = output.finish(run.journal.folder, run.journal.segments)
    remove(run.journal.folder)
    run.summary.notes += source.damage.lines() + ([] if source.facts.again else lost)
    run.summary.seconds = time.monotonic() - clock
    return run.summary


class _Run:
    """One run of a job, from where the journal ends."""

    def __init__(self, job: Job, source: Source, output: Output, journal: Journal, watcher: Watcher) -> None:
        self._job, self._source, self._output, self._watcher = job, source, output, watcher
        self.journal, self.summary = journal, Summary(kept=journal.frames)
        self._progress = pipeline.Progress()

    def enhance(self) -> None:
        """Make the pieces that are missing."""
        tile = self._job.tile if self.journal.tile == "auto" else self.journal.tile
        work = Careful(self._job.open_work, tile, self._watcher.say)
        try:
            if not self.journal.segments:
                self.journal.start()  # not before the model is open: a wrong name shall cost nothing
            work.restore(self.journal.state())
            self._enhance(work)
        finally:
            work.close()
        self.summary.notes += work.lines()
        self.summary.frames, self.summary.slowest = self._progress.written, self._progress.slowest

    def _enhance(self, work: Careful) -> None:
        job, facts = self._job, self._source.facts
        watched = Watched(work.enhance, self.summary, job.preview, facts.matrix)
        self._watcher.begin(job.total(facts), self.journal.frames)
        with Interrupts(self._promise) as interrupts:
            frames = self._source.frames(job.start, job.end, self.journal.frames)
            if not facts.again:  # a camera: Ctrl-C is its end
                frames = _until(frames, interrupts.asked)
            zero = facts.start * facts.time_base + as_written(job.start)
            for part in pieces(frames, zero, as_written(job.piece)):
                if interrupts.asked.is_set() and facts.again:
                    raise KeyboardInterrupt
                self._piece(part, watched, work)
        if not self.journal.segments:
            raise LLDiffusionError(_nothing(job, facts))

    def _piece(self, part: Iterator[Frame], watched: Watched, work: Careful) -> None:
        piece = self._output.piece(self.journal.folder, self.journal.segments)

        def write(frame: Frame) -> None:
            piece.add(frame)
            self._watcher.wrote(self._progress)

        try:
            pipeline.run(part, watched, write, QUEUE, flush=work.flush, progress=self._progress)
            segment = piece.close()
        except BaseException:
            piece.abandon()
            raise
        self.journal = self.journal.add(segment, work.state(), work.tile)

    def _promise(self) -> None:
        again = "finishing the piece under way (Ctrl-C again drops it)"
        self._watcher.say(again if self._source.facts.again else "finishing the video")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Say of every way to fail how to go on; leave no folder behind that holds nothing."""
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_go_on() or "interrupted: nothing was finished") from None
        except LLDiffusionError as error:
            raise LLDiffusionError(f"{error}{self._and()}") from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            raise LLDiffusionError(f"cannot write to '{self.journal.folder}': {error.strerror}{self._and()}") from error
        finally:
            if not self.journal.segments:
                remove(self.journal.folder)

    def _how_to_go_on(self) -> str:
        frames = self.journal.frames
        return f"{frames} frames are finished and kept: go on with the same command and --resume" if frames else ""

    def _and(self) -> str:
        return f"; {said}" if (said := self._how_to_go_on()) else ""


def pieces(frames: Iterator[Frame], zero: Fraction, seconds: Fraction) -> Iterator[Iterator[Frame]]:
    """Cut frames into pieces of `seconds`, counted from `zero`: the same pieces wherever one begins to read.

    Each piece must be read to its end before the next is asked for.
    """
    waiting = list(islice(frames, 1))

    def number(frame: Frame) -> int:
        return int((frame.pts * frame.time_base - zero) // seconds)

    def piece() -> Iterator[Frame]:
        first = waiting.pop()
        yield first
        for frame in frames:
            if number(frame) != number(first):
                waiting.append(frame)
                return
            yield frame

    while waiting:
        yield piece()


def _until(frames: Iterator[Frame], asked: Event) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if asked.is_set():
            return


def _nothing(job: Job, facts: Facts) -> str:
    length = f", which is {facts.duration:.2f} s long" if facts.duration is not None else ""
    until = "" if job.end is None else f" and before {job.end:g} s"
    return f"no frame from {job.start:g} s on{until} in '{facts.name}'{length}"


def run_stream(job: Job, source: Source, write: Callable[[Frame], None], watcher: Watcher) -> Summary:
    """Enhance `source` into `write`, which cannot be resumed: a pipe.  Ctrl-C ends it after the frames under way."""
    clock, summary, progress = time.monotonic(), Summary(), pipeline.Progress()
    work = Careful(job.open_work, job.tile, watcher.say)
    watched = Watched(work.enhance, summary, job.preview, source.facts.matrix)
    for line in source.facts.oddities():
        watcher.say(line)
    watcher.begin(job.total(source.facts), 0)

    def passed_on(frame: Frame) -> None:
        write(frame)
        watcher.wrote(progress)

    try:
        frames = source.frames(job.start, job.end)
        pipeline.run(frames, watched, passed_on, QUEUE, flush=work.flush, progress=progress)
    finally:
        work.close()
    if not progress.written:
        raise LLDiffusionError(_nothing(job, source.facts))
    summary.frames, summary.slowest = progress.written, progress.slowest
    summary.notes += work.lines() + source.damage.lines()
    summary.seconds = time.monotonic() - clock
    return summary
