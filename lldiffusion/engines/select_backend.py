"""Which engine runs a source: a checkpoint on PyTorch, a bundle on the fastest backend that works here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from lldiffusion.bundle import Bundle
from lldiffusion.bundle.find import find_model, is_bundle, is_checkpoint, is_single
from lldiffusion.bundle.onnx_check import check_runnable
from lldiffusion.config import Config
from lldiffusion.errors import DamagedGraphError, LLDiffusionError, choose

from .backends.base import Engine
from .driver import device_index, driver
from .memory import MemoryNeed
from .processor import cpu_precision
from .sampler import plan_steps

BACKENDS = ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Opened:
    """An engine, what it runs, and why the other backends do not."""

    engine: Engine
    config: Config
    passed_over: dict[str, str] = field(default_factory=dict)  # backend -> reason
    why: str = ""  # that precision
    steps_inside: bool = False  # of a single graph: neither their number nor the solver can be chosen


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


def open_engine(source: str, backend: str, device: str, precision: str, many: bool = False) -> Opened:
    """Open a checkpoint folder, a bundle folder, a `.lldiff` file or a shipped model; `many`: as of `Enhancer.open`.

    Raises LLDiffusionError for an unknown source or option, and, saying why each backend cannot, when nothing here can.
    """
    choose(backend, ("auto", *BACKENDS), "backend")
    path = find_model(source)
    if is_single(path):
        return _open_single(path, backend, device, precision)
    if is_bundle(path) and not (backend == "torch" and is_checkpoint(path)):
        return open_bundle(Bundle.open(path), backend, device, precision, many)
    if backend not in ("auto", "torch"):
        raise LLDiffusionError(
            f"'{source}' is a checkpoint, which only the torch backend runs: "
            f"for {backend}, export it first (lldiff export {source} -o BUNDLE) and open the bundle"
        )
    choose(precision, ("auto", "fp32"), "precision of a checkpoint (the others need a bundle: lldiff export)")
    from .backends.torch_eager import open_torch

    engine, model = open_torch(source, device)
    return Opened(engine, model.config, dict.fromkeys(BACKENDS[1:], "runs bundles only (lldiff export)"))


def _open_single(path: Path, backend: str, device: str, precision: str) -> Opened:
    """A model in one ONNX file, whose precision is what it is; on a GPU where one is asked for."""
    choose(backend, ("auto", "onnxruntime"), "backend of a single graph")
    choose(precision, ("auto",), "precision of a single graph, which is what it was exported with")
    from .backends.single_graph import SingleGraphEngine

    if device not in ("auto", "cpu") and device_index(device) is None:
        raise LLDiffusionError(f"device '{device}' is unknown here: accepted are auto, cpu, cuda and cuda:N")
    engine = SingleGraphEngine(path, "cpu" if device == "auto" else device)
    others = (other for other in BACKENDS if other != "onnxruntime")
    return Opened(engine, engine.config, dict.fromkeys(others, "runs no single graphs here"), steps_inside=True)


def open_bundle(bundle: Bundle, backend: str, device: str, precision: str, many: bool = False) -> Opened:
    """Try the backends that may run a bundle, fastest first; the first that works is used."""
    choose(precision, _accepted(bundle), f"precision of '{bundle.source}'")
    both = is_checkpoint(bundle.folder)
    passed: dict[str, str] = {} if both else {"torch": "runs checkpoints only"}
    candidates = [each for each in _wanted(bundle, backend, device) if both or each.backend != "torch"]
    if many and precision in ("auto", "int8"):
        candidates = _for_many(candidates, bundle)
    for i, candidate in enumerate(candidates):
        try:
            chosen, why = _precision(bundle, candidate, precision)
            engine = candidate.open(bundle, chosen, _device(candidate, device))
        except DamagedGraphError:
            raise
        except LLDiffusionError as error:
            passed[candidate.label] = str(error)
            continue
        slower = {other.label: f"{candidate.label} comes first" for other in candidates[i + 1 :]}
        return Opened(engine, bundle.config, passed | slower, why)
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


def _for_many(candidates: list[Candidate], bundle: Bundle) -> list[Candidate]:
    """OpenVINO before ONNX Runtime on a CPU where it is installed and will run eight bits."""
    if not openvino_first(bundle.precisions, bundle.config.model.recurrent) or find_spec("openvino") is None:
        return candidates
    openvino = [each for each in candidates if (each.backend, each.device) == ("openvino", "cpu")]
    first = next((i for i, each in enumerate(candidates) if each.device == "cpu"), len(candidates))
    return [*candidates[:first], *openvino, *(each for each in candidates[first:] if each not in openvino)]


def openvino_first(precisions: tuple[str, ...], recurrent: bool) -> bool:
    """Whether OpenVINO runs many pictures of a model with these precisions faster than ONNX Runtime on this CPU.

    In eight bits one of 1280x720 took it 0.13 s and ONNX Runtime 0.18 s (`tiny`), opening the model again 0.27 and
    0.09 s.  The recurrent `live`, of few convolutions, took both alike: it stays with the one that starts sooner.
    """
    return not recurrent and cpu_precision(precisions)[0] == "int8"


def _accepted(bundle: Bundle) -> tuple[str, ...]:
    """What `precision` may be: what the bundle holds, and bfloat16, which OpenVINO makes of float32 graphs."""
    bf16 = ("bf16",) if "fp32" in bundle.precisions and "bf16" not in bundle.precisions else ()
    return ("auto", *bundle.precisions, *bf16)


def _precision(bundle: Bundle, candidate: Candidate, wanted: str) -> tuple[str, str]:
    """(precision, why).  `auto`: what `processor` says of a CPU, the bundle's own choice on a GPU."""
    if wanted != "auto":
        return wanted, "asked for"
    if candidate.device != "cpu":
        return bundle.manifest.default_precision, "the bundle's own choice for GPUs"
    if candidate.backend == "torch":
        return "fp32", "PyTorch runs the checkpoint"
    chosen, why = cpu_precision(bundle.precisions)
    return chosen or bundle.manifest.default_precision, why


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

    if precision == "bf16":
        raise LLDiffusionError("ONNX Runtime runs no bfloat16 graphs here: OpenVINO does (--backend openvino)")
    return OnnxRuntimeEngine(_runnable(bundle, precision), precision, device, plan_steps(bundle.config))


def _openvino(bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.openvino_cpu import OpenVinoEngine

    steps = plan_steps(bundle.config)
    if precision != "bf16":
        return OpenVinoEngine(_runnable(bundle, precision), precision, steps)
    if "fp32" not in bundle.precisions:
        raise LLDiffusionError("OpenVINO makes bfloat16 of float32 graphs, which this bundle was exported without")
    return OpenVinoEngine(_runnable(bundle, "fp32"), precision, steps)


def _tensorrt(flavour: str, bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.tensorrt import TensorRtEngine

    return TensorRtEngine(bundle, precision, flavour, device_index(device) or 0)


def _torch(bundle: Bundle, precision: str, device: str) -> Engine:
    if precision != "fp32":
        raise LLDiffusionError(f"PyTorch runs checkpoints in float32, not {precision}")
    from .backends.torch_eager import open_torch

    return open_torch(str(bundle.folder), device)[0]


def _runnable(bundle: Bundle, precision: str) -> dict[str, Path]:
    """The files of the graphs, each with the inputs and outputs that the engines use."""
    graphs = bundle.graphs(precision)
    for graph, path in graphs.items():
        check_runnable(path, graph)
    return graphs


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
