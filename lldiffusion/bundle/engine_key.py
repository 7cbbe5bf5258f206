"""What a TensorRT engine was built for: its name among the engines of a bundle follows from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EngineKey:
    """Everything that decides whether an engine fits: two engines with equal keys are interchangeable."""

    graph: str  # "encoder", "color_map" or "denoiser"
    onnx_sha256: str  # of the graph it was built from
    gpu: str  # compute capability, e.g. "8.9"; "any" for engines that are finished on the GPU (TensorRT for RTX)
    flavour: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # of the flavour that built it
    precision: str  # of the graph: "fp32", "fp16" or "bf16"
    profiles: tuple[str, ...]  # e.g. "64x64:608x416:1920x1088", smallest:usual:largest as width x height
    options: tuple[str, ...] = ()  # build options that change the engine, "name=value", sorted

    def file(self) -> str:
        """Name below the bundle; keys that differ have different names."""
        tail = hashlib.sha256(canonical(self.to_dict())).hexdigest()[:10]
        gpu = "any" if self.gpu == "any" else f"sm{self.gpu.replace('.', '')}"
        return f"engines/{gpu}-{self.flavour}{self.version}-{self.precision}-{self.graph}-{tail}.engine"

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, JSON-ready."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def differences(self, here: EngineKey) -> list[str]:
        """What this engine was built for and what is wanted here, one phrase for each part that differs."""
        mine, wanted = self.to_dict(), here.to_dict()
        return [f"{LABELS[name]} {mine[name]}, here {wanted[name]}" for name in mine if mine[name] != wanted[name]]


LABELS = {
    "graph": "graph",
    "onnx_sha256": "ONNX graph",
    "gpu": "GPU of compute capability",
    "flavour": "flavour",
    "version": "version",
    "precision": "precision",
    "profiles": "profiles",
    "options": "build options",
}


def canonical(body: dict[str, Any]) -> bytes:
    """The one JSON text of a table, for hashes and signatures."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
