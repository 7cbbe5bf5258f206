"""`lldiff video`: a dark clip in, a bright and steady one out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lldiffusion.errors import LLDiffusionError, choose

from .options import Backend, Device, Exposure, Model, Overwrite, Precision, Sampler, Seed, Steps, Tile

if TYPE_CHECKING:
    from lldiffusion.video.jobs.job import Source
    from lldiffusion.video.jobs.journal import Journal
    from lldiffusion.video.jobs.pipeline import Progress
    from lldiffusion.video.jobs.progress import Summary
    from lldiffusion.video.writing.outputs import Output

app = typer.Typer(add_completion=False)


@app.command()
def video(
    source: str = typer.Argument(
        ..., metavar="IN", help="Video file or URL, folder or pattern of pictures, camera (v4l2:/dev/video0), or -."
    ),
    target: str = typer.Argument(
        ..., metavar="OUT", help="Video file (.mp4, .mov, .mkv, .webm, .ts), pictures (frames/%06d.png), or -."
    ),
    model: Model = "tiny",
    steps: Steps = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    exposure: Exposure = 0.0,
    smoothing: float = typer.Option(0.5, min=0, help="How slowly brightness follows the scene, in seconds."),
    refresh: int = typer.Option(1, min=1, help="Look at the light anew on every k-th frame only."),
    warm_start: float = typer.Option(
        0.0, min=0, max=1, help="Start from the last frame, moved along, with this share of noise; 0 is off."
    ),
    start: str = typer.Option("0", help="Begin here: seconds, or H:MM:SS."),
    end: str | None = typer.Option(None, help="End before this time [the end]."),
    codec: str | None = typer.Option(
        None, help="FFmpeg's encoder: libx264, libx265, ffv1, h264_nvenc ... [H.264; H.265 above 8 bits; VP9 in WebM]."
    ),
    crf: float | None = typer.Option(None, min=0, max=63, help="Quality, lower is better; 0: lossless [the codec's]."),
    resume: bool = typer.Option(False, "--resume", help="Go on where an earlier run ended, however it ended."),
    preview: bool = typer.Option(False, "--preview", help="Keep OUT.preview.jpg: before and after, every 10 s."),
    piece: float = typer.Option(5.0, min=0.1, help="Seconds of video that a crash may cost."),
    tile: Tile = "auto",
    fps: float | None = typer.Option(None, min=0.01, max=1000, help="Of pictures as input: how many a second [25]."),
    raw: str | None = typer.Option(None, help="Of raw video on standard input: 640x480,yuv420p,25."),
    pipe: str = typer.Option("y4m", help="Of standard output: y4m or rawvideo."),
    hwaccel: str | None = typer.Option(None, help="Decode on this hardware where it can: cuda, qsv, vaapi ..."),
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Enhance a video; sound, subtitles, chapters, timestamps, colours and bit depth are kept."""
    wishes = Wishes(
        source,
        target,
        model,
        {"steps": steps, "sampler": sampler, "seed": seed, "exposure": exposure}
        | {"device": device, "backend": backend, "precision": precision},
        {"smoothing": smoothing, "refresh": refresh, "warm_start": warm_start},
        {"fps": fps, "raw": raw, "hwaccel": hwaccel},
        {"codec": codec, "crf": crf},
        {"start": seconds(start), "end": None if end is None else seconds(end), "piece": piece},
        _tile(tile),
    )
    wishes.check()
    summary = _to_pipe(wishes, pipe) if target == "-" else _to_disk(wishes, preview, resume, overwrite)
    for line in [*summary.notes, *summary.lines()]:
        typer.echo(line, err=target == "-")
    if target != "-":
        typer.echo(f"enhanced: {target}")


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for, by what it concerns."""

    source: str
    target: str
    model: str
    engine: dict[str, Any]  # options of Enhancer.open
    steady: dict[str, Any]  # of VideoEnhancer
    reading: dict[str, Any]
    writing: dict[str, Any]
    part: dict[str, Any]  # start, end and piece, in seconds
    tile: str | int

    def check(self) -> None:
        """Raises LLDiffusionError for an empty part of the video, and for options that say nothing here."""
        from lldiffusion.video.reading.stills import is_stills

        start, end = self.part["start"], self.part["end"]
        if end is not None and end <= start:
            raise LLDiffusionError(f"--end {end:g} is not after --start {start:g}: nothing would be left")
        if self.reading["raw"] is not None and self.source != "-":
            raise LLDiffusionError("--raw describes standard input: give - as IN")
        if self.reading["fps"] is not None and not is_stills(self.source):
            raise LLDiffusionError("--fps is for pictures as IN: a video has its own frame rate")

    def asked(self) -> dict[str, Any]:
        """Everything that decides the result, for a job that is resumed."""
        from lldiffusion.video.jobs.open_model import fingerprint

        path = Path(self.source)
        state = path.stat() if path.is_file() else None
        held: dict[str, Any] = {
            "tile": self.tile,
            "IN": self.source,
            "model": self.model,
            "the model's weights": fingerprint(self.model),
        }
        held["IN's size and date"] = [state.st_size, state.st_mtime_ns] if state else None
        return held | self.engine | self.steady | self.reading | self.writing | self.part


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


def _tile(text: str) -> str | int:
    if text in ("auto", "none") or not text.isdigit():
        return choose(text, ("auto", "none"), "tile (a side in pixels will do as well)")
    return int(text)


def _to_disk(wishes: Wishes, preview: bool, resume: bool, overwrite: bool) -> Summary:
    """A video file or pictures, as a job that can be resumed."""
    from lldiffusion.lock import only_builder
    from lldiffusion.video.jobs.job import Job, run_job
    from lldiffusion.video.jobs.open_model import opener
    from lldiffusion.video.writing.outputs import check_target, parts_folder

    folder = parts_folder(wishes.target)
    if resume and not folder.exists() and Path(wishes.target).exists():
        raise LLDiffusionError(f"nothing to resume: '{wishes.target}' is finished")
    check_target(wishes.target, wishes.source, overwrite)
    with only_builder(folder), _source(wishes) as source:
        journal = _journal(wishes, folder, resume, overwrite, source.facts.again)
        output = _output(wishes, source, journal.threads)
        job = Job(
            opener(wishes.model, wishes.engine, wishes.steady),
            **wishes.part,
            tile=wishes.tile,
            preview=folder.with_name(f"{folder.stem}.preview.jpg") if preview else None,
        )
        with Bar() as bar:
            return run_job(job, source, output, journal, bar)


def _journal(wishes: Wishes, folder: Path, resume: bool, overwrite: bool, again: bool) -> Journal:
    from lldiffusion.video.jobs.journal import Journal

    asked = wishes.asked()
    if resume:
        if not again:
            raise LLDiffusionError(f"cannot resume from '{wishes.source}': it cannot be read a second time")
        journal = Journal.open(folder)
        journal.check(asked)
        return journal
    if folder.is_dir() and not overwrite and (held := Journal.open(folder)).segments:
        raise LLDiffusionError(
            f"an unfinished job for '{wishes.target}' holds {held.frames} frames: go on with --resume, or start again "
            "with -y"
        )
    return Journal(asked, os.cpu_count() or 1, folder=folder)


def _output(wishes: Wishes, source: Source, threads: int) -> Output:
    from lldiffusion.video.reading.stills import is_stills
    from lldiffusion.video.writing.encoding import choose_encoding
    from lldiffusion.video.writing.outputs import FileOutput, FolderOutput

    if is_stills(wishes.target):
        if wishes.writing["codec"] or wishes.writing["crf"] is not None:
            raise LLDiffusionError("--codec and --crf are for video files: leave them out for pictures")
        return FolderOutput(wishes.target, source.facts)
    encoding = choose_encoding(source.facts, Path(wishes.target), **wishes.writing, threads=threads)
    streams = wishes.source if source.facts.again and not is_stills(wishes.source) else None
    return FileOutput(Path(wishes.target), source.facts, encoding, streams, wishes.part["start"], wishes.part["end"])


def _to_pipe(wishes: Wishes, kind: str) -> Summary:
    """Y4M or raw frames on standard output, as they come."""
    from lldiffusion.video.jobs.job import Job, run_stream
    from lldiffusion.video.jobs.open_model import opener
    from lldiffusion.video.writing.pipes import PipeWriter

    if sys.stdout.isatty():
        raise LLDiffusionError("standard output is a terminal: pipe it into a program or a file, or name an output")
    with _source(wishes) as source:
        writer = PipeWriter(source.facts, kind)
        job = Job(opener(wishes.model, wishes.engine, wishes.steady), **wishes.part, tile=wishes.tile)
        with Bar() as bar:
            summary = run_stream(job, source, writer.add, bar)
        writer.close()
    return summary


@contextmanager
def _source(wishes: Wishes) -> Iterator[Source]:
    """The input, opened; what is odd about it is said."""
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.video.reading.source import VideoSource
    from lldiffusion.video.reading.stills import StillsSource, is_stills
    from lldiffusion.video.writing.outputs import SPOOL, parts_folder
    from lldiffusion.video.writing.pipes import raw_options

    keep_freed_memory()
    fps, raw, hwaccel = (wishes.reading[name] for name in ("fps", "raw", "hwaccel"))
    source: VideoSource | StillsSource
    if is_stills(wishes.source):
        source = StillsSource(wishes.source, Fraction(fps or 25).limit_denominator(100_000))
    else:
        spool = None if wishes.target == "-" or is_stills(wishes.target) else parts_folder(wishes.target) / SPOOL
        source = VideoSource(wishes.source, raw_options(raw) if raw else None, hwaccel, spool)
    try:
        yield source
    finally:
        source.close()


class Bar:
    """The job's progress on the terminal: frames, speed, what it waits for, how long it will take."""

    def __init__(self) -> None:
        from lldiffusion.progress import progress_bar

        self._bar = progress_bar(note=True)
        self._began = time.monotonic()

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, total: int | None, done: int) -> None:
        """As `job.Watcher.begin`."""
        self._done, self._began = done, time.monotonic()
        self._task = self._bar.add_task("frames", total=total, completed=done, note="")

    def wrote(self, progress: Progress) -> None:
        """As `job.Watcher.wrote`."""
        frames = progress.written + 1
        rate = frames / max(time.monotonic() - self._began, 1e-9)
        note = f"{rate:.2f} frames/s, waits for {progress.slowest}"
        self._bar.update(self._task, completed=self._done + frames, note=note)

    def say(self, line: str) -> None:
        """As `job.Watcher.say`."""
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
