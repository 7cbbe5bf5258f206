"""`lldiff serve`: the models as an HTTP service, and a page for people."""

from __future__ import annotations

import os
from typing import Any

import typer

from .options import Backend, Device, Precision, Tile, parse_tile

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    models: list[str] = typer.Argument(
        None, metavar="[MODEL]...", help="Models to serve, MODEL or NAME=MODEL; the first is the default [tiny]."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; 0.0.0.0 for every one of this machine."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port; 0 takes a free one."),
    workers: int = typer.Option(1, min=1, help="Pictures in work at the same time; they share the processors."),
    queue: int = typer.Option(16, min=0, help="Pictures that may wait; more are answered 429."),
    max_megapixels: float = typer.Option(50, min=0.001, help="Larger pictures are answered 413."),
    max_megabytes: float = typer.Option(64, min=0.001, help="Larger files of pictures are answered 413."),
    max_steps: int = typer.Option(50, min=1, help="Most steps that a request may ask for."),
    timeout: float = typer.Option(120, min=0.1, help="Seconds from a whole request to its answer; then 503."),
    receive: float = typer.Option(30, min=0.1, help="Seconds that a client may take to send a picture; then 408."),
    drain: float = typer.Option(60, min=0, help="Seconds that requests in work may take after SIGTERM."),
    videos: int = typer.Option(4, min=0, help="Clips that are kept, waiting, in work or done; 0: none are taken."),
    video_megabytes: float = typer.Option(512, min=0.001, help="Larger files of clips are answered 413."),
    keep: float = typer.Option(3600, min=0, help="Seconds that a finished clip can be fetched."),
    tile: Tile = "auto",
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Precision = "auto",
) -> None:
    """Serve models over HTTP, with a page at / to drop photos on; /openapi.json describes the rest.

    Requests must bear the token in $LLDIFF_TOKEN, where that is set. SIGTERM and Ctrl-C end it when the requests in
    work are answered.
    """
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.scale.service.options import TOKEN, ServiceOptions
    from lldiffusion.scale.service.run import serve as run

    options = ServiceOptions(
        host=host,
        port=port,
        workers=workers,
        queue=queue,
        max_megapixels=max_megapixels,
        max_megabytes=max_megabytes,
        max_steps=max_steps,
        timeout=timeout,
        receive=receive,
        drain=drain,
        videos=videos,
        video_megabytes=video_megabytes,
        keep=keep,
        token=os.environ.get(TOKEN),
    )
    engine: dict[str, Any] = {"backend": backend, "device": device, "precision": precision, "tile": parse_tile(tile)}
    keep_freed_memory()
    run(models or ["tiny"], engine, options, lambda line: typer.echo(line, err=True))
