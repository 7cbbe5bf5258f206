"""The program; see the package."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import typer

from benchmarks.program import run_program
from benchmarks.result_file import read_result, write_result
from lldiffusion.bench.record import percentile
from lldiffusion.engines import DEFAULT_MODEL, Enhancer
from lldiffusion.errors import require
from lldiffusion.scale.ray_pictures import MOST

from . import cluster, service, video
from .page import to_markdown
from .photo import dark_photo
from .simulate import Assumed, Measured, pool
from .simulate import service as served

WORKERS = (10, 100, 1000)
MEASURED = ("what", "overheads", "starts", "load", "workers", "video", "handing", "ray")


def main(
    model: str = typer.Option(DEFAULT_MODEL, help="Bundle or shipped model."),
    rounds: int = typer.Option(5, min=1, help="Of everything that is measured in turns."),
    requests: int = typer.Option(200, min=8, help="Of each measurement of the service under load."),
    pictures: int = typer.Option(40, min=2, help="Of each round with Ray, for each actor."),
    frames: int = typer.Option(24, min=2, help="Of the clip."),
    simulated: int = typer.Option(100, min=2, help="Pictures for each simulated worker."),
    only_simulate: bool = typer.Option(False, help="Take what was measured from the file that is there."),
    out: Path = typer.Option(Path("scale"), "-o", "--out", help="Folder for scale.json and scale.md."),
) -> None:
    """Measure the service and the Ray pool on this machine, and simulate many of them."""
    require("simpy", "dev", "this benchmark")
    path = out / "scale.json"
    known = read_result(path, MEASURED) if only_simulate else None
    if known is None:
        for package in ("starlette", "uvicorn", "prometheus_client"):
            require(package, "serve", "this benchmark")
        require("ray.data", "ray", "this benchmark")
        os.environ["OMP_NUM_THREADS"] = "1"
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lldiff-scale-") as name:
            known = measured(model, Path(name), rounds, requests, pictures, frames)
        write_result(path, known)  # before anything can go wrong with the rest
    found = known | simulations(known, simulated)
    typer.echo(f"written: {write_result(path, found, to_markdown(found))}")


def measured(model: str, folder: Path, rounds: int, requests: int, pictures: int, frames: int) -> dict[str, Any]:
    """Everything that this machine can say."""
    from lldiffusion.scale.cluster import joined

    photo, found = dark_photo(folder), dict[str, Any]()
    with Enhancer.open(model, device="cpu") as enhancer:
        about = enhancer.info()
    engine = f"{about['backend']} {about['version']}, {about['precision']}"
    found["what"] = f"{about['model']}, {engine}, steps {about['steps']}"
    found["overheads"] = _told("bare calls and requests", service.overheads(model, photo, 4 * rounds))
    found["starts"] = _told("cold starts", service.cold_starts(model, rounds))
    found["load"] = _told("70 % load", service.at_load(model, photo, requests))
    found["workers"] = [_told(f"{n} workers", service.throughput(model, photo, n, requests // 2)) for n in (1, 2, 4)]
    found["video"] = _told("video", video.frame_seconds(model, folder, frames, min(rounds, 3)))
    with joined("local") as ray:
        ray.data.DataContext.get_current().enable_progress_bars = False
        found["handing"] = _told("handing out", cluster.handing_out())
        found["ray"] = [_told(f"{n} actors", cluster.rates(model, photo, n, n * pictures, rounds)) for n in (1, 2)]
    return found


def simulations(found: dict[str, Any], pictures: int) -> dict[str, Any]:
    """Many workers with the times of these."""
    start = median(found["starts"]["processor"])
    known = Measured(found["overheads"]["processor"]["file"], found["handing"] / MOST, start)
    near = Assumed(fetch=1e-3, commit=2e-3, writes=1e9, slow=0, losses=0)
    ways = {
        "Ray, object store": (Assumed(), True),
        "Ray, store with 16 prefixes": (Assumed(writes=16 * Assumed.writes), True),
        "Ray, disk that all share, nothing lost": (near, True),
        "shards, object store": (Assumed(), False),
    }
    pools = [
        {"way": way, **asdict(pool(workers, workers * pictures, known, assumed, central))}
        for way, (assumed, central) in ways.items()
        for workers in WORKERS
    ]
    services = [
        _service(replicas, load, fewest, known.picture)
        for fewest in (True, False)
        for load in (0.7, 0.9)
        for replicas in (1, *WORKERS)
    ]
    return {"measured": asdict(known), "assumed": asdict(Assumed()), "pools": pools, "services": services}


def _service(replicas: int, load: float, fewest: bool, picture: float) -> dict[str, Any]:
    latencies = served(replicas, max(5000, 40 * replicas), picture, load, fewest)
    who = "who has fewer requests of two" if fewest else "anybody"
    p50, p99 = (percentile(latencies, at) for at in (50, 99))
    return {"who": who, "load": load, "replicas": replicas, "p50": p50, "p99": p99}


def _told(what: str, found: Any) -> Any:
    typer.echo(f"measured: {what}", err=True)
    return found


if __name__ == "__main__":
    run_program(main)
