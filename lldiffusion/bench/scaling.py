"""How time and memory grow with pixels, steps and batch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from .pictures import dark_picture
from .record import Scaling
from .rounds import OnMessage
from .worker_process import PeerError, WorkerProcess

PIXELS = ((64, 64), (128, 128), (256, 256), (512, 512), (1024, 1024), (1920, 1080), (3840, 2160))  # (width, height)
SMALL_PIXELS = PIXELS[:3]  # for a rehearsal
STEPS, STEPS_AT = (1, 2, 4, 8, 16), (256, 256)
BATCHES, BATCHES_AT = (1, 2, 4, 8), (128, 128)
REPEATS = 3  # calls at each point, the first not counted when there is time for it

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """One place on a curve: its x, and the call that is timed there."""

    x: int
    size: tuple[int, int]
    batch: int = 1
    steps: int = 1


def curves(sizes: Sequence[tuple[int, int]] = PIXELS) -> dict[str, list[Point]]:
    """What is measured against what."""
    return {
        "pixels": [Point(width * height, (width, height)) for width, height in sizes],
        "steps": [Point(n, STEPS_AT, steps=n) for n in STEPS],
        "batch": [Point(n, BATCHES_AT, batch=n) for n in BATCHES],
    }


def measure_scaling(
    worker: WorkerProcess,
    model: str,
    folder: Path,
    end: float,
    say: OnMessage,
    sizes: Sequence[tuple[int, int]] = PIXELS,
) -> Iterator[Scaling]:
    """The fitted curves of one opened peer; points that would not be done by `end` (monotonic clock) are left out."""
    for against, points in curves(sizes).items():
        seconds, memory, note = walk(worker, points, folder, end, say)
        for of, measured in (("seconds", seconds), ("host_memory", memory)):
            if len(measured) >= 3 and (of, against) != ("host_memory", "steps"):
                exponent = fit(growth(measured) if of == "host_memory" else measured)
                if math.isfinite(exponent):
                    yield Scaling(model, worker.peer.name, against, of, tuple(measured), exponent, note)


def walk(
    worker: WorkerProcess, points: Sequence[Point], folder: Path, end: float, say: OnMessage
) -> tuple[Points, Points, str]:
    """((x, median seconds), (x, peak bytes), what was left out) along one curve, ascending."""
    seconds, memory = Points(), Points()
    for point in points:
        if seconds and time.monotonic() + 2 * seconds[-1][1] * point.x / seconds[-1][0] > end:
            return seconds, memory, f"stopped before {point.x}: no time left"
        say(f"scaling: {point.size[0]}x{point.size[1]}, batch {point.batch}, {point.steps} steps")
        try:
            worker.set_picture(dark_picture(*point.size, folder), point.batch)
            first = worker.call(point.steps)
            enough = time.monotonic() + REPEATS * first.seconds < end
            samples = [worker.call(point.steps) for _ in range(REPEATS)] if enough else [first]
        except PeerError as error:
            return seconds, memory, f"stopped at {point.x}: {error}"
        seconds.append((float(point.x), median(sample.seconds for sample in samples)))
        known = [sample.memory for sample in samples if sample.memory is not None]
        memory += [(float(point.x), float(max(known)))] if known else []
    return seconds, memory, ""


def fit(points: Sequence[tuple[float, float]]) -> float:
    """Exponent of y = constant x^exponent, least squares on logarithms, over the larger half of the points."""
    upper = list(points)[len(points) // 2 - (len(points) < 4) :]
    if len(upper) < 2:
        return math.nan
    logs = [(math.log(x), math.log(y)) for x, y in upper]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    below = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / below


def growth(points: Sequence[tuple[float, float]]) -> Points:
    """What is added to the smallest point: the program itself takes memory too, which does not grow."""
    x0, y0 = points[0]
    return [(x - x0, y - y0) for x, y in points if y > y0]


def steepest(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """(exponent, x before, x after) of the steepest piece in the larger half of a curve."""
    upper = list(points)[len(points) // 2 - 1 :]
    pieces = [(math.log(y2 / y1) / math.log(x2 / x1), x1, x2) for (x1, y1), (x2, y2) in pairwise(upper)]
    return max(pieces)
