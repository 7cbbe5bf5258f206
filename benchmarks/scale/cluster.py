"""Actors of `lldiff enhance --ray` beside as many bare processes, in turns."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

from lldiffusion.engines import Enhancer
from lldiffusion.scale.cluster import SHARE
from lldiffusion.scale.places import Place
from lldiffusion.scale.ray_pictures import enhance_on_ray
from lldiffusion.scale.service.picture import enhance_bytes
from lldiffusion.scale.service.query import Wishes


def rates(model: str, photo: Path, actors: int, pictures: int, rounds: int) -> dict[str, Any]:
    """Pictures a second of so many bare processes and of as many actors, each working all the time."""
    found: dict[str, Any] = {"actors": actors, "bare": [], "ray": [], "start": []}
    for number in range(rounds):
        found["bare"].append(_bare(model, photo, actors, pictures))
        rate, start = _on_ray(model, photo, actors, pictures, photo.parent / f"out-{actors}-{number}")
        found["ray"].append(rate)
        found["start"].append(start)
    return found


def handing_out(count: int = 300) -> float:
    """Seconds that Ray Data takes to hand one part, of one name, to an actor that does nothing, and back."""
    import ray

    times = []
    for parts in (count // 10, count):
        start = time.perf_counter()
        given = ray.data.from_items([{"source": str(i)} for i in range(parts)], override_num_blocks=parts)
        for _ in given.map(Nothing, compute=ray.data.ActorPoolStrategy(size=1), num_cpus=SHARE).iter_rows():
            pass
        times.append(time.perf_counter() - start)
    return max((times[1] - times[0]) / (count - count // 10), 1e-6)


class Nothing:
    """An actor that gives back what it gets."""

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        return row


def _bare(model: str, photo: Path, processes: int, pictures: int) -> float:
    context = multiprocessing.get_context("spawn")
    ready, ended = context.Barrier(processes), context.Queue()
    share = -(-pictures // processes)
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments = (model, str(photo), share, ready, ended)
    started = [context.Process(target=_work, args=arguments) for _ in range(processes)]
    for each in started:
        each.start()
    seconds = [ended.get() for _ in started]
    for each in started:
        each.join()
    return sum(share / each for each in seconds)


def _work(model: str, photo: str, pictures: int, ready: Any, ended: Any) -> None:
    """What `lldiff enhance` does of every picture: read, enhance, write."""
    source, wishes = Path(photo), Wishes("m")
    target = source.with_name(f"bare-{os.getpid()}.jpg")
    with Enhancer.open(model, device="cpu") as enhancer:
        enhance_bytes(source.read_bytes(), enhancer, wishes, source.parent, 10**9)
        ready.wait()
        start = time.perf_counter()
        for _ in range(pictures):
            target.write_bytes(enhance_bytes(source.read_bytes(), enhancer, wishes, source.parent, 10**9).body)
        ended.put(time.perf_counter() - start)
    target.unlink()


def _on_ray(model: str, photo: Path, actors: int, pictures: int, out: Path) -> tuple[float, float]:
    """(pictures a second once all actors work, seconds until then)."""
    copies = out.with_name(f"{out.name}-in")
    copies.mkdir()
    out.mkdir()
    jobs: list[tuple[Place, Place]] = []
    for number in range(pictures + 2 * actors):
        shutil.copy(photo, copies / f"{number}.jpg")
        jobs.append((copies / f"{number}.jpg", out / f"{number}.jpg"))
    engine = {"source": model, "device": "cpu"}
    start = time.time()
    failed = enhance_on_ray("local", jobs, engine, Wishes(model), 10**9, actors=actors)
    assert not failed, failed
    done = sorted(path.stat().st_mtime for path in out.glob("*.jpg"))
    shutil.rmtree(copies)
    shutil.rmtree(out)
    first = 2 * actors - 1  # by then every actor has made its first, which warms it up
    last = len(done) - actors  # from then on there is no more for all of them
    return (last - first) / (done[last] - done[first]), done[0] - start


def efficiency(found: dict[str, Any]) -> float:
    """What the actors reach of the bare speed, the median of the rounds."""
    return median(ray / bare for ray, bare in zip(found["ray"], found["bare"]))
