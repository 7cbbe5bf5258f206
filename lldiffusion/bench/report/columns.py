"""What can be said about a measurement: the columns of every table, each with its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..record import Measurement
from .comparison import Speedup, Workload

Value = str | float | Speedup | None


@dataclass(frozen=True)
class Column:
    """One column.  `key` names it in the CSV, in base units (seconds, bytes); `kind`: "text" or one of units.KINDS."""

    key: str
    head: str
    kind: str
    about: str  # one sentence, shown in the report
    value: Callable[[Measurement, Workload], Value]


def _field(key: str, head: str, kind: str, about: str, name: str | None = None) -> Column:
    return Column(key, head, kind, about, lambda m, _: getattr(m, name or key))


def _percentile(share: int, about: str) -> Column:
    return Column(f"p{share}", f"p{share}", "seconds", about, lambda m, _: m.percentile(share))


def _stage(name: str, head: str, about: str) -> Column:
    return Column(name, head, "milliseconds", about, lambda m, _: getattr(m.stages, name))


def _speedup(backend: str, key: str, head: str, about: str) -> Column:
    return Column(key, head, "factor", about, lambda m, load: load.speedup(m, backend))


def _first(times: tuple[float, ...]) -> float | None:
    """The median of starts; None for none."""
    return sorted(times)[len(times) // 2] if times else None


IDENTITY = (
    _field("backend", "backend", "text", "What runs it; the eager ones are PyTorch, gamma and CLAHE have no network."),
    _field("precision", "precision", "text", "Of weights and activations; coefficients and x stay float32."),
    _field("model", "model", "text", "The network."),
    _field("size", "size", "text", "Width times height in pixels."),
    _field("steps", "steps", "count", "Denoising steps; 0 for a method without a network."),
    _field("batch", "batch", "count", "Pictures in one call."),
    _field("threads", "threads", "count", "CPU threads it was given."),
)

SPEED = (
    _percentile(50, "Median time of a call: pixels in memory to pixels in memory. Half of the calls take longer."),
    _percentile(90, "One call in ten takes longer."),
    _percentile(95, "One call in twenty takes longer."),
    _percentile(99, "One call in a hundred takes longer; with fewer samples than that, close to the slowest."),
    _field("mean", "mean", "seconds", "Mean time of a call; above p50 when a few calls are slow."),
    Column("samples", "n", "count", "Timed calls. None is left out.", lambda m, _: float(len(m.seconds))),
    _field(
        "noise",
        "noise",
        "share",
        "How uncertain the median is, as measuring this same thing twice shows; less is no difference.",
    ),
    _field("images_per_second", "img/s", "number", "Pictures a second at the median time."),
    _speedup(
        "eager-authors",
        "times_authors",
        "vs authors",
        "Times as fast as the authors' way: PyTorch eager, encoder at every step, float32, stock settings.",
    ),
    _speedup(
        "eager",
        "times_eager",
        "vs eager",
        "Times as fast as eager with conditions kept, channels_last and allocator settings: what settings give.",
    ),
    _field("limit", "limit", "seconds", "The least time this work can take at the machine's two measured ceilings."),
    _field("over_limit", "over limit", "factor", "Median time over that limit: 1 is perfect."),
    _field("overhead", "loop", "share", "Share of a call spent in our loop rather than in the engine."),
)

QUALITY = (
    _field("psnr_reference", "fidelity", "decibel", "PSNR against eager float32 on the same seed; 200 when equal."),
    _field("brightness_drift", "drift", "levels", "Mean brightness minus that of eager float32, in 8-bit levels."),
    _field("psnr", "PSNR", "decibel", "Against the normal-light picture, protocol 'standard'; higher is better."),
    _field("ssim", "SSIM", "similarity", "Against the normal-light picture, protocol 'standard'; 1 is equal."),
    _field("lpips", "LPIPS", "similarity", "Against the normal-light picture, AlexNet; lower is better, 0 is equal."),
)

COST = (
    Column("cold_start", "cold start", "seconds", "New process to first picture.", lambda m, _: _first(m.cold_start)),
    Column(
        "cold_start_uncached",
        "first ever",
        "seconds",
        "The same before engine or compiler caches exist.",
        lambda m, _: _first(m.cold_start_uncached),
    ),
    _field("host_memory", "memory", "bytes", "Peak resident memory of the process."),
    _field("device_memory", "GPU memory", "bytes", "Peak memory on the GPU."),
    _field("operations", "work", "operations", "Floating-point operations of a call; a multiply-add counts two."),
    _field("bytes", "traffic", "bytes", "Weights and activations a call reads and writes, once per use."),
)

STAGES = (
    _stage("decode", "decode", "Reading the picture from its file; not part of a call."),
    _stage("pre", "pre", "Pixels to padded planes, and the noise."),
    _stage("level", "level", "The brightness level, once per picture, from its thumbnail."),
    _stage("encoder", "encoder", "The degradation features, once per picture."),
    _stage("color_map", "colour map", "The colour map, once per picture."),
    _stage("step", "a step", "One denoising step."),
    _stage("post", "post", "Planes back to pixels."),
)

EVERY = (*IDENTITY, *SPEED, *QUALITY, *COST, *STAGES)
