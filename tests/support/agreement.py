"""Do all ways of running a model on a device give the pictures that eager float32 gives on the CPU?

For each way: two sizes against the CPU, the same call again and again (a captured graph must not drift), and the two
sizes in turn (a graph of one must not disturb the other).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.bench.models import BenchModel, find_bench_model, with_bundle
from lldiffusion.bench.peers import PEERS, PeerJob
from lldiffusion.bench.pictures import dark_picture
from lldiffusion.bench.quality import fidelity
from lldiffusion.bundle import Bundle
from lldiffusion.engines import Enhancer
from lldiffusion.export.build import build_engines

ENOUGH = {"fp32": 70.0, "fp16": 45.0, "bf16": 30.0}  # dB against eager float32 on the CPU, as an export must reach
STEADY = 1e-3  # on [0, 1]: how far two equal calls may differ (a quarter of an 8-bit level)


@dataclass(frozen=True)
class Oracle:
    """A model's pictures as eager float32 makes them on the CPU."""

    source: BenchModel
    dark: Sequence[Any]  # (H, W, 3) float32 in [0, 1]
    bright: Sequence[Any]


@dataclass(frozen=True)
class Agreement:
    """What an enhancer makes of the oracle's pictures."""

    psnr: tuple[float, ...]  # dB of each
    drift: float  # largest difference of equal calls, on [0, 1]
    disturbed: float  # the same when the sizes come in turn
    info: dict[str, str]

    def right(self, precision: str) -> bool:
        """Whether the pictures are close enough for their precision, and the same every time."""
        return min(self.psnr) >= ENOUGH[precision] and max(self.drift, self.disturbed) <= STEADY


def make_oracle(model: str, sizes: Sequence[tuple[int, int]], folder: Path) -> Oracle:
    """Eager float32 on the CPU; `sizes` are (width, height)."""
    source = find_bench_model(model)
    dark = [np.load(dark_picture(*size, folder)) for size in sizes]
    engine, config = PEERS["eager"].open(PeerJob("eager", "fp32", source.checkpoint, source.preset, "", "cpu"))
    enhancer = Enhancer(engine, config)
    return Oracle(source, dark, [enhancer(picture) for picture in dark])


def open_backend(source: BenchModel, name: str, precision: str, device: str) -> Enhancer:
    """A peer of the benchmark, exported and built as far as it needs."""
    peer = PEERS[name]
    if peer.from_bundle:
        source = with_bundle(source, precision, print)
        if name.startswith("tensorrt"):
            build_engines(Bundle.open(source.bundle), name, precision)
    engine, config = peer.open(PeerJob(name, precision, source.checkpoint, source.preset, source.bundle, device))
    return Enhancer(engine, config)


def examine(enhancer: Enhancer, oracle: Oracle, repeats: int) -> Agreement:
    """Enhance each picture once, the first one many times, and all of them in turn."""
    first = [enhancer(picture) for picture in oracle.dark]
    close = tuple(fidelity(given, right)[0] for given, right in zip(first, oracle.bright, strict=True))
    drift = max(_apart(enhancer(oracle.dark[0]), first[0]) for _ in range(repeats))
    turns = [(i, enhancer(oracle.dark[i])) for _ in range(3) for i in range(len(oracle.dark))]
    return Agreement(close, drift, max(_apart(given, first[i]) for i, given in turns), enhancer.info())


def _apart(one: Any, other: Any) -> float:
    worst = float(np.abs(one.astype(np.float64) - other).max())
    return worst if np.isfinite(worst) else float("inf")
