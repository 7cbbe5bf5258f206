"""How fast `lldiff video` is: whole runs, decoding, encoding and sound included, and where the time goes.

    python -m benchmarks.video_speed --model tiny --model live --precision fp32 --precision int8 -o benchmarks/results

A dark clip that pans over a photograph, with sound, is made at every size and enhanced in a process of its own, model
by model.  Frames per second are counted from the first result to the last.  Then the model, the decoder and the encoder
do the same work alone, for their share of the CPU time; what is left lies between them: colours, planes, statistics,
sound, files.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from statistics import quantiles

import typer

from lldiffusion.bench.pictures import parse_sizes
from lldiffusion.bench.scaling import fit
from lldiffusion.errors import LLDiffusionError
from lldiffusion.progress import progress_bar

from .gpu_video import make_clip
from .markdown import table_lines
from .program import run_program
from .result_file import write_result
from .video_run import CAMERA, Speed, Wish, measure

SIZES = "320x180,640x360,1280x720,1920x1080,3840x2160"


def page(rows: list[Speed], failed: dict[str, str]) -> str:
    """Markdown: a table, how cost grows with the picture, what did not run."""
    heads = ["model", "precision", "size", "frames/s", "ms a frame (5 % .. 95 %)", "memory, MiB"]
    heads += ["CPU ms a frame", "engine", "decoder", "encoder", "between"]
    lines = ["# Video: frames a second, and where the time goes", "", *table_lines(heads, map(_line, rows)), ""]
    lines += [
        f"Of a camera of {CAMERA} pictures a second, by `Enhancer.stream(live=True)`:",
        "",
        *latency_lines(rows),
        "",
    ]
    lines += ["Shares are of the CPU time of all threads; the encoder of each row is in the JSON file.", ""]
    for (model, precision), exponent in growth(rows).items():
        lines.append(f"- {model}, {precision}: the time of a frame grows as its pixels to the power of {exponent:.2f}.")
    lines += [f"- not measured: {what}: {why}" for what, why in failed.items()]
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Speed) -> list[str]:
    cuts = quantiles(row.frame_ms, n=20, method="inclusive") if len(row.frame_ms) > 1 else [row.frame_ms[0]] * 19
    shares = [part / row.total for part in (row.engine, row.decoding, row.encoding, row.between)]
    memory = "-" if row.peak is None else f"{row.peak / 2**20:.0f}"
    line = [row.model, row.precision, f"{row.width}x{row.height}", f"{row.frames_per_second:.2f}"]
    line += [f"{cuts[9]:.0f} ({cuts[0]:.0f} .. {cuts[18]:.0f})", memory, f"{row.total:.0f}"]
    return line + [f"{share:.0%}" for share in shares]


def latency_lines(rows: list[Speed]) -> list[str]:
    """A table of what programs that embed a model get, in Markdown."""
    heads = ["model", "precision", "size", "latency, ms (95 %)", "results a second", "frames dropped"]
    return table_lines(heads, (_latency(row) for row in rows if row.live_ms))


def _latency(row: Speed) -> list[str]:
    cuts = quantiles(row.live_ms, n=20, method="inclusive") if len(row.live_ms) > 1 else row.live_ms * 19
    rate, dropped = (1 - row.live_dropped) * CAMERA, f"{row.live_dropped:.0%}"
    size = f"{row.width}x{row.height}"
    return [row.model, row.precision, size, f"{cuts[9]:.0f} ({cuts[18]:.0f})", f"{rate:.1f}", dropped]


def growth(rows: list[Speed]) -> dict[tuple[str, str], float]:
    """The exponent of a frame's time over its pixels, by model and precision, where there are two sizes or more."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        point = (float(row.width * row.height), 1 / row.frames_per_second)
        curves.setdefault((row.model, row.precision), []).append(point)
    return {name: fit(points) for name, points in curves.items() if len(points) > 1}


def measure_all(wishes: list[Wish]) -> tuple[list[Speed], dict[str, str]]:
    """The rows, each from a process of its own, and why others are missing."""
    rows, failed = [], {}
    for wish in wishes:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            try:
                rows.append(process.submit(measure, wish).result())
            except (
                LLDiffusionError,
                OSError,
                RuntimeError,
            ) as error:  # no such graphs, hardware, memory; a dead process
                failed[f"{wish.model} {wish.precision} {wish.clip.stem}"] = " ".join(str(error).split())[:300]
    return rows, failed


def main(
    model: list[str] = typer.Option(["tiny"], help="Checkpoint folder, bundle or shipped model; again for more."),
    precision: list[str] = typer.Option(["auto"], help="Of each model; again for more."),
    sizes: str = typer.Option(SIZES, help="WIDTHxHEIGHT, with commas between."),
    frames: int = typer.Option(96, min=4, help="Of each clip."),
    seconds: float = typer.Option(20.0, min=0.1, help="A run ends after so long; three frames are made in any case."),
    device: str = typer.Option("auto", help="As of lldiff video."),
    codec: str | None = typer.Option(None, help="As of lldiff video."),
    preset: str | None = typer.Option(None, help="As of lldiff video."),
    hwaccel: str | None = typer.Option(None, help="As of lldiff video."),
    out: Path = typer.Option(
        Path("video_speed"), "-o", "--out", help="Folder for video_speed.json and video_speed.md."
    ),
) -> None:
    """Measure whole runs of `lldiff video`."""
    if out.exists() and not out.is_dir():
        raise LLDiffusionError(f"--out '{out}': name a folder, not a file")
    rows: list[Speed] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, progress_bar() as bar:
        for size in bar.track(parse_sizes(sizes), description="sizes"):
            place = Path(folder) / f"{size[0]}x{size[1]}"
            place.mkdir()
            clip = make_clip(place, size, frames, sound=True)
            more = {"device": device, "codec": codec, "preset": preset, "hwaccel": hwaccel, "seconds": seconds}
            done, missing = measure_all([Wish(m, p, clip, **more) for m in model for p in precision])  # type: ignore[arg-type]
            rows, failed = rows + done, failed | missing
            clip.unlink()
    if not rows:
        raise LLDiffusionError(f"nothing could be measured: {'; '.join(failed.values())}")
    out.mkdir(parents=True, exist_ok=True)
    body = {"clip": f"{frames} frames", "seconds": seconds, "rows": [asdict(row) for row in rows], "failed": failed}
    typer.echo(f"saved: {write_result(out / 'video_speed.json', body, page(rows, failed))}")


if __name__ == "__main__":
    run_program(main)
