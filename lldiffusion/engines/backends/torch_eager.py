"""The eager reference: PyTorch runs the model as it was trained.  The one file of the runtime that imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lldiffusion.errors import LLDiffusionError, require

from ..memory import MemoryNeed, host_memory
from ..sampler import Step
from .base import Array, Conditions, Engine, Floats

if TYPE_CHECKING:
    import torch

    from lldiffusion.model import LLDiffusion


class TorchEngine(Engine):
    """Runs an `LLDiffusion` model in evaluation mode, in float32, channels last."""

    memory_need = MemoryNeed(stored=3.5, images=40, plain=0.85)

    def __init__(self, model: LLDiffusion) -> None:
        self._torch = require("torch", "train", "the PyTorch backend")
        self._model = model.eval().to(memory_format=self._torch.channels_last)  # type: ignore[call-overload]
        self._device = next(model.parameters()).device
        self._clip = model.config.sampling.clip

    def level(self, thumbnail: Array) -> Array:
        assert self._model.level is not None
        with self._torch.inference_mode():
            return self._model.level(self._tensor(thumbnail))

    def encode(self, low: Array) -> tuple[Array, ...]:
        with self._torch.inference_mode():
            return self._model.encoder(self._tensor(low))

    def color_map(self, low: Array) -> Array:
        with self._torch.inference_mode():
            return self._model.color_map(self._tensor(low))

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        with self._torch.inference_mode():
            x, previous, y, c = map(self._tensor, (x, previous, conditions.low, conditions.color_map))
            features = tuple(map(self._tensor, conditions.features))
            level, window = conditions.level, conditions.window
            lit = () if level is None else (self._plain(level), self._plain(window), step.exposure or 0.0)
            prediction = self._model.denoiser(x, y, c, step.t, features, *lit)
            x0 = step.k_x * x + step.k_p * prediction
            x0 = x0.clamp(-1, 1) if self._clip else x0
            return step.a * x + step.b * x0 + step.c * previous, x0

    def numpy(self, values: Array) -> Floats:
        return self._plain(values).float().cpu().contiguous().numpy()

    def info(self) -> dict[str, str]:
        cuda = self._device.type == "cuda"
        name = self._torch.cuda.get_device_name(self._device) if cuda else str(self._device)
        return {"backend": "torch", "version": self._torch.__version__, "device": name, "precision": "fp32"}

    def free_memory(self) -> int:
        if self._device.type == "cuda":
            return int(self._torch.cuda.mem_get_info(self._device)[0])
        return host_memory()

    def _plain(self, values: Array) -> torch.Tensor:
        return self._torch.as_tensor(values, device=self._device)

    def _tensor(self, values: Array) -> torch.Tensor:
        return self._plain(values).contiguous(memory_format=self._torch.channels_last)


def open_torch(source: str, device: str) -> tuple[TorchEngine, LLDiffusion]:
    """Load a checkpoint folder or shipped model onto a device: "auto", "cpu", "cuda", "cuda:1"."""
    torch = require("torch", "train", "the PyTorch backend")
    from lldiffusion.model import load_model

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not _usable(torch, device):
        seen = f"{torch.cuda.device_count()} CUDA GPUs" if torch.cuda.is_available() else "no CUDA GPU"
        raise LLDiffusionError(f"device '{device}' cannot be used: PyTorch {torch.__version__} sees {seen}; try cpu")
    model = load_model(source, device=device)
    return TorchEngine(model), model


def _usable(torch: object, device: str) -> bool:
    try:
        torch.empty(1, device=device)  # type: ignore[attr-defined]
    except (RuntimeError, AssertionError):  # torch built without CUDA asserts
        return False
    return True
