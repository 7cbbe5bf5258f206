"""`lldiff enhance`: dark pictures in, bright pictures out."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lldiffusion.errors import LLDiffusionError, is_out_of_memory, no_memory, printable

from .options import (
    Backend,
    Device,
    Exposure,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Sampler,
    Seed,
    Steps,
    Tile,
    Verbose,
    parse_tile,
)

if TYPE_CHECKING:
    from rich.progress import Progress

    from lldiffusion.engines import Enhancer
    from lldiffusion.scale.places import Place

    from .batch import Batch

app = typer.Typer(add_completion=False)

SEVERAL = 8  # pictures for which the backend is taken that starts more slowly and runs faster
SPREAD = ".spread.png"  # instead of an output's suffix: where the samples of a picture differ
SPREAD_WHITE = 0.1  # standard deviation, as a share of the range, that is white in NAME.spread.png


@app.command()
def enhance(
    inputs: list[str] = typer.Argument(
        ..., metavar="INPUT...", help="Images, folders, quoted globs, addresses (s3://...), or - (a pipe)."
    ),
    out: str = typer.Option(
        ..., "-o", "--out", help="Output folder; or a file, or - (a pipe), when there is one input."
    ),
    model: Model = "tiny",
    steps: Steps = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    tile: Tile = "auto",
    exposure: Exposure = 0.0,
    match: Path | None = typer.Option(None, help="Make the results as bright, on average, as this picture."),
    samples: int = typer.Option(
        1, min=1, help="Average this many samples, each from noise of its own; several need several --steps."
    ),
    save_spread: bool = typer.Option(
        False, "--save-spread", help="Save NAME.spread.png: where the samples differ (white: 0.1 of the range)."
    ),
    format_: str | None = typer.Option(
        None, "--format", help="png, jpeg, webp, tiff, bmp, avif, heic or jxl [that of each input]."
    ),
    quality: int | None = typer.Option(
        None, min=1, max=100, help="Of JPEG, WebP, AVIF, HEIC, JPEG XL [95, or lossless as the input]."
    ),
    max_pixels: float = typer.Option(
        200, "--max-pixels", min=0.001, help="Refuse pictures of more pixels than this many millions."
    ),
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Precision = "auto",
    shard: str = typer.Option("0/1", help="Do part I of N only, I/N from 0/N on: for jobs on several machines."),
    ray: str | None = typer.Option(
        None, "--ray", help="Work on a Ray cluster: local starts one here, auto or an address joins one."
    ),
    actors: int | None = typer.Option(None, min=1, help="With --ray: pictures in work at once [one a CPU or GPU]."),
    skip_existing: bool = typer.Option(False, "--skip-existing", help="Leave out what has an output already."),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Enhance photographs; format, size, bit depth, ICC profile, EXIF and alpha are kept.

    One file never stops the others.  Exit codes: 0 when all are done, 1 when some could not be enhanced, 2 when the
    command itself cannot be carried out.
    """
    from lldiffusion.scale.shard import Shard

    from .batch import choose_format, plan_batch, through_pipes

    chosen, part = choose_format(format_), Shard.parse(shard)
    engine: dict[str, Any] = {"source": model, "backend": backend, "device": device, "precision": precision}
    engine |= {"steps": steps, "sampler": sampler, "seed": seed, "tile": parse_tile(tile)}
    options = _check_options(exposure, match, samples, save_spread, quality)
    options = replace(options, max_pixels=round(max_pixels * 1e6))
    with through_pipes(inputs, out, chosen) as (files, target):
        if ray is not None:
            _check_for_ray(options, inputs, out)
        batch = plan_batch(files, target, chosen, overwrite or ray is not None, skip_existing, part)
        _check_outputs(batch, options, overwrite)
        if ray is not None:
            failed = _enhance_on_ray(batch, engine, options, ray, actors, overwrite)
        else:
            failed = _enhance_all(batch, engine, options, quiet, verbose)
    if not quiet:
        of_all = f" (part {part.index} of {part.count})" if part.count > 1 else ""
        typer.echo(_summary(batch, failed, out) + of_all, err=out == "-")
    if failed:
        reasons = "".join(f"\n  {reason}" for reason in failed.values())
        typer.echo(f"error: {len(failed)} of {len(batch.jobs)} not enhanced:{reasons}", err=True)
        raise typer.Exit(1)


def _check_outputs(batch: Batch, options: EnhanceOptions, overwrite: bool) -> None:
    from .batch import check_outputs, refuse_existing

    outputs = [output for _, output in batch.jobs]
    check_outputs(options.quality, outputs)
    if options.spread:
        spreads: list[Place] = [output.with_suffix(SPREAD) for output in outputs]
        refuse_existing(spreads, overwrite)


def _enhance_all(
    batch: Batch, engine: dict[str, Any], options: EnhanceOptions, quiet: bool, verbose: bool
) -> dict[Place, str]:
    """Open the model, when there is work, and use it; returns what went wrong, by input."""
    from lldiffusion.engines import Enhancer
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.scale.fetching import here, named

    from .batch import name_some

    if batch.passed_over and not quiet:
        typer.echo(f"passed over, no pictures that are read here: {name_some(batch.passed_over)}", err=True)
    if not batch.jobs:
        return {}
    keep_freed_memory()
    model = here(engine["source"], lasting=True)
    engine = engine | {"many": batch.found >= SEVERAL}
    with named(engine["source"]), Enhancer.open(**engine | {"source": model}) as enhancer:
        _check_samples(enhancer, options.samples)
        return _run(enhancer, batch.jobs, options, quiet, verbose)


def _check_for_ray(options: EnhanceOptions, inputs: list[str], out: str) -> None:
    if options.samples > 1 or options.brightness is not None or "-" in (*inputs, out):
        raise LLDiffusionError(
            "--ray takes files, one sample of each, by --exposure: leave out --samples, --match and -"
        )


def _enhance_on_ray(
    batch: Batch, engine: dict[str, Any], options: EnhanceOptions, address: str, actors: int | None, overwrite: bool
) -> dict[Place, str]:
    from lldiffusion.bundle.find import find_model
    from lldiffusion.scale.fetching import here
    from lldiffusion.scale.ray_pictures import enhance_on_ray
    from lldiffusion.scale.service.query import Wishes

    if not batch.jobs:
        return {}
    found = find_model(here(engine["source"], lasting=True))  # a wrong name shall not cost a cluster's start
    if Path(engine["source"]).exists():  # a path: actors have a working directory of their own
        engine = engine | {"source": str(found.absolute())}
    wishes = Wishes(engine["source"], exposure=options.exposure, quality=options.quality)
    return enhance_on_ray(address, batch.jobs, engine, wishes, options.max_pixels, overwrite, actors)


def _check_samples(enhancer: Enhancer, samples: int) -> None:
    """One step from pure noise gives the picture that is likeliest, whatever the noise: there is nothing to compare."""
    from lldiffusion.engines.samples import check_samples

    check_samples(enhancer, samples)
    if samples > 1 and len(enhancer.steps) == 1:
        raise LLDiffusionError(
            f"--samples {samples}: model '{enhancer.config.name}' makes its picture in one step, and samples of one "
            "step do not differ: add e.g. --steps 4"
        )


def _summary(batch: Batch, failed: dict[Place, str], out: str) -> str:
    """What was done, left out and gone wrong, in one line."""
    done = [output for path, output in batch.jobs if path not in failed]
    target = "standard output" if out == "-" else printable(done[0] if len(done) == 1 else out)
    counts = {"there already": len(batch.existing), "failed": len(failed), "passed over": len(batch.passed_over)}
    rest = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return (f"enhanced: {target}" if len(done) == 1 else f"{len(done)} enhanced in {target}") + rest


@dataclass(frozen=True)
class EnhanceOptions:
    """What is asked of every picture."""

    exposure: float = 0.0  # stops
    brightness: float | None = None  # mean sRGB value to match instead, in [0, 1]
    samples: int = 1
    spread: bool = False  # save the standard deviation of the samples
    quality: int | None = None  # of lossy formats, 1 to 100
    max_pixels: int = 200_000_000  # a larger picture is refused


def _check_options(
    exposure: float, match: Path | None, samples: int, save_spread: bool, quality: int | None
) -> EnhanceOptions:
    from lldiffusion.images import read_image

    if match is not None and exposure:
        raise LLDiffusionError("--match and --exposure exclude each other: both say how bright the result shall be")
    if save_spread and samples < 2:
        raise LLDiffusionError(f"--save-spread needs several samples, not {samples}: add e.g. --samples 8")
    brightness = float(read_image(match).pixels.mean()) if match is not None else None
    return EnhanceOptions(exposure, brightness, samples, save_spread, quality)


def _run(
    enhancer: Enhancer, jobs: list[tuple[Place, Place]], options: EnhanceOptions, quiet: bool, verbose: bool
) -> dict[Place, str]:
    """Enhance every job; returns what went wrong, by input: one picture never stops the others."""
    from lldiffusion.progress import progress_bar
    from lldiffusion.scale.staging import Staging

    failed: dict[Place, str] = {}
    with progress_bar(shown=not quiet) as bar, Staging() as staging:
        images = bar.add_task("images", total=len(jobs))
        for source, target in jobs:
            start = time.perf_counter()
            try:
                with staging.local(source, target) as (here, there):
                    notes = enhance_file(enhancer, here, there, options, bar)
                if notes and not quiet:
                    _say(bar, f"{printable(source)}: {'; '.join(notes)}")
            except LLDiffusionError as error:
                failed[source] = str(error)
            except OSError as error:
                failed[source] = f"'{printable(error.filename or source)}': {error.strerror}"
            except (MemoryError, RuntimeError, ImportError) as error:
                if not is_out_of_memory(error):
                    raise
                failed[source] = f"'{printable(source)}': {no_memory(error)}"
            if verbose and source not in failed:
                line = f"{printable(source)} -> {printable(target)} ({time.perf_counter() - start:.2f} s)"
                _say(bar, line)
            bar.advance(images)
    return failed


def _say(bar: Progress, line: str) -> None:
    bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def enhance_file(
    enhancer: Enhancer, source: Path, target: Path, options: EnhanceOptions, bar: Progress
) -> tuple[str, ...]:
    """Read, enhance and write one image, showing its steps on the bar; returns what was left out of it."""
    import numpy as np

    from lldiffusion.engines.samples import mean_and_deviation
    from lldiffusion.images import Image, read_image, write_image

    image, stops = read_image(source, options.max_pixels), options.exposure
    height, width = image.pixels.shape[:2]
    if options.brightness is not None:
        stops = enhancer.exposure_to_match(image.pixels, options.brightness)
    task = bar.add_task(printable(source.name), total=enhancer.evaluations(height, width) * options.samples)
    try:
        mean, spread = mean_and_deviation(enhancer, image.pixels, options.samples, stops, lambda: bar.advance(task))
    finally:
        bar.remove_task(task)
    target.parent.mkdir(parents=True, exist_ok=True)
    dropped = write_image(target, replace(image, pixels=mean), options.quality)
    if options.spread:
        shown = np.repeat(np.clip(spread / SPREAD_WHITE, 0, 1)[..., None], 3, axis=2)
        write_image(target.with_suffix(SPREAD), Image(shown, grey=True))
    return image.notes + dropped
