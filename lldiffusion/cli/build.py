"""`lldiff build`: the engines of a bundle, on the machine where they will run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lldiffusion.errors import choose

from .options import Profiles

if TYPE_CHECKING:
    from lldiffusion.bundle import Bundle

app = typer.Typer(add_completion=False)


@app.command()
def build(
    bundle: Path = typer.Argument(..., help="Bundle folder or .lldiff file."),
    engine: str = typer.Option("auto", help="tensorrt, tensorrt-rtx, or auto: the one that is installed."),
    precision: str | None = typer.Option(None, help="fp32, fp16, bf16, int8-gpu or fp8 [the bundle's own]."),
    profile: Profiles = None,
    effort: int = typer.Option(3, min=0, max=5, help="Of the builder: 0 builds fastest, 5 runs fastest."),
    workspace: int = typer.Option(0, min=0, help="Scratch memory in MiB, 0 for no limit."),
    refit: bool = typer.Option(False, "--refit", help="New weights need no new build: --like (tensorrt)."),
    like: Path | None = typer.Option(None, help="Give the engines of this bundle the new weights: see --refit."),
    version_compatible: bool = typer.Option(False, help="Runs with other TensorRT versions (tensorrt)."),
    hardware_compatible: bool = typer.Option(False, help="Runs on every GPU since Ampere (tensorrt)."),
    force: bool = typer.Option(False, "--force", help="Build again what fits already."),
) -> None:
    """Build or rebuild the TensorRT engines of a bundle."""
    choose(engine, ("auto", "tensorrt", "tensorrt-rtx"), "engine")
    from lldiffusion.bundle import Bundle
    from lldiffusion.export.build import default_flavour
    from lldiffusion.export.engine_builder import BuildOptions

    options = BuildOptions(
        effort=effort,
        workspace=workspace,
        refit=refit,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
    )
    flavour = default_flavour() if engine == "auto" else engine
    opened = Bundle.open(bundle)
    arguments = {"precision": precision, "profiles": tuple(profile or ()), "options": options, "force": force}
    build_with_progress(opened, flavour, like=None if like is None else Bundle.open(like), **arguments)


def build_with_progress(bundle: Bundle, flavour: str, **arguments: Any) -> None:
    """Build the engines of a bundle with a bar for each graph; Ctrl-C leaves the finished ones and no half one."""
    from lldiffusion.bundle import graphs_of
    from lldiffusion.export.build import build_engines
    from lldiffusion.progress import progress_bar

    bar = progress_bar("percent")
    tasks = {graph: bar.add_task(f"{flavour} {graph}", total=1.0) for graph in graphs_of(bundle.config)}

    def progress(graph: str, share: float) -> None:
        bar.start()  # only now: a refusal stays one line
        bar.update(tasks[graph], completed=share)

    try:
        built = build_engines(bundle, flavour, progress=progress, **arguments)
    except KeyboardInterrupt as stop:
        hint = f"lldiff build {bundle.source} --engine {flavour}"
        raise KeyboardInterrupt(f"stopped; finished engines are kept, continue with  {hint}") from stop
    finally:
        if bar.live.is_started:
            bar.stop()
    for engine in built:
        how = f"built in {engine.seconds:.0f} s" if engine.seconds else "there already"
        typer.echo(f"{engine.graph}: {engine.path} ({engine.bytes / 1e6:.1f} MB, {how})")
