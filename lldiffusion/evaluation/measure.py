"""Runs a method over images and measures every result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import image_size, list_images, read_image, to_uint8

from .lpips import Lpips
from .metrics import Pixels, brightness_error
from .niqe import NiqeModel
from .protocols import Protocol

Method = Callable[[Pixels], Pixels]  # (H, W, 3) float32 in [0, 1] to the same shape, uint8 or float in [0, 1]


@dataclass(frozen=True)
class EvaluationCase:
    """One image: what the method gets and, where there is one, what its result is compared with."""

    name: str
    source: Path
    target: Path | None


@dataclass(frozen=True)
class Instruments:
    """What is measured; a sentence instead of a metric says why it is not."""

    protocols: tuple[Protocol, ...]
    lpips: Lpips | str
    niqe: NiqeModel | str


@dataclass(frozen=True)
class Score:
    """The numbers of one result; None where there was nothing to measure with."""

    name: str
    seed: int
    seconds: float  # of the method alone
    niqe: float | None
    brightness: float | None  # mean luminance error, signed, in 1/255
    protocols: dict[str, dict[str, float]]  # protocol -> psnr (dB), ssim, lpips


def measure(jobs: Iterable[EvaluationCase], method: Method, instruments: Instruments, seed: int = 0) -> Iterator[Score]:
    """Yield the score of every job in order; an error names the image."""
    for job in jobs:
        try:
            yield _measure_one(job, method, instruments, seed)
        except LLDiffusionError as error:
            raise LLDiffusionError(f"image '{job.name}': {error}") from error


def _measure_one(job: EvaluationCase, method: Method, instruments: Instruments, seed: int) -> Score:
    pixels = read_image(job.source).pixels
    start = time.perf_counter()
    result = method(pixels)
    seconds = time.perf_counter() - start
    niqe = None if isinstance(instruments.niqe, str) else instruments.niqe(result)
    if job.target is None:
        return Score(job.name, seed, seconds, niqe, None, {})
    target = read_image(job.target).pixels
    lpips = None if isinstance(instruments.lpips, str) else instruments.lpips
    scores = {protocol.name: protocol.measure(result, target, lpips) for protocol in instruments.protocols}
    return Score(job.name, seed, seconds, niqe, brightness_error(to_uint8(result), to_uint8(target)), scores)


def match_results(jobs: list[EvaluationCase], folder: Path) -> list[EvaluationCase]:
    """The same jobs with another method's result as source, found in `folder` by the stem of the image's file name.

    Raises LLDiffusionError naming every image without a result, with two, or with one of another size.
    """
    results: dict[str, list[Path]] = {}
    for path in list_images(folder):
        results.setdefault(path.stem, []).append(path)
    found = {job.name: next((results[stem] for stem in _stems(job) if stem in results), []) for job in jobs}
    _refuse(f"'{folder}' has no result for", [name for name, paths in found.items() if not paths])
    _refuse(f"'{folder}' has several results for", [name for name, paths in found.items() if len(paths) > 1])
    matched = [EvaluationCase(job.name, found[job.name][0], job.target) for job in jobs]
    _refuse("results differ in size from their targets:", [size for job in matched for size in _mismatch(job)])
    return matched


def _stems(job: EvaluationCase) -> list[str]:
    """What a result may be called: like the low image, the normal one, or what they have in common (00001)."""
    return [job.source.stem, *([job.target.stem] if job.target else []), PurePosixPath(job.name).name]


def _refuse(what: str, names: list[str]) -> None:
    if names:
        raise LLDiffusionError(f"{what} {', '.join(names)} ({len(names)} in all); results are matched by file stem")


def _mismatch(job: EvaluationCase) -> list[str]:
    if job.target is None:
        return []
    given, wanted = image_size(job.source), image_size(job.target)
    return [] if given == wanted else [f"{job.name} {given[0]}x{given[1]} for {wanted[0]}x{wanted[1]}"]
