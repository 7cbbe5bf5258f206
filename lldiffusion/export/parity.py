"""Proof that an export answers like the model: measured on dark images before a bundle is accepted.

For every precision, each graph alone and the whole loop, at several sizes, against eager float32.  Features are
compared in units of their own range, images in units of the display's: PSNR = 10 log10(range^2 / mean squared error).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from lldiffusion.bundle import EIGHT, LEVEL
from lldiffusion.config import ParityConfig, Thresholds
from lldiffusion.engines.backends.base import Conditions, Engine, Floats
from lldiffusion.engines.backends.feeds import condition_inputs, step_inputs
from lldiffusion.engines.backends.torch_eager import TorchEngine
from lldiffusion.engines.level import thumbnail_of
from lldiffusion.engines.sampler import Step, make_noise, plan_steps, trial
from lldiffusion.model import LLDiffusion

from .dark import dark_image

LOOP = "loop"  # the row of the whole loop, beside the graphs' names
EXACT = 200.0  # dB reported for equal outputs


@dataclass(frozen=True)
class Row:
    """One comparison."""

    precision: str
    how: str  # "onnxruntime", or "rounded": float32 sums with every stored value rounded, as a GPU computes
    graph: str  # encoder, color_map, level, denoiser or loop
    size: str  # WIDTHxHEIGHT of the image, before padding
    max_error: float  # largest absolute difference
    mean_error: float  # mean absolute difference
    psnr: float  # dB
    brightness: float  # mean of the differences: 1/255 for images, share of the range for features
    nonfinite: int  # NaN and infinities in the exported graph's answer
    passed: bool


@dataclass(frozen=True)
class Report:
    """`parity.json`."""

    rows: tuple[Row, ...]
    thresholds: dict[str, Thresholds]
    notes: tuple[str, ...] = ()  # what was left out, and why
    islands: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # graph file -> nodes that stay float32
    wrong_islands: dict[str, list[str]] = field(default_factory=dict)  # graph file -> nodes that should and do not

    @property
    def passed(self) -> bool:
        """Whether everything reached its threshold."""
        return not self.failures()

    def failures(self) -> list[str]:
        """One phrase for each thing that is wrong."""
        wrong = [
            f"{file}: {node} must stay float32" for file, nodes in self.wrong_islands.items() for node in nodes[:3]
        ]
        return wrong + [describe(row, self.thresholds[row.precision]) for row in self.rows if not row.passed]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"passed": self.passed}


def describe(row: Row, wanted: Thresholds) -> str:
    """Why a row failed."""
    where = f"{row.precision} {row.graph} at {row.size} ({row.how})"
    if row.nonfinite:
        return f"{where}: {row.nonfinite} values are NaN or infinite"
    if row.psnr < wanted.psnr:
        return f"{where}: {row.psnr:.1f} dB, at least {wanted.psnr:g} wanted (largest error {row.max_error:.2g})"
    return f"{where}: mean brightness off by {row.brightness:+.3f}/255, at most {wanted.brightness:g} accepted"


def compare(precision: str, how: str, graph: str, size: str, given: Floats, wanted: Floats, limit: Thresholds) -> Row:
    """Compare one output with the eager one; images are in [-1, 1], features in whatever range they have."""
    nonfinite = int(given.size - np.isfinite(given).sum())
    image = graph not in ("encoder", LEVEL)
    if graph == LOOP:  # as it is shown
        given, wanted = np.clip(given, -1, 1), np.clip(wanted, -1, 1)
    error = given.astype(np.float64) - wanted
    span = 2.0 if image else 1.0 if graph == LEVEL else float(np.ptp(wanted)) or 1.0  # of a level: a doubling
    span = max(span, float(np.ptp(wanted)))  # x_next of an early step reaches far beyond [-1, 1]
    mse = float(np.mean(error**2))
    psnr = (10 * math.log10(span**2 / mse) if mse else EXACT) if math.isfinite(mse) else -math.inf
    drift = float(error.mean()) * 127.5 if image else float(error.mean()) / span
    return Row(
        precision=precision,
        how=how,
        graph=graph,
        size=size,
        max_error=float(np.abs(error).max()),
        mean_error=float(np.abs(error).mean()),
        psnr=psnr,
        brightness=drift,
        nonfinite=nonfinite,
        passed=nonfinite == 0
        and (psnr >= limit.psnr or (precision in EIGHT and graph != LOOP))  # eight bits are for the whole to bear
        and (graph != LOOP or abs(drift) <= limit.brightness),
    )


class Judge:
    """Holds the eager answers, so that every precision is compared with the same ones.

    Args:
        model: float32, in evaluation mode.
        sizes: (height, width) of the images; may be set later.
        thresholds: default: those of the model's configuration.
    """

    def __init__(
        self, model: LLDiffusion, sizes: list[tuple[int, int]], thresholds: ParityConfig | None = None
    ) -> None:
        self._eager = TorchEngine(model)
        self.sizes = sizes
        self._multiple = model.config.model.size_multiple
        self._has_level = model.level is not None
        self.thresholds = thresholds or model.config.parity
        self.steps = plan_steps(model.config)
        self._config = model.config
        self._answers: dict[tuple[int, int], dict[str, Floats]] = {}

    def rows(self, engine: Engine, precision: str, how: str = "onnxruntime") -> Iterator[Row]:
        """Compare an engine's graphs and its loop at every size, size after size."""
        for height, width in self.sizes:
            wanted = self._wanted(height, width)
            given = self._answer(engine, wanted["low"], self._conditions(wanted))
            for name, values in given.items():
                graph = name.partition(":")[0]
                size = f"{width}x{height}"
                yield compare(precision, how, graph, size, values, wanted[name], self.thresholds.of(precision))

    def seconds_per_pixel(self, height: int, width: int) -> float:
        """What the eager loop takes for a pixel of an image of this size."""
        low = dark_image(height, width, self._multiple)
        self._answer(self._eager, low, None)  # the first run also plans its convolutions
        start = time.perf_counter()
        self._answer(self._eager, low, None)
        return (time.perf_counter() - start) / (height * width)

    def feeds(self, graph: str) -> dict[str, Floats]:
        """Inputs of one graph, by name, from the first size."""
        wanted = self._wanted(*self.sizes[0])
        if graph == LEVEL:
            return {"thumbnail": thumbnail_of(wanted["low"])}
        if graph != "denoiser":
            return {"low": wanted["low"]}
        pictures = {"x_t": make_noise(0, wanted["low"].shape), "x0_previous": wanted["low"]}
        return pictures | condition_inputs(self._conditions(wanted)) | step_inputs(self._probes()[0])

    def _probes(self) -> tuple[Step, ...]:
        return self.steps if self._config.model.recurrent else probes(self.steps)

    def _wanted(self, height: int, width: int) -> dict[str, Floats]:
        if (height, width) not in self._answers:
            low = dark_image(height, width, self._multiple)
            self._answers[height, width] = {"low": low} | self._answer(self._eager, low, None)
        return self._answers[height, width]

    def _conditions(self, wanted: dict[str, Floats]) -> Conditions:
        low, level = wanted["low"], wanted.get(f"{LEVEL}:0")
        features = tuple(values for name, values in wanted.items() if name.startswith("encoder"))
        return Conditions(low, wanted["color_map:0"], features, level, None if level is None else _whole(low))

    def _answer(self, engine: Engine, low: Floats, conditions: Conditions | None) -> dict[str, Floats]:
        """What an engine makes of a low image; its denoiser alone gets `conditions`, the eager ones."""
        named = {f"encoder:{i}": engine.numpy(f) for i, f in enumerate(engine.encode(low))}
        named["color_map:0"] = engine.numpy(engine.color_map(low))
        level = window = None
        if self._has_level:
            level, window = engine.numpy(engine.level(thumbnail_of(low))), _whole(low)
            named[f"{LEVEL}:0"] = level
        noise = make_noise(0, low.shape)
        for i, step in enumerate(self._probes()):
            x, x0 = engine.step(noise, conditions or self._conditions({"low": low} | named), step, low)
            named |= {f"denoiser:x_next {i}": engine.numpy(x), f"denoiser:x0 {i}": engine.numpy(x0)}
        return named | {LOOP: engine.sample(low, *trial(self._config, 0, low.shape), level=level, window=window)}


def _whole(low: Floats) -> Floats:
    """The window of whole pictures."""
    return np.array([[0, 0, 1, 1]], np.float32).repeat(len(low), axis=0)


def probes(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Steps to judge the denoiser alone on: the first and the last, with every coefficient made to count."""
    ends = (steps[0], steps[-1])
    raised = None if ends[0].exposure is None else 0.5
    return tuple(replace(s, k_x=s.k_x or 0.1, a=s.a or 0.1, b=s.b or 0.1, c=s.c or -0.1, exposure=raised) for s in ends)


def worst(rows: Iterable[Row]) -> list[Row]:
    """The row of the worst size for each precision, way of running and graph: what a reader should see."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        known = found.get((row.precision, row.how, row.graph))
        if known is None or (row.passed, row.psnr) < (known.passed, known.psnr):
            found[row.precision, row.how, row.graph] = row
    return list(found.values())
