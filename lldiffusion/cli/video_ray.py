"""`lldiff video --ray`: one video, its pieces made by a cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lldiffusion.errors import LLDiffusionError

from .video_job import VideoOptions, choose_output, open_journal, opened_source
from .video_progress import ProgressBar

if TYPE_CHECKING:
    from lldiffusion.video.jobs.progress import JobSummary


def run_on_ray(options: VideoOptions, address: str, folder: Path, resume: bool, overwrite: bool) -> JobSummary:
    """As `run_to_disk`; `folder` is the job's own, and is locked."""
    from lldiffusion.scale.ray_video import enhance_video_on_ray
    from lldiffusion.scale.video_pieces import PieceWork, open_anywhere

    names = {"IN": options.source, "model": options.model}
    with opened_source(options) as source:
        if not source.info.rereadable:
            raise LLDiffusionError(f"--ray: '{options.source}' cannot be read by several machines: give a file")
        journal = open_journal(options, folder, resume, overwrite, rereadable=True)
        output = choose_output(options, source, journal.encoder_threads)
    source_name, model = (options.given.get(name) or _everywhere(path) for name, path in names.items())
    opening, job = partial(open_anywhere, source_name, **options.how_to_read()), options.job()
    work = PieceWork(opening, output, model, options.engine, options.stability, job.start, job.end, job.tile)
    with ProgressBar(options.quiet) as bar:
        return enhance_video_on_ray(address, work, job, journal, bar, resume)


def _everywhere(name: str) -> str:
    """A path from the root, where it is one: the machines of a cluster have working directories of their own."""
    return name if "://" in name or not Path(name).exists() else str(Path(name).absolute())
