"""Frames per second of `lldiff video`'s pipeline, decoding and encoding included, and the share of each stage."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.bench.pictures import dark_picture
from lldiffusion.errors import require
from lldiffusion.video import VideoSource
from lldiffusion.video.jobs.job import Job, run_job
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.jobs.open_model import enhancer_factory
from lldiffusion.video.jobs.pipeline import PipelineProgress
from lldiffusion.video.writing.encoding import choose_encoding
from lldiffusion.video.writing.outputs import VideoFileOutput

Table = dict[str, Any]
SIZE, FRAMES, RATE = (1920, 1080), 120, 30
SOUND_RATE, SOUND_FRAME = 48_000, 1024
SMALL_SIZE, SMALL_FRAMES = (64, 64), 4


class LastProgress:
    """Keeps the last progress."""

    def __init__(self) -> None:
        self.progress = PipelineProgress()

    def started(self, total: int | None, done: int) -> None:
        """Nothing to show."""

    def frame_written(self, progress: PipelineProgress) -> None:
        """One frame more."""
        self.progress = progress

    def saving(self) -> None:
        """The file is put together."""

    def message(self, line: str) -> None:
        """Print a line of the log."""
        print(f"  {line}", flush=True)


def run(plan: Any) -> Table:
    """Measure every encoder that is here: H.264 on the CPU, and on the GPU."""
    require("av", "video", "measuring video")
    size, frames = (SMALL_SIZE, SMALL_FRAMES) if plan.rehearse else (SIZE, FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        clip = make_clip(Path(folder), size, frames)
        codecs = (None,) if plan.rehearse else (None, "h264_nvenc")
        rows = [measure(plan, clip, Path(folder), codec) for codec in codecs]
    return {"clip": f"{size[0]}x{size[1]}, {frames} frames, H.264", "rows": rows}


def make_clip(folder: Path, size: tuple[int, int], frames: int, sound: bool = False) -> Path:
    """A dark clip that pans over a photograph, with a tone where `sound` is wanted."""
    import av

    width, height = size
    wide = np.load(dark_picture(width + 4 * frames, height, folder))
    path = folder / "dark.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        tone = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound else None
        for number in range(frames):
            pixels = (wide[:, 4 * number : 4 * number + width] * 255 + 0.5).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            add_tone(container, tone, frames / RATE)
    return path


def add_tone(container: Any, stream: Any, seconds: float) -> None:
    """A tone of 440 Hz."""
    import av

    wave = 0.1 * np.sin(np.arange(round(seconds * SOUND_RATE)) * (2 * np.pi * 440 / SOUND_RATE))
    for start in range(0, len(wave), SOUND_FRAME):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + SOUND_FRAME].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def measure(plan: Any, clip: Path, folder: Path, codec: str | None) -> Table:
    """One run, model opened and all."""
    listener, target = LastProgress(), folder / f"bright-{codec or 'default'}.mp4"
    about: Table = {"encoder": codec or "default"}
    source = VideoSource(str(clip))
    try:
        encoding = choose_encoding(source.info, target, codec, None)
        output = VideoFileOutput(target, source.info, encoding, str(clip))
        job = Job(enhancer_factory(plan.models[0], {"device": plan.device}, {}))
        journal = JobJournal({"clip": str(clip)}, 1, folder=folder / f"{target.name}.parts")
        summary = run_job(job, source, output, journal, listener)
    except Exception as error:  # an encoder that is not here; the other rows still count
        return about | {"status": "not possible here", "reason": " ".join(str(error).split())[:300]}
    finally:
        source.close()
    busy = listener.progress.busy
    total = sum(busy.values()) or 1.0
    rate = summary.frames / summary.seconds
    shares = {f"share of {stage}": seconds / total for stage, seconds in busy.items()}
    return about | {"status": "done", "frames": summary.frames, "frames per second": rate, **shares}
