"""A benchmark result with every kind of row.  Its numbers are made up: they show what a report does, nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lldiffusion.bench.record import BenchResult, Ceilings, Machine, Measurement, Scaling, Stages

SIZES = ((600, 400), (1280, 720), (1920, 1080))
STEPS = (25, 4, 1)
# Of one step at 600x400, relative to the fastest, and of what comes before.
BACKENDS = {
    "eager-authors": 1.9,
    "eager-cached": 1.7,
    "eager": 1.06,
    "compile": 1.35,
    "onnxruntime": 1.0,
    "openvino": 1.01,
}
QUALITY = {25: 22.4, 4: 22.1, 1: 20.6}


def full_result() -> BenchResult:
    """Two networks, six backends, three sizes and steps, two classical methods, scaling and ceilings."""
    rng = np.random.default_rng(0)
    networks = [
        _row(rng, model, backend, size, steps)
        for model in ("tiny", "paper")
        for backend in BACKENDS
        for size in SIZES[: 3 if model == "tiny" else 1]
        for steps in STEPS
    ]
    return BenchResult(
        machine=Machine(
            "Linux x86_64", "A made-up CPU", 2, 8 << 30, conditions={"load": "0.1", "governor": "performance"}
        ),
        versions={"lldiffusion": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "onnxruntime": "1.32.0"},
        commit="0123456789abcdef",
        command="lldiff bench tiny.lldiff --sizes 600x400,720p,1080p --steps 25,4,1",
        date="2026-11-24T12:00:00+00:00",
        policy=(
            "Warm-up until three calls in a row agree within 5 %.",
            "Rounds are interleaved: every backend once, then all again. No call is left out.",
            "2 threads, pinned to cores 0 and 1.",
        ),
        ceilings=(Ceilings("cpu", "fp32", 1.6e11, 2.1e10, "matrix product of 2048, copy of 512 MiB"),),
        measurements=(*networks, *_classical(rng)),
        scaling=tuple(_scaling()),
        notes=("tensorrt was left out: no NVIDIA driver on this machine",),
    )


def _row(rng: np.random.Generator, model: str, backend: str, size: tuple[int, int], steps: int) -> Measurement:
    width, height = size
    share = width * height / 240_000
    unit = 0.02 * share * BACKENDS[backend] * (12 if model == "paper" else 1)
    stages = Stages(
        decode=0.004 * share,
        pre=0.003 * share,
        encoder=unit,
        color_map=unit * 0.1,
        step=unit,
        post=0.002 * share,
    )
    encodes = steps if backend == "eager-authors" else 1
    whole = stages.pre + stages.post + unit * 0.1 + unit * encodes + unit * steps  # type: ignore[operator]
    seconds = whole * 1.02 * (1 + 0.03 * rng.gamma(1.5, size=15))
    reference = backend == "eager"
    return Measurement(
        model=model,
        backend=backend,
        precision="fp32",
        width=width,
        height=height,
        batch=1,
        steps=steps,
        seconds=tuple(seconds.tolist()),
        derived=model == "paper" and steps == 25 and backend == "eager-authors",
        noise=0.012,
        stages=stages,
        overhead=0.014,
        cold_start=(1.4, 1.3, 1.5) if size == SIZES[0] else (),
        cold_start_uncached=(2.4,) if size == SIZES[0] else (),
        host_memory=int(300e6 + 500e6 * share * (4 if model == "paper" else 1)),
        psnr_reference=200.0 if reference else 131.2,
        brightness_drift=0.0 if reference else -0.0004,
        psnr=QUALITY[steps] + (0.7 if model == "paper" else 0) if size == SIZES[0] else None,
        ssim=0.74 if size == SIZES[0] else None,
        operations=6e9 * share * steps,
        bytes=5e8 * share * steps,
        limit=whole / BACKENDS[backend] / 1.2,
        threads=2,
    )


def _classical(rng: np.random.Generator) -> list[Measurement]:
    seconds = tuple(rng.normal(0.009, 0.0002, 20).tolist())
    gamma = Measurement("classical", "gamma", "fp32", 600, 400, 1, 0, seconds, psnr=16.0, ssim=0.61)
    slower = tuple(rng.normal(0.06, 0.001, 20).tolist())
    return [gamma, replace(gamma, backend="clahe", seconds=slower, psnr=13.1, ssim=0.55)]


def _scaling() -> list[Scaling]:
    sides = [64, 128, 256, 512, 1024, 2048]
    pixels = [float(side * side) for side in sides]
    fits = []
    for backend, factor in (("onnxruntime", 1.0), ("eager", 1.7)):
        seconds = tuple((x, 0.004 + factor * 4e-7 * x**1.01) for x in pixels)
        memory = tuple((x, 2.5e8 + 900 * x * factor) for x in pixels)
        fits += [
            Scaling("tiny", backend, "pixels", "seconds", seconds, 1.01),
            Scaling("tiny", backend, "pixels", "host_memory", memory, 0.93),
        ]
    quadratic = tuple((x, 0.004 + 4e-7 * x + 2e-12 * x**2) for x in pixels[:5])
    batches = tuple((float(n), 0.1 + 0.4 * n) for n in (1, 2, 4, 8))
    return [
        *fits,
        Scaling("paper", "onnxruntime", "pixels", "seconds", quadratic, 1.62, "attention (Softmax, MatMul)"),
        Scaling("tiny", "onnxruntime", "batch", "seconds", batches, 0.95),
        Scaling(
            "tiny", "onnxruntime", "steps", "seconds", tuple((float(n), 0.06 + 0.02 * n) for n in (1, 4, 25)), 0.98
        ),
    ]
