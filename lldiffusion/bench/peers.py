"""What is measured beside each other: one row a peer, with everything that makes it different."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError, choose

from .engine_clock import AttachStopwatch, time_onnx_runtime, time_openvino, time_torch

PRECISIONS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class PeerJob:
    """One peer on one model, as a worker process is told."""

    peer: str
    precision: str  # of a bundle's graphs
    checkpoint: str  # folder, "" when only a preset's sizes are known
    preset: str  # of the random weights when there is no checkpoint
    bundle: str  # folder or file, "" where it was not needed
    device: str  # "cpu" or "cuda:N"


@dataclass(frozen=True)
class Peer:
    """A way to run a model."""

    name: str
    about: str  # for readers of the report
    devices: tuple[str, ...]  # kinds it runs on: "cpu", "cuda"
    open: Callable[[PeerJob], tuple[Any, Config]]  # the engine and the model's configuration
    attach_stopwatch: AttachStopwatch | None  # how to see the bare engine's time, on a CPU
    keeps_memory: bool = True  # glibc is told to keep freed memory, as the lldiff command does
    from_bundle: bool = False
    precisions: tuple[str, ...] = ("fp32",)
    beside: tuple[str, ...] = ()  # precisions measured beside the usual one on a CPU, where all peers are wanted
    per_size: bool = False  # prepares itself for every size at length: measured at the first size only


def _model(job: PeerJob) -> Any:
    from .models import load

    return load(job.checkpoint, job.preset, job.device)


def _eager(kind: str, fold: bool = True) -> Callable[[PeerJob], tuple[Any, Config]]:
    def open_it(job: PeerJob) -> tuple[Any, Config]:
        from lldiffusion.engines.backends import torch_eager
        from lldiffusion.model import fold_spectral_norm

        from . import eager

        model = _model(job)
        engine = getattr(eager, kind, None) or getattr(torch_eager, kind)
        return engine(fold_spectral_norm(model) if fold else model), model.config

    return open_it


def _bundle(backend: str) -> Callable[[PeerJob], tuple[Any, Config]]:
    def open_it(job: PeerJob) -> tuple[Any, Config]:
        from lldiffusion.engines.select_backend import open_engine

        opened = open_engine(job.bundle, backend, job.device, job.precision)
        return opened.engine, opened.config

    return open_it


CPU, CUDA, BOTH = ("cpu",), ("cuda",), ("cpu", "cuda")
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "eager",
            "PyTorch float32, channels last, conditions computed once, freed memory kept",
            BOTH,
            _eager("TorchEngine"),
            time_torch,
        ),
        Peer(
            "onnxruntime",
            "the bundle's graphs in ONNX Runtime",
            BOTH,
            _bundle("onnxruntime"),
            time_onnx_runtime,
            from_bundle=True,
            precisions=("fp32", "fp16", "int8"),
            beside=("int8",),
        ),
        Peer(
            "openvino",
            "the bundle's graphs in OpenVINO",
            CPU,
            _bundle("openvino"),
            time_openvino,
            from_bundle=True,
            precisions=("fp32", "bf16", "int8"),
            beside=("bf16", "int8"),
        ),
        Peer(
            "eager-authors",
            "PyTorch float32 as the authors run it: encoder and colour map at every step, stock allocator",
            BOTH,
            _eager("AuthorsEngine", fold=False),
            time_torch,
            keeps_memory=False,
        ),
        Peer(
            "eager-cached",
            "the same with the conditions computed once per image, stock allocator",
            BOTH,
            _eager("PlainEngine"),
            time_torch,
            keeps_memory=False,
        ),
        Peer(
            "compile",
            "torch.compile of the denoiser for the exact size, conditions computed once",
            BOTH,
            _eager("CompiledEngine"),
            None,
            per_size=True,
        ),
        Peer("eager-fp16", "PyTorch float16 (autocast), channels last", CUDA, _eager("HalfEngine"), None),
        Peer("cuda-graph", "the same, the whole loop as one CUDA graph", CUDA, _eager("CudaGraphEngine"), None),
        Peer(
            "tensorrt",
            "engines of TensorRT, the whole loop as one CUDA graph",
            CUDA,
            _bundle("tensorrt"),
            None,
            from_bundle=True,
            precisions=PRECISIONS,
        ),
        Peer(
            "tensorrt-rtx",
            "engines of TensorRT for RTX, the whole loop as one CUDA graph",
            CUDA,
            _bundle("tensorrt-rtx"),
            None,
            from_bundle=True,
            precisions=PRECISIONS,
        ),
    )
}
HALF = ("eager-fp16", "cuda-graph")  # PyTorch peers whose arithmetic is float16


def choose_peers(given: str, device: str) -> list[tuple[Peer, str]]:
    """(peer, precision) of a list such as "onnxruntime,tensorrt:fp16", or "all" that run on `device`.

    Raises LLDiffusionError for an unknown name, one that does not run on this kind of device, or a bad precision.
    """
    kind = device.partition(":")[0]
    if given == "all":
        found = [(peer, _default(peer, kind)) for peer in PEERS.values() if kind in peer.devices]
        others = [(peer, precision) for peer, _ in found if kind == "cpu" for precision in peer.beside]
        return sorted([*found, *others], key=lambda entry: list(PEERS.values()).index(entry[0]))
    chosen = []
    for text in dict.fromkeys(part.strip() for part in given.split(",")):
        name, _, precision = text.partition(":")
        peer = PEERS[choose(name, PEERS, "backend to measure")]
        if kind not in peer.devices:
            raise LLDiffusionError(f"'{name}' does not run on device '{device}': it needs {' or '.join(peer.devices)}")
        accepted = ("fp16",) if name in HALF else peer.precisions
        precision = choose(precision or _default(peer, kind), accepted, f"precision of '{name}'")
        chosen.append((peer, precision))
    return chosen


def label(peer: Peer, precision: str) -> str:
    """A peer's name; with the precision where that is not the usual one."""
    return peer.name if precision == "fp32" or peer.name in HALF else f"{peer.name}:{precision}"


def _default(peer: Peer, kind: str) -> str:
    return "fp16" if peer.name in HALF or (kind == "cuda" and "fp16" in peer.precisions) else "fp32"
