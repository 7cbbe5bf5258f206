"""A video from beginning to end, segment by segment: whatever happens, what is finished stays."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Protocol

from lldiffusion.atomic import remove
from lldiffusion.errors import LLDiffusionError
from lldiffusion.interrupts import Interrupts

from ..frame import Frame
from ..reading.damage import DamageReport
from ..reading.live import LiveSource
from ..video_info import VideoInfo, exact_seconds
from ..writing.outputs import VideoOutput
from .cutting import split_into_segments
from .fallback import EnhancerFactory, FallbackEnhancer, Tile
from .journal import JobJournal
from .pipeline import PipelineProgress, run_pipeline
from .progress import FrameMonitor, JobSummary

QUEUE_DEPTH = 1  # frames that may wait before each stage: 37 MB each at 1920x1080, and a stage takes its time evenly


class FrameSource(Protocol):
    """`VideoSource` or `ImageSequenceSource`."""

    info: VideoInfo
    damage: DamageReport

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """Frames between two times, the first few left out."""

    def close(self) -> None:
        """Let go of the input."""


class ProgressListener(Protocol):
    """Is told how a job goes, from any thread."""

    def started(self, total: int | None, done: int) -> None:
        """The work begins: about so many frames, so many done by earlier runs."""

    def frame_written(self, progress: PipelineProgress) -> None:
        """One frame more."""

    def saving(self) -> None:
        """All frames are written: the file is put together."""

    def message(self, line: str) -> None:
        """Something worth knowing."""


@dataclass(frozen=True)
class Job:
    """What is to be done with a source.

    Args:
        open_enhancer: opens the model.
        start, end: the part of the source, in seconds after its first frame; None: to its end.
        segment_seconds: length of a segment, which is what a kill may cost.
        tile: as `Enhancer`'s.
        preview: a picture file that shows before and after, renewed now and then.
    """

    open_enhancer: EnhancerFactory
    start: float = 0.0
    end: float | None = None
    segment_seconds: float = 5.0
    tile: Tile = "auto"
    preview: Path | None = None

    def frame_count(self, info: VideoInfo) -> int | None:
        """About how many frames there will be."""
        if self.end is None and info.frames is None:
            return None
        seconds = info.frames / info.frame_rate if info.frames is not None else Fraction(self.end or 0)
        until = seconds if self.end is None else min(seconds, Fraction(self.end))
        return max(0, round((until - Fraction(self.start)) * info.frame_rate))


def run_job(
    job: Job,
    source: FrameSource,
    output: VideoOutput,
    journal: JobJournal,
    listener: ProgressListener,
    runner: Callable[..., JobRun] | None = None,
) -> JobSummary:
    """Enhance `source` into `output`; the journal's folder goes when the whole is in its place.

    Args:
        journal: a new one, or that of an earlier run, whose segments are kept.
        runner: makes the segments, given the five above; default: this process (`JobRun`).
    Raises KeyboardInterrupt after Ctrl-C, when the segment under way is finished (a second Ctrl-C drops that), and
    LLDiffusionError; both say how to go on where something is finished.
    """
    clock = time.monotonic()
    for line in [*source.info.warnings(), *output.stream_notes()]:
        listener.message(line)
    run = (runner or JobRun)(job, source, output, journal, listener)
    with run.failures_explained():
        run.enhance()
        source.close()  # what it kept of the other streams is complete
        listener.saving()
        notes = output.finish(run.journal.folder, run.journal.segments)
    remove(run.journal.folder)
    run.summary.notes += source.damage.lines() + notes
    run.summary.seconds = time.monotonic() - clock
    return run.summary


class InputError(LLDiffusionError):
    """The input is at fault: going on from here would meet it again."""


class JobRun:
    """One run of a job, from where the journal ends."""

    def __init__(
        self, job: Job, source: FrameSource, output: VideoOutput, journal: JobJournal, listener: ProgressListener
    ) -> None:
        self.journal = journal
        self.summary = JobSummary(earlier_frames=journal.frames)
        self._job = job
        self._source = source
        self._output = output
        self._listener = listener
        self._live = source if isinstance(source, LiveSource) else None
        self._progress = PipelineProgress(live=self._live.figures if self._live else None)
        self.summary.live = self._progress.live

    def enhance(self) -> None:
        """Make the segments that are missing."""
        tile = self._job.tile if self.journal.tile == "auto" else self.journal.tile
        enhancer = FallbackEnhancer(self._job.open_enhancer, tile, self._listener.message)
        try:
            if not self.journal.kept:
                self.journal.start()  # not before the model is open: a wrong name shall cost nothing
            enhancer.restore(self.journal.load_state())
            self._make_segments(enhancer)
        finally:
            enhancer.close()
        self.summary.notes += enhancer.lines()
        self.summary.frames = self._progress.written
        self.summary.slowest_stage = self._progress.slowest

    def _make_segments(self, enhancer: FallbackEnhancer) -> None:
        job, info = self._job, self._source.info
        self._listener.started(job.frame_count(info), self.journal.frames)
        with Interrupts(self._announce_stop) as interrupts:
            frames = _blamed(self._source.frames(job.start, job.end, self.journal.frames))
            if not info.rereadable:  # a camera: Ctrl-C is its end
                frames = _until(interrupts.asked, frames)
            zero = info.start * info.time_base + exact_seconds(job.start)
            segments = split_into_segments(frames, zero, exact_seconds(job.segment_seconds))
            self._make_each(segments, interrupts.asked, enhancer)
        if not self.journal.segments:
            raise LLDiffusionError(_no_frame_message(job, info))

    def _make_each(self, segments: Iterator[Iterator[Frame]], asked: Event, enhancer: FallbackEnhancer) -> None:
        """Make every segment, given its frames, until `asked` to stop."""
        info = self._source.info
        monitor = FrameMonitor(enhancer.enhance, self.summary, self._job.preview, info.display_matrix)
        for frames in segments:
            if asked.is_set() and info.rereadable:
                raise KeyboardInterrupt
            self._make_segment(frames, monitor, enhancer)

    def _make_segment(self, frames: Iterator[Frame], monitor: FrameMonitor, enhancer: FallbackEnhancer) -> None:
        number, before = len(self.journal.segments), self.journal.frames
        writer = self._output.open_segment(self.journal.folder, number, before)

        def write(frame: Frame) -> None:
            writer.add(frame)
            if self._live is not None:
                self._live.written(frame)
            self._listener.frame_written(self._progress)

        try:
            run_pipeline(frames, monitor, write, QUEUE_DEPTH, flush=enhancer.flush, progress=self._progress)
            segment = writer.close()
        except BaseException:
            writer.abandon()
            raise
        self.journal = self.journal.add(segment, enhancer.state(), enhancer.tile)

    def _announce_stop(self) -> None:
        resumable = "finishing the piece under way (Ctrl-C again drops it)"
        self._listener.message(resumable if self._source.info.rereadable else "finishing the video")
        if self._live is not None:
            self._live.stop()

    @contextmanager
    def failures_explained(self) -> Iterator[None]:
        """Say of every way to fail how to go on; leave no folder behind that holds nothing."""
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_resume() or "interrupted: nothing was finished") from None
        except InputError:
            raise
        except LLDiffusionError as error:
            raise LLDiffusionError(self._with_hint(str(error))) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            message = f"cannot write to '{self.journal.folder}': {error.strerror}"
            raise LLDiffusionError(self._with_hint(message)) from error
        finally:
            if not self.journal.kept:
                remove(self.journal.folder)

    def _how_to_resume(self) -> str:
        frames = self.journal.kept
        return f"{frames} frames are finished and kept: go on with the same command and --resume" if frames else ""

    def _with_hint(self, message: str) -> str:
        hint = self._how_to_resume()
        return f"{message}; {hint}" if hint else message


def _blamed(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames; what goes wrong while they are read is the input's fault."""
    try:
        yield from frames
    except LLDiffusionError as error:
        raise InputError(str(error)) from error


def _until(stop: Event, frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if stop.is_set():
            return


def _no_frame_message(job: Job, info: VideoInfo) -> str:
    length = f", which is {info.duration:.2f} s long" if info.duration is not None else ""
    until = "" if job.end is None else f" and before {job.end:g} s"
    return f"no frame from {job.start:g} s on{until} in '{info.name}'{length}"


def run_stream(
    job: Job, source: FrameSource, write: Callable[[Frame], None], listener: ProgressListener, notes: Sequence[str] = ()
) -> JobSummary:
    """Enhance `source` into `write`, which cannot be resumed: a pipe, an address.

    Ctrl-C ends it after the frames under way; of a live source that is its usual end.

    `notes` are said before it begins.
    """
    clock = time.monotonic()
    live = source if isinstance(source, LiveSource) else None
    summary = JobSummary(live=live.figures if live else None)
    progress = PipelineProgress(live=summary.live)
    enhancer = FallbackEnhancer(job.open_enhancer, job.tile, listener.message)
    monitor = FrameMonitor(enhancer.enhance, summary, job.preview, source.info.display_matrix)
    for line in [*source.info.warnings(), *notes]:
        listener.message(line)
    listener.started(job.frame_count(source.info), 0)

    def write_and_report(frame: Frame) -> None:
        write(frame)
        if live is not None:
            live.written(frame)
        listener.frame_written(progress)

    try:
        with Interrupts(live.stop) if live is not None else nullcontext():  # Ctrl-C is the end of a live source
            frames = source.frames(job.start, job.end)
            run_pipeline(frames, monitor, write_and_report, QUEUE_DEPTH, flush=enhancer.flush, progress=progress)
    finally:
        enhancer.close()
    if not progress.written:
        raise LLDiffusionError(_no_frame_message(job, source.info))
    summary.frames = progress.written
    summary.slowest_stage = progress.slowest
    summary.notes += enhancer.lines() + source.damage.lines()
    summary.seconds = time.monotonic() - clock
    return summary
