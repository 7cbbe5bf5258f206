"""Which engine runs a source: a checkpoint on PyTorch, a bundle on the fastest backend that works here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from lldiffusion.bundle import Bundle
from lldiffusion.bundle.find import find_model, is_bundle, is_checkpoint
from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError, choose

from .backends.base import Engine
from .driver import device_index, driver

BACKENDS = ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Opened:
    """An engine, what it runs, and why the other backends do not."""

    engine: Engine
    config: Config
    passed_over: dict[str, str] = field(default_factory=dict)  # backend -> reason


@dataclass(frozen=True)
class Way:
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
    """Try the ways to run a bundle, fastest first; the first that works is used."""
    choose(precision, ("auto", *bundle.precisions), f"precision of '{bundle.source}'")
    both = is_checkpoint(bundle.folder)
    passed: dict[str, str] = {} if both else {"torch": "runs checkpoints only"}
    ways = [way for way in _wanted(bundle, backend, device) if both or way.backend != "torch"]
    for i, way in enumerate(ways):
        try:
            engine = way.open(bundle, _precision(bundle, way, precision), _device(way, device))
        except LLDiffusionError as error:
            passed[way.label] = str(error)
            continue
        slower = {other.label: f"{way.label} comes first" for other in ways[i + 1 :]}
        return Opened(engine, bundle.config, passed | slower)
    passed = {label: reason for label, reason in passed.items() if both or label != "torch"}
    if len(passed) == 1:
        raise LLDiffusionError(next(iter(passed.values())))
    reasons = "; ".join(f"{label}: {reason}" for label, reason in passed.items())
    raise LLDiffusionError(f"nothing here can run '{bundle.source}' (see lldiff doctor): {reasons}")


def _wanted(bundle: Bundle, backend: str, device: str) -> Iterator[Way]:
    """The ways that the caller's choices leave."""
    if backend == "torch":
        raise LLDiffusionError(
            f"'{bundle.source}' is a bundle, torch runs checkpoints: choose from {', '.join(BACKENDS[1:])}"
        )
    if device not in ("auto", "cpu") and device_index(device) is None:
        raise LLDiffusionError(f"device '{device}' is unknown for a bundle: accepted are auto, cpu, cuda and cuda:N")
    kind = device.partition(":")[0]
    ways = [way for way in WAYS if backend in ("auto", way.backend) and kind in ("auto", way.device)]
    if not ways:
        raise LLDiffusionError(f"the {backend} backend does not run on device '{device}'")
    yield from ways


def _precision(bundle: Bundle, way: Way, wanted: str) -> str:
    """`auto`: float32 on a CPU, where the others are slower (measured), the bundle's own choice on a GPU."""
    if wanted != "auto":
        return wanted
    on_cpu = way.device == "cpu" and "fp32" in bundle.precisions
    return "fp32" if on_cpu else bundle.manifest.default_precision


def _device(way: Way, wanted: str) -> str:
    """The exact device; LLDiffusionError when there is no such GPU."""
    if way.device == "cpu":
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
    return OnnxRuntimeEngine(bundle.graphs(precision), precision, device)


def _openvino(bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.openvino_cpu import OpenVinoEngine

    _no_bf16(precision, "OpenVINO")
    return OpenVinoEngine(bundle.graphs(precision), precision)


def _tensorrt(flavour: str, bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.tensorrt import TensorRtEngine

    return TensorRtEngine(bundle, precision, flavour, device_index(device) or 0)


def _torch(bundle: Bundle, precision: str, device: str) -> Engine:
    from .backends.torch_eager import open_torch

    return open_torch(str(bundle.folder), device)[0]


def _no_bf16(precision: str, who: str) -> None:
    if precision == "bf16":
        raise LLDiffusionError(f"{who} does not run bfloat16 graphs here: they are for TensorRT; use --precision fp32")


# Fastest first.  On one core, a step of the tiny model at 256x256 took ONNX Runtime 0.17 s and OpenVINO 0.25 s,
# one of the paper's at 128x128 0.57 s and 0.67 s.
WAYS = (
    Way("tensorrt", "cuda", partial(_tensorrt, "tensorrt")),
    Way("tensorrt-rtx", "cuda", partial(_tensorrt, "tensorrt-rtx")),
    Way("onnxruntime", "cuda", _onnx_runtime),
    Way("torch", "cuda", _torch),
    Way("onnxruntime", "cpu", _onnx_runtime),
    Way("openvino", "cpu", _openvino),
    Way("torch", "cpu", _torch),
)
