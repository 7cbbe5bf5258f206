"""One video of `lldiff video`: what is asked of it, its input and output opened, the job run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.limits import processors
from lldiffusion.scale.places import is_store

from .video_progress import ProgressBar

if TYPE_CHECKING:
    from lldiffusion.video.jobs.job import FrameSource, Job
    from lldiffusion.video.jobs.journal import JobJournal
    from lldiffusion.video.jobs.progress import JobSummary
    from lldiffusion.video.video_info import VideoInfo
    from lldiffusion.video.writing.live import LiveWriter
    from lldiffusion.video.writing.outputs import VideoOutput
    from lldiffusion.video.writing.pipes import PipeWriter


@dataclass(frozen=True)
class VideoOptions:
    """What the command line asks for, by what it concerns."""

    source: str
    target: str
    model: str
    engine: dict[str, Any]  # of Enhancer.open
    stability: dict[str, Any]  # of VideoEnhancer
    reading: dict[str, Any]
    writing: dict[str, Any]
    start: float  # seconds
    end: float | None
    piece: float  # seconds
    tile: str | int
    quiet: bool = False
    live: bool = False
    given: dict[str, str] = field(default_factory=dict)  # addresses of "IN" and "model", where copies stand for them
    ray: str | None = None  # the cluster that makes the pieces; None: this process

    def check(self) -> None:
        """Raises LLDiffusionError for an empty part of the video, and for options that say nothing here."""
        from lldiffusion.video.reading.image_sequence import is_image_sequence

        if self.end is not None and self.end <= self.start:
            raise LLDiffusionError(f"--end {self.end:g} is not after --start {self.start:g}: nothing would be left")
        choose(self.reading["deinterlace"], ("auto", "off"), "way to deinterlace")
        choose(self.reading["hdr"], ("sdr", "keep"), "way to write HDR")
        if self.reading["raw"] is not None and self.source != "-":
            raise LLDiffusionError("--raw describes standard input: give - as IN")
        if self.reading["fps"] is not None and not is_image_sequence(self.source):
            raise LLDiffusionError("--fps is for pictures as IN: a video has its own frame rate")
        if self.live:
            from lldiffusion.video.reading.live import check_live

            check_live(self.source)
            if self.start:
                raise LLDiffusionError(f"--start {self.start:g}: what is live begins now; leave it or --live out")

    def job(self, **more: Any) -> Job:
        """The part of the source to enhance, and with what."""
        from lldiffusion.video.jobs.job import Job
        from lldiffusion.video.jobs.open_model import enhancer_factory

        open_enhancer = enhancer_factory(self.model, self.engine, self.stability)
        return Job(open_enhancer, start=self.start, end=self.end, segment_seconds=self.piece, tile=self.tile, **more)

    def how_to_read(self) -> dict[str, Any]:
        """Arguments of `open_source`."""
        from lldiffusion.video.writing.pipes import raw_options

        raw = self.reading["raw"]
        return self.reading | {"raw": raw_options(raw) if raw else None}

    def request(self) -> dict[str, Any]:
        """Everything that decides the result, for a job that is resumed."""
        from lldiffusion.scale.fetching import identity
        from lldiffusion.video.jobs.open_model import model_fingerprint

        path = Path(self.source)
        file = path.stat() if path.is_file() else None
        part = {"start": self.start, "end": self.end, "piece": self.piece, "tile": self.tile}
        named: dict[str, Any] = {"IN": self.source, "model": self.model}
        named["IN's size and date"] = [file.st_size, file.st_mtime_ns] if file else None
        named["the model's weights"] = model_fingerprint(self.model)
        named |= self.given
        if "IN" in self.given:
            named["IN's size and date"] = identity(self.given["IN"])
        return named | part | self.engine | self.stability | self.reading | self.writing


def seconds(text: str) -> float:
    """A time: seconds, M:SS or H:MM:SS, each with a fraction."""
    parts = text.split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3 or any(not 0 <= number < 1e9 for number in numbers):
        raise LLDiffusionError(f"time '{text}': give seconds such as 12.5, or H:MM:SS")
    return sum(number * 60**place for place, number in enumerate(reversed(numbers)))


def run_to_disk(options: VideoOptions, preview: bool, resume: bool, overwrite: bool) -> JobSummary | None:
    """A video file or pictures, as a job that can be resumed; None where that was finished before."""
    from lldiffusion.lock import exclusive
    from lldiffusion.video.jobs.job import run_job
    from lldiffusion.video.writing.outputs import check_target, parts_folder

    folder = parts_folder(options.target)
    if resume and not folder.exists() and Path(options.target).exists():
        return None
    check_target(options.target, options.source, overwrite)
    if options.ray is not None:
        from .video_ray import run_on_ray

        with exclusive(folder):
            return run_on_ray(options, options.ray, folder, resume, overwrite)
    with exclusive(folder), opened_source(options) as source:
        journal = open_journal(options, folder, resume, overwrite, source.info.rereadable)
        output = choose_output(options, source, journal.encoder_threads)
        job = options.job(preview=folder.with_name(f"{folder.stem}.preview.jpg") if preview else None)
        with ProgressBar(options.quiet) as bar:
            return run_job(job, source, output, journal, bar)


def run_anywhere(options: VideoOptions, preview: bool, resume: bool, overwrite: bool) -> JobSummary | None:
    """As `run_to_disk`, with input, output and model at addresses where they are."""
    from lldiffusion.scale.fetching import committed, here, named, video_here, waiting_for
    from lldiffusion.scale.places import Remote, is_remote

    if is_store(options.target):
        target_there = Remote.of(options.target)
        if preview:
            raise LLDiffusionError("--preview is a file beside the output: leave it out where that is an address")
        if options.source == options.target:
            raise LLDiffusionError(f"the output would replace the input '{options.source}': name another file")
        if resume and target_there.exists() and not waiting_for(target_there).parent.exists():
            return None
    given = {"IN": options.source, "model": options.model}
    given = {name: text for name, text in given.items() if (is_store if name == "IN" else is_remote)(text)}
    with named(*given.values(), options.target), committed(options.target, overwrite) as target:
        source, model = video_here(options.source), here(options.model, lasting=True)
        local = replace(options, source=source, target=target, model=model, given=given)
        return run_to_disk(local, preview, resume, overwrite)


def open_journal(options: VideoOptions, folder: Path, resume: bool, overwrite: bool, rereadable: bool) -> JobJournal:
    from lldiffusion.video.jobs.journal import JobJournal

    request = options.request()
    if resume:
        if not rereadable:
            raise LLDiffusionError(f"cannot resume from '{options.source}': it cannot be read a second time")
        journal = JobJournal.open(folder)
        journal.check_request(request)
        return journal
    if folder.is_dir() and not overwrite and (frames := JobJournal.open(folder).kept):
        raise LLDiffusionError(
            f"an unfinished job for '{options.target}' holds {frames} frames: go on with --resume, or start again "
            "with -y"
        )
    return JobJournal(request, processors(), folder=folder)


def choose_output(options: VideoOptions, source: FrameSource, threads: int) -> VideoOutput:
    from lldiffusion.video.jobs.open_model import is_recurrent
    from lldiffusion.video.reading.animation import is_animated_webp
    from lldiffusion.video.reading.image_sequence import is_image_sequence
    from lldiffusion.video.reading.inputs import is_rereadable
    from lldiffusion.video.writing.animation import AnimationOutput
    from lldiffusion.video.writing.encoding import choose_encoding
    from lldiffusion.video.writing.outputs import ANIMATIONS, ImageSequenceOutput, VideoFileOutput
    from lldiffusion.video.writing.quality import Pace

    info, target = source.info, Path(options.target)
    if is_image_sequence(options.target):
        if any(value not in (None, False) for value in options.writing.values()):
            raise LLDiffusionError(
                "--codec, --preset, --crf and --compatible are for video files: leave them out for pictures"
            )
        return ImageSequenceOutput(options.target, info)
    again = is_rereadable(options.source) and not options.live
    streams = options.source if again and not is_animated_webp(Path(options.source)) else None
    if target.suffix.lower() in ANIMATIONS:
        if options.writing["codec"] or options.writing["preset"] or options.writing["compatible"]:
            raise LLDiffusionError(
                "--codec, --preset and --compatible are for video files: leave them out for an animation"
            )
        return AnimationOutput(target, info, options.writing["crf"], streams)
    wishes = {name: value for name, value in options.writing.items() if name != "preset"}
    pace = Pace(options.writing["preset"], fast=options.live or is_recurrent(options.model))
    encoding = choose_encoding(info, target, **wishes, threads=threads, pace=pace)
    return VideoFileOutput(target, info, encoding, streams, options.start, options.end, options.live)


def is_sent(target: str) -> bool:
    """Whether results are sent on as they come: to standard output or to an address that FFmpeg writes to."""
    return target == "-" or ("://" in target and not is_store(target))


def run_sending(options: VideoOptions, kind: str | None) -> JobSummary:
    """Results on standard output or to an address, as they come."""
    from lldiffusion.video.jobs.job import run_stream

    if options.target == "-" and sys.stdout.isatty():
        raise LLDiffusionError("standard output is a terminal: pipe it into a program or a file, or name an output")
    if kind is not None and options.target != "-":
        raise LLDiffusionError("--pipe is for - as OUT: leave it out")
    with opened_source(options) as source:
        writer = _choose_writer(options, source.info, kind or ("nut" if options.live else "y4m"))
        try:
            with ProgressBar(options.quiet) as bar:
                summary = run_stream(options.job(), source, writer.add, bar, writer.notes())
        except BaseException:
            writer.abandon()
            raise
        writer.close()
    return summary


def _choose_writer(options: VideoOptions, info: VideoInfo, kind: str) -> PipeWriter | LiveWriter:
    from lldiffusion.video.writing.live import PIPES, LiveWriter
    from lldiffusion.video.writing.pipes import FORMATS, PipeWriter

    choose(kind, (*FORMATS, *PIPES), "pipe format")
    if options.target == "-" and kind in FORMATS:
        if any(value not in (None, False) for value in options.writing.values()):
            raise LLDiffusionError(
                f"--codec, --preset, --crf and --compatible do nothing in a pipe of {kind}: leave them out, or "
                "give --pipe mpegts"
            )
        return PipeWriter(info, kind)
    wishes = {name: value for name, value in options.writing.items() if name != "compatible"}
    return LiveWriter(info, options.target, kind, **wishes)


@contextmanager
def opened_source(options: VideoOptions) -> Iterator[FrameSource]:
    """The input, opened."""
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.video.reading.any_source import open_source
    from lldiffusion.video.reading.image_sequence import is_image_sequence
    from lldiffusion.video.writing.outputs import ANIMATIONS, SPOOL, parts_folder

    keep_freed_memory()
    animation = Path(options.target).suffix.lower() in ANIMATIONS
    to_file = not (is_sent(options.target) or is_image_sequence(options.target) or animation)
    spool = parts_folder(options.target) / SPOOL if to_file else None
    source = open_source(options.source, **options.how_to_read(), spool=spool, live=options.live)
    try:
        yield source
    finally:
        source.close()
