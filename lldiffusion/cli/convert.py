"""`lldiff convert`: the authors' checkpoint files into ours."""

from __future__ import annotations

from pathlib import Path

import typer

from lldiffusion.errors import require

app = typer.Typer(add_completion=False)


@app.command()
def convert(
    source: Path = typer.Argument(..., help="The authors' .pth file."),
    out: Path = typer.Argument(..., help="Folder to write (must not exist)."),
    preset: str = typer.Option(
        "paper", help="The network in the file: paper (LOL) or paper-v2 (LOL-v2), or a TOML file."
    ),
    weights: str = typer.Option("ema", help="ema (averaged; their own evaluation ignored them) or raw."),
    spectral_norm: str = typer.Option("exact", help="exact keeps its three tensors, folded stores the plain weight."),
) -> None:
    """Convert a checkpoint of the authors' code; nothing in it is executed."""
    from lldiffusion.config import load_config
    from lldiffusion.errors import choose

    choose(weights, ("ema", "raw"), "kind of weights")
    choose(spectral_norm, ("exact", "folded"), "spectral norm treatment")
    require("torch", "train", "converting")
    from lldiffusion.model.checkpoint import check_free
    from lldiffusion.model.convert import convert

    check_free(out)

    config = load_config(preset)
    notes = convert(source, config, out, ema=weights == "ema", fold=spectral_norm == "folded")
    typer.echo(f"{out}: {config.name}, {notes['weights']} weights, spectral norm {notes['spectral_norm']}")
    if weights == "ema" and notes["weights"] == "raw":
        typer.echo("the file holds no averaged weights: the raw ones were taken")
    if notes["decoder_reversed"]:
        typer.echo("an older file: its decoder levels were stored in reverse order")
    if notes["left_out"]:
        typer.echo(f"{len(notes['left_out'])} tensors left out that the authors' forward pass never uses")
