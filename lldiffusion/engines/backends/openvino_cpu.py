"""OpenVINO: a bundle's graphs on a CPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.errors import LLDiffusionError, require

from ..memory import MemoryNeed, host_memory
from ..sampler import Step
from .base import Array, Conditions, Engine, Floats
from .feeds import condition_inputs, step_inputs, threads
from .onnx_runtime import check_loads


class OpenVinoEngine(Engine):
    """Runs a model's graphs; values are NumPy arrays.

    Arithmetic is float32 whatever the graphs' precision (of eight-bit graphs: what is not rounded), but for "bf16":
    OpenVINO would choose bfloat16 by itself on some CPUs.
    Raises LLDiffusionError when a graph cannot be loaded, and for bfloat16 where this processor has none.
    """

    memory_need = MemoryNeed(stored=5.3, images=50, plain=0.6)

    def __init__(self, graphs: dict[str, Path], precision: str) -> None:
        self._openvino = require("openvino", "openvino", "the openvino backend")
        self._precision = precision
        for path in graphs.values():
            check_loads(path)
        self._core = self._openvino.Core()
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise LLDiffusionError("this processor has no bfloat16 (avx512_bf16 or AMX): use --precision fp32")
        self._models = {name: self._compile(path) for name, path in graphs.items()}
        self._types = {
            # an input may have picked up the names of what an identity made of it: all of them
            graph: {name: port.element_type.to_dtype() for port in model.inputs for name in port.names}
            for graph, model in self._models.items()
        }
        self._local = threading.local()  # an infer request serves one thread

    def level(self, thumbnail: Array) -> Array:
        return self._run("level", {"thumbnail": thumbnail})[0]

    def encode(self, low: Array) -> tuple[Array, ...]:
        return tuple(self._run("encoder", {"low": low}))

    def color_map(self, low: Array) -> Array:
        return self._run("color_map", {"low": low})[0]

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        feeds = {"x_t": x, "x0_previous": previous, **step_inputs(step), **condition_inputs(conditions)}
        x_next, x0 = self._run("denoiser", feeds)
        return x_next, x0

    def numpy(self, values: Array) -> Floats:
        return np.ascontiguousarray(values, dtype=np.float32)

    def info(self) -> dict[str, str]:
        about = {"backend": "openvino", "version": self._openvino.__version__.split("-")[0], "device": "cpu"}
        return about | {"precision": self._precision, "threads": str(threads() or "automatic")}

    def free_memory(self) -> int:
        return host_memory()

    def _compile(self, path: Path) -> Any:
        hint = "bf16" if self._precision == "bf16" else "f32"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if threads():
            settings["INFERENCE_NUM_THREADS"] = threads()
        try:
            return self._core.compile_model(self._core.read_model(path), "CPU", settings)
        except RuntimeError as error:
            raise LLDiffusionError(f"OpenVINO cannot load '{path}': {_line(error)}") from error

    def _request(self, graph: str) -> Any:
        requests: dict[str, Any] = self._local.__dict__
        if graph not in requests:
            requests[graph] = self._models[graph].create_infer_request()
        return requests[graph]

    def _run(self, graph: str, feeds: dict[str, Array]) -> list[Array]:
        types = self._types[graph]
        typed = {name: np.ascontiguousarray(value, dtype=types[name]) for name, value in feeds.items()}
        try:
            results = self._request(graph).infer(typed, share_inputs=True)
        except RuntimeError as error:
            raise LLDiffusionError(f"OpenVINO failed in {graph}: {_line(error)}; try --tile 512") from error
        return [np.array(value) for value in results.to_tuple()]  # its own buffers are overwritten by the next run


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
