"""One builder for TensorRT 11 and TensorRT for RTX: both take every type from the graph.

TensorRT for RTX finishes its kernels on the GPU at run time, so it builds anywhere, a machine without a GPU included.
TensorRT measures kernels while it builds: it needs the GPU that the engine is for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lldiffusion.atomic import new_path, write_text
from lldiffusion.bundle.archive import cache_folder
from lldiffusion.documents import read_json
from lldiffusion.engines.backends.tensorrt_flavours import FLAVOURS, make_logger
from lldiffusion.engines.driver import driver
from lldiffusion.errors import LLDiffusionError, choose

from .profiles import Profile, shape_at

Tick = Callable[[float], None]  # called with the finished share of a build, 0..1


@dataclass(frozen=True)
class BuildOptions:
    """How engines are built."""

    effort: int = 3  # TensorRT's builder optimisation level, 0 (builds fastest) to 5 (runs fastest)
    workspace: int = 0  # MiB of scratch memory the engine may use; 0: as much as it likes
    refit: bool = False  # new weights without a new build ("tensorrt" only)
    version_compatible: bool = False  # runs with other TensorRT versions ("tensorrt" only)
    hardware_compatible: bool = False  # runs on every GPU since Ampere ("tensorrt" only)

    def __post_init__(self) -> None:
        if not 0 <= self.effort <= 5:
            raise LLDiffusionError(f"builder effort {self.effort}: 0 (builds fastest) to 5 (runs fastest) are accepted")
        if self.workspace < 0:
            raise LLDiffusionError(f"workspace {self.workspace}: MiB, 0 for no limit")

    def names(self) -> tuple[str, ...]:
        """What changes the engine, for its key: "name=value", sorted."""
        given = {"effort": self.effort, "workspace": self.workspace}
        switches = {name: getattr(self, name) for name in SWITCHES if getattr(self, name)}
        return tuple(sorted(f"{name}={value}" for name, value in (given | switches).items()))


SWITCHES = ("refit", "version_compatible", "hardware_compatible")


@dataclass(frozen=True)
class Toolchain:
    """A flavour that can build here."""

    flavour: str
    module: ModuleType
    version: str
    gpu: str  # compute capability the engines are for, "any" for TensorRT for RTX


def installed(flavour: str) -> bool:
    """Whether a flavour's package is there (it is not imported)."""
    return importlib.util.find_spec(FLAVOURS[choose(flavour, FLAVOURS, "TensorRT flavour")].module) is not None


def open_toolchain(flavour: str) -> Toolchain:
    """Import a flavour.  Raises LLDiffusionError, saying how to get it, when it is missing or cannot build here."""
    if not installed(flavour):
        raise LLDiffusionError(
            f"{flavour} is not installed: {FLAVOURS[flavour].install}, then run  lldiff build BUNDLE"
        )
    gpu = "any"
    if flavour == "tensorrt":  # probed first: TensorRT objects made without a driver may crash the process
        here = driver()
        if here.problem is not None:
            raise LLDiffusionError(
                f"tensorrt builds on the GPU that the engine is for, and here {here.problem}: "
                "run  lldiff build BUNDLE --engine tensorrt  there, or use --engine tensorrt-rtx"
            )
        gpu = here.gpus[0].capability
    try:
        module = importlib.import_module(FLAVOURS[flavour].module)
    except Exception as error:  # a missing CUDA library shows as OSError, RuntimeError or ImportError
        raise LLDiffusionError(f"{flavour} cannot be loaded ({error}): {FLAVOURS[flavour].install}") from error
    return Toolchain(flavour, module, str(module.__version__), gpu)


def build_engine(
    tools: Toolchain,
    graph: Path,
    inputs: list[dict[str, Any]],
    profiles: tuple[Profile, ...],
    multiple: int,
    options: BuildOptions,
    tick: Tick = lambda share: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[bytes, dict[str, Any]]:
    """Build one engine from an ONNX file; returns it serialized, and what it is made of.

    Args:
        inputs: of the graph, as a manifest describes them (name and shape).
        multiple: pixels behind one unit of h and w in the graph's shapes.
        tick: told the finished share.
        cancelled: asked often; the build stops soon after it answers True.
    Raises LLDiffusionError when the graph is not accepted or the build fails, KeyboardInterrupt when cancelled.
    """
    _check_options(tools, options)
    trt, log = tools.module, make_logger(tools.module)
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(parser.get_error(i).desc() for i in range(min(parser.num_errors, 3)))
        raise LLDiffusionError(f"{tools.flavour} {tools.version} does not accept '{graph.name}': {errors}")
    config = _configure(tools, builder, options)
    _add_profiles(builder, config, network, inputs, profiles, multiple)
    config.progress_monitor = _make_monitor(trt, tick, cancelled)
    cache = _TimingCache(tools, config)
    blob = builder.build_serialized_network(network, config)
    if cancelled():
        raise KeyboardInterrupt("build cancelled: nothing was written")
    if blob is None:
        raise LLDiffusionError(f"{tools.flavour} {tools.version} could not build '{graph.name}': {log.last}")
    cache.keep()
    return bytes(blob), describe(network) | {"profiles": [str(profile) for profile in profiles]}


def describe(network: Any) -> dict[str, Any]:
    """Types of a network's inputs, outputs and convolutions, as TensorRT read them: an engine tells only on a GPU."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    convolutions = Counter(layer.get_output(0).dtype.name for layer in layers if "CONVOLUTION" in layer.type.name)
    return {
        "inputs": {tensor.name: tensor.dtype.name for tensor in inputs},
        "outputs": {tensor.name: tensor.dtype.name for tensor in outputs},
        "convolutions": dict(convolutions),
    }


def _check_options(tools: Toolchain, options: BuildOptions) -> None:
    asked = [name for name in SWITCHES if getattr(options, name)]
    if asked and tools.flavour != "tensorrt":
        names = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise LLDiffusionError(f"{names}: only --engine tensorrt has this, {tools.flavour} does not")


def _network_flags(trt: Any) -> int:
    flags = getattr(trt, "NetworkDefinitionCreationFlag", None)
    flag = getattr(flags, "STRONGLY_TYPED", None)  # TensorRT 11 has no other kind
    return 0 if flag is None else 1 << int(flag)


def _configure(tools: Toolchain, builder: Any, options: BuildOptions) -> Any:
    trt, config = tools.module, builder.create_builder_config()
    config.builder_optimization_level = options.effort
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # keeps layer names for `lldiff inspect`
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # RTX: without it a CUDA graph may not capture the engine
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    return config


def _add_profiles(
    builder: Any, config: Any, network: Any, inputs: list[dict[str, Any]], profiles: tuple[Profile, ...], multiple: int
) -> None:
    shapes = {port["name"]: port["shape"] for port in inputs}
    dynamic = [port.name for port in map(network.get_input, range(network.num_inputs)) if -1 in port.shape]
    known: list[dict[str, Any]] = []
    for profile in profiles:
        sizes = (profile.smallest, profile.usual, profile.largest)
        ranges = {name: [shape_at(shapes[name], size, multiple) for size in sizes] for name in dynamic}
        if ranges in known:  # a thumbnail has one shape, whatever the picture's
            continue
        known.append(ranges)
        added = builder.create_optimization_profile()
        for name, shape_range in ranges.items():
            added.set_shape(name, *shape_range)
        if config.add_optimization_profile(added) < 0:
            raise LLDiffusionError(f"profile {profile} does not fit the graph")


def _make_monitor(trt: Any, tick: Tick, cancelled: Callable[[], bool]) -> Any:
    """TensorRT's nested phases as one number: each step of a phase is worth an equal part of its parent's step."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> (parent, steps, finished)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases[name] = (parent, max(steps, 1), 0)

        def step_complete(self, name: str, step: int) -> bool:
            parent, steps, _ = self._phases.get(name, (None, 1, 0))
            self._phases[name] = (parent, steps, min(step + 1, steps))
            tick(self._share(name))
            return not cancelled()

        def phase_finish(self, name: str) -> None:
            self._phases.pop(name, None)

        def _share(self, name: str) -> float:
            share = 0.0
            while name in self._phases:
                parent, steps, finished = self._phases[name]
                share = min(1.0, (finished + share) / steps)
                if parent is None:
                    return share
                name = parent
            return 0.0

    return Monitor()


class _TimingCache:
    """Kernel timings kept from build to build, for TensorRT: measuring them is most of its building time."""

    def __init__(self, tools: Toolchain, config: Any) -> None:
        self._config = config
        self._wanted = tools.flavour == "tensorrt"
        name = f"{tools.flavour}-{tools.version}-sm{tools.gpu.replace('.', '')}"
        self._path = cache_folder() / "timing" / f"{name}.cache"
        if self._wanted and not config.set_timing_cache(config.create_timing_cache(read_checked(self._path)), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)  # of another device, by its own header

    def keep(self) -> None:
        """Write the timings of this build."""
        if self._wanted:
            write_checked(self._path, bytes(self._config.get_timing_cache().serialize()))


def read_checked(path: Path) -> bytes:
    """What `write_checked` wrote; empty when it is missing or damaged: a cache may always be made again."""
    try:
        data = path.read_bytes()
        record = read_json(path.with_name(path.name + ".json"))
        intact = hashlib.sha256(data).hexdigest() == record.get("sha256")
    except (OSError, LLDiffusionError):
        return b""
    return data if intact else b""


def write_checked(path: Path, data: bytes) -> None:
    """Write bytes and, beside them, their SHA-256."""
    with new_path(path) as temporary:
        temporary.write_bytes(data)
    write_text(path.with_name(path.name + ".json"), json.dumps({"sha256": hashlib.sha256(data).hexdigest()}))
