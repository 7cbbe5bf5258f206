"""Options that several verbs take, each in the same words; `[...]` at the end of a help text is the default."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from lldiffusion.errors import LLDiffusionError

Model = Annotated[str, typer.Option("--model", help="Checkpoint folder, bundle (folder or .lldiff) or shipped model.")]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Denoiser evaluations of each picture [the model's own].")
]
Sampler = Annotated[str | None, typer.Option("--sampler", help="ddim, dpm++ or euler [the model's own].")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the noise: same seed, same result.")]
Exposure = Annotated[
    float,
    typer.Option("--exposure", min=-5, max=5, help="Brighter (+) or darker (-) than the model would choose, in stops."),
]
Tile = Annotated[
    str,
    typer.Option(
        "--tile",
        help="auto (from 4 megapixels on, or where memory asks for it), none, or a side in pixels such as 512.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Backend = Annotated[
    str,
    typer.Option(
        "--backend", help="Of a bundle: auto (the fastest here), tensorrt, tensorrt-rtx, onnxruntime or openvino."
    ),
]
Precision = Annotated[
    str, typer.Option("--precision", help="Of a bundle's graphs: auto, fp32, fp16, bf16, int8, int8-gpu or fp8.")
]
Overwrite = Annotated[bool, typer.Option("-y", "--overwrite", help="Replace what is there already.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print a line for each file.")]
Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        help="Picture sizes of an engine, smallest:usual:largest, e.g. 64x64:608x416:1920x1088; again for more "
        "[512, 720p, 1080p, each in landscape and portrait].",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help='Change one value, e.g. train.lr=2e-4 or data.pairs=["PATH"]; again for more.'),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")]


def echo_json(table: object) -> None:
    """Print a report as JSON: nothing else goes to standard output then."""
    typer.echo(json.dumps(table, indent=1))


DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and the data, and stop.")]


def parse_tile(text: str) -> str | int:
    """The value of --tile: "auto", "none" or a number of pixels."""
    if text in ("auto", "none"):
        return text
    if text.isdigit():
        return int(text)
    raise LLDiffusionError(f"tile '{text}': accepted are auto, none, or a side in pixels such as 512")
