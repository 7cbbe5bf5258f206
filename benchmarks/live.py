"""A model of video beside frame-by-frame methods, on real clips made dark: quality, flicker, and what it trails.

    python -m benchmarks.live CLIP... [--model live --model tiny] [--frames 40] [-o benchmarks/results]

Every clip is darkened by the project's simulator with three noise levels (the least, the middle and the most of its
ranges), with a steady and a wobbling exposure, and enhanced by each model frame by frame (every frame as if it were
alone), as `lldiff video` does it, and by gamma and a curve.  PSNR, SSIM and LPIPS are means over the frames from the
eleventh on, against the original clip; flicker and warping error are those of `lldiffusion.evaluation.video`.

The trail: a bright bar crosses a dark, noisy, still photograph.  Where it left a pixel k frames ago, the result is
compared with the result of the same clip without the bar: mean |difference|, in 1/255.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from lldiffusion.data.simulate import LowLight, simulate
from lldiffusion.engines import Enhancer
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.evaluation.baselines import automatic_gamma
from lldiffusion.evaluation.lpips import Lpips, lpips_at_hand
from lldiffusion.evaluation.metrics import psnr, ssim_gaussian
from lldiffusion.evaluation.video import measure_video
from lldiffusion.images import to_uint8
from lldiffusion.progress import progress_bar
from lldiffusion.video import Frame, VideoEnhancer

from .flicker import WOBBLES, drifts, read
from .markdown import table_lines
from .program import run_program
from .result_file import write_result

Pixels = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]
NOISE = {"least": 0.0, "middle": 0.5, "most": 1.0}  # where in the simulator's (logarithmic) ranges shot and read lie
MIDDLE = ("red", "blue", "floor", "floor_tint", "headroom", "relative", "noise_red", "noise_blue", "smooth")
FROM = 10  # frames that a recursion is given before quality counts
BAR, SPEED = 24, 8  # width of the bar and its way from frame to frame, in pixels
TRAILS = (1, 2, 3, 4, 6)  # frames ago
CURVES = 8  # of x + a x (1 - x), one after the other (Guo et al., "Zero-DCE", CVPR 2020), one a for the whole picture
Way = Callable[[list[Frame]], Iterator[Pixels]]


@dataclass(frozen=True)
class Result:
    """One way to enhance one dark clip."""

    way: str
    clip: str
    noise: str  # a key of NOISE
    exposure: str  # a key of WOBBLES
    psnr: float  # dB
    ssim: float
    lpips: float | None
    change: float  # of the brightness from frame to frame, 1/255
    flicker: float  # the part of it that the scene did not make, 1/255
    warping: float | None  # error, times 1000


def darken(frames: list[Frame], noise: float, wobble: float, seed: int) -> list[Frame]:
    """The same frames with little light: one camera, noise drawn anew for each."""
    rng, ranges = np.random.default_rng(seed), LowLight(jpeg=0.0)
    shot, read_noise = (a * (b / a) ** noise for a, b in (ranges.shot, ranges.read))
    drawn = {"shot": (shot, shot), "read": (read_noise, read_noise)}
    drawn |= {name: (fmean(getattr(ranges, name)),) * 2 for name in MIDDLE}
    dark = []
    for frame, drift in zip(frames, drifts(wobble, rng)):
        stops = fmean(ranges.stops) + drift
        settings = replace(ranges, **(drawn | {"stops": (stops, stops)}))  # type: ignore[arg-type]
        dark.append(replace(frame, pixels=simulate(_unit(frame.pixels), rng, settings)))
    return dark


def streamed(enhancer: Enhancer, refresh: int | None = None) -> Way:
    """As `lldiff video` does it, or with another `refresh`."""

    def run(frames: list[Frame]) -> Iterator[Pixels]:
        video = VideoEnhancer(enhancer, refresh=refresh)
        for frame in frames:
            yield from (_unit(done.pixels) for done in video.enhance(frame))
        yield from (_unit(done.pixels) for done in video.flush())

    return run


def alone(method: Callable[[NDArray[Any]], NDArray[Any]]) -> Way:
    """Every frame as if it were the only one."""
    return lambda frames: (_unit(method(frame.pixels)) for frame in frames)


def curve(pixels: NDArray[Any]) -> Pixels:
    """Eight times x + a x (1 - x), with the one `a` in [0, 1] that brings the mean closest to 0.4."""
    x = _unit(pixels)
    small = x[::4, ::4]
    strengths = np.linspace(0, 1, 41)
    best = min(strengths, key=lambda a: abs(float(_curved(small, a).mean()) - 0.4))
    return _curved(x, best)


def _curved(x: Pixels, strength: float) -> Pixels:
    for _ in range(CURVES):
        x = x + np.float32(strength) * x * (1 - x)
    return x


def _unit(pixels: NDArray[Any]) -> Pixels:
    return pixels.astype(np.float32) / np.float32(255 if pixels.dtype == np.uint8 else 1)


def measure(
    way: str, run: Way, clip: str, frames: list[Frame], noise: str, exposure: str, lpips: Lpips | None
) -> Result:
    """One row."""
    made = list(run(darken(frames, NOISE[noise], WOBBLES[exposure], seed=1)))
    true = [_unit(frame.pixels) for frame in frames]
    late = [(to_uint8(a), to_uint8(b)) for a, b in zip(made[FROM:], true[FROM:], strict=True)]
    score = measure_video({"result": iter(made), "reference": iter(true)}).clips["result"]
    assert score.flicker is not None, "there is a reference"
    return Result(
        way,
        clip,
        noise,
        exposure,
        psnr=fmean(psnr(a, b) for a, b in late),
        ssim=fmean(ssim_gaussian(a, b) for a, b in late),
        lpips=None if lpips is None else fmean(lpips(a, b) for a, b in late[::5]),
        change=score.change,
        flicker=score.flicker,
        warping=None if score.warping_error is None else 1e3 * score.warping_error,
    )


def trail(run: Way, background: Pixels) -> dict[str, float]:
    """Frames since the bar has left -> mean |difference| that it leaves, in 1/255."""
    width = background.shape[1]
    places = range(0, width - BAR, SPEED)
    still = [Frame(background, i, Fraction(1, 25)) for i in range(len(places))]
    crossed = [replace(frame, pixels=_barred(background, left)) for frame, left in zip(still, places, strict=True)]
    made = [list(run(darken(frames, NOISE["middle"], 0.0, seed=2))) for frames in (crossed, still)]
    found: dict[str, list[float]] = {str(k): [] for k in TRAILS}
    for i, k in product(range(FROM, len(places)), TRAILS):
        left = places[i - k]
        columns = slice(left, left + SPEED)  # what the bar left first, and has not come back to
        difference = np.abs(made[0][i] - made[1][i])[:, columns]
        found[str(k)].append(float(difference.mean()) * 255)
    return {k: fmean(values) for k, values in found.items()}


def _barred(background: Pixels, left: int) -> Pixels:
    pixels = background.copy()
    pixels[:, left : left + BAR] = (0.9, 0.85, 0.7)
    return pixels


HEADS = ("way", "PSNR, dB", "SSIM", "LPIPS", "change, /255", "flicker, /255", "warping, 1e-3")


def to_markdown(results: list[Result], trails: dict[str, dict[str, float]]) -> str:
    """The page: means over clips and noise levels for each exposure, PSNR by noise level, trails."""
    lines = ["# Video, frame by frame and as a clip", ""]
    for exposure in WOBBLES:
        here = [result for result in results if result.exposure == exposure]
        clips = len({result.clip for result in here})
        lines += [f"## {exposure} exposure ({clips} clips, {len(NOISE)} noise levels)", ""]
        lines += [*table_lines(HEADS, (_row(way, here) for way in ways_of(here))), ""]
    lines += ["## PSNR by noise level, dB (both exposures)", ""]
    rows = ([way, *(_mean(_psnrs(results, way, noise), 2) for noise in NOISE)] for way in ways_of(results))
    lines += [*table_lines(("way", *NOISE), rows), ""]
    lines += ["## What a bright bar leaves behind it, mean |difference|, /255", ""]
    rows = ([way, *(f"{value:.2f}" for value in left.values())] for way, left in trails.items())
    lines += table_lines(("way", *(f"{k} ago" for k in TRAILS)), rows)
    return "\n".join([*lines, "", (__doc__ or "").split("\n\n", 2)[2]])


def _row(way: str, results: list[Result]) -> list[str]:
    mine = [result for result in results if result.way == way]
    digits = {"psnr": 2, "ssim": 3, "lpips": 3, "change": 2, "flicker": 2, "warping": 2}
    return [way, *(_mean([getattr(r, name) for r in mine], places) for name, places in digits.items())]


def _psnrs(results: list[Result], way: str, noise: str) -> list[float | None]:
    return [result.psnr for result in results if (result.way, result.noise) == (way, noise)]


def _mean(values: list[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):.{digits}f}" if known else "-"


def ways_of(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(result.way for result in results))


def main(
    clips: list[Path] = typer.Argument(..., metavar="CLIP...", help="Ordinary footage; small clips are quick."),
    model: list[str] = typer.Option(["live", "tiny"], help="Shipped models, checkpoints or bundles (repeat it)."),
    frames: int = typer.Option(40, min=FROM + 2, help="Frames of each clip."),
    precision: str = typer.Option("auto", help="Of the models."),
    out: Path = typer.Option(Path("benchmarks/results"), "-o", "--out", help="Folder for live.json and live.md."),
) -> None:
    """Darken clips, enhance them in every way, and compare quality, flicker and trails."""
    keep_freed_memory()
    lpips = lpips_at_hand()
    if isinstance(lpips, str):
        typer.echo(f"no LPIPS: {lpips}", err=True)
    opened = {name: Enhancer.open(name, precision=precision) for name in model}
    ways: dict[str, Way] = {"gamma": alone(automatic_gamma), "curve": alone(curve)}
    for name, enhancer in opened.items():
        ways |= {f"{name}, frame by frame": alone(enhancer), name: streamed(enhancer)}
        if enhancer.config.model.recurrent:
            ways[f"{name}, conditions of every frame"] = streamed(enhancer, 1)
    taken = {clip.stem: read(clip, frames) for clip in clips}
    jobs = list(product(taken.items(), NOISE, WOBBLES, ways.items()))
    with progress_bar() as bar:
        results = [
            measure(way, run, clip, shown, noise, exposure, None if isinstance(lpips, str) else lpips)
            for (clip, shown), noise, exposure, (way, run) in bar.track(jobs, len(jobs), description="clips")
        ]
    background = np.asarray(next(iter(taken.values()))[0].pixels)
    trails = {way: trail(run, _unit(background)) for way, run in ways.items()}
    about = {name: enhancer.info() for name, enhancer in opened.items()}
    body = {"models": about, "frames": frames, "results": [asdict(result) for result in results], "trails": trails}
    page = to_markdown(results, trails)
    typer.echo(page)
    write_result(out / "live.json", body, page)


if __name__ == "__main__":
    run_program(main)
