"""What to measure, and the policy that every result states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lldiffusion.errors import LLDiffusionError

from .machine import allowed_cpus

MOST_STEPS = 1000


@dataclass(frozen=True)
class Settings:
    """One run of the benchmark."""

    models: tuple[str, ...] = ("tiny",)  # checkpoint folders, bundles, shipped models, or presets (random weights)
    backends: str = "all"  # peers, comma-separated, each with an optional precision: "onnxruntime,tensorrt:fp16"
    device: str = "auto"  # "cpu", "cuda", "cuda:N"; auto: the first GPU where there is one
    sizes: tuple[tuple[int, int], ...] = ((600, 400), (1280, 720), (1920, 1080))  # (width, height)
    steps: tuple[int, ...] = (25, 4, 1)  # the model's own number is always among them
    batches: tuple[int, ...] = (1,)
    budget: float = 600  # seconds in all, about; exporting a model the first time comes on top
    threads: int = 0  # of every engine, pinned to as many processors; 0: all that this process may use
    data: Path | None = None  # folder of pairs for the quality columns; None: the demo's photographs
    pictures: int = 4  # pairs to judge on, at most; 0: no quality against the truth
    scaling: bool = True  # also measure how time and memory grow
    small: bool = False  # toy ceilings and curves: a rehearsal, whose numbers mean nothing

    def __post_init__(self) -> None:
        if not self.models or not self.sizes or not self.steps or not self.batches:
            raise LLDiffusionError("nothing to measure: models, sizes, steps and batches need one entry each at least")
        _check_all("steps", self.steps, MOST_STEPS)
        _check_all("batch", self.batches, 256)
        if self.budget < 5:
            raise LLDiffusionError(f"a budget of {self.budget:g} s is too short to measure anything: at least 5")
        if not 0 <= self.threads <= len(allowed_cpus()):
            raise LLDiffusionError(
                f"{self.threads} threads: this process may use {len(allowed_cpus())} processors (0: all of them)"
            )

    @property
    def cpus(self) -> list[int]:
        """The processors that workers are pinned to."""
        return allowed_cpus()[: self.threads or None]


def _check_all(what: str, values: tuple[int, ...], most: int) -> None:
    wrong = [value for value in values if not 1 <= value <= most]
    if wrong:
        raise LLDiffusionError(f"{what} {wrong[0]}: 1 to {most} are accepted")


def policy(settings: Settings, device: str) -> tuple[str, ...]:
    """How it was measured, a sentence each."""
    cpus = ", ".join(map(str, settings.cpus))
    return (
        "A call is what a user makes: 8-bit pixels of the whole batch in, 8-bit pixels out; decoding a PNG is timed "
        "apart.",
        f"Every peer has a process of its own, pinned to processors {cpus}, with {len(settings.cpus)} threads.",
        "Each is warmed up until two calls in a row differ by less than 5 % (at most six calls, within its time); then "
        "rounds are interleaved (A B C, B C A, ...). At least three, unless not even those fit in twice the time.",
        "Medians and percentiles of all calls; none is clipped or left out.",
        "Noise: every second call against the others, two interleaved measurements of the same thing, or the "
        "bootstrap's 95 % interval of the median where that is wider. Differences below it are none.",
        "Calls that would not fit in the time are put together from calls of one step (marked): the rest plus so many "
        "steps; their pictures are compared after one step.",
        "eager-authors and eager-cached run with the stock allocator, all others keep freed memory, as the lldiff "
        "command does.",
        "Overhead is the share of a call outside the bare engine (the sessions' runs, the networks' forward passes), "
        "timed in the same call.",
        "The limit takes each convolution, matrix product and attention at the machine's ceilings, measured in the "
        "same run, and everything else as free.",
        "Cold start: from starting a new process to its first picture, files in the system's cache.",
        "Quality against the truth is measured once for each model and number of steps, and holds for every peer whose "
        "pictures are within 60 dB of eager float32's.",
        *(
            ("GPU times end with a synchronisation; stages come from a second call that waits between them.",)
            if device != "cpu"
            else ()
        ),
        *(("A REHEARSAL: toy sizes, the numbers mean nothing.",) if settings.small else ()),
    )
