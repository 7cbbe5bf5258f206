"""Clips as jobs: taken, worked on one after the other, and kept until they are fetched or too old."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video.jobs.pipeline import PipelineProgress

from .options import ServiceOptions
from .query import Wishes
from .refusals import Refusal
from .shelf import Shelf

HEAD = 400  # bytes at the start of a file that tell what it is
MEDIA_TYPES = {"mp4": "video/mp4", "mov": "video/quicktime", "mkv": "video/x-matroska", "webm": "video/webm"}
OVER = ("done", "failed")


class _Cancelled(Exception):
    """Somebody deleted the job."""


@dataclass
class VideoJob:
    """A clip; also the listener of its own work."""

    wishes: Wishes
    folder: Path  # its own, below the service's temporary folder
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = "receiving"  # then waiting, working, and done or failed
    frames: int = 0  # written so far
    total: int | None = None  # frames, about
    error: str = ""
    notes: list[str] = field(default_factory=list)
    ended: float = 0.0  # of the monotonic clock
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Path:
        """The clip; its name has no suffix, so that its bytes alone tell what it is."""
        return self.folder / "clip"

    @property
    def target(self) -> Path:
        """The result."""
        return self.folder / f"result.{self.wishes.container}"

    def describe(self) -> dict[str, Any]:
        """For the client."""
        about: dict[str, Any] = {"id": self.id, "status": self.state, "frames": self.frames, "total": self.total}
        about |= {"error": self.error} if self.error else {}
        return about | {"notes": self.notes, "self": f"/v1/video/{self.id}", "result": f"/v1/video/{self.id}/result"}

    def started(self, total: int | None, done: int) -> None:
        """As `ProgressListener.started`."""
        self.total = total

    def frame_written(self, progress: PipelineProgress) -> None:
        """As `ProgressListener.frame_written`; the place where a deleted job ends."""
        self.frames = progress.written + 1
        if self.cancelled.is_set():
            raise _Cancelled

    def saving(self) -> None:
        """As `ProgressListener.saving`: the client sees all frames done."""

    def message(self, line: str) -> None:
        """As `ProgressListener.message`."""
        self.notes.append(line)


class VideoJobs:
    """All clips of the service.  One is in work at a time, in a thread of its own."""

    def __init__(self, folder: Path, shelf: Shelf, options: ServiceOptions) -> None:
        self._folder, self._shelf, self._options = folder, shelf, options
        self._jobs: dict[str, VideoJob] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="video")

    def new(self, wishes: Wishes) -> VideoJob:
        """A job whose clip is yet to come.  Raises Refusal (429) when as many are kept as may be."""
        self.forget_old()
        if len(self._jobs) >= self._options.videos:
            line = (
                f"{self._options.videos} clips are kept already: delete one that you have fetched, or try again later"
            )
            raise Refusal(429, line, retry_after=60)
        name = secrets.token_hex(8)
        job = VideoJob(wishes, self._folder / name)
        job.folder.mkdir()
        self._jobs[job.id] = job
        return job

    def find(self, identity: str) -> VideoJob:
        """By its id.  Raises Refusal (404)."""
        self.forget_old()
        if identity not in self._jobs:
            raise Refusal(404, "no such clip: it was deleted, or is too old, or never was")
        return self._jobs[identity]

    def start(self, job: VideoJob) -> None:
        """Its clip is there.  Raises Refusal (422) when its first bytes are no clip's."""
        with job.source.open("rb") as file:
            _check_kind(file.read(HEAD))
        job.state = "waiting"
        self._thread.submit(self._work, job)

    def delete(self, job: VideoJob) -> None:
        """Forget a job; one in work ends at its next frame."""
        self._jobs.pop(job.id, None)
        job.cancelled.set()
        if job.state != "working":
            shutil.rmtree(job.folder, ignore_errors=True)

    def forget_old(self) -> None:
        """Delete what was done too long ago."""
        for job in list(self._jobs.values()):
            if job.state in OVER and time.monotonic() - job.ended > self._options.keep:
                self.delete(job)

    def count(self, state: str) -> int:
        """How many are in a state."""
        return sum(job.state == state for job in list(self._jobs.values()))

    def close(self) -> None:
        """End all of them."""
        for job in list(self._jobs.values()):
            job.cancelled.set()
        self._thread.shutdown(cancel_futures=True)

    def _work(self, job: VideoJob) -> None:
        try:
            if not job.cancelled.is_set():
                job.state = "working"
                job.notes = [*job.notes, *_enhance(job, self._shelf)]
            job.state = "done"
        except _Cancelled:
            job.state = "failed"
        except Exception as error:  # whatever FFmpeg and the rest may raise: the client is told, the thread lives on
            line = str(error).replace(f"{job.folder}/", "") if isinstance(error, LLDiffusionError) else repr(error)
            job.state, job.error = "failed", line
        finally:
            job.ended = time.monotonic()
            if job.cancelled.is_set():
                shutil.rmtree(job.folder, ignore_errors=True)
            else:
                job.source.unlink(missing_ok=True)


def _check_kind(head: bytes) -> None:
    """Only files that hold a clip themselves: FFmpeg also reads lists of other files, and addresses."""
    brand = head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
    others = head.startswith(b"\x1a\x45\xdf\xa3") or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
    stream = head[:1] == head[188:189] == head[376:377] == b"\x47"
    if not (brand or others or stream):
        raise Refusal(422, "the body is no clip that is taken here: accepted are MP4, MOV, Matroska, WebM, AVI and TS")


def _enhance(job: VideoJob, shelf: Shelf) -> list[str]:
    """As `lldiff video` with its defaults; returns what is to be said."""
    from lldiffusion.video import VideoSource
    from lldiffusion.video.jobs.job import Job, run_job
    from lldiffusion.video.jobs.journal import JobJournal
    from lldiffusion.video.jobs.open_model import enhancer_factory, is_recurrent
    from lldiffusion.video.writing.encoding import choose_encoding
    from lldiffusion.video.writing.outputs import VideoFileOutput, parts_folder
    from lldiffusion.video.writing.quality import Pace

    wishes = job.wishes
    asked = {"steps": wishes.steps, "seed": wishes.seed, "exposure": wishes.exposure}
    opening = enhancer_factory(shelf.sources[wishes.model], shelf.options | asked, {})
    source = VideoSource(str(job.source))
    try:
        pace = Pace(fast=is_recurrent(shelf.sources[wishes.model]))
        encoding = choose_encoding(source.info, job.target, pace=pace)
        output = VideoFileOutput(job.target, source.info, encoding, str(job.source))
        journal = JobJournal({}, 1, folder=parts_folder(str(job.target)))
        return run_job(Job(opening), source, output, journal, job).notes
    finally:
        source.close()
