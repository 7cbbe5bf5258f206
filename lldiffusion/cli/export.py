"""`lldiff export`: a checkpoint becomes a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lldiffusion.errors import LLDiffusionError, choose, require

from .options import Overwrite, Profiles

if TYPE_CHECKING:
    from lldiffusion.config import ParityConfig
    from lldiffusion.export.exporter import Exported, Settings
    from lldiffusion.export.parity import Report
    from lldiffusion.export.single import SingleSettings

app = typer.Typer(add_completion=False)

ENGINES = ("none", "tensorrt", "tensorrt-rtx")


@app.command()
def export(
    model: str = typer.Argument(..., help="Checkpoint folder or shipped model (tiny)."),
    out: Path = typer.Option(
        ...,
        "-o",
        "--out",
        help="Bundle to write: a folder, or a .lldiff file; an .onnx file with --single, a folder with --web.",
    ),
    single: bool = typer.Option(
        False, "--single", help="Write one ONNX graph, picture in, picture out, that other programs run."
    ),
    web: bool = typer.Option(
        False, "--web", help="Write a folder with a page that enhances in the visitor's browser; needs --runtime."
    ),
    runtime: Path | None = typer.Option(None, help="Of --web: the folder dist of the npm package onnxruntime-web."),
    layout: str = typer.Option(
        "nchw-float", help="Of a single graph's pictures: nchw-float, in [0, 1], or nhwc-uint8."
    ),
    fp16: bool = typer.Option(False, "--fp16", "--half", help="Add float16 graphs, for GPUs."),
    bf16: bool = typer.Option(False, "--bf16", help="Add bfloat16 graphs, for GPUs."),
    int8: bool = typer.Option(False, "--int8", help="Add graphs with convolutions in eight bits, for CPUs with VNNI."),
    int8_gpu: bool = typer.Option(False, "--int8-gpu", help="Add such graphs for TensorRT; never run on a GPU yet."),
    fp8: bool = typer.Option(False, "--fp8", help="Add graphs of 8-bit floating point, for TensorRT; never run yet."),
    calibrate: Path | None = typer.Option(
        None, help="With eight bits: folder of dark pictures like those it is for [a shipped set]."
    ),
    fp32: bool = typer.Option(False, "--fp32", help="Float32 graphs only [the default]."),
    no_fp32: bool = typer.Option(False, "--no-fp32", help="Leave the float32 graphs out of a bundle that has others."),
    profile: Profiles = None,
    engine: str = typer.Option("none", help="Build engines too: none, tensorrt or tensorrt-rtx."),
    triton: Path | None = typer.Option(None, help="Put it into this model repository of NVIDIA's Triton, too."),
    opset: int | None = typer.Option(None, help="Of the ONNX files, 18 to 22 [21]; of a single graph, 17 to 20 [17]."),
    verify: bool = typer.Option(True, help="Compare every graph and the whole loop with the model first."),
    bisect: bool = typer.Option(False, "--bisect", help="When that fails, name the first bad operator."),
    budget: float = typer.Option(20.0, min=1, help="Seconds that comparing may take, about."),
    config: Path | None = typer.Option(None, help="TOML file whose [parity] changes what is demanded of the graphs."),
    set_: list[str] = typer.Option([], "--set", help="Change one of them, e.g. parity.fp16_psnr=50."),
    overwrite: Overwrite = False,
) -> None:
    """Export a model to ONNX graphs that run without PyTorch, and prove that they answer like it."""
    choose(engine, ENGINES, "engine")
    precision = _precision(fp16, bf16, fp32)
    eight = int8 or int8_gpu or fp8
    if no_fp32 and precision == "fp32" and not eight:
        raise LLDiffusionError("--no-fp32 leaves nothing to write: add --fp16, --bf16 or --int8")
    if calibrate is not None and not eight:
        raise LLDiffusionError("--calibrate is for eight bits: add --int8")
    require("torch", "export", "exporting")
    from lldiffusion.export.calibrate import check_calibration
    from lldiffusion.export.exporter import Settings, check_export, read_thresholds

    if calibrate is not None:
        check_calibration(calibrate)

    thresholds = read_thresholds(model, config, set_)
    if web and runtime is None:
        raise LLDiffusionError("--web needs --runtime node_modules/onnxruntime-web/dist  (npm install onnxruntime-web)")
    if single or web:
        given = {"--engine": engine != "none", "--profile": bool(profile), "--no-fp32": no_fp32, "--bisect": bisect}
        given |= {"--triton": web and triton is not None, "--int8-gpu": int8_gpu, "--fp8": fp8}
        _refuse_of_bundles(given)
        how = _single_settings(precision, int8, layout, opset, verify, overwrite, calibrate)
        _single(model, out, thresholds, how, runtime if web else None)
        if triton is not None:
            _graph_for_triton(out, triton, overwrite)
        return
    settings = Settings(
        precision=precision,
        int8=int8,
        int8_gpu=int8_gpu,
        fp8=fp8,
        calibrate=calibrate,
        keep_fp32=not no_fp32,
        opset=21 if opset is None else opset,
        profiles=tuple(profile or ()),
        verify=verify,
        bisect=bisect,
        budget=budget,
        overwrite=overwrite,
    )
    check_export(model, out, settings)
    exported = _export(model, out, settings, thresholds)
    if exported.report is not None:
        show_report(exported.report)
    typer.echo(f"bundle: {out} ({', '.join(settings.precisions)}{'' if verify else ', not verified'})")
    if engine != "none":
        _engines(out, engine, settings.profiles)
    if triton is not None:
        from lldiffusion.scale.triton_repository import write_repository

        typer.echo(f"for Triton: {write_repository(out, triton, overwrite)}")
    typer.echo(f"use it: lldiff enhance PHOTO -o OUT --model {out}")


def _precision(fp16: bool, bf16: bool, fp32: bool) -> str:
    asked = [name for name, given in (("fp16", fp16), ("bf16", bf16), ("fp32", fp32)) if given]
    if len(asked) > 1:
        raise LLDiffusionError(f"{' and '.join(f'--{name}' for name in asked)} exclude each other: give one")
    return asked[0] if asked else "fp32"


def _refuse_of_bundles(given: dict[str, bool]) -> None:
    """Options that mean nothing for a single graph, or for a page."""
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise LLDiffusionError(f"{wrong[0]} is for bundles: leave it out, or leave --single out")


def _single_settings(
    precision: str,
    int8: bool,
    layout: str,
    opset: int | None,
    verify: bool,
    overwrite: bool,
    calibrate: Path | None,
) -> SingleSettings:
    from lldiffusion.export.single import SingleSettings

    if int8 and precision != "fp32":
        raise LLDiffusionError(f"a single graph has one precision: give --int8 or --{precision}, not both")
    settings = SingleSettings("int8" if int8 else precision, layout, verify, overwrite, calibrate)
    return settings if opset is None else replace(settings, opset=opset)


def _single(model: str, out: Path, thresholds: ParityConfig, settings: SingleSettings, runtime: Path | None) -> None:
    from lldiffusion.export.single import check_single_export
    from lldiffusion.export.web import check_web

    if runtime is None:
        check_single_export(out, settings)
    else:
        check_web(model, out, runtime, settings.overwrite)
    report = _write_single(model, out, settings, thresholds, runtime)
    if report is not None:
        show_report(report)
    about = f"{settings.precision}, {settings.layout}, opset {settings.opset}"
    if runtime is not None:
        typer.echo(f"page: {out}\nuse it: python -m http.server -d {out}, or any web server")
        return
    typer.echo(f"single graph: {out} ({about}{'' if settings.verify else ', not verified'})")
    typer.echo(f"use it: lldiff enhance PHOTO -o OUT --model {out}, or in any program that runs ONNX")


def _graph_for_triton(graph: Path, repository: Path, overwrite: bool) -> None:
    from lldiffusion.scale.triton_graph import write_graph_repositories

    onnx, tensorrt = write_graph_repositories(graph, repository, overwrite)
    typer.echo(f"for Triton: {onnx}; and {tensorrt}, once  sh {tensorrt / '1' / 'build.sh'}  has run on its GPU")


def _write_single(
    model: str, out: Path, settings: SingleSettings, thresholds: ParityConfig, runtime: Path | None
) -> Report | None:
    from lldiffusion.export.single import export_single
    from lldiffusion.export.web import export_web
    from lldiffusion.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task("reading the model", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        if runtime is not None:
            return export_web(model, out, runtime, settings=settings, thresholds=thresholds, progress=progress)
        return export_single(model, out, settings=settings, thresholds=thresholds, progress=progress)


def _export(model: str, out: Path, settings: Settings, thresholds: ParityConfig) -> Exported:
    from lldiffusion.export.exporter import export_bundle
    from lldiffusion.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task("reading the model", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        try:
            return export_bundle(model, out, settings=settings, thresholds=thresholds, progress=progress)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("stopped; nothing was written") from stop


def show_report(report: Report) -> None:
    """Print the closing table: the worst size of every graph and of the loop."""
    from rich.console import Console
    from rich.table import Table

    from lldiffusion.export.parity import worst

    table = Table("graph", "as", "worst at", "PSNR dB", "max error", "brightness")
    for row in worst(report.rows):
        ran = row.precision if row.how == "onnxruntime" else f"{row.precision} {row.how}"
        psnr = "equal" if row.max_error == 0 else f"{row.psnr:.1f}"
        drift = "" if row.graph == "encoder" else f"{row.brightness:+.3f}/255"
        table.add_row(row.graph, ran, row.size, psnr, f"{row.max_error:.1e}", drift)
    console = Console()
    console.print(table)
    wanted = ", ".join(f"{name} {limit.psnr:g} dB" for name, limit in report.thresholds.items())
    console.print(f"against eager float32 on dark images; wanted: {wanted}", highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(note, highlight=False, soft_wrap=True)


def _engines(out: Path, flavour: str, profiles: tuple[str, ...]) -> None:
    """Build engines; an export without them is still a good export, so a missing TensorRT is only told."""
    from lldiffusion.bundle import Bundle
    from lldiffusion.export.build import how_to_get
    from lldiffusion.export.engine_builder import open_toolchain

    from .build import build_with_progress

    try:
        open_toolchain(flavour)
    except LLDiffusionError as error:
        typer.echo(f"no engine: {error}\nto get it: {how_to_get(flavour, out)}")
        return
    build_with_progress(Bundle.open(out), flavour, profiles=profiles)
