"""How much flicker the smoothed pipeline has of frame-by-frame enhancement, and what it costs in PSNR.

    python -m benchmarks.flicker CLIP... [--model tiny] [--frames 60] [-o flicker.json]

Real footage is darkened with the project's simulator: one draw of the camera (exposure, white balance, noise level) for
the whole clip, fresh noise in every frame; then again with an exposure that wobbles from frame to frame, as cameras'
and lamps' do.  Both are enhanced frame by frame and smoothed, and measured against the original clip
(`lldiffusion.evaluation.video`).  Quality depends on neither the machine nor its load.

A smoothed brightness is a little late.  Where the model's guess is off anyway, that helps or harms by luck, up to half
a decibel with one camera and clip, so PSNR is compared over several draws, with the standard error of the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import typer
from numpy.random import Generator
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lldiffusion.data.simulate import LowLight, simulate
from lldiffusion.engines import DEFAULT_MODEL, Enhancer
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.video import ClipScore, measure_video
from lldiffusion.progress import progress_bar
from lldiffusion.video import Frame, VideoEnhancer, VideoSource

from .program import run_program
from .result_file import write_result

Pixels = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]
MEMORY = 0.9  # of the wobble from one frame to the next (an AR(1) process): it takes 10 frames to forget
WOBBLES = {"steady": 0.0, "wobbling": 0.1}  # standard deviation of the exposure over time, in stops
FRAME_BY_FRAME: dict[str, Any] = {"smoothing": 0.0}
HEADS = ("change", "flicker", "AB(Var)", "warp 1e-3", "static", "PSNR")  # in 1/255, (1/255)^2 and dB


@dataclass(frozen=True)
class ClipResult:
    """One way to enhance one dark clip."""

    clip: str
    draw: int  # of the camera: the seed
    exposure: str  # a key of WOBBLES
    way: str
    frames: int
    score: ClipScore


def camera(rng: Generator) -> LowLight:
    """One draw of everything but the noise itself: settings whose ranges are single values."""
    drawn: dict[str, Any] = {"jpeg": 0.0}
    for field in fields(LowLight):
        if field.name not in ("jpeg", "quality"):
            low, high = getattr(LowLight(), field.name)
            drawn[field.name] = (rng.uniform(low, high),) * 2
    return LowLight(**drawn)


def darken(frames: list[Pixels], seed: int, wobble: float) -> list[Pixels]:
    """What a camera would have taken of the same scene with little light; `wobble` in stops."""
    rng = np.random.default_rng(seed)
    settings, low = camera(rng), []
    for pixels, drift in zip(frames, drifts(wobble, rng)):
        stops = settings.stops[0] + drift
        low.append(simulate(pixels, rng, replace(settings, stops=(stops, stops))))
    return low


def drifts(wobble: float, rng: Generator) -> Iterator[float]:
    """The exposure of one frame after the other, in stops from the first: an AR(1) process; it never ends."""
    drift = 0.0
    while True:
        yield drift
        drift = MEMORY * drift + wobble * (1 - MEMORY**2) ** 0.5 * rng.standard_normal()


def enhance(enhancer: Enhancer, frames: list[Frame], low: list[Pixels], options: dict[str, Any]) -> Iterator[Pixels]:
    """The dark frames at the times of `frames`, enhanced."""
    video = VideoEnhancer(enhancer, **options)
    for frame, pixels in zip(frames, low, strict=True):
        yield from (done.pixels for done in video.enhance(replace(frame, pixels=pixels)))
    yield from (done.pixels for done in video.flush())


def run_clip(
    enhancer: Enhancer, path: Path, count: int, draws: range, ways: dict[str, dict[str, Any]]
) -> Iterator[ClipResult]:
    """Every way on both exposures of one clip, with several cameras."""
    frames = read(path, count)
    original = [frame.pixels for frame in frames]
    for draw, (exposure, wobble) in product(draws, WOBBLES.items()):
        low = darken(original, draw, wobble)
        for way, options in ways.items():
            clips = {"result": enhance(enhancer, frames, low, options), "reference": iter(original)}
            yield ClipResult(path.stem, draw, exposure, way, len(frames), measure_video(clips).clips["result"])


def read(path: Path, count: int) -> list[Frame]:
    """The first frames of a clip."""
    source = VideoSource(str(path))
    try:
        return list(islice(source.frames(), count))
    finally:
        source.close()


def show(results: list[ClipResult], console: Console) -> None:
    """A table of means over the draws for each clip and exposure, and how every way compares with frame by frame."""
    for clip, exposure in dict.fromkeys((result.clip, result.exposure) for result in results):
        here = [result for result in results if (result.clip, result.exposure) == (clip, exposure)]
        draws = len({result.draw for result in here})
        title = f"{clip}, {exposure} exposure, {here[0].frames} frames, {draws} draws"
        table = Table(title=title, title_justify="left")
        table.add_column("way", no_wrap=True)
        for head in HEADS:
            table.add_column(head, justify="right")
        for way in ways_of(here):
            table.add_row(way, *_numbers([result.score for result in here if result.way == way]))
        console.print(table)
    for line in compare(results):
        console.print(line, highlight=False, soft_wrap=True)


def _numbers(scores: list[ClipScore]) -> list[str]:
    factors = {"change": 1, "flicker": 1, "ab_var": 1, "warping_error": 1e3, "static_std": 1, "psnr": 1}
    values = {name: [getattr(score, name) for score in scores] for name in factors}
    return ["-" if None in values[name] else f"{fmean(values[name]) * factors[name]:.2f}" for name in factors]


def compare(results: list[ClipResult]) -> list[str]:
    """Means over the clips, against frame by frame."""
    lines = []
    for exposure in WOBBLES:
        here = [result for result in results if result.exposure == exposure]
        base = [result.score for result in here if result.way == next(iter(ways_of(here)))]
        for way in ways_of(here)[1:]:
            other = [result.score for result in here if result.way == way]
            change, flicker = (_ratio(other, base, name) for name in ("change", "flicker"))
            gains = [b.psnr - a.psnr for a, b in zip(base, other, strict=True)]  # type: ignore[operator]
            error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
            lines.append(
                f"{exposure}: {way} has {change:.2f} of the brightness change of frame by frame, {flicker:.2f} of the "
                f"flicker against the original, and {fmean(gains):+.2f} ± {error:.2f} dB of PSNR ({len(gains)} runs)"
            )
    return lines


def ways_of(results: list[ClipResult]) -> list[str]:
    """The ways in the order they were run; the first is the one to compare with."""
    return list(dict.fromkeys(result.way for result in results))


def _ratio(other: list[ClipScore], base: list[ClipScore], name: str) -> float:
    return float(sum(getattr(s, name) or 0 for s in other) / max(sum(getattr(s, name) or 0 for s in base), 1e-9))


def main(
    clips: list[Path] = typer.Argument(..., metavar="CLIP...", help="Ordinary footage; small clips are quick."),
    model: str = typer.Option(DEFAULT_MODEL, help="Checkpoint folder, bundle or shipped model."),
    frames: int = typer.Option(60, min=2, help="Frames of each clip."),
    draws: int = typer.Option(3, min=1, help="Simulated cameras for each clip."),
    seed: int = typer.Option(1, min=0, help="Of the first camera and its noise; the next ones follow."),
    smoothing: list[float] = typer.Option([0.5], help="Time constants in seconds to try (repeat the option)."),
    refresh: list[int] = typer.Option([], help="Also try features on every k-th frame only (repeat the option)."),
    warm_start: list[float] = typer.Option([], help="Also try warm starts, shares of the noise (repeat the option)."),
    out: Path | None = typer.Option(None, "-o", "--out", help="JSON to write."),
) -> None:
    """Darken clips, enhance them frame by frame and smoothed, and compare flicker and PSNR."""
    if out is not None and (out.is_dir() or out.suffix != ".json"):  # now: not after a long run
        raise LLDiffusionError(f"--out '{out}': the report is JSON, name a file that ends in .json")
    keep_freed_memory()
    first = smoothing[0]
    ways = {"frame by frame": FRAME_BY_FRAME}
    ways |= {f"smoothed {seconds:g} s": {"smoothing": seconds} for seconds in smoothing}
    ways |= {f"smoothed {first:g} s, every {k} frames": {"smoothing": first, "refresh": k} for k in refresh}
    ways |= {f"smoothed {first:g} s, warm {w:g}": {"smoothing": first, "warm_start": w} for w in warm_start}
    with Enhancer.open(model) as enhancer:
        cameras, total = range(seed, seed + draws), len(clips) * draws * len(WOBBLES) * len(ways)
        runs = (result for clip in clips for result in run_clip(enhancer, clip, frames, cameras, ways))
        with progress_bar() as bar:
            results = list(bar.track(runs, total, description="clips"))
        about = enhancer.info()
    show(results, Console())
    typer.echo(f"model {model}: {', '.join(f'{name} {value}' for name, value in list(about.items())[:6])}; seed {seed}")
    if out is not None:
        write_result(out, {"model": about, "seed": seed, "results": [asdict(result) for result in results]})


if __name__ == "__main__":
    run_program(main)
