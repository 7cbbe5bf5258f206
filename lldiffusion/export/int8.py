"""Eight-bit graphs of a model: calibrated, and with those layers left in float32 that cost too much.

Every layer is rounded but the thin ones, which gain nothing, and biases are moved so that means stay
(`bias_correction`).  Where the whole loop then falls short of the threshold, each layer is left out alone; those that
bring it most, for the operations they save, stay in float32, few enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lldiffusion.atomic import scratch
from lldiffusion.bundle import LEVEL
from lldiffusion.config import Config, Thresholds
from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.backends.fixed_step import FEW
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.engines.level import thumbnail_of
from lldiffusion.engines.sampler import plan_steps, trial
from lldiffusion.errors import LLDiffusionError

from .bias_correction import corrected
from .calibrate import SIDE, calibration_planes, feeds_of, ranges_of
from .dark import dark_image
from .int8_layers import Layer, layers
from .pack import pack
from .precision import Island
from .quantise import quantise

if TYPE_CHECKING:
    import onnx

ROUNDED = ("encoder", "denoiser")  # graphs with layers of eight bits
MARGIN = 1.0  # dB above the threshold that the probes must reach: the export is judged on other pictures
MOST = 300.0  # powers of ten: what a float holds, and more than any rounding reaches
SHARE = 0.75  # of the accepted drift of brightness that the probes may have
SHARE_GPU = 0.4  # the same without zero points, where pictures differ more
PROBES = (11, 12)  # seeds of the dark pictures that layers are tried on
THIN, COSTLY = "too few channels to gain from eight bits", "costs too much in eight bits"
Chosen = dict[str, set[str]]  # graph -> names of its layers in eight bits


@dataclass(frozen=True)
class Quantised:
    """Eight-bit graphs, and what stays float32 in them."""

    models: dict[str, onnx.ModelProto]
    kept: dict[str, list[Island]]  # graph -> convolutions in float32, and why


def to_int8(
    exact: dict[str, Path], config: Config, limit: Thresholds, calibrate: Path | None = None, numbers: str = "int8"
) -> Quantised:
    """Quantise the float32 graphs of a model.

    Args:
        exact: graph name -> float32 file, weights inside.
        limit: what the loop must reach against the float32 graphs.
        calibrate: a folder of dark pictures; default: the shipped set.
        numbers: as of `quantise`.
    Raises LLDiffusionError when the folder holds no pictures, or nothing at all can be rounded.
    """
    return _Search(exact, config, limit, calibrate, numbers).run()


class _Search:
    """Float32 answers, and the choice of layers."""

    def __init__(
        self,
        exact: dict[str, Path],
        config: Config,
        limit: Thresholds,
        calibrate: Path | None,
        numbers: str = "int8",
    ) -> None:
        import onnx

        self._exact, self._limit = exact, limit
        self._config, self._numbers = config, numbers
        self._leveled = LEVEL in exact
        self._engine = OnnxRuntimeEngine(exact, "fp32")
        self._models = {graph: onnx.load(exact[graph]) for graph in ROUNDED}
        for model in self._models.values():
            pack(model)
        # Runtimes know the timestep of each graph then; TensorRT does not, and fuses what is added itself.
        known = numbers == "int8" and len(plan_steps(config)) <= FEW
        self._layers = {graph: layers(model.graph, shifts=known) for graph, model in self._models.items()}
        multiple = config.model.size_multiple
        planes = calibration_planes(calibrate)
        self._feeds = feeds_of(self._engine, planes, config)
        self._ranges = {graph: ranges_of(model, self._feeds[graph]) for graph, model in self._models.items()}
        self._lows = [dark_image(*SIDE, multiple, seed) for seed in PROBES]
        self._wanted = [self._loop(self._engine, low) for low in self._lows]

    def run(self) -> Quantised:
        every = {graph: {layer.name for layer in found if not layer.thin} for graph, found in self._layers.items()}
        if not any(every.values()):
            raise LLDiffusionError(f"no layer of this model gains from eight bits: export it without --{self._numbers}")
        if self._numbers == "int8":
            self._models = {graph: self._corrected(graph, names) for graph, names in every.items()}
        chosen = every if self._good(every) else self._fewest_dropped(every)
        if not any(chosen.values()):
            raise LLDiffusionError(
                f"eight bits cost this model too much: no layer reaches {self._limit.psnr:g} dB (parity.int8_psnr)"
            )
        kept = {graph: list(_kept(found, every[graph], chosen[graph])) for graph, found in self._layers.items()}
        return Quantised({graph: self._quantised(graph, chosen[graph]) for graph in ROUNDED}, kept)

    def _fewest_dropped(self, every: Chosen) -> Chosen:
        """Drop layers, the worst for what they save first, until the loop is good; as few as a halving finds."""
        worst = self._worst_first(every)
        few, many = 0, len(worst)  # dropping `few` is not enough, dropping `many` is
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self._good(_without(every, worst[:middle])) else (middle, many)
        return _without(every, worst[:many])

    def _worst_first(self, every: Chosen) -> list[tuple[str, str]]:
        """Each layer by what the loop's excess falls by without it, for its operations."""
        before, gains = self._excess(every), {}
        for graph, found in self._layers.items():
            for layer in found:
                if layer.name in every[graph]:
                    key = (graph, layer.name)
                    gains[key] = (before - self._excess(_without(every, [key]))) / layer.operations
        return sorted(gains, key=lambda key: -gains[key])

    def _good(self, chosen: Chosen) -> bool:
        return self._excess(chosen) <= 1

    def _excess(self, chosen: Chosen) -> float:
        """Error or drift of the loop, whichever is the larger share of what the probes may have."""
        error, drift = self._errors(chosen)
        share = SHARE if self._numbers == "int8" else SHARE_GPU
        wanted = 10 ** min((self._limit.psnr + MARGIN) / 10, MOST)  # squared peak over accepted error
        return max(error * wanted / 4, drift / (share * self._limit.brightness))

    def _errors(self, chosen: Chosen) -> tuple[float, float]:
        """(the larger mean squared error of the probes in [-1, 1], the larger drift of their brightness in 1/255)."""
        with scratch() as folder:
            paths = {
                graph: path for graph, path in self._exact.items() if graph != LEVEL
            }  # asked of the float32 graphs
            for graph, names in chosen.items():
                paths[graph] = folder / f"{graph}.onnx"
                paths[graph].write_bytes(self._quantised(graph, names).SerializeToString())
            engine = OnnxRuntimeEngine(paths, self._numbers)
            errors = [self._loop(engine, low) - want for low, want in zip(self._lows, self._wanted, strict=True)]
        return max(float(np.mean(e**2)) for e in errors), max(abs(float(e.mean())) * 127.5 for e in errors)

    def _quantised(self, graph: str, names: set[str]) -> onnx.ModelProto:
        return quantise(self._models[graph], self._ranges[graph], self._named(graph, names), self._numbers)

    def _corrected(self, graph: str, names: set[str]) -> onnx.ModelProto:
        return corrected(self._models[graph], self._ranges[graph], self._named(graph, names), self._feeds[graph])

    def _named(self, graph: str, names: set[str]) -> list[Layer]:
        return [layer for layer in self._layers[graph] if layer.name in names]

    def _loop(self, engine: OnnxRuntimeEngine, low: Floats) -> Floats:
        level = window = None
        if self._leveled:
            level, window = self._engine.level(thumbnail_of(low)), np.array([[0, 0, 1, 1]], np.float32)
        steps, x = trial(self._config, 0, low.shape)
        x0 = engine.sample(low, steps, x, level=level, window=window)
        return np.clip(x0, -1, 1)


def _without(every: Chosen, dropped: list[tuple[str, str]]) -> Chosen:
    return {graph: names - {name for of, name in dropped if of == graph} for graph, names in every.items()}


def _kept(found: list[Layer], every: set[str], chosen: set[str]) -> Iterable[Island]:
    for layer in found:
        if layer.name not in chosen:
            yield Island(layer.name, "Conv", COSTLY if layer.name in every else THIN)
