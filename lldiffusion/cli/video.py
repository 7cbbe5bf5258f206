"""`lldiff video`: a dark clip in, a bright and steady one out."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lldiffusion.errors import LLDiffusionError, printable

from .options import (
    Backend,
    Device,
    Exposure,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Sampler,
    Seed,
    Steps,
    Tile,
    parse_tile,
)
from .video_job import VideoOptions, is_sent, run_anywhere, run_sending, seconds

if TYPE_CHECKING:
    from lldiffusion.video.jobs.progress import JobSummary

    from .video_batch import VideoBatch

app = typer.Typer(add_completion=False)


@app.command()
def video(
    paths: list[str] = typer.Argument(
        ...,
        metavar="IN... OUT",
        help="IN: video, GIF, APNG or WebP file, URL, folder or pattern of pictures, camera (v4l2:/dev/video0), or -. "
        "OUT: .mp4, .mov, .mkv, .webm, .avi, .ts, .gif, .apng, .webp, pictures (frames/%06d.png), -, or an address "
        "(udp://, rtmp://, rtsp://, srt:// ...). "
        "Several INs, or a folder of videos: OUT is a folder.",
    ),
    model: Model = "tiny",
    steps: Steps = None,
    sampler: Sampler = None,
    seed: Seed = 0,
    exposure: Exposure = 0.0,
    smoothing: float = typer.Option(0.5, min=0, help="How slowly brightness follows the scene, in seconds."),
    refresh: int | None = typer.Option(
        None, min=1, help="Look at the light anew on every k-th frame only [1; of `live` 4]."
    ),
    warm_start: float = typer.Option(
        0.0, min=0, max=1, help="Start from the last frame, moved along, with this share of noise; 0 is off."
    ),
    start: str = typer.Option("0", help="Begin here: seconds, or H:MM:SS."),
    end: str | None = typer.Option(None, help="End before this time [the end]."),
    codec: str | None = typer.Option(
        None, help="FFmpeg's encoder: libx264, libx265, ffv1, h264_nvenc ... [H.264; H.265 above 8 bits; VP9 in WebM]."
    ),
    preset: str | None = typer.Option(
        None, help="The encoder's preset: slow, veryfast ... [its own; a fast one with --live and recurrent models]."
    ),
    crf: float | None = typer.Option(None, min=0, max=63, help="Quality, lower is better; 0: lossless [the codec's]."),
    compatible: bool = typer.Option(
        False, "--compatible", help="What every phone plays: H.264, 8 bits, 4:2:0, even sizes, and AAC."
    ),
    live: bool = typer.Option(
        False,
        "--live",
        help="Of a camera, an address or a pipe: the newest frame first; drop frames, never fall behind.",
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on where an earlier run ended, however it ended."),
    preview: bool = typer.Option(False, "--preview", help="Keep OUT.preview.jpg: before and after, every 10 s."),
    piece: float = typer.Option(5.0, min=0.1, help="Seconds of video that a crash may cost."),
    tile: Tile = "auto",
    fps: float | None = typer.Option(None, min=0.01, max=1000, help="Of pictures as input: how many a second [25]."),
    raw: str | None = typer.Option(None, help="Of raw video on standard input: 640x480,yuv420p,25."),
    pipe: str | None = typer.Option(
        None, help="Of standard output: y4m, rawvideo, nut (with times) or mpegts (H.264) [y4m; nut with --live]."
    ),
    hwaccel: str | None = typer.Option(None, help="Decode on this hardware where it can: cuda, qsv, vaapi ..."),
    deinterlace: str = typer.Option("auto", help="Of interlaced video: auto (to whole pictures) or off (fields stay)."),
    hdr: str = typer.Option("sdr", help="Of HDR video: sdr (tone-mapped to BT.709) or keep (HLG or PQ, 10 bits)."),
    device: Device = "auto",
    backend: Backend = "auto",
    precision: Precision = "auto",
    shard: str = typer.Option("0/1", help="Of several videos: do part I of N only, I/N from 0/N on."),
    ray: str | None = typer.Option(
        None, "--ray", help="Make the pieces on a Ray cluster: local starts one here, auto or an address joins one."
    ),
    skip_existing: bool = typer.Option(False, "--skip-existing", help="Of several videos: leave out those done."),
    overwrite: Overwrite = False,
    as_json: bool = typer.Option(False, "--json", help="Print how it went as JSON (of - as OUT: on standard error)."),
    quiet: Quiet = False,
) -> None:
    """Enhance videos; sound, subtitles, chapters, timestamps, colours and bit depth are kept.

    Exit codes: 0 when all are done, 1 when some of several could not be enhanced, 2 when the command itself cannot be
    carried out.
    """
    if len(paths) < 2:
        raise LLDiffusionError(f"no output: give one behind the input, such as  lldiff video {paths[0]} bright.mp4")
    *inputs, target = paths
    engine = {"steps": steps, "sampler": sampler, "seed": seed, "exposure": exposure}
    options = VideoOptions(
        source=inputs[0],
        target=target,
        model=model,
        engine=engine | {"device": device, "backend": backend, "precision": precision},
        stability={"smoothing": smoothing, "refresh": refresh, "warm_start": warm_start},
        reading={"fps": fps, "raw": raw, "hwaccel": hwaccel, "deinterlace": deinterlace, "hdr": hdr},
        writing={"codec": codec, "preset": preset, "crf": crf, "compatible": compatible},
        start=seconds(start),
        end=None if end is None else seconds(end),
        piece=piece,
        quiet=quiet or as_json,
        tile=parse_tile(tile),
        live=live,
        ray=ray,
    )
    options.check()
    if ray is not None and (preview or live or is_sent(target)):
        raise LLDiffusionError("--ray makes a file of a file, and no preview: leave --preview and --live out")
    from lldiffusion.scale.places import place
    from lldiffusion.scale.shard import WHOLE, Shard

    from .video_batch import names_videos, plan_videos

    part = Shard.parse(shard)
    if len(inputs) > 1 or names_videos(inputs[0], target):
        if live or as_json:
            raise LLDiffusionError(f"{'--live' if live else '--json'} is for one video: give one IN")
        batch = plan_videos(inputs, target, overwrite, resume, skip_existing, part)
        with _one_cluster(ray):
            run_batch(batch, options, preview, resume, overwrite)
        return
    if part != WHOLE:
        raise LLDiffusionError(f"--shard {shard} is for several videos: name a folder, a pattern or more of them as IN")
    if skip_existing and not is_sent(target) and place(target).exists():
        if not quiet:
            typer.echo(f"there already: {printable(target)}")
        return
    if is_sent(target):
        summary: JobSummary | None = run_sending(options, pipe)
    else:
        summary = run_anywhere(options, preview, resume, overwrite)
    if as_json:
        typer.echo(json.dumps(summary.to_dict() if summary else {}, indent=1), err=target == "-")
    elif not quiet:
        show(summary, target)


def _one_cluster(address: str | None) -> AbstractContextManager[object]:
    """A cluster for all videos; each would join it, or start one, anew."""
    from lldiffusion.scale.cluster import joined

    return nullcontext() if address is None else joined(address)


def show(summary: JobSummary | None, target: str) -> None:
    """How a job went; None: it was finished before."""
    to_pipe = target == "-"
    for line in [*summary.notes, *summary.lines()] if summary is not None else []:
        typer.echo(printable(line), err=to_pipe)
    if not to_pipe:
        typer.echo(f"enhanced: {printable(target)}" if summary else f"finished already: {printable(target)}")


def run_batch(batch: VideoBatch, options: VideoOptions, preview: bool, resume: bool, overwrite: bool) -> None:
    """One after the other; one video never stops the others."""
    from lldiffusion.scale.fetching import here
    from lldiffusion.video.jobs.open_model import model_fingerprint

    from .batch import name_some

    model_fingerprint(here(options.model, lasting=True))  # a wrong name is said once
    say = (lambda line: None) if options.quiet else typer.echo
    if batch.passed_over and not options.quiet:
        typer.echo(f"passed over, no videos: {name_some(batch.passed_over)}", err=True)
    failed: dict[str, str] = {}
    for number, (source, target) in enumerate(batch.jobs, 1):
        say(f"[{number}/{len(batch.jobs)}] {printable(source)}")
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
        one = replace(options, source=str(source), target=str(target))
        try:
            begun = resume and (batch.begun(target) or target.exists())
            summary = run_anywhere(one, preview, begun, overwrite)
            if not options.quiet:
                show(summary, str(target))
        except (LLDiffusionError, OSError) as error:
            failed[printable(source)] = str(error)
            typer.echo(f"failed: {printable(error)}", err=True)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{stop or 'interrupted'}; {_counts(batch, failed, number - 1)}") from stop
    say(_counts(batch, failed, len(batch.jobs)))
    if failed:
        typer.echo(f"error: {len(failed)} of {len(batch.jobs)} not enhanced: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _counts(batch: VideoBatch, failed: dict[str, str], tried: int) -> str:
    counts = {"there already": len(batch.existing), "failed": len(failed), "passed over": len(batch.passed_over)}
    rest = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{tried - len(failed)} of {len(batch.jobs)} done{rest}"
