"""Do all ways of running a model on this device give the pictures that eager float32 gives on the CPU?

For each way: two sizes against the CPU, the same call again and again (a captured graph must not drift), and the two
sizes in turn (a graph of one must not disturb the other).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lldiffusion.bench.peers import PEERS, Job, label
from lldiffusion.bench.pictures import dark_picture
from lldiffusion.bench.quality import against
from lldiffusion.bench.sources import Source, find_source, with_bundle
from lldiffusion.bundle import Bundle
from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError

ENOUGH = {"fp32": 70.0, "fp16": 45.0, "bf16": 30.0}  # dB against eager float32 on the CPU, as an export must reach
STEADY = 1e-3  # on [0, 1]: how far two equal calls may differ (a quarter of an 8-bit level)
REPEATS = 100
WAYS = (
    *(("eager", "fp32"), ("eager-fp16", "fp16"), ("cuda-graph", "fp16"), ("compile", "fp32")),
    *((backend, p) for backend in ("onnxruntime", "tensorrt-rtx", "tensorrt") for p in ("fp32", "fp16")),
)
ON_CPU = (("eager", "fp32"), ("onnxruntime", "fp32"), ("cuda-graph", "fp16"), ("tensorrt-rtx", "fp32"))  # rehearsed
Table = dict[str, Any]


class Plan(Protocol):
    """What this part reads of `gpu.Plan`."""

    out: Path
    device: str
    models: tuple[str, ...]
    rehearse: bool


def run(plan: Any) -> Table:
    """Check every way; "verdict" is "wrong" when one of them is."""
    sizes = ((96, 64), (64, 96)) if plan.rehearse else ((600, 400), (400, 600))
    pictures = [np.load(dark_picture(*size, plan.out)) for size in sizes]
    source = find_source(plan.models[0])
    wanted = list(_eager_on_cpu(source, pictures))
    rows = [
        _row(plan, source, name, precision, pictures, wanted) for name, precision in (ON_CPU if plan.rehearse else WAYS)
    ]
    for size in sizes:
        dark_picture(*size, plan.out).unlink()
    wrong = [row for row in rows if row["status"] == "wrong"]
    return {"verdict": "wrong" if wrong else "right", "model": source.name, "rows": rows}


def _eager_on_cpu(source: Source, pictures: list[Any]) -> Iterator[Any]:
    engine, config = PEERS["eager"].open(Job("eager", "fp32", source.checkpoint, source.preset, "", "cpu"))
    enhancer = Enhancer(engine, config)
    for picture in pictures:
        yield enhancer(picture)


def _row(plan: Plan, source: Source, name: str, precision: str, pictures: list[Any], wanted: list[Any]) -> Table:
    about: Table = {"way": label(PEERS[name], precision)}
    try:
        enhancer = _open(plan, source, name, precision)
        return about | examine(enhancer, pictures, wanted, ENOUGH[precision], 3 if plan.rehearse else REPEATS)
    except (LLDiffusionError, ImportError) as error:
        return about | {"status": "missing", "reason": str(error)}
    except Exception as error:  # CUDA's and TensorRT's errors have no common class
        return about | {"status": "wrong", "reason": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _open(plan: Plan, source: Source, name: str, precision: str) -> Enhancer:
    peer = PEERS[name]
    if "cuda" in peer.devices and "cpu" not in peer.devices and plan.device == "cpu":
        raise LLDiffusionError("needs an NVIDIA GPU")
    if peer.from_bundle:
        source = with_bundle(source, precision, print)
        if name.startswith("tensorrt"):
            _build(source, name, precision)
    job = Job(name, precision, source.checkpoint, source.preset, source.bundle, plan.device)
    engine, config = peer.open(job)
    return Enhancer(engine, config)


def build_all(model: str) -> Iterator[str]:
    """Build the float16 engines of a model with every TensorRT that is here; yields why where one cannot."""
    source = with_bundle(find_source(model), "fp16", print)
    for flavour in ("tensorrt", "tensorrt-rtx"):
        try:
            _build(source, flavour, "fp16")
        except LLDiffusionError as error:
            yield f"{source.name}: no {flavour} engines: {error}"


def _build(source: Source, flavour: str, precision: str) -> None:
    from lldiffusion.export.build import build_engines

    build_engines(Bundle.open(source.bundle), flavour, precision)


def examine(enhancer: Enhancer, pictures: list[Any], wanted: list[Any], enough: float, repeats: int) -> Table:
    """What an enhancer makes of the pictures, once, many times, and in turn."""
    first = [enhancer(picture) for picture in pictures]
    close = [against(given, right)[0] for given, right in zip(first, wanted, strict=True)]
    drift = max(_apart(enhancer(pictures[0]), first[0]) for _ in range(repeats))
    turns = [(i, enhancer(pictures[i])) for _ in range(3) for i in range(len(pictures))]
    disturbed = max(_apart(given, first[i]) for i, given in turns)
    right = min(close) >= enough and drift <= STEADY and disturbed <= STEADY
    return {
        "status": "right" if right else "wrong",
        "psnr": close,
        "needed": enough,
        "largest difference of equal calls": drift,
        "repeats": repeats,
        "largest difference in turn": disturbed,
        "info": enhancer.info(),
    }


def _apart(one: Any, other: Any) -> float:
    worst = float(np.abs(one.astype(np.float64) - other).max())
    return worst if np.isfinite(worst) else float("inf")
