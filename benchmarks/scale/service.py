"""`lldiff serve` as a process of its own, asked over loopback."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.service.picture import enhance_bytes
from lldiffusion.scale.service.query import Wishes

from .photo import decoded

QUEUE = 64  # places, so that no request of a measurement is refused
CLIENTS, LOAD = 4, 0.7


@dataclass
class Served:
    """A service that is ready."""

    port: int
    process: int
    wall: float  # seconds from its start until it was ready
    processor: float = 0.0  # seconds of processor time until then

    def spent(self) -> float:
        """Seconds of processor time until now, in hundredths."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, body: bytes) -> float:
        """Seconds of one request on a connection of its own."""
        start = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request("POST", "/v1/enhance", body)
            answer = connection.getresponse()
            read = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise LLDiffusionError(f"the service answered {answer.status}: {read[:200]!r}")
        return time.perf_counter() - start


@contextmanager
def serving(model: str, workers: int = 1) -> Iterator[Served]:
    """`lldiff serve`, ready; killed at the end."""
    command = [sys.executable, "-m", "lldiffusion", "serve", model, "--port", "0", "--device", "cpu"]
    command += ["--workers", str(workers), "--queue", str(QUEUE), "--videos", "0"]
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as one:
        assert one.stderr is not None
        line = one.stderr.readline()
        if "listening" not in line:
            raise LLDiffusionError(f"the service does not start: {line.strip()}")
        port = int(line.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/readyz")
        connection.getresponse().read()
        served = Served(port, one.pid, time.perf_counter() - start)
        served.processor = served.spent()
        try:
            yield served
        finally:
            one.terminate()


def cold_starts(model: str, times: int) -> dict[str, list[float]]:
    """Seconds until a service is ready, by the clock and of the processor."""
    found: dict[str, list[float]] = {"wall": [], "processor": []}
    for _ in range(times):
        with serving(model) as served:
            found["wall"].append(served.wall)
            found["processor"].append(served.processor)
    return found


def overheads(model: str, photo: Path, rounds: int) -> dict[str, Any]:
    """Seconds of a bare call on pixels, of the same with decoding and encoding, and of a request; in turns.

    "processor": means of processor time, a request's being the service's and the client's.
    """
    body, pixels = photo.read_bytes(), decoded(photo)
    with Enhancer.open(model, device="cpu") as enhancer, serving(model) as served:
        ways: dict[str, Callable[[], Any]] = {
            "call": lambda: enhancer(pixels),
            "file": lambda: enhance_bytes(body, enhancer, Wishes("m"), photo.parent, 10**9),
            "request": lambda: served.ask(body),
        }
        found: dict[str, Any] = {name: [] for name in ways} | {"processor": dict.fromkeys(ways, 0.0)}
        for number in range(-2, rounds):
            for name, way in ways.items():
                start, spent = time.perf_counter(), time.process_time() + served.spent()
                way()
                if number >= 0:
                    found[name].append(time.perf_counter() - start)
                    found["processor"][name] += (time.process_time() + served.spent() - spent) / rounds
    return found


def throughput(model: str, photo: Path, workers: int, requests: int) -> dict[str, Any]:
    """Pictures a second and latencies, when every worker always has one and one more waits for it."""
    body = photo.read_bytes()
    with serving(model, workers) as served:
        served.ask(body)
        start = time.perf_counter()
        latencies = _clients(served, body, 2 * workers, requests, lambda dice, number: 0.0)
        return {"workers": workers, "per_second": len(latencies) / (time.perf_counter() - start), "seconds": latencies}


def at_load(model: str, photo: Path, requests: int) -> dict[str, Any]:
    """Latencies of one worker at 70 % load with 4 clients: each on a beat of its own, and each at random."""
    body = photo.read_bytes()
    with serving(model) as served:
        alone = sorted(served.ask(body) for _ in range(9))[4]
        beat = CLIENTS * alone / LOAD  # seconds between two requests of a client
        return {
            "alone": alone,
            "beat": _clients(served, body, CLIENTS, requests, lambda dice, number: beat, spread=beat),
            "random": _clients(served, body, CLIENTS, requests, lambda dice, number: dice.expovariate(1 / beat)),
        }


def _clients(
    served: Served,
    body: bytes,
    clients: int,
    requests: int,
    pause: Callable[[Random, int], float],
    spread: float = 0.0,
) -> list[float]:
    """Latencies of so many requests; `pause`: seconds from one request of a client to its next, 0: at once.

    `spread`: seconds over which the clients begin, one after the other.
    """
    latencies: list[float] = []

    def client(number: int) -> None:
        dice, due = Random(number), time.perf_counter() + spread * number / clients
        for _ in range(number, requests, clients):
            time.sleep(max(due - time.perf_counter(), 0))
            latencies.append(served.ask(body))
            due = max(due + pause(dice, number), time.perf_counter() if spread == 0 else 0)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies
