"""Does it pay to take the first convolution's share of y, C(y) and brightened y out of the step?

    python -m lldiffusion.benchmarks.first_convolution [MODEL|PRESET] [--size 608x416] [--rounds 20]

That share is the same at every step, so it could be computed once per image and handed to the denoiser in place of its
inputs: fewer multiplications, and a map of all its channels to read instead.  Both graphs are exported for one size
and run by ONNX Runtime in turn, A B A B; the same graph is measured twice (A, A) for the noise.  The tones, and y for
the model's gain, stay where they are.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from lldiffusion.config import PRESETS, load_config
from lldiffusion.engines.locate import SHIPPED
from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.export.graphs import Step, quiet
from lldiffusion.model import LLDiffusion, fold_spectral_norm, load_model
from lldiffusion.model.level import brighten
from lldiffusion.model.network import Denoiser, tone

from .pictures import parse_sizes
from .program import run_program


@dataclass
class Holder:
    """Carries the share of the conditions past the U-Net's own signature."""

    share: Tensor | None = None


class Remaining(nn.Module):
    """In the place of the first convolution: x_t's share, to which that of the conditions is added."""

    def __init__(self, whole: nn.Conv2d, channels: int, holder: Holder) -> None:
        super().__init__()
        self.weight, self.holder = nn.Parameter(whole.weight[:, :channels].detach().clone()), holder

    def forward(self, x: Tensor) -> Tensor:
        assert self.holder.share is not None
        return F.conv2d(x, self.weight, padding=1) + self.holder.share


class HoistedDenoiser(nn.Module):
    """As `lldiffusion.model.network.Denoiser`, given the conditions' share in the place of the colour map."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.whole, self.holder = copy.deepcopy(denoiser), Holder()
        net = self.whole.net
        net.conv_in = Remaining(net.conv_in, 3 * net.patch**2, self.holder)  # type: ignore[assignment]

    def forward(
        self, x_t: Tensor, y: Tensor, share: Tensor, t: Tensor, features: tuple[Tensor, ...], exposure: Tensor
    ) -> Tensor:
        whole, self.holder.share = self.whole, share  # (N, C, H/patch, W/patch)
        maps = features[:-1] if whole.level else features
        prediction = whole.net(x_t, maps, t.expand(x_t.shape[0]))
        if not whole.gain:
            return prediction
        base = brighten(y, features[-1], exposure) if whole.level else tone(y, whole.tone)
        offset, gain = prediction.chunk(2, dim=1)
        x0 = offset + gain * base
        return x0 if whole.polish is None else whole.polish(x0, base)


def hoisted_step(model: LLDiffusion) -> Step:
    """A whole step around it."""
    step = Step(model)
    step.denoiser = HoistedDenoiser(model.denoiser)  # type: ignore[assignment]
    return step


def share(model: LLDiffusion, low: Tensor, color_map: Tensor, features: list[Tensor], exposure: float) -> Tensor:
    """What the first convolution makes of everything but x_t."""
    net, seen = model.denoiser.net, [torch.zeros_like(low), tone(low, model.denoiser.tone), color_map]
    if model.config.model.level:
        seen.append(brighten(low, features[-1], exposure))
    x = torch.cat(seen, dim=1)
    return net.conv_in(F.pixel_unshuffle(x, net.patch) if net.patch > 1 else x)


def inputs(model: LLDiffusion, height: int, width: int) -> dict[str, Any]:
    """Arguments of a step on a dark image, by name, in order."""
    generator = torch.Generator().manual_seed(0)
    x_t, previous = (torch.randn(1, 3, height, width, generator=generator) for _ in range(2))
    low = torch.rand(1, 3, height, width, generator=generator) * 0.1 - 1
    named: dict[str, Any] = {"x_t": x_t, "low": low, "color_map": model.color_map(low)}
    named |= {"features": [f.clone() for f in model.encoder(low)]}
    named |= {
        name: torch.full((1,), value) for name, value in zip(("t", "k_x", "k_p", "a", "b", "c"), (700.0, *[0.5] * 5))
    }
    return named | {"x0_previous": previous} | ({"exposure": torch.zeros(1)} if model.config.model.level else {})


def session(step: nn.Module, given: dict[str, Any]) -> tuple[Any, dict[str, np.ndarray]]:
    """An ONNX Runtime session of a step at one size, and its inputs."""
    onnxruntime = require("onnxruntime", "cpu", "measuring exported graphs")
    with quiet(), torch.no_grad():
        program = torch.onnx.export(step, tuple(given.values()), dynamo=True, opset_version=21, verbose=False)
    assert program is not None
    ready = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    flat = [v for value in given.values() for v in (value if isinstance(value, list) else [value])]
    names = [port.name for port in program.model_proto.graph.input]
    fed = {name: value.numpy() for name, value in zip(names, flat, strict=True)}
    return ready, {port.name: fed[port.name] for port in ready.get_inputs()}


def milliseconds(run: tuple[Any, dict[str, np.ndarray]]) -> float:
    start = time.perf_counter()
    run[0].run(None, run[1])
    return 1e3 * (time.perf_counter() - start)


def measure(model: LLDiffusion, height: int, width: int, rounds: int) -> tuple[list[list[float]], float]:
    """Milliseconds of a step [as it is, as it is again, hoisted], and the largest difference of their answers."""
    given = inputs(model, height, width)
    moved = given | {"color_map": share(model, given["low"], given["color_map"], given["features"], 0.0)}
    whole, hoisted = session(Step(model), given), session(hoisted_step(model), moved)
    apart = float(np.abs(whole[0].run(None, whole[1])[0] - hoisted[0].run(None, hoisted[1])[0]).max())
    samples: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        for place, run in enumerate((whole, whole, hoisted)):
            samples[place].append(milliseconds(run))
    return samples, apart


def open_model(source: str) -> LLDiffusion:
    """A checkpoint, a shipped model, or a preset with random weights."""
    if source in PRESETS and source not in SHIPPED:
        torch.manual_seed(0)
        return fold_spectral_norm(LLDiffusion(load_config(source), with_degrader=False).eval().requires_grad_(False))
    return fold_spectral_norm(load_model(source))


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of "608x416"."""
    first, *others = parse_sizes(text)
    if others or any(side % 32 for side in first):
        raise LLDiffusionError(f"--size '{text}': give width x height in multiples of 32, such as 608x416")
    return first


def main(
    model: str = typer.Argument("tiny", help="Checkpoint folder, shipped model, or a preset with random weights."),
    size: str = typer.Option("608x416", help="Width x height, multiples of 32."),
    rounds: int = typer.Option(20, min=1, help="Runs of each graph."),
) -> None:
    """Measure and print one line for each way."""
    width, height = parse_size(size)
    samples, apart = measure(open_model(model), height, width, rounds)
    as_is, again, hoisted = map(statistics.median, samples)
    best = min(map(min, samples[:2]))
    typer.echo(f"{model} {size}, {rounds} rounds, answers differ by {apart:.1e}")
    typer.echo(f"as it is  {as_is:8.2f} ms a step, again {again:.2f} ms: noise {abs(again / as_is - 1):.1%}")
    typer.echo(f"hoisted   {hoisted:8.2f} ms a step: {hoisted / statistics.mean((as_is, again)) - 1:+.1%}")
    typer.echo(
        f"fastest   {best:8.2f} ms as it is, {min(samples[2]):.2f} ms hoisted: {min(samples[2]) / best - 1:+.1%}"
    )


if __name__ == "__main__":
    run_program(main)
