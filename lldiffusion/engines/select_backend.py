"""Which engine runs a source: a checkpoint on PyTorch, a bundle on the fastest backend that works here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lldiffusion.bundle import Bundle
from lldiffusion.bundle.find import find_model, is_bundle, is_checkpoint
from lldiffusion.bundle.onnx_check import check_runnable
from lldiffusion.config import Config
from lldiffusion.errors import DamagedGraphError, LLDiffusionError, choose

from .backends.base import Engine
from .driver import device_index, driver
from .memory import MemoryNeed

BACKENDS = ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Opened:
    """An engine, what it runs, and why the other backends do not."""

    engine: Engine
    config: Config
    passed_over: dict[str, str] = field(default_factory=dict)  # backend -> reason


@dataclass(frozen=True)
class Candidate:
    """A backend on a kind of device."""

    backend: str
    device: str  # "cpu" or "cuda"
    open: Callable[[Bundle, str, str], Engine]  # bundle, precision, device

    @property
    def label(self) -> str:
        """Name in messages."""
        return self.backend if self.device == "cpu" else f"{self.backend} ({self.device})"


def open_engine(source: str, backend: str, device: str, precision: str) -> Opened:
    """Open a checkpoint folder, a bundle folder, a `.lldiff` file or a shipped model.

    Raises LLDiffusionError for an unknown source or option, and, saying why each backend cannot, when nothing here can.
    """
    choose(backend, ("auto", *BACKENDS), "backend")
    path = find_model(source)
    if is_bundle(path) and not (backend == "torch" and is_checkpoint(path)):
        return open_bundle(Bundle.open(path), backend, device, precision)
    if backend not in ("auto", "torch"):
        raise LLDiffusionError(
            f"'{source}' is a checkpoint, which only the torch backend runs: "
            f"for {backend}, export it first (lldiff export {source} -o BUNDLE) and open the bundle"
        )
    choose(precision, ("auto", "fp32"), "precision of a checkpoint (the others need a bundle: lldiff export)")
    from .backends.torch_eager import open_torch

    engine, model = open_torch(source, device)
    return Opened(engine, model.config, dict.fromkeys(BACKENDS[1:], "runs bundles only (lldiff export)"))


def open_bundle(bundle: Bundle, backend: str, device: str, precision: str) -> Opened:
    """Try the backends that may run a bundle, fastest first; the first that works is used."""
    choose(precision, ("auto", *bundle.precisions), f"precision of '{bundle.source}'")
    both = is_checkpoint(bundle.folder)
    passed: dict[str, str] = {} if both else {"torch": "runs checkpoints only"}
    candidates = [each for each in _wanted(bundle, backend, device) if both or each.backend != "torch"]
    for i, candidate in enumerate(candidates):
        try:
            engine = candidate.open(bundle, _precision(bundle, candidate, precision), _device(candidate, device))
        except DamagedGraphError:
            raise
        except LLDiffusionError as error:
            passed[candidate.label] = str(error)
            continue
        slower = {other.label: f"{candidate.label} comes first" for other in candidates[i + 1 :]}
        return Opened(engine, bundle.config, passed | slower)
    passed = {label: reason for label, reason in passed.items() if both or label != "torch"}
    if len(passed) == 1:
        raise LLDiffusionError(next(iter(passed.values())))
    reasons = "; ".join(f"{label}: {reason}" for label, reason in passed.items())
    raise LLDiffusionError(f"nothing here can run '{bundle.source}' (see lldiff doctor): {reasons}")


def _wanted(bundle: Bundle, backend: str, device: str) -> Iterator[Candidate]:
    """Those that the caller's choices leave, fastest first."""
    if backend == "torch":
        raise LLDiffusionError(
            f"'{bundle.source}' is a bundle, torch runs checkpoints: choose from {', '.join(BACKENDS[1:])}"
        )
    if device not in ("auto", "cpu") and device_index(device) is None:
        raise LLDiffusionError(f"device '{device}' is unknown for a bundle: accepted are auto, cpu, cuda and cuda:N")
    kind = device.partition(":")[0]
    candidates = [each for each in CANDIDATES if backend in ("auto", each.backend) and kind in ("auto", each.device)]
    if not candidates:
        raise LLDiffusionError(f"the {backend} backend does not run on device '{device}'")
    yield from candidates


def _precision(bundle: Bundle, candidate: Candidate, wanted: str) -> str:
    """`auto`: float32 on a CPU, where the others are slower (measured), the bundle's own choice on a GPU."""
    if wanted != "auto":
        return wanted
    on_cpu = candidate.device == "cpu" and "fp32" in bundle.precisions
    return "fp32" if on_cpu else bundle.manifest.default_precision


def _device(candidate: Candidate, wanted: str) -> str:
    """The exact device; LLDiffusionError when there is no such GPU."""
    if candidate.device == "cpu":
        return "cpu"
    found = driver()
    if found.problem:
        raise LLDiffusionError(f"device 'cuda' cannot be used: {found.problem}")
    device = "cuda:0" if wanted == "auto" else wanted
    index = device_index(device) or 0
    if index >= len(found.gpus):
        raise LLDiffusionError(
            f"device '{device}' does not exist: the driver shows {len(found.gpus)} GPUs, from cuda:0 on"
        )
    return f"cuda:{index}"


def _onnx_runtime(bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.onnx_runtime import OnnxRuntimeEngine

    _no_bf16(precision, "ONNX Runtime")
    return OnnxRuntimeEngine(_runnable(bundle, precision), precision, device)


def _openvino(bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.openvino_cpu import OpenVinoEngine

    _no_bf16(precision, "OpenVINO")
    return OpenVinoEngine(_runnable(bundle, precision), precision)


def _tensorrt(flavour: str, bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.tensorrt import TensorRtEngine

    return TensorRtEngine(bundle, precision, flavour, device_index(device) or 0)


def _torch(bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.torch_eager import open_torch

    return open_torch(str(bundle.folder), device)[0]


def _runnable(bundle: Bundle, precision: str) -> dict[str, Path]:
    """The files of the graphs, each with the inputs and outputs that the engines use."""
    graphs = bundle.graphs(precision)
    for graph, path in graphs.items():
        check_runnable(path, graph)
    return graphs


def _no_bf16(precision: str, who: str) -> None:
    if precision == "bf16":
        raise LLDiffusionError(f"{who} does not run bfloat16 graphs here: they are for TensorRT; use --precision fp32")


def memory_need(backend: str) -> MemoryNeed:
    """What a backend holds at its peak, by name; eager PyTorch's for names that are no backend's."""
    if backend == "onnxruntime":
        from .backends.onnx_runtime import OnnxRuntimeEngine

        return OnnxRuntimeEngine.memory_need
    if backend == "openvino":
        from .backends.openvino_cpu import OpenVinoEngine

        return OpenVinoEngine.memory_need
    if backend == "torch":
        from .backends.torch_eager import TorchEngine

        return TorchEngine.memory_need
    return Engine.memory_need


# Fastest first.  On one core, a step of the tiny model at 256x256 took ONNX Runtime 0.17 s and OpenVINO 0.25 s,
# one of the paper's at 128x128 0.57 s and 0.67 s.
CANDIDATES = (
    Candidate("tensorrt", "cuda", partial(_tensorrt, "tensorrt")),
    Candidate("tensorrt-rtx", "cuda", partial(_tensorrt, "tensorrt-rtx")),
    Candidate("onnxruntime", "cuda", _onnx_runtime),
    Candidate("torch", "cuda", _torch),
    Candidate("onnxruntime", "cpu", _onnx_runtime),
    Candidate("openvino", "cpu", _openvino),
    Candidate("torch", "cpu", _torch),
)
