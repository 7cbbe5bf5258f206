"""A piece of a video, made on any machine as the one machine would have made it that makes all of them.

What a piece needs of those before it is the enhancer's state, which is smoothed levels and no pictures: whoever hands
out the pieces looks at every frame without enhancing it (`LevelsOnly`), which costs a small part of enhancing.
The maker seeks to its piece.  Where decoding from there gives other frames than decoding from the beginning did (a
damaged file, fields, a wrong index), which a checksum shows, it reads from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.atomic import scratch
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.base import Floats
from lldiffusion.errors import LLDiffusionError, printable
from lldiffusion.video import Frame, VideoEnhancer
from lldiffusion.video.jobs.fallback import FallbackEnhancer, FrameEnhancer, Tile
from lldiffusion.video.jobs.job import QUEUE_DEPTH, FrameSource
from lldiffusion.video.jobs.pipeline import run_pipeline
from lldiffusion.video.jobs.progress import mean_luma
from lldiffusion.video.reading.any_source import open_source
from lldiffusion.video.stability.frame_state import StateArrays
from lldiffusion.video.writing.outputs import VideoOutput
from lldiffusion.video.writing.segment import Segment

from .fetching import here, video_here


@dataclass(frozen=True, eq=False)
class PieceWork:
    """What is the same for all pieces of a video; it can be sent to another machine."""

    open_source: Callable[[], FrameSource]
    output: VideoOutput
    model: str
    engine: dict[str, Any]  # options of `Enhancer.open`
    stability: dict[str, Any]  # of `VideoEnhancer`
    start: float  # of the job, in seconds
    end: float | None
    tile: Tile


@dataclass(frozen=True, eq=False)
class Piece:
    """One piece: where it lies, and what came before it."""

    number: int
    before: int  # frames of the job before it
    frames: int
    span: tuple[int, int]  # timestamps of its first and last frame
    checksum: int  # of its frames as decoded
    state: StateArrays  # of the enhancer before its first frame
    after: StateArrays  # and after its last

    def key(self, wish: str) -> str:
        """A hash of everything that decides the result; `wish`: of what is the same for all pieces."""
        place = [wish, self.number, self.before, self.frames, self.span, self.checksum, state_hash(self.state)]
        return hashlib.sha256(json.dumps(place).encode()).hexdigest()


@dataclass
class Made:
    """A finished piece, as it is sent back."""

    segment: Segment | None = None
    files: dict[str, bytes] = field(default_factory=dict)  # by their names below the job's folder
    lumas: list[list[float]] = field(default_factory=lambda: [[], []])  # mean of each frame, before and after
    notes: list[str] = field(default_factory=list)
    state: str = ""  # hash of the enhancer's state after it
    error: str = ""  # why there is no segment


class LevelsOnly(VideoEnhancer):
    """Learns of every frame what a VideoEnhancer would, and leaves it as it is.

    Raises LLDiffusionError for what cannot do without the pictures before.
    """

    def __init__(self, enhancer: Enhancer, **options: Any) -> None:
        super().__init__(enhancer, **options)
        if self._warm is not None or self._recurrent:
            name = "--warm-start" if self._warm is not None else f"the recurrent model '{enhancer.config.name}'"
            raise LLDiffusionError(f"{name} makes each frame from the one before: one machine has to make them all")

    def _sample(self, planes: Floats, *_: Any) -> Floats:
        part: slice = _[-1]
        return planes[part]


class Checksum:
    """Of frames in their order: their times and every value."""

    def __init__(self) -> None:
        self.value, self.frames = 0, 0
        self.span = (0, 0)

    def of(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, looked at as they pass."""
        for frame in frames:
            self.span = (self.span[0] if self.frames else frame.pts, frame.pts)
            self.value = zlib.crc32(_memory(frame.pixels), zlib.crc32(str(frame.pts).encode(), self.value))
            self.frames += 1
            yield frame


def make_piece(work: PieceWork, piece: Piece) -> Made:
    """Enhance one piece; whatever the user can mend comes back as `Made.error`."""
    made = Made()
    try:
        for from_the_beginning in (False, True):
            if _tried(work, piece, made, from_the_beginning):
                return made
        made.error = f"piece {piece.number} has other frames here: give every machine the same file and packages"
    except LLDiffusionError as error:
        made.error = str(error)
    except OSError as error:
        made.error = f"'{printable(error.filename or work.model)}': {error.strerror or error}"
    return made


def _tried(work: PieceWork, piece: Piece, made: Made, from_the_beginning: bool) -> bool:
    """Whether the frames were the right ones; then `made` is filled."""
    checksum, lumas = Checksum(), list[list[float]]([[], []])
    enhancer = FallbackEnhancer(opener(work), work.tile, made.notes.append)

    def enhance(frame: Frame) -> list[Frame]:
        ready = enhancer.enhance(frame)
        lumas[0].append(mean_luma(frame))
        lumas[1].extend(map(mean_luma, ready))
        return ready

    with scratch() as folder, closing(work.open_source()) as source:
        enhancer.restore(piece.state)
        frames = checksum.of(_frames(work, piece, source, from_the_beginning))
        writer = work.output.open_segment(folder, piece.number, piece.before)
        try:
            run_pipeline(frames, enhance, writer.add, QUEUE_DEPTH, flush=enhancer.flush)
        except BaseException:
            writer.abandon()
            raise
        if (checksum.frames, checksum.span, checksum.value) != (piece.frames, piece.span, piece.checksum):
            writer.abandon()
            return False
        made.segment = writer.close()
        files = [path for path in folder.rglob("*") if path.is_file()]
        made.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    made.lumas, made.state = lumas, state_hash(enhancer.state())
    made.notes += enhancer.lines()
    return True


def _frames(work: PieceWork, piece: Piece, source: FrameSource, from_the_beginning: bool) -> Iterator[Frame]:
    if from_the_beginning:
        return islice(source.frames(work.start, work.end, piece.before), piece.frames)
    unit, zero = source.info.time_base, source.info.start
    first, last = ((place - zero) * unit for place in piece.span)
    return source.frames(float(first - unit / 2), float(last + unit / 2))


def opener(work: PieceWork, kind: type[VideoEnhancer] = VideoEnhancer) -> Callable[[Tile, bool], FrameEnhancer]:
    """Opens the model as a job asks for it; the engine is kept for the next piece."""

    def open_enhancer(tile: Tile, float32: bool) -> FrameEnhancer:
        if float32 and work.engine["precision"] == "fp32":
            raise LLDiffusionError("the model runs in float32 already")
        options = work.engine | {"tile": tile} | ({"precision": "fp32"} if float32 else {})
        return kind(_engine(work.model, json.dumps(options, sort_keys=True)), **work.stability)

    return open_enhancer


@lru_cache(maxsize=2)
def _engine(model: str, options: str) -> Enhancer:
    return Enhancer.open(here(model, lasting=True), **json.loads(options))


def open_anywhere(name: str, **how: Any) -> FrameSource:
    """As `open_source`, also of what lies in an object store, of which a copy is made."""
    return open_source(video_here(name), **how)


def state_hash(state: StateArrays) -> str:
    """SHA-256 of an enhancer's state."""
    digest = hashlib.sha256()
    for name, values in sorted(state.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _memory(pixels: NDArray[Any]) -> memoryview:
    """The array's values in one block of memory, without a copy where they lie in one as planes."""
    planes = pixels.transpose(2, 0, 1)
    return (planes if planes.flags.c_contiguous else np.ascontiguousarray(pixels)).data
