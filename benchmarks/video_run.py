"""One row of `benchmarks.video_speed`: a clip through all of `lldiff video`, and its parts alone."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lldiffusion.bench.peak_memory import peak, reset_peak
from lldiffusion.engines import Enhancer
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.engines.pixels import to_planes
from lldiffusion.images import to_uint8
from lldiffusion.video import Frame, VideoSource
from lldiffusion.video.jobs.job import Job, run_job
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.jobs.open_model import enhancer_factory, is_recurrent
from lldiffusion.video.jobs.pipeline import PipelineProgress
from lldiffusion.video.reading.live import LiveFigures
from lldiffusion.video.stream import LiveStream
from lldiffusion.video.writing.encoding import Encoding, choose_encoding
from lldiffusion.video.writing.outputs import VideoFileOutput
from lldiffusion.video.writing.quality import Pace

LEAST = 3  # frames, however slow: the first one is warmed up with
ALONE = 30  # frames that decoder and encoder are measured with, at most
ENGINE = 5  # calls of the engine alone, at most
CAMERA = 25  # pictures a second of the camera that is played


@dataclass(frozen=True)
class Wish:
    """What to measure."""

    model: str
    precision: str
    clip: Path
    device: str = "auto"
    codec: str | None = None
    preset: str | None = None
    hwaccel: str | None = None
    seconds: float = 20.0  # of the run; it ends after the frame that is then under way


@dataclass
class Speed:
    """A row.  Costs are of all the process's threads together, in milliseconds of CPU time a frame."""

    model: str
    precision: str  # as it ran
    width: int
    height: int
    frames: int = 0
    frames_per_second: float = 0.0  # from the first result to the last; opening is not in it
    opening: float = 0.0  # seconds to the first result
    peak: int | None = None  # bytes, of the process
    engine: float = 0.0  # the model alone
    decoding: float = 0.0
    encoding: float = 0.0
    between: float = 0.0  # what is left: colours, planes, statistics, sound, files
    live_ms: list[float] = field(default_factory=list)  # latencies of `Enhancer.stream(live=True)` at CAMERA a second
    live_dropped: float = 0.0  # share of its frames
    frame_ms: list[float] = field(default_factory=list)  # from result to result
    about: dict[str, str] = field(default_factory=dict)  # what ran: Enhancer.info, the encoder

    @property
    def total(self) -> float:
        """CPU time of a frame."""
        return self.engine + self.decoding + self.encoding + self.between


class _Clock:
    """A `ProgressListener` that takes the time, and cuts the source when it is up."""

    def __init__(self, seconds: float) -> None:
        self.times: list[tuple[float, float]] = []  # wall and CPU clock at every result
        self._seconds = seconds

    def started(self, total: int | None, done: int) -> None:
        """Nothing to show."""

    def frame_written(self, progress: PipelineProgress) -> None:
        """One frame more."""
        self.times.append((time.perf_counter(), time.process_time()))

    def saving(self) -> None:
        """The file is put together."""

    def message(self, line: str) -> None:
        """Nothing to show."""

    @property
    def is_up(self) -> bool:
        """Whether no more frames shall be read."""
        return len(self.times) >= LEAST and time.perf_counter() - self.times[0][0] > self._seconds


class _CutSource(VideoSource):
    """A video that ends when the time is up."""

    clock: _Clock

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """As `VideoSource.frames`."""
        return itertools.takewhile(lambda frame: not self.clock.is_up, super().frames(start, end, skip))


def measure(wish: Wish) -> Speed:
    """The row; run it in a process of its own, whose memory is then its own."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        source, clock = _CutSource(str(wish.clip), hwaccel=wish.hwaccel), _Clock(wish.seconds)
        source.clock, target = clock, Path(folder) / "bright.mp4"
        pace = Pace(wish.preset, fast=is_recurrent(wish.model))
        encoding = choose_encoding(source.info, target, wish.codec, pace=pace)
        output = VideoFileOutput(target, source.info, encoding, str(wish.clip))
        options = {"device": wish.device, "precision": wish.precision}
        journal = JobJournal({"clip": str(wish.clip)}, 1, folder=Path(folder) / "parts")
        reset_peak()
        begun = time.perf_counter()
        try:
            summary = run_job(Job(enhancer_factory(wish.model, options, {})), source, output, journal, clock)
        finally:
            source.close()
        most = peak()  # before the parts alone take theirs
        row = _engine_alone(wish)
        row.peak, row.encoding, row.decoding = most, _encoding_alone(target, encoding), _decoding_alone(wish)
    _take(row, clock, begun, summary.frames)
    row.between = max(0.0, row.between - row.engine - row.decoding - row.encoding)
    row.about["encoder"] = f"{encoding.codec} {encoding.options.get('preset', '')}".strip()
    return row


def _take(row: Speed, clock: _Clock, begun: float, frames: int) -> None:
    """What the clock says: speed, opening, and the CPU time of a frame, for now all as `between`."""
    walls = [wall for wall, _ in clock.times]
    count = len(walls) - 1
    row.frames, row.opening = frames, walls[0] - begun
    row.frame_ms = [1000 * (after - before) for before, after in itertools.pairwise(walls)]
    row.frames_per_second = count / (walls[-1] - walls[0])
    row.between = 1000 * (clock.times[-1][1] - clock.times[0][1]) / count


def _engine_alone(wish: Wish) -> Speed:
    """The row with what the model says of itself, its cost, and its latency in a program of one's own."""
    with Enhancer.open(wish.model, device=wish.device, precision=wish.precision) as enhancer:
        source = VideoSource(str(wish.clip))
        planes = to_planes(next(iter(source.frames())).pixels)
        source.close()
        pipeline, about = enhancer.pipeline, enhancer.info()
        pipeline.sample(planes, enhancer.steps)  # the first call at a size is slower
        costs: list[float] = []
        begun = time.perf_counter()
        while len(costs) < ENGINE and (not costs or time.perf_counter() - begun < wish.seconds / 2):
            cpu = time.process_time()
            pipeline.sample(planes, enhancer.steps)
            costs.append(1000 * (time.process_time() - cpu))
        figures = _watch(enhancer, wish)
    row = Speed(enhancer.config.name, about.get("precision", "?"), planes.shape[3], planes.shape[2], about=about)
    row.engine = sorted(costs)[len(costs) // 2]
    row.live_ms = [1000 * seconds for seconds in figures.latencies]
    row.live_dropped = figures.dropped / figures.read
    return row


def _watch(enhancer: Enhancer, wish: Wish) -> LiveFigures:
    """Play the clip as a camera would, 8 bits a channel, round and round."""
    source = VideoSource(str(wish.clip))
    pictures = [to_uint8(frame.pixels) for frame in itertools.islice(source.frames(), CAMERA)]
    source.close()

    def camera() -> Iterator[Any]:
        begun = time.monotonic()
        for number, picture in enumerate(itertools.cycle(pictures)):
            time.sleep(max(0.0, begun + number / CAMERA - time.monotonic()))
            if number >= LEAST and time.monotonic() - begun > wish.seconds / 2:
                return
            yield picture

    stream = enhancer.stream(camera(), live=True)
    for _ in stream:
        pass
    assert isinstance(stream, LiveStream)
    return stream.figures


def _decoding_alone(wish: Wish) -> float:
    source = VideoSource(str(wish.clip), hwaccel=wish.hwaccel)
    cpu = time.process_time()
    count = sum(1 for _ in itertools.islice(source.decoded(), ALONE))
    cost = time.process_time() - cpu
    source.close()
    return 1000 * cost / count


def _encoding_alone(result: Path, encoding: Encoding) -> float:
    """Of the pictures that were made, once more."""
    import av

    with av.open(str(result)) as container:
        pictures: list[Any] = list(itertools.islice(container.decode(video=0), ALONE))
    with tempfile.TemporaryFile() as file, av.open(file, "w", format="nut") as output:
        stream = encoding.add_stream(output)
        cpu = time.process_time()
        for number, picture in enumerate(pictures):
            picture.pts, picture.time_base = number, encoding.time_base
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
        return 1000 * (time.process_time() - cpu) / len(pictures)
