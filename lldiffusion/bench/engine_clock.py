"""How long the engines themselves run, without our loop: clocks put around the calls that do nothing else.

Both times are taken in the same call, so that their difference is no difference of two noisy runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

AttachStopwatch = Callable[[Any, "Stopwatch"], None]  # puts the stopwatch around the bare calls of an engine


class Stopwatch:
    """Adds up the time of every call it is wrapped around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start

        return timed

    def take(self) -> float:
        """The seconds since the last `take`."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class _Proxy:
    """An object whose one method is timed."""

    def __init__(self, inner: Any, method: str, stopwatch: Stopwatch) -> None:
        self._inner = inner
        setattr(self, method, stopwatch.wrap(getattr(inner, method)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def time_onnx_runtime(engine: Any, stopwatch: Stopwatch) -> None:
    """`OnnxRuntimeEngine`: its sessions' runs, those it opens later among them."""
    open_one = engine._open
    engine._open = lambda *arguments: _Proxy(open_one(*arguments), "run_with_iobinding", stopwatch)
    for name, session in engine._sessions.items():
        engine._sessions[name] = _Proxy(session, "run_with_iobinding", stopwatch)


def time_openvino(engine: Any, stopwatch: Stopwatch) -> None:
    """`OpenVinoEngine`: its requests' runs."""
    make, made = engine._request, {}

    def request(graph: str) -> Any:
        if graph not in made:
            made[graph] = _Proxy(make(graph), "infer", stopwatch)
        return made[graph]

    engine._request = request


def time_torch(engine: Any, stopwatch: Stopwatch) -> None:
    """`TorchEngine`: its networks.  On a GPU this is the time to enqueue them: not used there."""
    for name in ("level", "encoder", "color_map", "denoiser"):
        module = getattr(engine._model, name)
        if module is not None:  # a model without a level
            module.forward = stopwatch.wrap(module.forward)
