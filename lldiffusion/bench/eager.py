"""PyTorch as a peer: as the authors run it, with the conditions kept, compiled, in half precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lldiffusion.config import ModelConfig
from lldiffusion.engines.backends.base import Array, Conditions, Floats, Progress, Shape
from lldiffusion.engines.backends.torch_eager import TorchEngine
from lldiffusion.engines.sampler import Step
from lldiffusion.model import LLDiffusion


class PlainEngine(TorchEngine):
    """Eager float32 in PyTorch's default layout, the conditions computed once per image."""

    def __init__(self, model: LLDiffusion) -> None:
        super().__init__(model)
        self._model.to(memory_format=torch.contiguous_format)

    def _tensor(self, values: Array) -> torch.Tensor:
        return torch.as_tensor(values, device=self._device).contiguous()


class AuthorsEngine(PlainEngine):
    """The authors' way: encoder and colour map again at every step, spectral norm computed on the way."""

    def encode(self, low: Array) -> tuple[Array, ...]:
        return ()

    def color_map(self, low: Array) -> Array:
        return low

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        low = conditions.low
        computed = replace(conditions, color_map=super().color_map(low), features=super().encode(low))
        return super().step(x, computed, step, previous)


class CompiledEngine(TorchEngine):
    """`torch.compile` of the denoiser, for one size after another."""

    def __init__(self, model: LLDiffusion) -> None:
        super().__init__(model)
        mode = "reduce-overhead" if self._device.type == "cuda" else None  # CUDA graphs; nothing like it on a CPU
        self._model.denoiser = _Compiled(torch.compile(model.denoiser, dynamic=False, mode=mode))


class _Compiled(nn.Module):
    """A compiled denoiser that is given the timestep as a tensor: a number would be compiled in."""

    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self._denoiser = denoiser

    def forward(self, x: torch.Tensor, y: torch.Tensor, c: torch.Tensor, t: float, *rest: Any) -> torch.Tensor:
        answer = self._denoiser(x, y, c, torch.tensor([float(t)], device=x.device), *rest)
        return answer if x.device.type == "cpu" else answer.clone()  # a CUDA graph's output is overwritten by the next


class HalfEngine(TorchEngine):
    """Eager with float16 weights and convolutions, norms and the step's arithmetic in float32 (autocast)."""

    def __init__(self, model: LLDiffusion) -> None:
        model = model.half()
        if model.level is not None:
            model.level.float()  # a gain that is rounded shows, and a thumbnail is small
        super().__init__(model)

    def encode(self, low: Array) -> tuple[Array, ...]:
        with torch.autocast(self._device.type, torch.float16):
            return super().encode(low)

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        with torch.autocast(self._device.type, torch.float16):
            return super().step(x, conditions, step, previous)

    def info(self) -> dict[str, str]:
        return super().info() | {"precision": "fp16"}


class CudaGraphEngine(HalfEngine):
    """The whole float16 loop captured as one CUDA graph by PyTorch, for one size and plan at a time."""

    def __init__(self, model: LLDiffusion) -> None:
        super().__init__(model)
        self._key: Any = None
        self._graph: Any = None

    def sample(
        self,
        low: Floats,
        steps: tuple[Step, ...],
        noise: Floats,
        progress: Progress | None = None,
        level: Array | None = None,
        window: Array | None = None,
    ) -> Floats:
        given = {"low": low, "noise": noise} | ({} if level is None else {"level": level, "window": window})
        if self._key != (low.shape, steps):
            self._capture(given, steps)
        for name, values in given.items():
            self._inputs[name].copy_(torch.as_tensor(values))
        self._graph.replay()
        return self.numpy(self._output)

    def tile_side(self, model: ModelConfig, shape: Shape) -> int | None:
        """Always whole."""
        return None

    def _capture(self, given: dict[str, Array], steps: tuple[Step, ...]) -> None:
        self._key = (given["low"].shape, steps)
        self._graph = None
        self._output = None
        self._inputs = {name: self._plain(values).clone() for name, values in given.items()}
        zeros = self._tensor(np.zeros_like(given["noise"]))
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # cuDNN chooses its kernels before the capture
            for _ in range(2):
                self._loop(steps, zeros)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._loop(steps, zeros)

    def _loop(self, steps: tuple[Step, ...], zeros: Array) -> Array:
        inputs = self._inputs
        conditions = self.conditions(inputs["low"], inputs.get("level"), inputs.get("window"))
        return self.denoise(conditions, steps, inputs["noise"], zeros)
