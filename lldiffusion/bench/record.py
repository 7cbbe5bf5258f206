"""A result file: what was measured, on what, under which policy.  JSON, with a schema version.

    {"schema": 1, "machine": {...}, "versions": {...}, ..., "measurements": [...], "scaling": [...], "notes": [...]}

Every measurement keeps all its samples; percentiles, rates and ratios are properties, computed when they are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from lldiffusion.atomic import new_path
from lldiffusion.documents import read_json
from lldiffusion.errors import LLDiffusionError
from lldiffusion.tables import build

SCHEMA = 1  # raised when an older reader would misread a newer file
LARGEST = 64 << 20  # bytes of a result file: a real one has a few hundred thousand


@dataclass(frozen=True)
class Machine:
    """The machine that it was measured on."""

    system: str  # e.g. "Linux x86_64"
    cpu: str  # model name
    cores: int  # this process may use
    memory: int  # bytes
    gpu: str = ""  # name, empty when none is used
    gpu_memory: int = 0  # bytes
    conditions: dict[str, str] = field(default_factory=dict)  # clocks, temperature, load: what could be read


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do at most, measured in the same run with PyTorch."""

    device: str  # "cpu" or "cuda"
    precision: str  # of the arithmetic: "fp32", "fp16", "bf16"
    operations: float  # floating-point operations per second: the faster of a matrix product and a convolution
    bandwidth: float  # bytes read and written per second by a large copy
    how: str  # what was run


@dataclass(frozen=True)
class Stages:
    """Medians in seconds, of one call; `decode` reads the picture from a file and is not part of a call.

    None: not measured (a captured loop has no steps of its own).
    """

    decode: float | None = None
    pre: float | None = None  # pixels to padded planes, and the noise
    level: float | None = None  # only of models that have one
    encoder: float | None = None
    color_map: float | None = None
    step: float | None = None  # one denoising step
    post: float | None = None  # back to pixels


@dataclass(frozen=True)
class Measurement:
    """One backend on one model, size, batch and number of steps."""

    model: str
    backend: str  # e.g. "onnxruntime", "eager-authors", "gamma" (see `bench.peers`)
    precision: str
    width: int
    height: int
    batch: int
    steps: int  # 0: a classical method
    seconds: tuple[float, ...]  # of every timed call, none left out: pixels of the whole batch in, pixels out
    derived: bool = False  # `seconds` were put together from timed stages: the whole run would take too long
    noise: float | None = None  # relative: difference of two measurements of this same thing; None: too few samples
    stages: Stages = Stages()
    overhead: float | None = None  # share of the call (0..1) that is not spent inside the bare engine
    cold_start: tuple[float, ...] = ()  # seconds from the start of a new process to its first picture
    cold_start_uncached: tuple[float, ...] = ()  # the same before engine or compiler caches exist
    host_memory: int | None = None  # peak resident bytes of the process that ran it
    device_memory: int | None = None  # peak bytes on the GPU
    psnr_reference: float | None = None  # dB against eager float32, same seed; 200 when equal
    brightness_drift: float | None = None  # mean difference from eager float32, in 1/255
    psnr: float | None = None  # dB against the truth, protocol "standard", mean over the test pictures
    ssim: float | None = None
    lpips: float | None = None  # AlexNet, v0.1, of the same pictures
    operations: float | None = None  # floating-point operations of a call (a multiply-add counts two)
    bytes: float | None = None  # weights and activations read and written by a call, each tensor once per use
    limit: float | None = None  # seconds: the longer of operations and bytes at the machine's ceilings
    threads: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        least = {"width": 1, "height": 1, "batch": 1, "steps": 0}
        wrong = [f"{name} is {getattr(self, name)}" for name, least in least.items() if getattr(self, name) < least]
        times = (*self.seconds, *self.cold_start, *self.cold_start_uncached)
        if not all(math.isfinite(value) and value >= 0 for value in times):
            wrong.append("times are not all finite numbers of 0 or more")
        if wrong:
            raise LLDiffusionError(f"measurement of '{self.backend:.40}': {', '.join(wrong)}")

    @property
    def key(self) -> tuple[str, str, str, int, int, int, int]:
        """What it is a measurement of: equal keys of two files are compared."""
        return (self.model, self.backend, self.precision, self.width, self.height, self.batch, self.steps)

    @property
    def size(self) -> str:
        """WIDTHxHEIGHT."""
        return f"{self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        """Pixels of one picture."""
        return self.width * self.height

    @property
    def p50(self) -> float:
        """Median seconds of a call; NaN without samples (a quality-only row)."""
        return median(self.seconds) if self.seconds else math.nan

    @property
    def mean(self) -> float:
        """Mean seconds of a call; NaN without samples."""
        return fmean(self.seconds) if self.seconds else math.nan

    def percentile(self, share: float) -> float:
        """Seconds that `share` percent of the calls stay under (linear between samples); NaN without samples."""
        return percentile(self.seconds, share)

    @property
    def images_per_second(self) -> float:
        """Pictures a second at the median; NaN without samples."""
        return self.batch / self.p50 if self.seconds else math.nan

    @property
    def over_limit(self) -> float | None:
        """Median time over the machine's limit for this work: 1 is perfect."""
        return self.p50 / self.limit if self.limit and self.seconds else None


@dataclass(frozen=True)
class Scaling:
    """How one quantity grows: y = constant * x^exponent, fitted to the larger half of the points."""

    model: str
    backend: str
    against: str  # "pixels", "batch" or "steps"
    of: str  # "seconds" or "host_memory"
    points: tuple[tuple[float, float], ...]  # (x, y), x ascending
    exponent: float
    note: str = ""  # where it leaves linear, the operator that does

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) and value >= 0 for point in self.points for value in point):
            raise LLDiffusionError(f"scaling of '{self.backend:.40}': points are not all finite numbers of 0 or more")


@dataclass(frozen=True)
class BenchResult:
    """One run of the benchmark."""

    machine: Machine
    versions: dict[str, str]  # package -> version
    commit: str  # of the code, empty when unknown; ends in "+" when files were changed
    command: str
    date: str  # ISO 8601, UTC, of the start
    policy: tuple[str, ...] = ()  # one sentence each
    ceilings: tuple[Ceilings, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    scaling: tuple[Scaling, ...] = ()
    notes: tuple[str, ...] = ()  # what was left out and why, and what was found
    complete: bool = True  # False: stopped before all was measured
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; each measurement carries its percentiles for readers that do not use this module."""
        table = _plain(asdict(self))
        for row, measurement in zip(table["measurements"], self.measurements, strict=True):
            row["summary"] = _plain(summary(measurement))
        return table

    def save(self, path: Path) -> None:
        """Write the file; a reader sees the old or the new one."""
        with new_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def summary(measurement: Measurement) -> dict[str, float | None]:
    """Percentiles and rates of a measurement."""
    ranks = {f"p{share}": measurement.percentile(share) for share in (50, 90, 95, 99)}
    rates = {"mean": measurement.mean, "images_per_second": measurement.images_per_second}
    return {**ranks, **rates, "over_limit": measurement.over_limit}


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between the sorted values, as NumPy's default; NaN for none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def load_result(path: str | Path) -> BenchResult:
    """Read a result file.

    Raises LLDiffusionError when it is missing, damaged or written by a newer version.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "bench.json"
    if not path.is_file():
        raise LLDiffusionError(
            f"no result file '{path}': give a bench.json, or the folder that `lldiff bench -o` wrote"
        )
    try:
        table = read_json(path, LARGEST)
    except LLDiffusionError as error:
        raise LLDiffusionError(f"{error}: it is no result of `lldiff bench`; measure again") from error
    return result_from_dict(table, str(path))


def result_from_dict(table: Any, source: str) -> BenchResult:
    """The inverse of `BenchResult.to_dict`; `source` names the file in messages.

    Raises LLDiffusionError for a newer schema and for anything missing or of the wrong type.
    """
    schema = table.get("schema") if isinstance(table, dict) else None
    if not isinstance(schema, int):
        raise LLDiffusionError(f"'{source}' is no result of `lldiff bench`: it has no schema number")
    if schema > SCHEMA:
        raise LLDiffusionError(
            f"'{source}' has result schema {schema}, this version reads {SCHEMA}: upgrade lldiffusion"
        )
    try:
        result: BenchResult = build(BenchResult, table, "", "result", ignore_unknown=True)
    except LLDiffusionError as error:
        raise LLDiffusionError(f"'{source}' is damaged: {error}; measure again") from error
    return result


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no tuple."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
