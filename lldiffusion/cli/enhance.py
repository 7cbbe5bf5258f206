"""`lldiff enhance`: dark pictures in, bright pictures out."""

from __future__ import annotations

import glob
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lldiffusion.errors import LLDiffusionError

from .options import (
    Backend,
    Device,
    Exposure,
    Model,
    Overwrite,
    Precision,
    Sampler,
    Seed,
    Steps,
    Tile,
    parse_tile,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from lldiffusion.engines import Enhancer

app = typer.Typer(add_completion=False)

SPREAD_WHITE = 0.1  # standard deviation, as a share of the range, that is white in NAME.spread.png


@app.command()
def enhance(
    inputs: list[str] = typer.Argument(..., metavar="INPUT...", help="Images, folders, or quoted globs."),
    out: Path = typer.Option(..., "-o", "--out", help="Output folder, or a file when there is one input."),
    model: Model = "tiny",
    steps: Steps = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    tile: Tile = "auto",
    exposure: Exposure = 0.0,
    match: Path | None = typer.Option(None, help="Make the results as bright, on average, as this picture."),
    samples: int = typer.Option(1, min=1, help="Average this many samples, each from noise of its own."),
    save_spread: bool = typer.Option(
        False, "--save-spread", help="Save NAME.spread.png: where the samples differ (white: 0.1 of the range)."
    ),
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Enhance photographs; format, size, bit depth, ICC profile, EXIF and alpha are kept."""
    jobs = plan_jobs(inputs, out, overwrite)
    options = _check_options(exposure, match, samples, save_spread)
    if save_spread:
        _refuse_existing([spread_path(target) for _, target in jobs], overwrite)
    from lldiffusion.engines import Enhancer
    from lldiffusion.engines.allocator import keep_freed_memory

    keep_freed_memory()
    opened = Enhancer.open(
        model,
        backend=backend,
        device=device,
        precision=precision,
        steps=steps,
        sampler=sampler,
        seed=seed,
        tile=parse_tile(tile),
    )
    with opened as enhancer:
        failed = _run(enhancer, jobs, options)
    done = len(jobs) - len(failed)
    typer.echo(f"{done} enhanced in {out}" if done != 1 else f"enhanced: {next(o for i, o in jobs if i not in failed)}")
    if failed:
        raise LLDiffusionError(f"{len(failed)} of {len(jobs)} not enhanced: " + "; ".join(failed.values()))


def plan_jobs(inputs: list[str], out: Path, overwrite: bool) -> list[tuple[Path, Path]]:
    """(input, output) for every image; every problem that can be seen beforehand is named at once."""
    from lldiffusion.images import IMAGE_SUFFIXES

    single = out.suffix.lower() in IMAGE_SUFFIXES
    pairs = [(path, out if single else out / name) for text in inputs for path, name in _expand(text)]
    if single and len(pairs) > 1:
        raise LLDiffusionError(f"{len(pairs)} inputs and one output file '{out}': name a folder with -o")
    if not single and out.is_file():
        raise LLDiffusionError(
            f"output '{out}' is a file that is no image: name a folder or a {', '.join(IMAGE_SUFFIXES)}"
        )
    targets = [target for _, target in pairs]
    twice = {str(target) for target in targets if targets.count(target) > 1}
    if twice:
        raise LLDiffusionError(
            f"several inputs would be written to {', '.join(sorted(twice))}: enhance them separately"
        )
    same = [str(path) for path, target in pairs if target.exists() and target.samefile(path)]
    if same:
        raise LLDiffusionError(f"the output would replace the input {', '.join(same[:3])}: name another folder with -o")
    _refuse_existing(targets, overwrite)
    return pairs


def _refuse_existing(targets: list[Path], overwrite: bool) -> None:
    there = [str(target) for target in targets if target.exists()]
    if there and not overwrite:
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        raise LLDiffusionError(f"already there: {', '.join(there[:3])}{more}; replace with -y, or name another folder")


def spread_path(target: Path) -> Path:
    """Where the spread of a picture's samples is saved."""
    return target.with_suffix(".spread.png")


def _expand(text: str) -> list[tuple[Path, Path]]:
    """Images named by one argument, each with its name below the output folder."""
    from lldiffusion.images import IMAGE_SUFFIXES

    path = Path(text)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not found:
            raise LLDiffusionError(f"no image in folder '{text}': accepted are {', '.join(IMAGE_SUFFIXES)}")
        return [(p, p.relative_to(path)) for p in found]
    if path.exists():
        return [(path, Path(path.name))]
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
    if not matches:
        raise LLDiffusionError(f"no image '{text}': give an image, a folder, or a quoted glob that matches")
    return [(match, Path(match.name)) for match in matches if match.is_file()]


@dataclass(frozen=True)
class EnhanceOptions:
    """What is asked of every picture."""

    exposure: float = 0.0  # stops
    brightness: float | None = None  # mean sRGB value to match instead, in [0, 1]
    samples: int = 1
    spread: bool = False  # save the standard deviation of the samples


def _check_options(exposure: float, match: Path | None, samples: int, save_spread: bool) -> EnhanceOptions:
    from lldiffusion.images import read_image

    if match is not None and exposure:
        raise LLDiffusionError("--match and --exposure exclude each other: both say how bright the result shall be")
    if save_spread and samples < 2:
        raise LLDiffusionError(f"--save-spread needs several samples, not {samples}: add e.g. --samples 8")
    brightness = float(read_image(match).pixels.mean()) if match is not None else None
    return EnhanceOptions(exposure, brightness, samples, save_spread)


def _run(enhancer: Enhancer, jobs: list[tuple[Path, Path]], options: EnhanceOptions) -> dict[Path, str]:
    """Enhance every job; returns what went wrong, by input."""
    from lldiffusion.progress import progress_bar

    failed: dict[Path, str] = {}
    with progress_bar() as bar:
        images = bar.add_task("images", total=len(jobs))
        for source, target in jobs:
            try:
                enhance_file(enhancer, source, target, options, bar)
            except LLDiffusionError as error:
                failed[source] = str(error)
            bar.advance(images)
    return failed


def enhance_file(enhancer: Enhancer, source: Path, target: Path, options: EnhanceOptions, bar: Progress) -> None:
    """Read, enhance and write one image, showing its steps on the bar."""
    import numpy as np

    from lldiffusion.engines.samples import mean_and_deviation
    from lldiffusion.images import Image, read_image, write_image

    image, stops = read_image(source), options.exposure
    height, width = image.pixels.shape[:2]
    if options.brightness is not None:
        stops = enhancer.exposure_to_match(image.pixels, options.brightness)
    task = bar.add_task(source.name, total=enhancer.evaluations(height, width) * options.samples)
    try:
        mean, spread = mean_and_deviation(enhancer, image.pixels, options.samples, stops, lambda: bar.advance(task))
    finally:
        bar.remove_task(task)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, replace(image, pixels=mean))
    if options.spread:
        shown = np.repeat(np.clip(spread / SPREAD_WHITE, 0, 1)[..., None], 3, axis=2)
        write_image(spread_path(target), Image(shown, grey=True))
