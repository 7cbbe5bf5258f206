"""`lldiff eval --video`: how stable a clip is over time, and how close to a reference clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lldiffusion.errors import LLDiffusionError, require

from .options import echo_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lldiffusion.video import VideoSource


def evaluate_video(files: dict[str, str], limit: int | None, out: Path, as_json: bool = False) -> tuple[Path, ...]:
    """Measure the clip "result" (and "reference", "low") of `files`, print the table; returns where it was saved."""
    require("av", "video", "reading video")
    require("cv2", "video", "the warping error")
    from rich.console import Console

    from lldiffusion.evaluation.video import measure_video
    from lldiffusion.evaluation.video_report import VideoReport, show_video
    from lldiffusion.progress import progress_bar

    with ExitStack() as stack:
        clips = {name: _frames(_open(path, stack), limit) for name, path in files.items()}
        out.parent.mkdir(parents=True, exist_ok=True)  # now: a bad path should not cost a long run
        try:
            with progress_bar() as bar:
                task = bar.add_task("measuring frames", total=None)
                score = measure_video(clips, lambda: bar.advance(task))
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("stopped: nothing was saved; --limit N measures fewer frames") from stop
    report = VideoReport(files, score)
    saved = report.save(out)
    if as_json:
        echo_json(report.to_dict())
    else:
        show_video(report, Console())
    return saved


def check_options(video: str | None, others: dict[str, Any], of_video: dict[str, str | None], data: Any) -> None:
    """Refuse options that do not go together: `others` are of images, `of_video` need --video."""
    if video is None:
        given = [name for name, value in of_video.items() if value is not None]
        if given:
            raise LLDiffusionError(f"{' and '.join(given)}: only together with --video RESULT")
        if data is None:
            raise LLDiffusionError("nothing to measure: give --data FOLDER for images, or --video RESULT for a clip")
        return
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise LLDiffusionError(
            f"--video measures a clip that is there: {', '.join(given)} {'is' if len(given) == 1 else 'are'} of images "
            "(make the clip with  lldiff video)"
        )


def _open(name: str, stack: ExitStack) -> VideoSource:
    from lldiffusion.scale.fetching import video_here
    from lldiffusion.video import VideoSource

    source = VideoSource(video_here(name))
    stack.callback(source.close)
    return source


def _frames(source: VideoSource, limit: int | None) -> Iterator[NDArray[np.float32]]:
    return (frame.pixels for frame in islice(source.frames(), limit))
