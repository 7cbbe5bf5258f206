"""A bundle made from a checkpoint, judged before it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from lldiffusion.atomic import scratch
from lldiffusion.bundle import EIGHT, PRECISIONS, Bundle, Draft, Manifest, graphs_of
from lldiffusion.bundle.core import check_target
from lldiffusion.bundle.find import find_model
from lldiffusion.config import ParityConfig, change_config
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.errors import LLDiffusionError, choose, require
from lldiffusion.hashing import sha256_of
from lldiffusion.model import LLDiffusion, fold_spectral_norm, load_model
from lldiffusion.model.checkpoint import read_info

from .bisect import every_value, first_bad_operator, traced_values
from .graphs import check_opset, ports, save, trace, write_graphs
from .int8 import to_int8
from .parity import LOOP, Judge, Report, Row
from .precision import Island, check_islands, to_half
from .profiles import parse_profiles
from .sizes import sizes_to_judge

Progress = Callable[[str, int, int], None]  # what has just been done, how many stages are done, how many there are
TYPED = ("encoder", "denoiser")  # colour map and level are float32 in every precision
HALVES = ("fp32", "fp16", "bf16")  # what "precision" may be; eight bits come beside it
FP8_FROM = 19  # opset whose Q/DQ know 8-bit floating point
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


def tool_versions() -> dict[str, str]:
    """Package -> version of what had a part in a bundle."""
    return {package: metadata.version(package) for package in TOOLS}


@dataclass(frozen=True)
class Exported:
    """What `export_bundle` made."""

    path: Path
    report: Report | None  # None: not verified


@dataclass(frozen=True)
class Settings:
    """How to export."""

    precision: str = "fp32"  # "fp16" and "bf16" are written beside the float32 graphs
    int8: bool = False  # write graphs with convolutions in eight bits too, for CPUs
    int8_gpu: bool = False  # and such for TensorRT
    fp8: bool = False  # and such of 8-bit floating point, for TensorRT
    calibrate: Path | None = None  # folder of dark pictures that their ranges come from; None: the shipped set
    keep_fp32: bool = True  # False: leave the float32 graphs out of a bundle that has others
    opset: int = 21  # of the ONNX files
    profiles: tuple[str, ...] = ()  # smallest:usual:largest picture sizes; empty: the default buckets
    verify: bool = True  # judge the graphs before the bundle is accepted
    bisect: bool = False  # name the operator that makes a graph fail
    budget: float = 20.0  # seconds that judging may take, about
    overwrite: bool = False  # replace a bundle that stands at the output

    def __post_init__(self) -> None:
        choose(self.precision, HALVES, "precision")
        if self.fp8 and self.opset < FP8_FROM:
            raise LLDiffusionError(f"fp8 needs opset {FP8_FROM} or later, given was {self.opset}")

    @property
    def eight(self) -> tuple[str, ...]:
        """Those of eight bits, of `bundle.EIGHT`."""
        asked = zip(EIGHT, (self.int8, self.int8_gpu, self.fp8), strict=True)
        return tuple(name for name, given in asked if given)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions in the bundle."""
        half = (self.precision,) if self.precision != "fp32" else ()
        others = (*half, *self.eight)
        return ("fp32", *others) if self.keep_fp32 or not others else others


def export_bundle(
    model: str | Path,
    out: str | Path,
    *,
    settings: Settings = Settings(),
    thresholds: ParityConfig | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Exported:
    """Export a checkpoint folder or shipped model to a bundle folder or `.lldiff` file.

    `thresholds` default to those of the model's configuration.
    Raises LLDiffusionError for an unknown model or option, an existing output, and when a graph does not answer like
    the model (naming it): nothing is written then.
    """
    check_export(model, out, settings)
    network = fold_spectral_norm(load_model(model))
    weights = sha256_of(find_model(model) / "model.safetensors")
    with Bundle.write(out, settings.overwrite) as draft:
        report = _Export(network, weights, settings, thresholds or network.config.parity, draft, progress).run()
    return Exported(Path(out), report)


def check_export(model: str | Path, out: str | Path, settings: Settings) -> None:
    """Raise LLDiffusionError for every mistake that can be seen before the work begins."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "export", "exporting")
    check_opset(settings.opset)
    parse_profiles(settings.profiles, read_info(model).config.model.size_multiple)
    check_target(Path(out), settings.overwrite)


def read_thresholds(model: str | Path, file: Path | None, overrides: list[str] | tuple[str, ...]) -> ParityConfig:
    """The thresholds of a checkpoint's configuration, changed by a TOML file and by overrides.

    Raises LLDiffusionError when they change anything but the section `parity`: the rest is what was trained.
    """
    config = read_info(model).config
    changed = change_config(config, file, overrides)
    if replace(changed, parity=config.parity) != config:
        raise LLDiffusionError(
            "an export may change the section [parity] only (e.g. --set parity.fp16_psnr=50): "
            "the rest of the configuration is what the checkpoint was trained with"
        )
    return changed.parity


class _Export:
    """The stages of one export; each tells `progress` when it is done."""

    def __init__(
        self,
        network: LLDiffusion,
        weights: str,
        settings: Settings,
        thresholds: ParityConfig,
        draft: Draft,
        progress: Progress,
    ) -> None:
        self._network = network
        self._weights = weights
        self._settings = settings
        self._thresholds = thresholds
        self._folder = draft.folder
        self._draft = draft
        self._progress = progress
        self._done = 0
        self._float_layers: dict[str, list[Island]] = {}  # eight-bit graph -> its layers in float32
        judged = 1 + ("fp32" in settings.precisions) + {"fp32": 0, "bf16": 1, "fp16": 2}[settings.precision]
        self._graphs = graphs_of(network.config)
        eight = len(settings.eight)
        self._total = len(self._graphs) + 1 + eight + settings.verify * (judged + eight)

    def run(self) -> Report | None:
        about = {"weights_sha256": self._weights}
        exact = write_graphs(
            self._network, self._folder, self._settings.opset, about, lambda graph: self._tick(f"traced {graph}")
        )
        typed, kept = self._typed(exact)
        self._tick("types written")
        eight = {numbers: self._eight_bits(exact, numbers) for numbers in self._settings.eight}
        report = self._judge(exact, typed, kept, eight) if self._settings.verify else None
        if report is not None:
            text = json.dumps(report.to_dict(), indent=1) + "\n"
            (self._folder / "parity.json").write_text(text, encoding="utf-8")
        if "fp32" not in self._settings.precisions:
            for graph in TYPED:
                exact.pop(graph).unlink()
        self._draft.manifest = self._manifest()
        return report

    def _tick(self, what: str) -> None:
        self._done += 1
        self._progress(what, self._done, self._total)

    def _typed(self, exact: dict[str, Path]) -> tuple[dict[str, Path], dict[str, list[Island]]]:
        """The graphs in the precision asked for, and the float32 nodes of each file."""
        import onnx

        if self._settings.precision == "fp32":
            return exact, {}
        paths, kept = dict(exact), {}
        for graph in TYPED:
            paths[graph] = self._folder / self._file(graph, self._settings.precision)
            model, kept[paths[graph].name] = to_half(onnx.load(exact[graph]), self._settings.precision)
            save(model, paths[graph])
        return paths, kept

    def _eight_bits(self, exact: dict[str, Path], numbers: str) -> dict[str, Path]:
        """Write the graphs of one kind of eight bits; what stays float32 in them is noted for the report."""
        limit = self._thresholds.of(numbers)
        made = to_int8(exact, self._network.config, limit, self._settings.calibrate, numbers)
        paths = dict(exact)
        for graph, model in made.models.items():
            paths[graph] = self._folder / self._file(graph, numbers)
            save(model, paths[graph])
            self._float_layers[paths[graph].name] = made.kept[graph]
        self._tick(f"{numbers} calibrated")
        return paths

    def _file(self, graph: str, precision: str) -> str:
        return f"{graph}.onnx" if precision == "fp32" or graph not in TYPED else f"{graph}.{precision}.onnx"

    def _judge(
        self,
        exact: dict[str, Path],
        typed: dict[str, Path],
        kept: dict[str, list[Island]],
        eight: dict[str, dict[str, Path]],
    ) -> Report:
        """Compare everything with the eager model; raises LLDiffusionError when something fails."""
        import onnx

        precision = self._settings.precision
        judge = Judge(self._network, [], self._thresholds)
        judge.sizes, notes = self._sizes(judge)
        self._tick("eager model timed")
        rows = list(self._rows(judge, exact, typed))
        for numbers, paths in eight.items():
            rows += judge.rows(OnnxRuntimeEngine(paths, numbers), numbers)
            self._tick(f"{numbers} judged")
        wrong = {file: check_islands(onnx.load(self._folder / file), islands) for file, islands in kept.items()}
        if precision == "bf16":
            notes.append("bf16 is judged rounded only: ONNX Runtime has no bfloat16 convolution on a CPU")
        report = Report(
            rows=tuple(rows),
            thresholds={name: self._thresholds.of(name) for name in PRECISIONS if name in {r.precision for r in rows}},
            notes=tuple(notes),
            islands={
                file: [asdict(island) for island in islands] for file, islands in (kept | self._float_layers).items()
            },
            wrong_islands={file: nodes for file, nodes in wrong.items() if nodes},
        )
        if not report.passed:
            raise LLDiffusionError(self._failure(report, judge, exact, typed))
        return report

    def _sizes(self, judge: Judge) -> tuple[list[tuple[int, int]], list[str]]:
        config = self._network.config.model
        profiles = parse_profiles(self._settings.profiles, config.size_multiple)
        runs = len(self._settings.precisions) + (self._settings.precision == "fp16") + 1  # and the eager one
        cost = runs * judge.seconds_per_pixel(128, 128)
        return sizes_to_judge(profiles, config, cost, self._settings.budget)

    def _rows(self, judge: Judge, exact: dict[str, Path], typed: dict[str, Path]) -> Iterator[Row]:
        precision = self._settings.precision
        if "fp32" in self._settings.precisions:
            yield from judge.rows(OnnxRuntimeEngine(exact, "fp32"), "fp32")
            self._tick("fp32 judged")
        if precision == "fp16":
            yield from judge.rows(OnnxRuntimeEngine(typed, precision), precision)
            self._tick("fp16 judged")
        if precision != "fp32":
            yield from self._rounded_rows(judge, exact)
            self._tick(f"{precision} judged as a GPU rounds it")

    def _rounded_rows(self, judge: Judge, exact: dict[str, Path]) -> Iterator[Row]:
        """Of an engine that rounds every value stored in half precision and computes in float32."""
        import onnx

        precision = self._settings.precision
        with scratch() as folder:
            paths = dict(exact)
            for graph in TYPED:
                paths[graph] = folder / f"{graph}.onnx"
                save(to_half(onnx.load(exact[graph]), precision, emulate=True)[0], paths[graph])
            yield from judge.rows(OnnxRuntimeEngine(paths, "fp32"), precision, "rounded")  # which reads them as it runs

    def _failure(self, report: Report, judge: Judge, exact: dict[str, Path], typed: dict[str, Path]) -> str:
        failures = report.failures()
        text = f"the export does not answer like the model: {'; '.join(failures[:3])}"
        text += f" ({len(failures)} in all)" if len(failures) > 3 else ""
        if not self._settings.bisect:
            return f"{text}; nothing was written (--bisect names the operator, --no-verify writes it all the same)"
        wrong = [row for row in report.rows if not row.passed and row.graph != LOOP]
        for graph in [name for name in self._graphs if name in {row.graph for row in wrong}]:
            feeds, exact_fails = judge.feeds(graph), any((r.precision, r.graph) == ("fp32", graph) for r in wrong)
            suspect, limit = (exact, "fp32") if exact_fails else (typed, self._settings.precision)
            if exact_fails:  # the float32 graph itself is wrong: only the model knows better
                right = traced_values(trace(self._network, graph, self._settings.opset), feeds)
            else:
                right = every_value(exact[graph], feeds)
            found = first_bad_operator(suspect[graph], right, feeds, self._thresholds.of(limit).psnr)
            text += f"; first bad operator of {graph}: {found or 'none alone, errors add up'}"
        return text

    def _manifest(self) -> Manifest:
        config, precisions = self._network.config, self._settings.precisions
        default = self._settings.precision if self._settings.precision in precisions else precisions[0]  # of a GPU
        graphs = {p: {graph: self._file(graph, p) for graph in self._graphs} for p in precisions}
        files = {file for named in graphs.values() for file in named.values()}
        described = {file: ports(self._folder / file) for file in sorted(files)}
        return Manifest(
            name=config.name,
            weights_sha256=self._weights,
            config=config.to_dict(),
            size_multiple=config.model.size_multiple,
            default_precision=default,
            graphs=graphs,
            inputs={file: inputs for file, (inputs, _) in described.items()},
            outputs={file: outputs for file, (_, outputs) in described.items()},
            tools=tool_versions(),
        )
