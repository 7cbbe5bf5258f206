"""TensorRT and TensorRT for RTX: the same Python interface, one runner.

Everything stays on the GPU from the first upload to the last download; the whole loop is replayed as one CUDA graph.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np

from lldiffusion.bundle import LEVEL, Bundle
from lldiffusion.config import ModelConfig
from lldiffusion.errors import LLDiffusionError, require

from ..cuda import Stream
from ..driver import driver, free_memory
from ..sampler import Step
from .base import Array, Conditions, Engine, Floats, Progress, Shape
from .device_memory import DeviceArray, Pool, borrow, fill
from .feeds import condition_inputs, step_inputs
from .tensorrt_files import VERSION, Target, choose_profile, fitting_engines, largest_tile
from .tensorrt_flavours import FLAVOURS, make_logger
from .tensorrt_thread import Session, ThreadState

REPLAY_TOLERANCE = 2e-3  # on [-1, 1]: a quarter of an 8-bit level
TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}  # TensorRT's names


class TensorRtEngine(Engine):
    """Runs a bundle's engines; values are `DeviceArray`s.

    Args:
        bundle: with engines that fit this GPU.
        precision: of the graphs they were built from.
        flavour: "tensorrt" or "tensorrt-rtx".
        gpu: its CUDA index.
    Raises LLDiffusionError when driver, packages or fitting engines are missing.
    """

    def __init__(self, bundle: Bundle, precision: str, flavour: str, gpu: int = 0) -> None:
        found = driver()
        if found.problem:  # before any TensorRT object is made: some crash the process without a driver
            raise LLDiffusionError(f"{flavour} engines cannot run here: {found.problem}")
        self._trt = require(FLAVOURS[flavour].module, FLAVOURS[flavour].extra, f"the {flavour} backend")
        self._gpu = gpu
        self._name = found.gpus[gpu].name
        self._flavour = flavour
        self._precision = precision
        target = Target(flavour, self._trt.__version__, found.gpus[gpu].capability)
        self._log = make_logger(self._trt)
        Stream(gpu)  # makes the device current, and fails early when cuda-python is missing
        self._runtime = self._trt.Runtime(self._log)
        files = fitting_engines(bundle, precision, target)
        # such engines carry a runtime of their own version; only trusted files get here
        if any(VERSION in file.key.options for file in files.values()):
            self._runtime.engine_host_code_allowed = True
        self._engines = {graph: self._load(file.path.read_bytes(), file.path.name) for graph, file in files.items()}
        self._local = threading.local()
        self._graphs = "used"

    # -- as every engine

    def level(self, thumbnail: Array) -> Array:
        return self._run(LEVEL, {"thumbnail": thumbnail})["level"]

    def encode(self, low: Array) -> tuple[Array, ...]:
        outputs = self._run("encoder", {"low": low})
        return tuple(outputs[f"feature_{i}"] for i in range(len(outputs)))

    def color_map(self, low: Array) -> Array:
        return self._run("color_map", {"low": low})["color_map"]

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        feeds = {"x_t": x, "x0_previous": previous, **condition_inputs(conditions), **self._coefficients(step)}
        outputs = self._run("denoiser", feeds)
        return outputs["x_next"], outputs["x0"]

    def numpy(self, values: Array) -> Floats:
        if isinstance(values, np.ndarray):
            return np.ascontiguousarray(values, dtype=np.float32)
        return borrow(values, self._thread().stream).host()

    def info(self) -> dict[str, str]:
        about = {"backend": self._flavour, "version": self._trt.__version__, "device": self._name}
        return about | {"precision": self._precision, "cuda graph": self._graphs}

    def free_memory(self) -> int:
        return free_memory(self._gpu)

    def sample(
        self,
        low: Floats,
        steps: tuple[Step, ...],
        noise: Floats,
        progress: Progress | None = None,
        level: Array | None = None,
        window: Array | None = None,
    ) -> Floats:
        """The whole loop: the first time step by step, from then on as one CUDA graph.

        A batch larger than the engines were built for is run image by image.
        """
        most = max(largest[0] for _, _, largest in self._profiles(self._engines["denoiser"]))
        lit = {} if level is None else {"level": level, "window": window}
        if len(low) > most:
            alone = {name: self.numpy(values) for name, values in lit.items()}
            parts = []
            for i in range(len(low)):
                one = {name: values[i : i + 1] for name, values in alone.items()}
                tick = None if i else progress
                parts.append(self.sample(low[i : i + 1], steps, noise[i : i + 1], tick, **one))
            return np.concatenate(parts)
        thread = self._thread()
        session = self._session(("loop", low.shape, len(steps)), low.shape)
        upload_steps(session, steps)
        given = {"low": low, "noise": noise, **lit}
        thread.current = session
        try:
            if session.graph is None:
                return self._first(thread, session, given, progress)
            return self._replay(thread, session, given, progress)
        finally:
            thread.current = None

    def tile_side(self, model: ModelConfig, shape: Shape) -> int | None:
        """None when an image of this size fits the engines' profiles, else the side of the largest tile that does."""
        return largest_tile(self._profiles(self._engines["denoiser"]), shape[2], shape[3])

    # -- the captured loop

    def _first(
        self, thread: ThreadState, session: Session, given: dict[str, Array], progress: Progress | None
    ) -> Floats:
        """Run the loop plainly, capture it, and compare a replay with the plain run once."""
        session.inputs = {name: session.pool.empty(tuple(values.shape)) for name, values in given.items()}
        for name, values in given.items():
            fill(session.inputs[name], values)
        session.zeros = session.pool.put(np.zeros_like(given["noise"]))
        self._loop(session, progress)  # also sets shapes and coefficients, and allocates all that the capture needs
        plain = self.numpy(session.output)
        session.output = None
        if self._graphs == "used" and self._capturable(thread, session):
            session.graph = thread.stream.capture(partial(self._loop, session, None))
            replayed = self._replay(thread, session, given, None)
            worst = float(np.abs(replayed - plain).max(initial=0))
            if not worst <= REPLAY_TOLERANCE:  # also when it is NaN
                thread.stream.discard(session.graph)
                session.graph, self._graphs = None, f"off: a replay differed by {worst:.2g}"
        return plain

    def _loop(self, session: Session, progress: Progress | None) -> None:
        session.position = 0
        inputs = session.inputs
        conditions = self.conditions(inputs["low"], inputs.get("level"), inputs.get("window"))
        session.output = self.denoise(conditions, session.steps, inputs["noise"], session.zeros, progress)

    def _replay(
        self, thread: ThreadState, session: Session, given: dict[str, Array], progress: Progress | None
    ) -> Floats:
        assert session.output is not None
        for name, values in given.items():
            fill(session.inputs[name], values)
        thread.stream.launch(session.graph)
        result = session.output.host()
        if progress is not None:
            for _ in session.steps:
                progress()
        return result

    def _capturable(self, thread: ThreadState, session: Session) -> bool:
        """TensorRT for RTX says whether its kernels may be captured; TensorRT's may."""
        asks = [getattr(context, "is_stream_capturable", None) for context in session.contexts.values()]
        return all(ask is None or ask(thread.stream.handle) for ask in asks)

    # -- one graph

    def _run(self, graph: str, feeds: dict[str, Array]) -> dict[str, DeviceArray]:
        thread, engine = self._thread(), self._engines[graph]
        session = thread.current or self._session_of(graph, feeds)
        context = session.contexts[graph]
        placed = {name: self._place(session, engine, name, value) for name, value in feeds.items()}
        if graph not in session.ready:
            self._prepare(thread, engine, context, placed)
            session.ready.add(graph)
        outputs = {
            name: session.pool.empty(tuple(context.get_tensor_shape(name)), self._type(engine, name))
            for name in _names(engine)
            if name not in placed
        }
        for name, array in (placed | outputs).items():
            context.set_tensor_address(name, array.pointer)
        if not context.execute_async_v3(thread.stream.handle):
            raise LLDiffusionError(f"TensorRT failed in {graph}: {self._log.last}")
        return outputs

    def _prepare(self, thread: ThreadState, engine: Any, context: Any, placed: dict[str, DeviceArray]) -> None:
        for name, array in placed.items():
            if not context.set_input_shape(name, array.shape):
                raise LLDiffusionError(f"TensorRT refuses {name} of shape {array.shape}: {self._log.last}")
        scratch = thread.scratch
        assert scratch is not None
        context.set_device_memory(scratch.pointer, scratch.nbytes)

    def _place(self, session: Session, engine: Any, name: str, values: Array) -> DeviceArray:
        if isinstance(values, np.ndarray):
            return session.pool.put(values, self._type(engine, name))
        return borrow(values, session.pool.stream)

    def _coefficients(self, step: Step) -> dict[str, DeviceArray]:
        thread = self._thread()
        if thread.current is None:
            return thread.numbers.get(step, lambda: {name: thread.pool.put(v) for name, v in step_inputs(step).items()})
        thread.current.position += 1
        return thread.current.numbers[thread.current.position - 1]

    # -- contexts

    def _thread(self) -> ThreadState:
        if not hasattr(self._local, "state"):
            self._local.state = ThreadState(self._gpu)
        thread: ThreadState = self._local.state
        return thread

    def _session_of(self, graph: str, feeds: dict[str, Array]) -> Session:
        """The session of a single call, outside a captured loop."""
        if graph == LEVEL:
            return self._session((LEVEL, *feeds["thumbnail"].shape), None)
        return self._session(("steps", *feeds["low"].shape), tuple(feeds["low"].shape))

    def _session(self, key: tuple[Any, ...], shape: Shape | None) -> Session:
        """The session of planes of this shape; None: of thumbnails, which have one shape only."""
        thread = self._thread()
        sessions = thread.thumbnails if shape is None else thread.sessions
        known = sessions.find(key)
        if known is not None:
            return known
        names = [LEVEL] if shape is None else [graph for graph in self._engines if graph != LEVEL]
        engines = {graph: self._engines[graph] for graph in names}
        profiles = {g: 0 if shape is None else self._profile(engine, shape) for g, engine in engines.items()}
        thread.ensure_scratch(max(e.get_device_memory_size_for_profile_v2(profiles[g]) for g, e in engines.items()))
        return sessions.get(key, partial(self._new_session, thread, profiles))

    def _new_session(self, thread: ThreadState, profiles: dict[str, int]) -> Session:
        contexts = {}
        for graph, profile in profiles.items():
            context = self._context(self._engines[graph])
            if context is None or not context.set_optimization_profile_async(profile, thread.stream.handle):
                raise LLDiffusionError(f"TensorRT cannot make a context for the {graph}: {self._log.last}")
            contexts[graph] = context
        return Session(contexts, Pool(thread.stream))

    def _context(self, engine: Any) -> Any:
        """A context without memory of its own; RTX shall specialise its kernels at once, not between two replays."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._flavour == "tensorrt":
            return engine.create_execution_context(strategy)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        eager = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = eager
        return engine.create_execution_context(config)

    def _profile(self, engine: Any, shape: tuple[int, ...]) -> int:
        return choose_profile(self._profiles(engine), shape)

    def _profiles(self, engine: Any) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
        shapes = (engine.get_tensor_profile_shape("low", i) for i in range(engine.num_optimization_profiles))
        return [(tuple(smallest), tuple(usual), tuple(largest)) for smallest, usual, largest in shapes]

    def _type(self, engine: Any, name: str) -> str:
        return TYPES[engine.get_tensor_dtype(name).name]

    def _load(self, blob: bytes, name: str) -> Any:
        engine = self._runtime.deserialize_cuda_engine(blob)
        if engine is None:
            raise LLDiffusionError(f"TensorRT cannot load engine '{name}': {self._log.last}; rebuild it (lldiff build)")
        return engine


def upload_steps(session: Session, steps: tuple[Step, ...]) -> None:
    """Put the steps' numbers where the captured loop reads them: another exposure needs no new capture."""
    if session.steps == steps:
        return
    for i, step in enumerate(steps):
        if i == len(session.numbers):
            session.numbers.append({name: session.pool.put(value) for name, value in step_inputs(step).items()})
        else:
            for name, value in step_inputs(step).items():
                fill(session.numbers[i][name], value)
    session.steps = steps


def _names(engine: Any) -> list[str]:
    return [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
