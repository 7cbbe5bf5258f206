"""The near end of a worker process."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from lldiffusion.errors import LLDiffusionError
from lldiffusion.tables import build

from .peers import Peer, PeerJob
from .timed_engine import TimedCall


class PeerError(LLDiffusionError):
    """A peer could not be opened, failed, or took too long: the others go on without it."""


class WorkerProcess:
    """A worker process with one opened peer.

    Args:
        folder: for what is handed over in files.
        picture: .npy of (H, W, 3) float32 in [0, 1].
        steps: of the first picture, whose end is the end of the cold start.
        cpus: the processors it is pinned to; its engine gets as many threads.
        memory: bytes it may take, 0: no limit.
        patience: seconds it may take to get ready.
    Raises PeerError when it cannot be opened.
    """

    def __init__(
        self,
        peer: Peer,
        job: PeerJob,
        folder: Path,
        picture: Path,
        batch: int = 1,
        steps: int = 1,
        cpus: list[int] | None = None,
        memory: int = 0,
        patience: float = 300,
        tile: str | int = "none",
    ) -> None:
        self.peer = peer
        self.job = job
        self._folder = folder
        more = {"pixels": str(picture), "batch": batch, "steps": steps, "tile": tile, "memory": memory}
        order = Path(tempfile.mkstemp(".json", dir=folder)[1])
        order.write_text(json.dumps(asdict(job) | more), encoding="utf-8")
        self._errors = (folder / f"{order.stem}.log").open("w+b")
        start = time.perf_counter()
        self._process = self._spawn(order, cpus)
        self._answers: queue.Queue[str] = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        try:
            self.info: dict[str, str] = self._next(patience)["ready"]
        except BaseException:
            self.close()
            raise
        self.cold_start = time.perf_counter() - start

    def _spawn(self, order: Path, cpus: list[int] | None) -> subprocess.Popen[str]:
        """The process has a session of its own: Ctrl-C is for us, who end it."""
        environment = dict(os.environ)
        if cpus:
            environment["OMP_NUM_THREADS"] = str(len(cpus))
        code = [sys.executable, "-m", "lldiffusion.bench.worker", str(order)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
        process = subprocess.Popen(code, text=True, env=environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
        if cpus and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, cpus)
        return process

    def call(self, steps: int, patience: float = 300) -> TimedCall:
        """Time one call."""
        answer: TimedCall = build(TimedCall, self._ask({"do": "call", "steps": steps}, patience), "call")
        return answer

    def set_picture(self, picture: Path, batch: int) -> None:
        """What `call` enhances from now on."""
        self._ask({"do": "picture", "pixels": str(picture), "batch": batch}, 60)

    def enhance(self, picture: Path, steps: int, patience: float = 300) -> Any:
        """One picture of float pixels, enhanced."""
        import numpy as np

        to = Path(tempfile.mkstemp(".npy", dir=self._folder)[1])
        self._ask({"do": "enhance", "pixels": str(picture), "steps": steps, "to": str(to)}, patience)
        try:
            return np.load(to)
        finally:
            to.unlink()

    def close(self) -> None:
        """End the process, and with it those that a compiler may have started."""
        if hasattr(os, "killpg") and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def _ask(self, request: dict[str, Any], patience: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(self._last_words()) from error
        return self._next(patience)

    def _listen(self, output: IO[str]) -> None:
        try:
            for line in output:
                self._answers.put(line)
        except ValueError:  # closed while it was read
            pass
        self._answers.put("")

    def _next(self, patience: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(patience, 1))
        except queue.Empty:
            raise PeerError(f"no answer within {patience:.0f} s") from None
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        """Why it ended, from what it wrote."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"its process ended ({ended}): {' '.join(lines[-1].split())[:200] if lines else 'it said nothing'}"
