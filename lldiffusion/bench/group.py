"""One group: a model at one size and batch, all its peers open at once and measured in turn."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from lldiffusion.engines.memory import host_memory, peak_bytes
from lldiffusion.engines.select_backend import memory_need

from .cost import count
from .peers import Job, Peer, label
from .pictures import dark_picture
from .quality import SAME, Quality, against, middle
from .record import Ceilings, Measurement, Stages
from .remote import PeerError, Remote
from .rounds import Outcome, Say, Series, measure
from .sources import Source
from .statistics import noise

CALLS = 6  # of each peer at least: opening, warm-up, three rounds, comparing pictures
COMPILING = 0.3  # share of a group's time that a peer may take to prepare itself for the size
SHORTEST = 40.0  # seconds below which that is not tried
SHARE_OF_MEMORY = 0.8  # that all peers of a group may take together
REFERENCE = "eager"  # whose float32 pictures the others are compared with


@dataclass(frozen=True)
class Group:
    """What to measure together."""

    source: Source
    width: int
    height: int
    batch: int
    steps: tuple[int, ...]
    peers: tuple[tuple[Peer, str], ...]  # with precision
    first: bool = False  # of its model: cold starts are measured here

    @property
    def cold(self) -> bool:
        """Whether to measure cold starts, with the model's own steps: of models that are used."""
        return self.first and self.source.trained

    def least_seconds(self, ceilings: dict[str, Ceilings]) -> float:
        """What one step of every peer takes in all calls that cannot be avoided, at the machine's ceilings."""
        cost = count(json.dumps(self.source.config.to_dict()), self.height, self.width, self.batch)
        known = [(ceilings.get(precision), peer) for peer, precision in self.peers]
        return CALLS * sum(cost.limit(1, found) for found, _ in known if found is not None)

    @property
    def label(self) -> str:
        """In messages."""
        return f"{self.source.name} at {self.width}x{self.height}" + f", batch {self.batch}" * (self.batch > 1)


@dataclass
class Bench:
    """What every group needs to know."""

    folder: Path
    device: str
    cpus: list[int]
    ceilings: dict[str, Ceilings]  # by precision
    say: Say
    quality: dict[tuple[str, int], Quality] = field(default_factory=dict)  # (model, steps)
    notes: list[str] = field(default_factory=list)
    decode: dict[tuple[int, int], float] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Keep a remark for the result, once."""
        if text not in self.notes:
            self.notes.append(text)

    def job(self, source: Source, peer: Peer, precision: str) -> Job:
        """The order for a worker."""
        return Job(peer.name, precision, source.checkpoint, source.preset, source.bundle, self.device)


def run_group(bench: Bench, group: Group, seconds: float) -> list[Measurement]:
    """Measure a group in about `seconds`; what fails is noted, and the rest goes on."""
    start = time.monotonic()
    with ExitStack() as stack:
        remotes = open_peers(bench, group, seconds, stack)
        if not remotes:
            return []
        left = seconds - (time.monotonic() - start)
        outcome = measure(dict(remotes), list(group.steps), max(left, 1), bench.say)
        for who, reason in outcome.failed.items():
            bench.note(f"{group.label}: {who} failed: {reason}")
        for text in outcome.notes:
            bench.note(f"{group.label}: {text}")
        found = compare_pictures(bench, group, remotes, outcome, seconds)
    cold = cold_starts(bench, group, remotes, seconds)
    return [
        _assemble(bench, group, remotes[one.who], one, found.get((one.who, one.steps)), cold.get(one.who, ()))
        for one in outcome.series
        if one.samples
    ]


def open_peers(bench: Bench, group: Group, seconds: float, stack: ExitStack) -> dict[str, Remote]:
    """The peers that open, in order, as far as memory goes."""
    remotes: dict[str, Remote] = {}
    free = SHARE_OF_MEMORY * host_memory()
    for peer, precision in group.peers:
        name = label(peer, precision)
        needed = _needed(bench, group, peer)
        problem = _obstacle(peer, needed, free, seconds)
        if problem:
            bench.note(f"{group.label}: {name} left out: {problem}")
            continue
        bench.say(f"opening {name}")
        try:
            remote = _open(bench, group, peer, precision, seconds)
        except PeerError as error:
            bench.note(f"{group.label}: {name} left out: {error}")
            continue
        stack.callback(remote.close)
        remotes[name] = remote
        free -= needed
    return remotes


def _open(bench: Bench, group: Group, peer: Peer, precision: str, seconds: float) -> Remote:
    source = group.source
    own = source.config.sampling.steps if group.cold else 1
    memory = int(0.9 * host_memory()) if bench.device == "cpu" else 0
    picture = dark_picture(group.width, group.height, bench.folder)
    job = bench.job(source, peer, precision)
    return Remote(peer, job, bench.folder, picture, group.batch, own, bench.cpus, memory, _patience(peer, seconds))


def _patience(peer: Peer, seconds: float) -> float:
    """Seconds that a peer may take to open in a group of so many."""
    return COMPILING * seconds if peer.per_size else max(60, seconds / 2)


def _needed(bench: Bench, group: Group, peer: Peer) -> float:
    """Bytes of this machine's memory that a peer will take, about."""
    if bench.device != "cpu":
        return 0.0
    return group.batch * peak_bytes(group.source.config.model, group.width * group.height, memory_need(peer.name))


def _obstacle(peer: Peer, needed: float, free: float, seconds: float) -> str:
    """Why a peer is not even opened, or nothing."""
    if needed > free:
        return f"about {needed / 2**30:.1f} GiB needed, {max(free, 0) / 2**30:.1f} GiB free"
    if peer.per_size and COMPILING * seconds < SHORTEST:
        return f"preparing for a size takes long, and of {seconds:.0f} s there is no time for it (--budget)"
    return ""


def compare_pictures(
    bench: Bench, group: Group, remotes: dict[str, Remote], outcome: Outcome, seconds: float
) -> dict[tuple[str, int], tuple[float, float]]:
    """(peer, steps) -> (PSNR against eager float32, brightness drift), with one more call each."""
    if REFERENCE not in remotes or REFERENCE in outcome.failed:
        return {}
    picture = dark_picture(group.width, group.height, bench.folder)
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for run in dict.fromkeys(series.run for series in outcome.series):
        wanted = None
        for who in sorted(remotes, key=lambda who: who != REFERENCE):
            remote = remotes[who]
            if who in outcome.failed:
                continue
            bench.say(f"comparing pictures: {who}, {run} steps")
            try:
                given = remote.enhance(picture, run, patience=max(60, seconds))
            except PeerError as error:
                bench.note(f"{group.label}: {who} failed: {error}")
                continue
            wanted = given if who == REFERENCE else wanted
            for series in outcome.series:
                if series.who == who and series.run == run and wanted is not None:
                    found[who, series.steps] = against(given, wanted)
    return found


def cold_starts(bench: Bench, group: Group, remotes: dict[str, Remote], seconds: float) -> dict[str, tuple[float, ...]]:
    """Seconds to the first picture, twice each: when the group was opened, and once more on its own."""
    if not group.cold:
        return {}
    found = {}
    for who, remote in remotes.items():
        times: tuple[float, ...] = (remote.cold_start,)
        if remote.cold_start < seconds / 20:
            bench.say(f"cold start of {who}")
            try:
                again = _open(bench, group, remote.peer, remote.job.precision, seconds)
                again.close()
                times += (again.cold_start,)
            except PeerError as error:
                bench.note(f"{group.label}: {who} did not start again: {error}")
        found[who] = times
    return found


def _assemble(
    bench: Bench,
    group: Group,
    remote: Remote,
    series: Series,
    compared: tuple[float, float] | None,
    cold: tuple[float, ...],
) -> Measurement:
    own = series.steps == group.source.config.sampling.steps
    peer, precision = remote.peer, remote.job.precision
    row = Measurement(
        *(group.source.name, peer.name, precision, group.width, group.height, group.batch),
        *(series.steps, series.seconds, series.derived, noise(series.seconds)),
        stages=_stages(series, bench.decode.get((group.width, group.height))),
        overhead=_overhead(series),
        cold_start=() if peer.per_size or not own else cold,
        cold_start_uncached=cold if peer.per_size and own else (),
        host_memory=_largest([sample.memory for sample in series.samples]),
        device_memory=_largest([sample.device_memory for sample in series.samples]),
        threads=len(bench.cpus),
        note=peer.about,
    )
    return _with_quality(bench, _with_cost(bench, group, row), compared)


def _stages(series: Series, decode: float | None) -> Stages:
    medians = {
        name: middle([getattr(sample.stages, name) for sample in series.samples])
        for name in ("pre", "encoder", "color_map", "step", "post")
    }
    return Stages(decode=decode, **medians)


def _overhead(series: Series) -> float | None:
    """Median share of a call outside the bare engine; not known of calls that were put together."""
    if series.derived:
        return None
    return middle([1 - s.bare / s.seconds if s.bare is not None else None for s in series.samples])


def _largest(values: list[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _with_cost(bench: Bench, group: Group, row: Measurement) -> Measurement:
    cost = count(json.dumps(group.source.config.to_dict()), group.height, group.width, group.batch)
    ceilings = bench.ceilings.get(row.precision)
    return replace(
        row,
        operations=cost.operations(row.steps),
        bytes=cost.bytes(row.steps, row.precision),
        limit=cost.limit(row.steps, ceilings) if ceilings else None,
    )


def _with_quality(bench: Bench, row: Measurement, compared: tuple[float, float] | None) -> Measurement:
    if compared is None:
        return row
    row = replace(row, psnr_reference=compared[0], brightness_drift=compared[1])
    quality = bench.quality.get((row.model, row.steps))
    if quality is None or compared[0] < SAME:
        return row
    return replace(row, psnr=quality.psnr, ssim=quality.ssim)
