"""Everything that is to be measured on a machine with an NVIDIA GPU, part after part.

    pytest -m gpu                                          # first: does every backend answer rightly here?
    python -m benchmarks.gpu [PART...] [-o benchmarks/results/gpu] [--budget 1200]
    python -m benchmarks.gpu --rehearse -o /somewhere      # toy sizes on the CPU: does every part run?

Each part is a JSON file, written when the part ends.  A part whose packages are missing says so and the next one runs.
Exit code 1 when a part failed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import typer

from lldiffusion.bench.benchmark import benchmark
from lldiffusion.bench.ceilings import measure_ceilings
from lldiffusion.bench.cost import count
from lldiffusion.bench.machine import allowed_cpus, conditions, versions
from lldiffusion.bench.models import find_bench_model, with_bundle
from lldiffusion.bench.peers import PRECISIONS
from lldiffusion.bench.settings import Settings
from lldiffusion.bundle import Bundle
from lldiffusion.engines.backends.onnx_runtime import import_onnxruntime
from lldiffusion.engines.driver import driver
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.export.build import build_engines

from . import gpu_training, gpu_video
from .program import run_program
from .result_file import write_result

SIZES = ((600, 400), (1280, 720), (1920, 1080), (3840, 2160))  # (width, height)
STEPS = (25, 4, 2, 1)
Table = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What every part is told."""

    out: Path
    device: str = "cuda:0"
    models: tuple[str, ...] = ("tiny", "paper")
    budget: float = 1200.0  # seconds of the part `bench`
    rehearse: bool = False  # toy sizes: the numbers mean nothing


def part_versions(plan: Plan) -> Table:
    """Read first: pins of this project do not apply on another machine."""
    found: Table = {"packages": versions(), "driver": driver().problem or asdict(driver()), "conditions": conditions()}
    try:
        import torch

        found["torch"] = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        found["torch"]["gpu"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none is usable"
    except ImportError as error:
        found["torch"] = f"missing: {error}"
    try:
        onnxruntime = import_onnxruntime("its list of providers")
        found["onnxruntime providers"] = onnxruntime.get_available_providers()
    except LLDiffusionError as error:
        found["onnxruntime providers"] = f"missing: {error}"
    return found


def part_ceilings(plan: Plan) -> Table:
    """The machine's limits, and what each model needs at each size."""
    seconds = 0.3 if plan.rehearse else 3.0
    rates = [
        asdict(measure_ceilings(plan.device, precision, len(allowed_cpus()), seconds, plan.rehearse))
        for precision in PRECISIONS
    ]
    work = []
    for model in plan.models:
        config = json.dumps(find_bench_model(model).config.to_dict())
        for width, height in SIZES:
            cost = count(config, height, width, 1)
            row = {"model": model, "size": f"{width}x{height}", "step GFLOP": cost.operations(1) / 1e9}
            work.append(row | {f"step bytes {p}": cost.bytes(1, p) for p in PRECISIONS})
    return {"ceilings": rates, "work": work}


def part_bench(plan: Plan) -> Table:
    """`lldiff bench`, its whole result in `bench.json`."""
    notes: list[str] = []
    settings = Settings(
        models=plan.models, device=plan.device, sizes=SIZES, steps=STEPS, batches=(1, 4), budget=plan.budget
    )
    if plan.rehearse:
        small = replace(settings, sizes=((64, 64),), steps=(1,), batches=(1,), pictures=0, scaling=False, small=True)
        settings = replace(small, backends="eager", threads=1)
    else:
        notes = [note for model in plan.models for note in build_all(model)]
    result = benchmark(settings, lambda text, share: print(f"  {100 * share:3.0f} %  {text}", flush=True))
    result.save(plan.out / "bench.json")
    return {"result": "bench.json", "measurements": len(result.measurements), "notes": [*notes, *result.notes]}


def build_all(model: str) -> Iterator[str]:
    """Build the float16 engines of a model with every TensorRT that is here; yields why where one cannot."""
    source = with_bundle(find_bench_model(model), "fp16", print)
    for flavour in ("tensorrt", "tensorrt-rtx"):
        try:
            build_engines(Bundle.open(source.bundle), flavour, "fp16")
        except LLDiffusionError as error:
            yield f"{source.name}: no {flavour} engines: {error}"


PARTS: dict[str, Callable[[Any], Table]] = {
    "versions": part_versions,
    "ceilings": part_ceilings,
    "bench": part_bench,
    "video": gpu_video.run,
    "training": gpu_training.run,
}

NAMES = ", ".join(PARTS)


def run_part(name: str, plan: Plan) -> bool:
    """Run one part and write its file; False when it failed."""
    print(f"{name} ...", flush=True)
    start = time.monotonic()
    try:
        found, status = PARTS[name](plan), "done"
    except LLDiffusionError as error:
        found, status = {"reason": str(error)}, "not possible here"
    except Exception as error:  # the parts after this one shall still run, and the reason be kept
        found, status = {"reason": f"{type(error).__name__}: {error}"}, "failed"
    about = {"part": name, "status": status, "rehearsal": plan.rehearse, "seconds": time.monotonic() - start}
    write_result(plan.out / f"{name}.json", about | found)
    print(f"{name}: {status} {found.get('reason', '')}", flush=True)
    return status != "failed"


def main(
    parts: list[str] = typer.Argument(None, metavar="[PART]...", help=f"{NAMES} [all, in this order]."),
    out: Path = typer.Option(Path("benchmarks/results/gpu"), "-o", "--out", help="Folder for the JSON files."),
    device: str = typer.Option("cuda:0", help="cuda:N."),
    models: str = typer.Option("tiny,paper", help="Comma-separated, as `lldiff bench` takes them."),
    budget: float = typer.Option(1200, help="Seconds of the part `bench`."),
    rehearse: bool = typer.Option(False, help="Toy sizes on the CPU."),
) -> None:
    """Measure everything on a GPU."""
    wanted = [choose(part, PARTS, "part") for part in parts or PARTS]
    if not rehearse and driver().problem:
        raise LLDiffusionError(f"no GPU to measure: {driver().problem}; --rehearse runs toy sizes on the CPU")
    plan = Plan(out, "cpu" if rehearse else device, tuple(models.split(",")), budget, rehearse)
    out.mkdir(parents=True, exist_ok=True)
    fine = [run_part(part, plan) for part in wanted]
    raise typer.Exit(0 if all(fine) else 1)


if __name__ == "__main__":
    run_program(main)
