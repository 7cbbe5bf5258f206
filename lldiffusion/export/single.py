"""A model as one ONNX file: traced, put together, judged against the loop, and only then written."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lldiffusion.atomic import new_path, scratch
from lldiffusion.bundle import graphs_of
from lldiffusion.bundle.find import SHIPPED, SINGLE, find_model
from lldiffusion.config import ParityConfig
from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.backends.single_graph import MARK, VERSION
from lldiffusion.engines.backends.torch_eager import TorchEngine
from lldiffusion.engines.pipeline import Pipeline
from lldiffusion.engines.sampler import plan_steps
from lldiffusion.engines.tiles import MARGIN, OVERLAP
from lldiffusion.errors import LLDiffusionError, choose, require
from lldiffusion.hashing import sha256_of
from lldiffusion.model import LLDiffusion, fold_spectral_norm, load_model
from lldiffusion.model.level import GRID
from lldiffusion.model.tint import NUMBERS
from lldiffusion.versions import __version__

from .dark import dark_image
from .graphs import annotate, save, write_graphs
from .int8 import to_int8
from .opset import OLDEST, lower_to_17
from .parity import LOOP, Report, Row, compare
from .precision import to_half
from .session import cpu_session
from .single_graph import LAYOUTS, compose, defaults
from .single_noise import noise_field

if TYPE_CHECKING:
    import onnx

OPSETS = (OLDEST, 20)  # lowest and highest accepted
TYPED = ("encoder", "denoiser")  # colour map and level are float32 in every precision
SIZES = ((5, 9), (64, 64), (197, 133), (240, 426))  # (height, width): smaller than any padding, exact, odd, usual
PRECISIONS = ("fp32", "fp16", "int8")
HALF_BYTE = np.float32(1 / 255)  # half a step of 8 bits in [-1, 1]
Progress = Callable[[str, int, int], None]  # what has just been done, how many stages are done, how many there are


@dataclass(frozen=True)
class SingleSettings:
    """How to write one."""

    precision: str = "fp32"  # of encoder and denoiser; input and output stay as the layout says
    layout: str = "nchw-float"  # of input and output
    verify: bool = True  # judge it before it is written
    overwrite: bool = False  # replace a file that stands at the output
    calibrate: Path | None = None  # folder of dark pictures for int8; None: the shipped set
    opset: int = OLDEST  # of the file: the oldest, for the most hosts
    explicit: bool = False  # every input must be given and the level is an output: for the web page

    def __post_init__(self) -> None:
        choose(self.precision, PRECISIONS, "precision of a single graph")
        choose(self.layout, LAYOUTS, "layout")
        if not OPSETS[0] <= self.opset <= OPSETS[1]:
            raise LLDiffusionError(f"opset {self.opset}: a single graph takes {OPSETS[0]} to {OPSETS[1]}")


def check_single_export(out: Path, settings: SingleSettings) -> None:
    """Raise LLDiffusionError for every mistake that can be seen before the work begins."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "export", "exporting")
    if out.suffix != SINGLE:
        raise LLDiffusionError(f"'{out}': a single graph is a file whose name ends in {SINGLE}, e.g. -o model{SINGLE}")
    if out.is_dir() or (out.exists() and not settings.overwrite):
        raise LLDiffusionError(f"'{out}' exists already: remove it, name another output, or allow overwriting (-y)")


def export_single(
    model: str | Path,
    out: str | Path,
    *,
    settings: SingleSettings = SingleSettings(),
    thresholds: ParityConfig | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Report | None:
    """Write a checkpoint folder or shipped model as one ONNX file; returns what was measured, None: not verified.

    Raises LLDiffusionError for an unknown model or option, an existing output, and when the graph does not answer like
    the model: nothing is written then.
    """
    path = Path(out)
    check_single_export(path, settings)
    network = fold_spectral_norm(load_model(model))
    stages = len(graphs_of(network.config)) + 2 + settings.verify
    with scratch() as folder:
        done: list[str] = []

        def tick(what: str) -> None:
            done.append(what)
            progress(what, len(done), stages)

        graphs = write_graphs(network, folder, max(settings.opset, 18), progress=lambda g: tick(f"traced {g}"))
        single = make_single(network, graphs, settings, thresholds)
        tick("put together")
        report = judge_single(network, single, settings, thresholds) if settings.verify else None
        if report is not None:
            tick("judged")
            if not report.passed:
                raise LLDiffusionError(_failure(report))
        weights = sha256_of(find_model(model) / "model.safetensors")
        about = describe_single(network, settings, weights, str(model), report)
        with new_path(path) as temporary:
            save(annotate(single, about), temporary)
    tick("written")
    return report


def make_single(
    network: LLDiffusion, graphs: dict[str, Path], settings: SingleSettings, thresholds: ParityConfig | None = None
) -> onnx.ModelProto:
    """The single graph of a model's float32 graphs, in the settings' precision, layout and opset."""
    import onnx

    loaded = {name: onnx.load(path) for name, path in graphs.items()}
    if settings.precision == "fp16":
        loaded |= {name: to_half(loaded[name], "fp16")[0] for name in TYPED}
    config = network.config
    if settings.precision == "int8":
        limit = (thresholds or config.parity).of("int8")
        loaded |= to_int8(graphs, config, limit, settings.calibrate).models
    opset = max(settings.opset, 18)
    single = compose(
        loaded,
        plan_steps(config),
        config.model.size_multiple,
        settings.layout,
        opset,
        settings.explicit,
        config.model.recurrent,
    )
    if settings.opset == OLDEST:
        lower_to_17(single)
    return single


def judge_single(
    network: LLDiffusion,
    single: onnx.ModelProto,
    settings: SingleSettings,
    thresholds: ParityConfig | None = None,
    sizes: tuple[tuple[int, int], ...] | None = None,
) -> Report:
    """Compare the graph with the eager loop from the same noise, in ONNX Runtime and, where installed, OpenVINO."""
    thresholds = thresholds or network.config.parity
    limit = thresholds.of(settings.precision)
    runners = _runners(annotate(single, {}).SerializeToString(), defaults(single))
    rows: list[Row] = []
    for height, width in sizes or SIZES:
        low, wanted = _expected(network, height, width)
        for how, run in runners.items():
            shown = np.clip(wanted, -1, 1)
            given = _planes(run(_pixels(low, settings.layout)), shown)
            rows.append(compare(settings.precision, how, LOOP, f"{width}x{height}", given, shown, limit))
    notes = () if "openvino" in runners else ("OpenVINO is not installed: not judged with it",)
    return Report(tuple(rows), {settings.precision: limit}, notes)


def _expected(network: LLDiffusion, height: int, width: int) -> tuple[Floats, Floats]:
    """A dark picture of 8 bits as planes, and what the eager loop makes of it from the noise of the graph."""
    dark = dark_image(height, width, 1)[:, :, :height, :width]
    low = np.asarray(np.round((dark + 1) * 127.5) / 127.5 - 1, np.float32)
    pipeline = Pipeline(TorchEngine(network), network.config, tile="none")
    noise = noise_field(*pipeline.padded_shape(low.shape)[2:])
    return low, pipeline.sample(low, plan_steps(network.config), noise)


def _pixels(planes: Floats, layout: str) -> Any:
    if layout == "nchw-float":
        return (planes + 1) / 2
    return np.round((planes.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)


def _planes(pixels: Any, wanted: Floats) -> Floats:
    """The graph's picture; of bytes, the values nearest to `wanted` that they are rounded from.

    A value between two bytes may become either, whatever the arithmetic.
    """
    if pixels.dtype != np.uint8:
        return np.asarray(pixels * np.float32(2) - 1)
    middle = pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1
    return np.clip(wanted, middle - HALF_BYTE, middle + HALF_BYTE)


def _runners(model: bytes, more: dict[str, Floats]) -> dict[str, Callable[[Any], Any]]:
    """Runtime -> what runs the graph on one picture."""
    session = cpu_session(model, "judging an export")
    found: dict[str, Callable[[Any], Any]] = {
        "onnxruntime": lambda image: session.run(None, {"image": image} | more)[0]
    }
    if importlib.util.find_spec("openvino") is not None:
        from lldiffusion.engines.backends.openvino_cpu import core

        compiled = core().compile_model(core().read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found["openvino"] = lambda image: compiled({"image": image} | more)[0]
    return found


def _failure(report: Report) -> str:
    failures = report.failures()
    more = f" ({len(failures)} in all)" if len(failures) > 3 else ""
    return (
        f"the single graph does not answer like the model: {'; '.join(failures[:3])}{more}; nothing was written "
        "(--no-verify writes it all the same)"
    )


def describe_single(
    network: LLDiffusion, settings: SingleSettings, weights: str, model: str, report: Report | None
) -> dict[str, str]:
    """The file's metadata: what a host's author needs to know, and what opens it again."""
    return dict(_described(network, settings, weights, model, report))


def _described(
    network: LLDiffusion, settings: SingleSettings, weights: str, model: str, report: Report | None
) -> Iterator[tuple[str, str]]:
    config = network.config
    shape = "(N, H, W, 3) uint8" if settings.layout == "nhwc-uint8" else "(N, 3, H, W) float32"
    if not settings.explicit:
        yield MARK, VERSION
    yield "model", config.name
    yield "licence", "Apache-2.0" if model in SHIPPED else "that of the weights it was made from"
    yield "weights_sha256", weights
    yield "lldiffusion", __version__
    yield "precision", settings.precision
    yield "layout", settings.layout
    yield "value_range", f"{shape} RGB, sRGB-encoded, {'0..255' if 'uint8' in settings.layout else '0..1'}, in and out"
    yield "size_multiple", f"1: any height and width (padded to multiples of {config.model.size_multiple} inside)"
    yield "steps", str(config.sampling.steps)
    yield "noise", "made inside, the same on every host; of smaller pictures the top left part of larger ones'"
    yield "tiling", _tiling(network)
    yield "config", json.dumps(config.to_dict(), separators=(",", ":"))
    if report is not None:
        yield "parity", "; ".join(f"{row.how} {row.size}: {row.psnr:.1f} dB" for row in report.rows)


def _tiling(network: LLDiffusion) -> str:
    if network.level is None:
        return "give the whole picture: what the network says of a part depends on all of it"
    planes = GRID[0] + NUMBERS * network.config.model.tinted
    return (
        "give the whole picture where memory allows. Tiles need the optional inputs: window (1, 4) = top, left, "
        "bottom, right of the tile as fractions of the whole picture, and level "
        f"(1, {planes}, 8, 12) of the whole picture, which lldiffusion.Enhancer.open(file) reads and hands over by "
        f"itself; overlap them by {OVERLAP} pixels, ignore the outer {MARGIN} and blend over the rest. "
        "Without level every tile chooses a brightness of its own. Optional input "
        "exposure (1,): stops brighter (+) or darker (-)"
    )
