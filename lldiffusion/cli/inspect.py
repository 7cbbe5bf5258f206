"""`lldiff inspect`: what a bundle, engine, ONNX file or checkpoint is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from .options import AsJson

app = typer.Typer(add_completion=False)


@app.command()
def inspect(
    path: Path = typer.Argument(
        ..., help="Bundle (folder or .lldiff), checkpoint folder, shipped model, .onnx or .engine file."
    ),
    as_json: AsJson = False,
) -> None:
    """Describe a file or folder of lldiff; opening a bundle checks every hash and runs nothing in it."""
    from lldiffusion.bundle.find import SHIPPED, find_model
    from lldiffusion.engines.describe import describe

    shipped = not path.exists() and str(path) in SHIPPED
    table = describe(find_model(path) if shipped else path)
    typer.echo(json.dumps(table, indent=1) if as_json else "\n".join(lines(brief(table))))


def brief(table: dict[str, Any]) -> dict[str, Any]:
    """The table for the screen: of a bundle's parity the worst size of every graph, and which nodes stay float32."""
    parity = table.get("parity")
    if not parity:
        return table
    worst: dict[str, dict[str, Any]] = {}
    for row in sorted(parity["rows"], key=lambda row: -float(row["psnr"])):  # the lowest comes last and stays
        worst[f"{row['precision']} {row['graph']} ({row['how']})"] = row
    shown = {
        name: {"dB": f"{row['psnr']:.1f}", "largest error": f"{row['max_error']:.1e}", "at": row["size"]}
        for name, row in worst.items()
    }
    islands = {
        file: dict(Counter(node.get("reason", "") for node in nodes)) for file, nodes in parity["islands"].items()
    }
    rest = {"passed": parity["passed"], "thresholds": parity["thresholds"], "notes": parity["notes"]}
    return table | {"parity": rest | {"worst": dict(sorted(shown.items())), "float32 nodes": islands}}


def lines(table: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A nested table as indented text, one value a line."""
    width = max((len(str(key)) for key in table), default=0)
    for key, value in table.items():
        if isinstance(value, dict) and any(isinstance(inner, (dict, list)) for inner in value.values()):
            yield f"{indent}{key}"
            yield from lines(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{key}"
            yield from (f"{indent}  {_flat(item)}" for item in value)
        else:
            yield f"{indent}{key:{width}}  {_flat(value)}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items() if inner not in (None, {})) or "-"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_flat, value)) + ")" if value else "none"
    return "-" if value is None else str(value)
