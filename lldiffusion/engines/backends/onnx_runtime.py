"""ONNX Runtime: a bundle's graphs on a CPU, or on an NVIDIA GPU where everything stays between the steps."""

from __future__ import annotations

import os
import weakref
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lldiffusion.config import FOR_TENSORRT
from lldiffusion.errors import DamagedGraphError, LLDiffusionError, is_out_of_memory, require

from ..driver import device_index, driver, free_memory
from ..memory import MemoryNeed, host_memory
from ..sampler import Step
from .base import Array, Conditions, Engine, Floats
from .feeds import condition_inputs, step_inputs, threads
from .fixed_step import ANY_STEP, Denoisers, fixed

CUDA = "CUDAExecutionProvider"
DAMAGE = ("InvalidProtobuf", "InvalidGraph")  # its exceptions for files that no version of it would take
# Of graph inputs; there is no NumPy bfloat16.
TYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def disable_telemetry() -> None:
    """Has to be called before onnxruntime is imported.

    From 1.32 on it writes a device id under the home folder and looks a host up.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def import_onnxruntime(purpose: str) -> ModuleType:
    """ONNX Runtime without its telemetry.  Raises LLDiffusionError naming the extra when it is not installed."""
    disable_telemetry()
    return require("onnxruntime", "cpu", purpose)


def check_loads(path: Path) -> None:
    """Have ONNX Runtime, where it is installed, read a graph that another library will run.

    It refuses what is not consistent; others end the process.  Raises DamagedGraphError.
    """
    if find_spec("onnxruntime") is None:
        return
    ort = import_onnxruntime("checking graphs")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # its exceptions have no common base class of their own
        if type(error).__name__ != "NotImplemented" and not is_out_of_memory(error):
            raise DamagedGraphError(f"ONNX Runtime cannot load '{path}': {_line(error)}") from error


class OnnxRuntimeEngine(Engine):
    """Runs a model's graphs; values are `OrtValue`s that live on the engine's device.

    Args:
        graphs: graph name -> ONNX file.
        precision: of the graphs, as the bundle names it.
        device: "cpu", "cuda" or "cuda:N".
        steps: that will probably be asked for: of few steps, on a CPU, each has a denoiser of its own (`fixed_step`).
    Raises LLDiffusionError when a graph cannot be loaded, or CUDA was asked for and ONNX Runtime falls back to the CPU.
    """

    memory_need = MemoryNeed(stored=2.8, images=36, attention=2.5, plain=0.55)

    def __init__(
        self, graphs: dict[str, Path], precision: str, device: str = "cpu", steps: tuple[Step, ...] = ()
    ) -> None:
        self._ort = import_onnxruntime("the onnxruntime backend")
        self._gpu = device_index(device)
        self._precision = precision
        self._where = ("cpu", 0) if self._gpu is None else ("cuda", self._gpu)
        self._graphs = graphs
        self._sessions: dict[str, Any] = {}
        self._types: dict[str, dict[str, Any]] = {}
        self._run_options = self._ort.RunOptions()
        self._denoisers = Denoisers(self._add_denoiser, alone=self._gpu is None)
        for name in graphs:
            if name != "denoiser":
                self._add(name, name)
            elif steps:
                self._denoisers.name(steps[0])
            else:
                self._denoisers.name(ANY_STEP)
        # Conditions are put on the device once per image; the engine does not keep them alive.
        self._placed: weakref.WeakKeyDictionary[Conditions, dict[str, Array]] = weakref.WeakKeyDictionary()

    def level(self, thumbnail: Array) -> Array:
        return self._run("level", {"thumbnail": self._value("level", "thumbnail", thumbnail)})[0]

    def encode(self, low: Array) -> tuple[Array, ...]:
        return tuple(self._run("encoder", {"low": self._value("encoder", "low", low)}))

    def color_map(self, low: Array) -> Array:
        return self._run("color_map", {"low": self._value("color_map", "low", low)})[0]

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        name = self._denoisers.name(step)
        moving = {"x_t": x, "x0_previous": previous, **step_inputs(step)}
        moving = {port: value for port, value in moving.items() if port in self._types[name]}
        feeds = {port: self._value(name, port, value) for port, value in moving.items()}
        made = self._run(name, feeds | self._place(conditions, name))
        return made[0], made[-1]

    def numpy(self, values: Array) -> Floats:
        if not isinstance(values, np.ndarray):
            value = values if isinstance(values, self._ort.OrtValue) else self._borrow(values)
            borrowed = self._gpu is None and hasattr(value, "__dlpack__")  # its own memory, read-only: no copy
            values = np.from_dlpack(value) if borrowed else value.numpy()
        return np.ascontiguousarray(values, dtype=np.float32)

    def info(self) -> dict[str, str]:
        name = "cpu" if self._gpu is None else driver().gpus[self._gpu].name
        about = {"backend": "onnxruntime", "version": self._ort.__version__, "device": name}
        return about | {"precision": self._precision, "threads": str(threads() or "automatic")}

    def free_memory(self) -> int:
        return host_memory() if self._gpu is None else free_memory(self._gpu)

    def _add_denoiser(self, name: str, step: Step | None) -> None:
        self._add(name, "denoiser", step)
        if len(self._denoisers) == 1:  # from now on each would keep what it allocated, side by side
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def _add(self, name: str, graph: str, step: Step | None = None) -> None:
        session = self._open(graph, self._graphs[graph], step)
        self._types[name] = {port.name: TYPES[port.type] for port in _inputs(session)}
        self._sessions[name] = session

    def _open(self, name: str, path: Path, step: Step | None = None) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = threads()
        # Its plan of a run's memory is one more block beside those that the arena kept from the first run: 3.2 GiB
        # instead of 1.8 for 1920x1080 (tiny), and no faster.
        options.enable_mem_pattern = False
        options.log_severity_level = 3  # errors; its warnings are about its own placement of small operators
        # Nor after a run: the waiting thread of two burnt 8 to 10 ms of a core, which a codec beside it needs.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self._precision in FOR_TENSORRT:  # rounded as it says, not as our kernels would
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if name != "denoiser":  # runs once an image: its threads shall not spin while the denoiser works
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = self._source(path)
        if step is not None:
            source = fixed(path, step)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        try:
            session = self._ort.InferenceSession(
                source, options, providers=self._providers(), enable_fallback=self._gpu is not None
            )
        except Exception as error:  # its exceptions have no common base class of their own
            kind = DamagedGraphError if type(error).__name__ in DAMAGE else LLDiffusionError
            raise kind(f"ONNX Runtime cannot load '{path}': {_line(error)}") from error
        if self._gpu is not None and CUDA not in session.get_providers():
            raise LLDiffusionError(
                f"ONNX Runtime {self._ort.__version__} could not start CUDA and would use the CPU instead: "
                'install CUDA 12 or 13 and cuDNN 9 (pip install "onnxruntime-gpu[cuda,cudnn]"), or use --device cpu'
            )
        return session

    def _source(self, path: Path) -> str | bytes:
        """What a session is made of."""
        return str(path)

    def _providers(self) -> list[Any]:
        if self._gpu is None:
            return ["CPUExecutionProvider"]
        if CUDA not in self._ort.get_available_providers():
            raise LLDiffusionError(
                f"this ONNX Runtime {self._ort.__version__} is built without CUDA: "
                "pip uninstall -y onnxruntime && pip install onnxruntime-gpu, or use --device cpu"
            )
        self._ort.preload_dlls()  # CUDA and cuDNN from pip packages, which the loader would not find
        settings = {"device_id": self._gpu, "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
        return [(CUDA, settings), "CPUExecutionProvider"]

    def _place(self, conditions: Conditions, denoiser: str) -> dict[str, Array]:
        if conditions not in self._placed:
            named = condition_inputs(conditions)
            self._placed[conditions] = {name: self._value(denoiser, name, value) for name, value in named.items()}
        return self._placed[conditions]

    def _value(self, graph: str, name: str, values: Array) -> Array:
        """An OrtValue on the device: the array's own memory on a CPU, on a GPU a copy; of DLPack its own memory."""
        if isinstance(values, self._ort.OrtValue):
            return values
        if not isinstance(values, np.ndarray):
            return self._borrow(values)
        typed = np.ascontiguousarray(values, dtype=self._types[graph][name])
        return self._ort.OrtValue.ortvalue_from_numpy(typed, *self._where)

    def _borrow(self, values: Array) -> Array:
        """An array of another library, of type and place as the graph has them; its producer has it ready."""
        if not hasattr(values, "__dlpack__"):
            raise LLDiffusionError(f"a NumPy array or one with DLPack is needed, not {type(values).__name__}")
        return self._ort.OrtValue.from_dlpack(values.__dlpack__())

    def _run(self, graph: str, feeds: dict[str, Array]) -> list[Array]:
        session = self._sessions[graph]
        binding = session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name, *self._where)  # from the arena, which keeps freed memory for the next run
        try:
            session.run_with_iobinding(binding, self._run_options)
        except Exception as error:  # as above
            shape = "x".join(map(str, next(iter(feeds.values())).shape()))
            raise LLDiffusionError(
                f"ONNX Runtime failed in {graph} at {shape}: {_line(error)}; try --tile 512"
            ) from error
        return list(binding.get_outputs())


def _inputs(session: Any) -> list[Any]:
    """The inputs of a session, those that have a default among them."""
    return [*session.get_inputs(), *session.get_overridable_initializers()]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
