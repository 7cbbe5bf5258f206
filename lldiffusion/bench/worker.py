"""The process that runs one peer: its memory, its allocator and its caches are its own.

`python -m lldiffusion.bench.worker JOB` opens the peer, enhances one picture, says so, and then answers one
line of JSON on standard output for each line on standard input:

    {"do": "call", "steps": 4}                                -> a TimedCall
    {"do": "picture", "pixels": FILE, "batch": 1}             -> {}           what `call` enhances from now on
    {"do": "enhance", "pixels": FILE, "steps": 4, "to": FILE} -> {}           one picture, saved as .npy
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.errors import LLDiffusionError

from .engine_clock import Stopwatch
from .peak_memory import limit_memory, peak, reset_peak
from .peers import PEERS, PeerJob
from .timed_engine import Pixels, TimedEngine, as_batch

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Worker:
    """One opened peer.

    Args:
        job: `PeerJob` as a table, with "pixels" (.npy), "batch", "steps" of the first call, "tile" and "memory" (bytes,
            0: no limit).
    """

    def __init__(self, job: dict[str, Any]) -> None:
        from lldiffusion.engines.allocator import keep_freed_memory

        peer = PEERS[job["peer"]]
        if job["memory"]:
            limit_memory(job["memory"])
        if peer.keeps_memory:
            keep_freed_memory()
        self.stopwatch: Stopwatch | None = None
        self._on_gpu = job["device"] != "cpu"
        self._tile = job["tile"]
        self.engine, self.config = peer.open(PeerJob(**{name: job[name] for name in PeerJob.__dataclass_fields__}))
        self._attach_stopwatch = peer.attach_stopwatch if not self._on_gpu else None
        self._settle: Callable[[], None] | None = None
        self._device_peak: Callable[[], int] | None = None
        if self._on_gpu:
            self._settle, self._device_peak = _gpu_calls()
        self.set_picture(job["pixels"], job["batch"])
        self.timed.enhance(self.pixels, job["steps"])

    def attach_stopwatch(self) -> None:
        """Put clocks around the bare engine; after the first picture, which is the cold start's."""
        if self._attach_stopwatch is not None:
            self.stopwatch = Stopwatch()
            self._attach_stopwatch(self.engine, self.stopwatch)
        self._renew()

    def set_picture(self, file: str, batch: int) -> dict[str, Any]:
        """What `call` enhances: 8-bit pixels, as most files have."""
        self.pixels: Pixels = as_batch((np.load(file) * 255 + 0.5).astype(np.uint8), batch)
        self._renew()
        return {}

    def _renew(self) -> None:
        self.timed = TimedEngine(self.engine, self.config, self.pixels, self._settle, self.stopwatch, self._tile)

    def call(self, steps: int) -> dict[str, Any]:
        """One timed call with its peak memory."""
        reset_peak()
        sample = self.timed.call(steps)
        on_device = self._device_peak() if self._device_peak is not None else None
        return replace(sample, memory=peak(), device_memory=on_device).to_dict()

    def enhance(self, file: str, steps: int, to: str) -> dict[str, Any]:
        """One picture of float pixels, saved."""
        np.save(to, self.timed.enhance(np.load(file), steps))
        return {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks for."""
        if request["do"] == "call":
            return self.call(request["steps"])
        if request["do"] == "picture":
            return self.set_picture(request["pixels"], request["batch"])
        return self.enhance(request["pixels"], request["steps"], request["to"])


def _gpu_calls() -> tuple[Callable[[], None], Callable[[], int]]:
    """(wait for the GPU, peak bytes used on it since the last time it was asked)."""
    try:
        import torch
    except ImportError:
        return (lambda: None), _used
    if not torch.cuda.is_available():
        return (lambda: None), _used

    def device_peak() -> int:
        """PyTorch knows its own peak; other engines keep what they allocated, so what is used now is theirs."""
        own = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return own if own > torch.cuda.memory_allocated() or own > 1 << 20 else _used()

    return torch.cuda.synchronize, device_peak


def _used() -> int:
    from lldiffusion.engines.driver import driver, free_memory

    gpus = driver().gpus
    return gpus[0].memory - free_memory(0) if gpus else 0


def die_with_parent() -> None:
    """A benchmark that is killed must not leave a worker behind in the middle of a call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve until standard input ends."""
    die_with_parent()
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    try:
        worker = Worker(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
        print(json.dumps({"ready": worker.engine.info()}), file=channel)
        worker.attach_stopwatch()
        for line in sys.stdin:
            print(json.dumps(worker.answer(json.loads(line))), file=channel)
    except (LLDiffusionError, MemoryError, RuntimeError) as error:
        print(json.dumps({"error": f"{' '.join(str(error).split())[:300] or type(error).__name__}"}), file=channel)


if __name__ == "__main__":
    main()
