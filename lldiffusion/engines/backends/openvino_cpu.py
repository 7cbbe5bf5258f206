"""OpenVINO: a bundle's graphs on a CPU."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.errors import LLDiffusionError, require

from ..memory import MemoryNeed, host_memory
from ..sampler import Step
from .base import Array, Conditions, Engine, Floats
from .compiled import compiled
from .feeds import condition_inputs, step_inputs, threads
from .fixed_step import ANY_STEP, NUMBERS, Denoisers, is_last
from .onnx_runtime import check_loads

UNROUNDING = ("Multiply", "Subtract", "Convert")  # what OpenVINO makes of DequantizeLinear


class OpenVinoEngine(Engine):
    """Runs a model's graphs; values are NumPy arrays.

    Arithmetic is float32 whatever the graphs' precision (of eight-bit graphs: what is not rounded), but for "bf16":
    OpenVINO would choose bfloat16 by itself on some CPUs.  `steps`: as of `OnnxRuntimeEngine`.
    Raises LLDiffusionError when a graph cannot be loaded, and for bfloat16 where this processor has none.
    """

    memory_need = MemoryNeed(stored=5.3, images=50, plain=0.6)

    def __init__(self, graphs: dict[str, Path], precision: str, steps: tuple[Step, ...] = ()) -> None:
        self._openvino = require("openvino", "openvino", "the openvino backend")
        self._precision = precision
        self._core = core()
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise LLDiffusionError("this processor has no bfloat16 (avx512_bf16 or AMX): use --precision fp32")
        self._graphs = graphs
        self._models: dict[str, Any] = {}
        self._types: dict[str, dict[str, Any]] = {}
        self._local = threading.local()  # an infer request serves one thread
        self._denoisers = Denoisers(self._add_denoiser)
        for name in graphs:
            if name != "denoiser":
                self._add(name, name)
            else:
                self._denoisers.name(steps[0] if steps else ANY_STEP)

    def level(self, thumbnail: Array) -> Array:
        return self._run("level", {"thumbnail": thumbnail})[0]

    def encode(self, low: Array) -> tuple[Array, ...]:
        return tuple(self._run("encoder", {"low": low}))

    def color_map(self, low: Array) -> Array:
        return self._run("color_map", {"low": low})[0]

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        feeds = {"x_t": x, "x0_previous": previous, **step_inputs(step), **condition_inputs(conditions)}
        made = self._run(self._denoisers.name(step), feeds)
        return made[0], made[-1]

    def numpy(self, values: Array) -> Floats:
        return np.ascontiguousarray(values, dtype=np.float32)

    def info(self) -> dict[str, str]:
        about = {"backend": "openvino", "version": self._openvino.__version__.split("-")[0], "device": "cpu"}
        return about | {"precision": self._precision, "threads": str(threads() or "automatic")}

    def free_memory(self) -> int:
        return host_memory()

    def _add_denoiser(self, name: str, step: Step | None) -> None:
        self._add(name, "denoiser", step)

    def _add(self, name: str, graph: str, step: Step | None = None) -> None:
        model = self._compile(self._graphs[graph], step)
        # an input may have picked up the names of what an identity made of it: all of them
        self._types[name] = {port: p.element_type.to_dtype() for p in model.inputs for port in p.names}
        self._models[name] = model

    def _compile(self, path: Path, step: Step | None = None) -> Any:
        hint = "bf16" if self._precision == "bf16" else "f32"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if threads():
            settings["INFERENCE_NUM_THREADS"] = threads()
        try:
            return compiled(self._core, path, settings, repr(step), lambda: self._make(path, settings, step))
        except RuntimeError as error:
            raise LLDiffusionError(f"OpenVINO cannot load '{path}': {_line(error)}") from error

    def _make(self, path: Path, settings: dict[str, Any], step: Step | None) -> Any:
        check_loads(path)
        model = self._core.read_model(path)
        if step is not None:
            fix_step(model, step)
        activate_unrounded(model)
        return self._core.compile_model(model, "CPU", settings)

    def _request(self, graph: str) -> Any:
        requests: dict[str, Any] = self._local.__dict__
        if graph not in requests:
            requests[graph] = self._models[graph].create_infer_request()
        return requests[graph]

    def _run(self, graph: str, feeds: dict[str, Array]) -> list[Array]:
        types = self._types[graph]
        typed = {name: np.ascontiguousarray(value, types[name]) for name, value in feeds.items() if name in types}
        try:
            results = self._request(graph).infer(typed, share_inputs=True)
        except RuntimeError as error:
            raise LLDiffusionError(f"OpenVINO failed in {graph}: {_line(error)}; try --tile 512") from error
        return [np.array(value) for value in results.to_tuple()]  # its own buffers are overwritten by the next run


@cache
def core() -> Any:
    """OpenVINO's one core of the process, which stays until its end.

    Its CPU plugin gives the thread that loads it a stack for signals, and takes that back when it is unloaded, at a
    time and in a thread of its own choosing: with a core for each engine, Ctrl-C crashed once some were closed.
    """
    import openvino

    return openvino.Core()


def fix_step(model: Any, step: Step) -> None:
    """What `fixed_step.fixed` does to a file, done to a model that was read."""
    from openvino import op

    for port in list(model.inputs):
        for name in set(NUMBERS) & set(port.names):
            value = op.Constant(np.array([getattr(step, name)], np.float32))
            port.get_node().output(0).replace(value.output(0))
            model.remove_parameter(port.get_node())
    ends = [port.get_node() for port in model.outputs if "x_next" in port.names and "x0" not in port.names]
    if is_last(step) and ends:
        model.remove_result(ends[0])


def activate_unrounded(model: Any) -> None:
    """Let each LeakyReLU read what was rounded for it as it was before: a convolution then takes it in.

    ONNX Runtime needs that pair to see integer operators; here it would be four passes over memory.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "PRelu":
            continue
        source = node.input_value(0).get_node()
        while source.get_type_name() in UNROUNDING:
            source = source.input_value(0).get_node()
        if source.get_type_name() == "FakeQuantize":
            node.input(0).replace_source_output(source.input_value(0))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
