"""LLDiffusion: degradation-aware conditional diffusion for low-light image enhancement.

The public names are loaded when they are first used, so that importing this package is quick, prints nothing
and needs none of the optional packages.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .versions import __version__ as __version__

if TYPE_CHECKING:
    from lldiffusion.bench.benchmark import benchmark as benchmark
    from lldiffusion.bundle import Bundle as Bundle
    from lldiffusion.config import load_config as load_config
    from lldiffusion.engines import Enhancer as Enhancer
    from lldiffusion.errors import LLDiffusionError as LLDiffusionError
    from lldiffusion.export.exporter import export_bundle as export_bundle
    from lldiffusion.model import load_model as load_model
    from lldiffusion.training import train as train
    from lldiffusion.video import VideoEnhancer as VideoEnhancer

_HOMES = {
    "Bundle": "lldiffusion.bundle",
    "Enhancer": "lldiffusion.engines",
    "LLDiffusionError": "lldiffusion.errors",
    "VideoEnhancer": "lldiffusion.video",
    "benchmark": "lldiffusion.bench.benchmark",
    "export_bundle": "lldiffusion.export.exporter",
    "load_config": "lldiffusion.config",
    "load_model": "lldiffusion.model",
    "train": "lldiffusion.training",
}

__all__ = [
    "Bundle",
    "Enhancer",
    "LLDiffusionError",
    "VideoEnhancer",
    "__version__",
    "benchmark",
    "export_bundle",
    "load_config",
    "load_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lldiffusion' has no attribute '{name}'; public names: {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next access skips this function
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
