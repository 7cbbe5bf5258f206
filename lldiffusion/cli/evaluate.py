"""`lldiff eval`: a model, another method's results or a baseline, measured under named protocols; or a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.scale.places import place

from .evaluate_video import check_options, evaluate_video
from .options import AsJson, Device, Overwrite, Sampler, Steps, echo_json

if TYPE_CHECKING:
    from lldiffusion.evaluation.lpips import Lpips
    from lldiffusion.evaluation.measure import EvaluationCase, Instruments, Method, Score

app = typer.Typer(add_completion=False)


@app.command("eval")
def evaluate(
    data: str | None = typer.Option(
        None, help="Folder of pairs (LOL, LOL-v2, VE-LOL, low/ + normal/), or of dark images."
    ),
    video: str | None = typer.Option(None, help="A clip: measure flicker, warping error and noise over time."),
    reference: str | None = typer.Option(None, help="With --video: the normal-light clip; adds PSNR and SSIM."),
    low: str | None = typer.Option(None, help="With --video: the dark clip it was made of, measured beside it."),
    model: str | None = typer.Option(None, help="Checkpoint folder or shipped model [tiny]."),
    results: str | None = typer.Option(None, help="Another method's images, matched by file stem."),
    baseline: str | None = typer.Option(None, help="gamma, fixed-gamma or input, instead of a model."),
    protocol: str = typer.Option(
        "standard,gtmean,lldiffusion", help="Protocols, comma-separated; also lldiffusion-corrected."
    ),
    steps: Steps = None,
    sampler: Sampler = None,
    seeds: str = typer.Option("0", help="Seeds, comma-separated: several give the spread."),
    device: Device = "auto",
    limit: int | None = typer.Option(None, min=1, help="Measure only the first N images or frames."),
    niqe_params: Path | None = typer.Option(None, help="NIQE's model parameters, .mat or .npz [$LLDIFF_NIQE_PARAMS]."),
    lpips_weights: Path | None = typer.Option(
        None,
        help="LPIPS's AlexNet, .npz, .safetensors or .pth "
        "[$LLDIFF_LPIPS_WEIGHTS, else torchvision's, 244 MB, fetched once].",
    ),
    out: str = typer.Option("eval.json", "-o", "--out", help="JSON to write; a .csv of the same name goes beside it."),
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure PSNR, SSIM, LPIPS, NIQE and brightness error per image and in the mean, and save them.

    Without normal-light images in the folder only NIQE is measured.  Folders, clips, models and the report may be at
    addresses (s3://...).  With --video: flicker, AB(Var), warping error and
    static noise of a clip, and PSNR and SSIM against --reference.
    """
    require("skimage", "eval", "evaluation")
    from lldiffusion.scale.fetching import committed, here, named

    _check_out(out, overwrite)
    of_images: dict[str, Any] = {
        "--data": data,
        "--model": model,
        "--results": results,
        "--baseline": baseline,
        "--steps": steps,
    }
    of_images |= {"--sampler": sampler, "--niqe-params": niqe_params, "--lpips-weights": lpips_weights}
    check_options(video, of_images, {"--reference": reference, "--low": low}, data)
    clips = {"result": video, "reference": reference, "low": low}
    given = [text for text in (data, model, results, *clips.values()) if text is not None]
    with named(*given, out), committed(out, overwrite) as report:
        if video is not None:
            files = {name: text for name, text in clips.items() if text is not None}
            saved = evaluate_video(files, limit, Path(report), as_json)
        else:
            assert data is not None
            _check_options(model, results, baseline, {"--steps": steps, "--sampler": sampler}, seeds)
            jobs, instruments = _prepare(Path(here(data)), limit, protocol, niqe_params, lpips_weights)
            Path(report).parent.mkdir(parents=True, exist_ok=True)  # now: a bad path should not cost a long run
            if results is not None or baseline is not None:
                measured = _measure_fixed(jobs, instruments, results, baseline)
            else:
                measured = _measure_model(jobs, instruments, model, _parse_seeds(seeds), (steps, sampler, device))
            saved = _report(measured, data, instruments, Path(report), as_json)
    names = [out if path.suffix == ".json" else f"{out.removesuffix('.json')}{path.suffix}" for path in saved]
    typer.echo(f"saved: {', '.join(names)}", err=as_json)


def _report(
    measured: tuple[dict[str, Any], list[Score]], data: str, instruments: Instruments, out: Path, as_json: bool
) -> tuple[Path, ...]:
    from rich.console import Console

    from lldiffusion.evaluation.report import EvaluationReport
    from lldiffusion.evaluation.show import show

    about, scores = measured
    report = EvaluationReport(about, data, instruments, scores)
    saved = report.save(out)
    if as_json:
        echo_json(report.to_dict())
    else:
        show(report, Console())
    return saved


def _check_options(
    model: str | None, results: str | None, baseline: str | None, of_models: dict[str, Any], seeds: str
) -> None:
    given = {"--model": model, "--results": results, "--baseline": baseline}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise LLDiffusionError(f"{' and '.join(named)} exclude each other: give one of --model, --results, --baseline")
    useless = [name for name, value in of_models.items() if value is not None] + (["--seeds"] if seeds != "0" else [])
    if useless and (results is not None or baseline is not None):
        raise LLDiffusionError(f"{', '.join(useless)} only apply to a model, not to {named[0]}")


def _check_out(out: str, overwrite: bool) -> None:
    if not out.lower().endswith(".json") or place(out).is_dir():
        raise LLDiffusionError(f"--out '{out}': the report is JSON, name a file that ends in .json")
    if place(out).exists() and not overwrite:
        raise LLDiffusionError(f"'{out}' exists already: name another file with -o, or replace it with -y")


def _prepare(
    data: Path, limit: int | None, protocol: str, niqe_params: Path | None, lpips_weights: Path | None
) -> tuple[list[EvaluationCase], Instruments]:
    """What is measured and with what."""
    from lldiffusion.evaluation.measure import Instruments
    from lldiffusion.evaluation.niqe import load_niqe
    from lldiffusion.evaluation.protocols import get_protocol

    protocols = tuple(map(get_protocol, dict.fromkeys(name.strip() for name in protocol.split(","))))
    niqe = load_niqe(niqe_params)
    jobs = _find_jobs(data, niqe=not isinstance(niqe, str))[:limit]
    return jobs, Instruments(protocols, _lpips(lpips_weights, jobs), niqe)


def _lpips(weights: Path | None, jobs: list[EvaluationCase]) -> Lpips | str:
    """The metric, where there is something to compare with: torchvision's weights are not fetched for nothing."""
    from lldiffusion.evaluation.lpips import load_lpips

    if weights is None and all(job.target is None for job in jobs):
        return "no normal-light images"
    return load_lpips(weights)


def _parse_seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise LLDiffusionError(f"--seeds '{text}': give whole numbers with commas, such as 0,1,2") from error
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise LLDiffusionError(f"--seeds '{text}': seeds are 0 or more, and each is given once")
    return seeds


def _find_jobs(data: Path, niqe: bool) -> list[EvaluationCase]:
    """The test pairs of a data set, or the images of a folder without normal-light ones."""
    from lldiffusion.data.layouts import find_pairs, find_unpaired, validate_pairs
    from lldiffusion.evaluation.measure import EvaluationCase

    try:
        return [EvaluationCase(pair.name, pair.low, pair.normal) for pair in validate_pairs(find_pairs(data, "test"))]
    except LLDiffusionError as error:
        if not _is_unpaired(data):
            raise
        if not niqe:
            raise LLDiffusionError(
                f"nothing to measure: NIQE has no parameters (--niqe-params), and {error}"
            ) from error
    return [
        EvaluationCase(path.relative_to(data).with_suffix("").as_posix(), path, None) for path in find_unpaired(data)
    ]


def _is_unpaired(data: Path) -> bool:
    """Whether a folder without a known layout is meant as dark images alone: nothing below it is named like a side."""
    if not data.is_dir() or (data / "pairs.csv").exists():
        return False
    below = [part.lower() for path in data.rglob("*") if path.is_dir() for part in path.relative_to(data).parts]
    return not any(side in part for part in below for side in ("low", "normal", "high"))


def _measure_fixed(
    jobs: list[EvaluationCase], instruments: Instruments, results: str | None, baseline: str | None
) -> tuple[dict[str, Any], list[Score]]:
    """Another method's files, or a method without a network: one run, no seed."""
    from lldiffusion.evaluation.baselines import get_baseline
    from lldiffusion.evaluation.measure import match_results
    from lldiffusion.scale.fetching import here

    if baseline is not None:
        method = get_baseline(baseline)
        return {"name": f"baseline {baseline}", "kind": "baseline"}, _collect(jobs, [(0, method)], instruments)
    assert results is not None
    folder = Path(here(results))
    jobs = match_results(jobs, folder)
    scores = _collect(jobs, [(0, lambda pixels: pixels)], instruments)
    return {"name": folder.resolve().name, "kind": "results", "folder": results}, scores


def _measure_model(
    jobs: list[EvaluationCase], instruments: Instruments, model: str | None, seeds: list[int], options: tuple[Any, ...]
) -> tuple[dict[str, Any], list[Score]]:
    from lldiffusion.engines import DEFAULT_MODEL, Enhancer
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.scale.fetching import here

    require("torch", "train", "running a model")
    keep_freed_memory()
    source, (steps, sampler, device) = model or DEFAULT_MODEL, options
    path = here(source, lasting=True)
    runs = [(s, Enhancer.open(path, steps=steps, sampler=sampler, device=device, seed=s)) for s in seeds]
    about: dict[str, Any] = {name: value for name, value in runs[0][1].info().items() if name not in ("seed", "model")}
    about |= {"seeds": seeds, "weights_sha256": _weights_hash(path)}
    scores = _collect(jobs, [(seed, enhancer) for seed, enhancer in runs], instruments)
    return {"name": f"model {source}", "kind": "model", "preset": runs[0][1].info()["model"], **about}, scores


def _weights_hash(source: str) -> str:
    from lldiffusion.bundle.find import find_model
    from lldiffusion.hashing import sha256_of

    return sha256_of(find_model(source) / "model.safetensors")


def _collect(jobs: list[EvaluationCase], runs: list[tuple[int, Method]], instruments: Instruments) -> list[Score]:
    """Measure every job with every run under a progress bar; Ctrl-C says how far it came."""
    from lldiffusion.evaluation.measure import measure
    from lldiffusion.progress import progress_bar

    scores: list[Score] = []
    with progress_bar() as bar:
        task = bar.add_task("measuring images", total=len(jobs) * len(runs))
        try:
            for seed, method in runs:
                for score in measure(jobs, method, instruments, seed):
                    scores.append(score)
                    bar.advance(task)
        except KeyboardInterrupt as stop:
            done = f"{len(scores)} of {len(jobs) * len(runs)} images"
            raise KeyboardInterrupt(f"stopped after {done}: nothing was saved; --limit N measures fewer") from stop
    return scores
