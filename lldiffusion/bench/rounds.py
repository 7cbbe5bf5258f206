"""Warm-up until stable, then interleaved rounds: A B C, C A B, ... so that drift meets everyone alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .statistics import FEWEST, is_stable
from .timed_engine import Sample

MOST_ROUNDS = 31  # enough for percentiles; time better spent elsewhere
MOST_WARMUPS = 6  # calls, when it does not become stable
WARMUP_SHARE = 0.25  # of a group's time

Say = Callable[[str], None]  # tells the progress bar what is going on


class Timed(Protocol):
    """What can be timed: a worker, or a stand-in of the tests."""

    def call(self, steps: int, patience: float = ...) -> Sample:
        """Time one call."""


@dataclass
class Series:
    """Samples of one peer at one number of steps."""

    who: str
    steps: int
    run: int  # steps of the calls that were really made: 1 where the rest is derived
    samples: list[Sample] = field(default_factory=list)

    @property
    def derived(self) -> bool:
        """Whether the time for `steps` is put together from single steps."""
        return self.run != self.steps

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of each call."""
        return tuple(sample.at(self.steps) if self.derived else sample.seconds for sample in self.samples)


@dataclass
class Outcome:
    """What became of a group."""

    series: list[Series]
    failed: dict[str, str] = field(default_factory=dict)  # who -> why, from the moment it failed
    notes: list[str] = field(default_factory=list)


def measure(peers: dict[str, Timed], steps: list[int], seconds: float, say: Say = lambda text: None) -> Outcome:
    """Measure every peer at every number of steps in about `seconds`.

    A series whose whole calls would not fit in the time is derived from calls with one step.  Where not even those
    can be repeated, fewer rounds are run; that is in the notes.
    """
    start = time.monotonic()
    outcome = Outcome([])
    single = warm_up(peers, seconds, outcome, say)
    alive = [who for who in peers if who not in outcome.failed]
    left = seconds - (time.monotonic() - start)
    outcome.series = plan(single, alive, steps, left)
    play_rounds(peers, outcome, start + seconds, say)
    return outcome


def warm_up(
    peers: dict[str, Timed], seconds: float, outcome: Outcome, say: Say = lambda text: None
) -> dict[str, Sample]:
    """Call each peer with one step until two calls in a row agree; returns its last call."""
    last: dict[str, Sample] = {}
    each = WARMUP_SHARE * seconds / max(len(peers), 1)
    for who, peer in peers.items():
        say(f"warming up {who}")
        end, times = time.monotonic() + each, list[float]()
        while not is_stable(times) and len(times) < MOST_WARMUPS and (not times or time.monotonic() < end):
            sample = attempt(peer, who, 1, seconds, outcome)
            if sample is None:
                break
            last[who] = sample
            times.append(sample.seconds)
    return last


def attempt(peer: Timed, who: str, steps: int, seconds: float, outcome: Outcome) -> Sample | None:
    """One call; a peer that fails is out, and the reason kept."""
    from .remote import PeerError

    try:
        return peer.call(steps, patience=max(2 * seconds, 30))
    except PeerError as error:
        outcome.failed[who] = str(error)
        return None


def plan(single: dict[str, Sample], alive: list[str], steps: list[int], seconds: float) -> list[Series]:
    """One series for each peer and number of steps; the longest are derived until three rounds fit in `seconds`."""
    series = [Series(who, n, n) for n in steps for who in alive]
    while FEWEST * sum(single[s.who].at(s.run) for s in series if not _shared(s, series)) > seconds:
        longest = max(series, key=lambda s: single[s.who].at(s.run))
        if longest.run == 1:
            break
        for one in series:  # all peers alike, so that whole calls are compared with whole calls
            if one.steps == longest.steps:
                one.run = 1
    return series


def _shared(one: Series, series: list[Series]) -> bool:
    """Whether an earlier series of the same peer makes the same calls."""
    return any(other.who == one.who and other.run == one.run for other in series[: series.index(one)])


def play_rounds(peers: dict[str, Timed], outcome: Outcome, end: float, say: Say) -> None:
    """Interleaved rounds until `end` (of the monotonic clock): three at least, where three fit in twice the time."""
    begin = time.monotonic()
    late = begin + 2 * max(end - begin, 0)
    runs = list(dict.fromkeys((s.who, s.run) for s in outcome.series))
    for number in range(MOST_ROUNDS):
        now = time.monotonic()
        if (number >= FEWEST and now >= end) or (number and now >= late):
            break
        turn = number % max(len(runs), 1)
        for who, run in runs[turn:] + runs[:turn]:
            if who in outcome.failed:
                continue
            say(f"round {number + 1}: {who}, {run} steps")
            sample = attempt(peers[who], who, run, 2 * max(end - begin, 30), outcome)
            if sample is not None:
                _add(outcome.series, who, run, sample)
    counts = [len(s.samples) for s in outcome.series if s.who not in outcome.failed]
    if counts and min(counts) < FEWEST:
        outcome.notes.append(f"only {min(counts)} rounds fitted in the time: no noise is known for these")


def _add(series: list[Series], who: str, run: int, sample: Sample) -> None:
    for one in series:
        if one.who == who and one.run == run:
            one.samples.append(sample)
