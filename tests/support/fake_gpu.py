"""Stand-ins for CUDA's runtime and for TensorRT, in host memory, strict about what the real ones leave undefined.

The toy model's arithmetic runs behind TensorRT's interface, on addresses, in stream order; graphs are recorded and
replayed.  Fresh memory is NaN.  Refused: allocating, waiting and host copies while capturing, touching a context that
a captured graph belongs to, a wrong scratch size, unset shapes or addresses.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from lldiffusion.engines.backends.base import Conditions
from lldiffusion.engines.cuda import from_bfloat16, to_bfloat16
from lldiffusion.engines.sampler import Step
from support.toy import ToyEngine

SIZES = {"FLOAT": 4, "HALF": 2, "BF16": 2}
STORED = {"FLOAT": np.float32, "HALF": np.float16, "BF16": np.uint16}


class FakeRuntime:
    """`cuda.bindings.runtime`."""

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.streams, self.launches, self.captures, self.uploads = 0, 0, 0, 0
        self.largest = 1 << 40  # bytes of one allocation
        self.live_graphs = 0
        self.drift = 0.0  # added to the first value of every D2H copy after a launch: a replay gone wrong
        self.launched = False

    def cudaSetDevice(self, gpu: int) -> tuple[int]:
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        self.streams += 1
        return 0, 1000 + self.streams

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        assert not self.capturing, "memory allocated while capturing"
        if size > self.largest:
            return 2, 0
        block = (ctypes.c_ubyte * size)()
        ctypes.memset(block, 0xFF, size)
        self.blocks[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFree(self, pointer: int) -> tuple[int]:
        del self.blocks[pointer]
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        assert stream not in self.capturing, "waited while capturing"
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        if kind == 3:
            self.enqueue(stream, lambda: ctypes.memmove(target, source, size))  # type: ignore[arg-type]
            return (0,)
        assert stream not in self.capturing, "host copy while capturing"
        self.uploads += kind == 1
        ctypes.memmove(target, source, size)
        if kind == 2 and self.launched and self.drift:
            np.ctypeslib.as_array((ctypes.c_float * (size // 4)).from_address(target))[0] += self.drift
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        self.capturing[stream] = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, list[Callable[[], None]]]:
        self.captures += 1
        return 0, self.capturing.pop(stream)

    def cudaGraphInstantiate(self, graph: list[Callable[[], None]], flags: int) -> tuple[int, Any]:
        self.live_graphs += 1
        return 0, list(graph)

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        return (0,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[int]:
        self.live_graphs -= 1
        graph.clear()
        return (0,)

    def cudaGraphLaunch(self, graph: list[Callable[[], None]], stream: int) -> tuple[int]:
        self.launches += 1
        self.launched = True
        for work in graph:
            work()
        return (0,)

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, b"a text"

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        self.capturing[stream].append(work) if stream in self.capturing else work()


class Severity:
    ERROR, INTERNAL_ERROR, INFO = 1, 0, 3


class ILogger:
    Severity = Severity


class FakeTensorRt(SimpleNamespace):
    """The module `tensorrt` (or `tensorrt_rtx`); `blob(graph)` makes an engine file for it."""

    def __init__(self, runtime: FakeRuntime, version: str = "11.4.0", capturable: bool = True) -> None:
        super().__init__(__version__=version, ILogger=ILogger)
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
        self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
        self.cuda, self.capturable, self.contexts = runtime, capturable, 0

    def Runtime(self, log: Any) -> Any:
        def load(blob: bytes) -> FakeEngine | None:
            if blob.startswith(b"{"):
                return FakeEngine(self, json.loads(blob))
            log.log(Severity.INFO, "not this one")
            log.log(Severity.ERROR, "Serialization\nassertion failed")
            return None

        return SimpleNamespace(deserialize_cuda_engine=load)


def blob(graph: str, half: str = "FLOAT", largest: int = 256, lit: bool = False) -> bytes:
    """An engine file that `FakeTensorRt` loads: features of type `half`, two profiles up to `largest` pixels a side.

    `lit`: of a model with a level.
    """
    return json.dumps({"graph": graph, "half": half, "largest": largest, "lit": lit}).encode()


class FakeEngine:
    INPUTS: ClassVar = {
        "encoder": ("low",),
        "color_map": ("low",),
        "denoiser": (
            *("x_t", "low", "color_map", "feature_0", "feature_1"),
            *("t", "k_x", "k_p", "a", "b", "c", "x0_previous"),
        ),
        "level": ("thumbnail",),
    }
    OUTPUTS: ClassVar = {
        "encoder": ("feature_0", "feature_1"),
        "color_map": ("color_map",),
        "denoiser": ("x_next", "x0"),
        "level": ("level",),
    }
    LIT: ClassVar = ("level", "window", "exposure")  # more inputs of the denoiser of a model with a level

    def __init__(self, trt: FakeTensorRt, about: dict[str, Any]) -> None:
        self.trt, self.graph, self.half, self.largest = trt, about["graph"], about["half"], about["largest"]
        self.inputs = self.INPUTS[self.graph] + (self.LIT if self.graph == "denoiser" and about["lit"] else ())
        self.names = self.inputs + self.OUTPUTS[self.graph]
        self.num_io_tensors, self.num_optimization_profiles = len(self.names), 1 if self.graph == "level" else 2

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.half if name.startswith("feature") else "FLOAT")

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[list[int]]:
        assert name == "low" and self.graph != "level"
        largest = self.largest if profile == 0 else self.largest // 2
        return [[1, 3, 64, 64], [1, 3, largest // 2, largest // 2], [2, 3, largest, largest]]

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return 4000 if profile == 0 else 1000

    def create_runtime_config(self) -> Any:
        return SimpleNamespace(set_execution_context_allocation_strategy=lambda strategy: None)

    def create_execution_context(self, how: Any) -> FakeContext:
        rtx = not isinstance(how, str)
        assert how == "user" or how.dynamic_shapes_kernel_specialization_strategy == "eager"
        self.trt.contexts += 1
        return FakeContext(self, rtx)


class FakeContext:
    def __init__(self, engine: FakeEngine, rtx: bool) -> None:
        self.engine, self.cuda = engine, engine.trt.cuda
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.captured = False
        self.scratch: tuple[int, int] | None = None
        if rtx:
            self.is_stream_capturable = lambda stream: engine.trt.capturable

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._touch()
        assert name in self.engine.inputs
        self.shapes[name] = tuple(shape)
        return True

    def set_device_memory(self, pointer: int, size: int) -> None:
        self._touch()
        assert size >= self.engine.get_device_memory_size_for_profile_v2(self.profile)
        self.scratch = (pointer, size)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self._touch()
        self.addresses[name] = pointer
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self.engine.graph == "level":
            return (self.shapes["thumbnail"][0], 6, 8, 12)
        n, _, h, w = self.shapes["low"]
        stride = {"feature_0": 8, "feature_1": 4}.get(name, 1)
        return (n, 3, h // stride, w // stride)

    def execute_async_v3(self, stream: int) -> bool:
        self._touch()
        assert self.scratch is not None, "no scratch memory"
        assert set(self.addresses) == set(self.engine.names), "an address is not set"
        assert set(self.shapes) == set(self.engine.inputs), "a shape is not set"
        addresses = dict(self.addresses)
        self.cuda.enqueue(stream, lambda: self._compute(addresses))
        self.captured = stream in self.cuda.capturing
        return True

    def _touch(self) -> None:
        """A context belongs to its captured graph from the end of the capture until the graph is destroyed."""
        if self.captured and not self.cuda.capturing:
            assert not self.cuda.live_graphs, "a context was used after its graph was captured"

    def _compute(self, addresses: dict[str, int]) -> None:
        assert self.scratch is not None
        assert self.scratch[0] in self.cuda.blocks, "scratch memory was freed"
        ctypes.memset(self.scratch[0], 0xFF, self.scratch[1])
        values = {name: self._read(name, addresses[name]) for name in self.engine.inputs}
        for name, result in zip(self.engine.OUTPUTS[self.engine.graph], self._results(values), strict=True):
            self._view(name, addresses[name])[...] = self._to(name, result)

    def _results(self, values: dict[str, Any]) -> tuple[Any, ...]:
        toy = ToyEngine()
        if self.engine.graph == "level":
            return (toy.level(values["thumbnail"]),)
        if self.engine.graph == "encoder":
            return toy.encode(values["low"])
        if self.engine.graph == "color_map":
            return (toy.color_map(values["low"]),)
        features = (values["feature_0"], values["feature_1"])
        lit = (values.get("level"), values.get("window"))
        conditions = Conditions(values["low"], values["color_map"], features, *lit)
        t, k_x, k_p, a, b, c = (float(values[name][0]) for name in ("t", "k_x", "k_p", "a", "b", "c"))
        exposure = float(values["exposure"][0]) if "exposure" in values else None
        step = Step(int(t), k_x, k_p, a, b, c, exposure)
        return toy.step(values["x_t"], conditions, step, values["x0_previous"])

    def _view(self, name: str, pointer: int) -> Any:
        kind = self.engine.get_tensor_dtype(name).name
        shape = self.shapes.get(name, self.get_tensor_shape(name))
        buffer = (ctypes.c_ubyte * (math.prod(shape) * SIZES[kind])).from_address(pointer)
        return np.ctypeslib.as_array(buffer).view(STORED[kind]).reshape(shape)

    def _read(self, name: str, pointer: int) -> Any:
        view = self._view(name, pointer)
        return from_bfloat16(view) if view.dtype == np.uint16 else view.astype(np.float32)

    def _to(self, name: str, result: Any) -> Any:
        return to_bfloat16(result) if self.engine.get_tensor_dtype(name).name == "BF16" else result
