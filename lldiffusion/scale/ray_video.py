"""One video on a Ray cluster: its pieces are made side by side and joined as one machine would have made them.

The machine that asks looks at every frame, hands out pieces as it goes, and keeps what comes back in the job's own
folder: the journal holds the pieces up to the first that is missing (so that `--resume` without a cluster goes on from
there), receipts hold those after it.  Of a killed driver nothing that came back is made again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from lldiffusion.atomic import new_path
from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.video import Frame
from lldiffusion.video.jobs.fallback import FallbackEnhancer
from lldiffusion.video.jobs.job import Job, JobRun, ProgressListener, run_job
from lldiffusion.video.jobs.journal import Ahead, JobJournal
from lldiffusion.video.jobs.progress import JobSummary
from lldiffusion.video.writing.segment import Segment

from .cluster import SHARE, joined, places_for_work
from .fetching import here
from .video_pieces import Checksum, LevelsOnly, Made, Piece, PieceWork, make_piece, opener, state_hash

RETRIES = 3  # of a piece whose machine or process is lost
AHEAD = 2  # pieces for each worker that are handed out at the same time
LOOK = 0.5  # seconds between two looks at Ctrl-C


def enhance_video_on_ray(
    address: str, work: PieceWork, job: Job, journal: JobJournal, listener: ProgressListener, resume: bool
) -> JobSummary:
    """As `run_job`, with the pieces made by the cluster at `address`; the job's own way to open its model is not used.

    Args:
        resume: use what an earlier run left in the journal's folder.

    Raises LLDiffusionError also where there is no such cluster, where a model makes each frame from the one before,
    and when a piece is lost again and again.
    """
    engine = dict(work.engine)
    engine["device"] = "cpu" if engine["device"] == "auto" else engine["device"]
    with Enhancer.open(
        here(work.model, lasting=True), **engine
    ) as enhancer:  # what "auto" is here it shall be everywhere
        LevelsOnly(enhancer, **work.stability).close()
        about = enhancer.info()
    if about["backend"] != "torch":  # of which a checkpoint has no choice
        engine |= {name: about[name] for name in ("backend", "precision")}
    work = replace(work, engine=engine)
    if not resume:
        journal.forget_ahead()
    source = work.open_source()
    try:
        with joined(address) as ray:
            workers = Workers(ray, work, places_for_work(ray, engine["device"].startswith("cuda")))
            scouting = replace(job, open_enhancer=opener(work, LevelsOnly))
            return run_job(scouting, source, work.output, journal, listener, workers.runner)
    finally:
        source.close()


class Workers:
    """Those of a cluster, for one video.

    Args:
        ray: the module, connected.
        places: how many work at the same time.
    """

    def __init__(self, ray: Any, work: PieceWork, places: int) -> None:
        gpu = str(work.engine["device"]).startswith("cuda")
        share = {"num_gpus": 1} if gpu else {"num_cpus": SHARE}
        self._ray, self._most = ray, AHEAD * places
        self._make = ray.remote(max_retries=RETRIES, **share)(make_piece)
        self._work = ray.put(work)
        self._pending: dict[Any, Piece] = {}

    def runner(self, *arguments: Any) -> RayRun:
        """The run of a job with these workers."""
        return RayRun(self, *arguments)

    @property
    def busy(self) -> bool:
        """Whether any piece is in work."""
        return bool(self._pending)

    @property
    def full(self) -> bool:
        """Whether there is enough to do for all of them."""
        return len(self._pending) >= self._most

    def start(self, piece: Piece) -> None:
        """Hand out a piece."""
        self._pending[self._make.remote(self._work, piece)] = piece

    def finished(self) -> Iterator[tuple[Piece, Made]]:
        """Pieces that came back; none after a short while.  Raises LLDiffusionError when one cannot be made."""
        ready, _ = self._ray.wait(list(self._pending), timeout=LOOK)
        for reference in ready:
            piece = self._pending.pop(reference)
            try:
                made: Made = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                reason = " ".join(str(error).split())[:300]
                raise LLDiffusionError(f"Ray lost piece {piece.number} {RETRIES + 1} times: {reason}") from error
            if made.error:
                raise LLDiffusionError(made.error)
            yield piece, made

    def cancel(self) -> None:
        """Drop what is in work."""
        for reference in self._pending:
            self._ray.cancel(reference, force=True)
        self._pending.clear()


class RayRun(JobRun):
    """A job whose segments others make."""

    def __init__(self, workers: Workers, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._workers = workers
        self._wish = json.dumps(self.journal.request, sort_keys=True, default=str)
        self._ahead = self.journal.ahead()  # of an earlier run
        self._waiting: dict[int, tuple[Piece, Segment]] = {}  # finished, but one before them is not
        self._lumas: dict[int, list[list[float]]] = {}

    def _announce_stop(self) -> None:
        self._listener.message("stopping; what came back is kept")

    def _make_each(self, segments: Iterator[Iterator[Frame]], asked: Event, enhancer: FallbackEnhancer) -> None:
        earlier = self.journal.frames
        try:
            for piece in self._pieces(segments, enhancer, asked):
                if not self._made_before(piece):
                    self._workers.start(piece)
                while self._workers.full:
                    self._collect(asked)
                self._join_up()
            while self._workers.busy:
                self._collect(asked)
            self._join_up()
        finally:
            self._workers.cancel()
        self.summary.earlier_frames = self.journal.frames - self._progress.written
        assert self.summary.earlier_frames >= earlier

    def _pieces(self, segments: Iterator[Iterator[Frame]], enhancer: FallbackEnhancer, asked: Event) -> Iterator[Piece]:
        """Each with all that its maker has to know."""
        number, before = len(self.journal.segments), self.journal.frames
        for frames in segments:
            state, seen = enhancer.state(), Checksum()
            for frame in seen.of(frames):
                if asked.is_set():
                    raise KeyboardInterrupt
                enhancer.enhance(frame)
            enhancer.flush()
            yield Piece(number, before, seen.frames, seen.span, seen.value, state, enhancer.state())
            number, before = number + 1, before + seen.frames

    def _collect(self, asked: Event) -> None:
        """Keep what came back, and join up what can be."""
        if asked.is_set():
            raise KeyboardInterrupt
        for piece, made in self._workers.finished():
            self._keep(piece, made)
        self._join_up()

    def _keep(self, piece: Piece, made: Made) -> None:
        """Files first, their receipt last."""
        assert made.segment is not None
        folder = self.journal.folder
        with new_path(folder / made.segment.name) as temporary:
            for name, data in made.files.items():
                path = temporary / Path(name).name if "/" in name else temporary
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
        self.journal.keep_ahead(piece.number, Ahead(piece.key(self._wish), made.segment))
        self._waiting[piece.number], self._lumas[piece.number] = (piece, made.segment), made.lumas
        self.summary.notes += [note for note in made.notes if note not in self.summary.notes]
        if made.state != state_hash(piece.after):
            self.summary.notes.append(
                f"piece {piece.number} had to be computed in another way: those after it may differ by a hair's breadth"
            )
        for _ in range(piece.frames):
            self._listener.frame_written(self._progress)
            self._progress.written += 1

    def _made_before(self, piece: Piece) -> bool:
        """Whether an earlier run kept this very piece."""
        found = self._ahead.get(piece.number)
        if found is None or found.key != piece.key(self._wish):
            return False
        self._waiting[piece.number] = (piece, found.segment)
        return True

    def _join_up(self) -> None:
        """Hand over to the journal what follows its last segment."""
        while (number := len(self.journal.segments)) in self._waiting:
            piece, segment = self._waiting.pop(number)
            self.journal = self.journal.add(segment, piece.after, self.journal.tile)
            before, after = self._lumas.pop(number, ([], []))
            for value in before:
                self.summary.flicker_before.add(value)
            for value in after:
                self.summary.flicker_after.add(value)
