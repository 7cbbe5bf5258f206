"""Warm-up until stable, then interleaved rounds: A B C, C A B, ... so that drift meets everyone alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .statistics import FEWEST, is_stable
from .timed_engine import TimedCall

MOST_ROUNDS = 31  # enough for percentiles; time better spent elsewhere
MOST_WARMUPS = 6  # calls, when it does not become stable
WARMUP_SHARE = 0.25  # of a group's time

OnMessage = Callable[[str], None]  # tells the progress bar what is going on


class Timed(Protocol):
    """What can be timed: a worker, or a stand-in of the tests."""

    def call(self, steps: int, patience: float = ...) -> TimedCall:
        """Time one call."""


@dataclass
class TimingSeries:
    """Samples of one peer at one number of steps."""

    who: str
    steps: int
    run: int  # steps of the calls that were really made: 1 where the rest is derived
    samples: list[TimedCall] = field(default_factory=list)

    @property
    def derived(self) -> bool:
        """Whether the time for `steps` is put together from single steps."""
        return self.run != self.steps

    @property
    def seconds(self) -> tuple[float, ...]:
        """Seconds of each call."""
        return tuple(sample.at(self.steps) if self.derived else sample.seconds for sample in self.samples)


@dataclass
class Timings:
    """What became of a group."""

    series: list[TimingSeries]
    failed: dict[str, str] = field(default_factory=dict)  # who -> why, from the moment it failed
    notes: list[str] = field(default_factory=list)


def measure(peers: dict[str, Timed], steps: list[int], seconds: float, say: OnMessage = lambda text: None) -> Timings:
    """Measure every peer at every number of steps in about `seconds`.

    A series whose whole calls would not fit in the time is derived from calls with one step.  Where not even those
    can be repeated, fewer rounds are run; that is in the notes.
    """
    start = time.monotonic()
    timings = Timings([])
    single = warm_up(peers, seconds, timings, say)
    alive = [who for who in peers if who not in timings.failed]
    left = seconds - (time.monotonic() - start)
    timings.series = plan(single, alive, steps, left)
    play_rounds(peers, timings, start + seconds, say)
    return timings


def warm_up(
    peers: dict[str, Timed], seconds: float, timings: Timings, say: OnMessage = lambda text: None
) -> dict[str, TimedCall]:
    """Call each peer with one step until two calls in a row agree; returns its last call."""
    last: dict[str, TimedCall] = {}
    each = WARMUP_SHARE * seconds / max(len(peers), 1)
    for who, peer in peers.items():
        say(f"warming up {who}")
        end, times = time.monotonic() + each, list[float]()
        while not is_stable(times) and len(times) < MOST_WARMUPS and (not times or time.monotonic() < end):
            sample = attempt(peer, who, 1, seconds, timings)
            if sample is None:
                break
            last[who] = sample
            times.append(sample.seconds)
    return last


def attempt(peer: Timed, who: str, steps: int, seconds: float, timings: Timings) -> TimedCall | None:
    """One call; a peer that fails is out, and the reason kept."""
    from .worker_process import PeerError

    try:
        return peer.call(steps, patience=max(2 * seconds, 30))
    except PeerError as error:
        timings.failed[who] = str(error)
        return None


def plan(single: dict[str, TimedCall], alive: list[str], steps: list[int], seconds: float) -> list[TimingSeries]:
    """One series for each peer and number of steps; the longest are derived until three rounds fit in `seconds`."""
    series = [TimingSeries(who, n, n) for n in steps for who in alive]
    while FEWEST * sum(single[s.who].at(s.run) for s in series if not _shared(s, series)) > seconds:
        longest = max(series, key=lambda s: single[s.who].at(s.run))
        if longest.run == 1:
            break
        for one in series:  # all peers alike, so that whole calls are compared with whole calls
            if one.steps == longest.steps:
                one.run = 1
    return series


def _shared(one: TimingSeries, series: list[TimingSeries]) -> bool:
    """Whether an earlier series of the same peer makes the same calls."""
    return any(other.who == one.who and other.run == one.run for other in series[: series.index(one)])


def play_rounds(peers: dict[str, Timed], timings: Timings, end: float, say: OnMessage) -> None:
    """Interleaved rounds until `end` (of the monotonic clock): three at least, where three fit in twice the time."""
    begin = time.monotonic()
    late = begin + 2 * max(end - begin, 0)
    runs = list(dict.fromkeys((s.who, s.run) for s in timings.series))
    for number in range(MOST_ROUNDS):
        now = time.monotonic()
        if (number >= FEWEST and now >= end) or (number and now >= late):
            break
        turn = number % max(len(runs), 1)
        for who, run in runs[turn:] + runs[:turn]:
            if who in timings.failed:
                continue
            say(f"round {number + 1}: {who}, {run} steps")
            sample = attempt(peers[who], who, run, 2 * max(end - begin, 30), timings)
            if sample is not None:
                _add(timings.series, who, run, sample)
    counts = [len(s.samples) for s in timings.series if s.who not in timings.failed]
    if counts and min(counts) < FEWEST:
        timings.notes.append(f"only {min(counts)} rounds fitted in the time: no noise is known for these")


def _add(series: list[TimingSeries], who: str, run: int, sample: TimedCall) -> None:
    for one in series:
        if one.who == who and one.run == run:
            one.samples.append(sample)
