"""Several videos in one command: which they are, and where each result goes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath

from lldiffusion.errors import LLDiffusionError, printable
from lldiffusion.scale.places import WILD, Place, Remote, is_store, place
from lldiffusion.scale.shard import WHOLE, Shard

from .batch import left_out, name_some, refuse_existing, share_of


@dataclass
class VideoBatch:
    """The work, in order, and what is left out of it."""

    jobs: list[tuple[Place, Place]] = field(default_factory=list)  # (input, output)
    existing: list[Place] = field(default_factory=list)  # inputs whose output is there already, with --skip-existing
    passed_over: list[Place] = field(default_factory=list)  # files in a folder that are no videos

    def begun(self, target: Place) -> bool:
        """Whether an earlier run left pieces of an output."""
        from lldiffusion.scale.fetching import waiting_for
        from lldiffusion.video.writing.outputs import parts_folder

        return parts_folder(str(target if isinstance(target, Path) else waiting_for(target))).is_dir()


def names_videos(text: str, out: str) -> bool:
    """Whether one argument means several videos: a pattern of such, or a folder that holds any.

    A folder that holds pictures too is a sequence of them where the output is one video.
    """
    from lldiffusion.images import list_images
    from lldiffusion.video.reading.image_sequence import is_image_sequence
    from lldiffusion.video.writing.outputs import VIDEO_OUTPUTS

    if is_store(text):
        there = Remote.of(text)
        single = out == "-" or PurePosixPath(out).suffix.lower() in VIDEO_OUTPUTS
        return bool(WILD.search(there.name)) or (there.is_dir() and not single)
    path = Path(text)
    if path.is_dir():
        one = out == "-" or Path(out).suffix.lower() in VIDEO_OUTPUTS
        pictures = one and any(not _is_video(picture) for picture in list_images(path))
        return not pictures and bool(_in_folder(path, None)[0])
    pattern = any(sign in text for sign in "*?[") and "://" not in text
    return pattern and not path.exists() and not is_image_sequence(text)


def plan_videos(
    inputs: list[str],
    out: str,
    overwrite: bool = False,
    resume: bool = False,
    skip_existing: bool = False,
    shard: Shard = WHOLE,
) -> VideoBatch:
    """Find the videos, or the part `shard` of them, and give each an output in the folder `out`.

    Raises LLDiffusionError for an output that is no folder, inputs without a video, two with one output, and outputs
    that are there already (with `resume` they are finished).
    """
    from lldiffusion.video.writing.outputs import VIDEO_OUTPUTS

    target = place(out)
    if out == "-" or target.is_file() or (target.suffix.lower() in VIDEO_OUTPUTS and not target.is_dir()):
        raise LLDiffusionError(f"several videos and one output '{printable(out)}': name a folder as OUT")
    batch = VideoBatch()
    for text in inputs:
        found, passed_over = _expand(text, target)
        batch.passed_over += passed_over
        for path, name in found:
            batch.jobs.append((path, target / _result_name(name)))
    batch.jobs, batch.existing = share_of(batch.jobs, shard, skip_existing)
    if not resume:
        refuse_existing([output for _, output in batch.jobs], overwrite)
    return batch


def _result_name(name: PurePath) -> PurePath:
    """The input's own name, as .mp4 where its kind is not written."""
    from lldiffusion.video.writing.outputs import VIDEO_OUTPUTS

    return name if name.suffix.lower() in VIDEO_OUTPUTS else name.with_suffix(".mp4")


def _expand(text: str, out: Place) -> tuple[Sequence[tuple[Place, PurePath]], Sequence[Place]]:
    """(videos that one argument names, each with the name of its result; files passed over)."""
    if is_store(text):
        return _expand_remote(Remote.of(text))
    path = Path(text)
    if path.is_dir():
        found, others = _in_folder(path, out if isinstance(out, Path) else None)
        if not found:
            held = f"; it holds {name_some(others)}" if others else ""
            raise LLDiffusionError(f"no video in folder '{printable(text)}'{held}")
        return [(video, video.relative_to(path)) for video in found], others
    if path.exists():
        return [(path, Path(path.name))], []
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True)) if Path(match).is_file()]
    if not matches:
        raise LLDiffusionError(f"no video '{printable(text)}': give a file, a folder, or a quoted pattern that matches")
    return [(match, Path(match.name)) for match in matches], []


def _expand_remote(given: Remote) -> tuple[Sequence[tuple[Place, PurePath]], Sequence[Place]]:
    """The same of an address; what a file is its name must say."""
    from lldiffusion.video.reading.inputs import VIDEO_SUFFIXES

    named = given.files() if given.is_dir() else [(file, PurePosixPath(file.name)) for file in given.matches()]
    found = [(file, name) for file, name in named if name.suffix.lower() in VIDEO_SUFFIXES]
    others = [file for file, name in named if name.suffix.lower() not in VIDEO_SUFFIXES]
    if not found:
        held = f"; there are {name_some(others)}" if others else ""
        raise LLDiffusionError(f"no video at '{printable(given)}'{held}")
    return found, others


def _in_folder(folder: Path, out: Path | None) -> tuple[list[Path], list[Path]]:
    """(videos, other files) below a folder, hidden ones and the pieces of unfinished jobs left out."""
    below = [path for path in sorted(folder.rglob("*")) if path.is_file() and not left_out(path, folder, out)]
    below = [path for path in below if not any(part.endswith(".parts") for part in path.relative_to(folder).parts)]
    videos = [path for path in below if _is_video(path)]
    known = set(videos)
    return videos, [path for path in below if path not in known]


def _is_video(path: Path) -> bool:
    """By its suffix; a PNG or WebP by whether it is an animation."""
    from lldiffusion.video.reading.animation import plays_of
    from lldiffusion.video.reading.inputs import VIDEO_SUFFIXES

    suffix = path.suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix in (".png", ".webp") and plays_of(path) is not None)
