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
from .models import BenchModel
from .peers import Peer, PeerJob, label
from .pictures import dark_picture
from .quality import EXACT, SAME_QUALITY, Quality, fidelity, known_median
from .record import Ceilings, Measurement, Stages
from .rounds import OnMessage, Timings, TimingSeries, measure
from .statistics import noise
from .worker_process import PeerError, WorkerProcess

CALLS = 6  # of each peer at least: opening, warm-up, three rounds, comparing pictures
COMPILING = 0.3  # share of a group's time that a peer may take to prepare itself for the size
SHORTEST = 40.0  # seconds below which that is not tried
SHARE_OF_MEMORY = 0.8  # that all peers of a group may take together
REFERENCE = "eager"  # whose float32 pictures the others are compared with


@dataclass(frozen=True)
class Group:
    """What to measure together."""

    source: BenchModel
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
        """The group's name in messages."""
        return f"{self.source.name} at {self.width}x{self.height}" + f", batch {self.batch}" * (self.batch > 1)


@dataclass
class Context:
    """What every group needs to know."""

    folder: Path
    device: str
    cpus: list[int]
    ceilings: dict[str, Ceilings]  # by precision
    say: OnMessage
    quality: dict[tuple[str, int, str], Quality] = field(default_factory=dict)  # (model, steps, precision)
    notes: list[str] = field(default_factory=list)
    decode: dict[tuple[int, int], float] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Keep a remark for the result, once."""
        if text not in self.notes:
            self.notes.append(text)

    def job(self, source: BenchModel, peer: Peer, precision: str) -> PeerJob:
        """The order for a worker."""
        return PeerJob(peer.name, precision, source.checkpoint, source.preset, source.bundle, self.device)


def run_group(context: Context, group: Group, seconds: float) -> list[Measurement]:
    """Measure a group in about `seconds`; what fails is noted, and the rest goes on."""
    start = time.monotonic()
    with ExitStack() as stack:
        workers = open_peers(context, group, seconds, stack)
        if not workers:
            return []
        left = seconds - (time.monotonic() - start)
        timings = measure(dict(workers), list(group.steps), max(left, 1), context.say)
        for who, reason in timings.failed.items():
            context.note(f"{group.label}: {who} failed: {reason}")
        for text in timings.notes:
            context.note(f"{group.label}: {text}")
        found = compare_pictures(context, group, workers, timings, seconds)
    cold = cold_starts(context, group, workers, seconds)
    return [
        _assemble(context, group, workers[one.who], one, found.get((one.who, one.steps)), cold.get(one.who, ()))
        for one in timings.series
        if one.samples
    ]


def open_peers(context: Context, group: Group, seconds: float, stack: ExitStack) -> dict[str, WorkerProcess]:
    """The peers that open, in order, as far as memory goes."""
    workers: dict[str, WorkerProcess] = {}
    free = SHARE_OF_MEMORY * host_memory()
    for peer, precision in group.peers:
        name = label(peer, precision)
        needed = _needed(context, group, peer)
        problem = _obstacle(peer, needed, free, seconds)
        if problem:
            context.note(f"{group.label}: {name} left out: {problem}")
            continue
        context.say(f"opening {name}")
        try:
            worker = _open(context, group, peer, precision, seconds)
        except PeerError as error:
            context.note(f"{group.label}: {name} left out: {error}")
            continue
        stack.callback(worker.close)
        workers[name] = worker
        free -= needed
    return workers


def _open(context: Context, group: Group, peer: Peer, precision: str, seconds: float) -> WorkerProcess:
    source = group.source
    own = source.config.sampling.steps if group.cold else 1
    memory = int(0.9 * host_memory()) if context.device == "cpu" else 0
    picture = dark_picture(group.width, group.height, context.folder)
    job = context.job(source, peer, precision)
    return WorkerProcess(
        peer,
        job,
        context.folder,
        picture,
        batch=group.batch,
        steps=own,
        cpus=context.cpus,
        memory=memory,
        patience=_patience(peer, seconds),
    )


def _patience(peer: Peer, seconds: float) -> float:
    """Seconds that a peer may take to open in a group of so many."""
    return COMPILING * seconds if peer.per_size else max(60, seconds / 2)


def _needed(context: Context, group: Group, peer: Peer) -> float:
    """Bytes of this machine's memory that a peer will take, about."""
    if context.device != "cpu":
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
    context: Context, group: Group, workers: dict[str, WorkerProcess], timings: Timings, seconds: float
) -> dict[tuple[str, int], tuple[float, float]]:
    """(peer, steps) -> (PSNR against eager float32, brightness drift), with one more call each."""
    if REFERENCE not in workers or REFERENCE in timings.failed:
        return {}
    picture = dark_picture(group.width, group.height, context.folder)
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for run in dict.fromkeys(series.run for series in timings.series):
        wanted = None
        for who in sorted(workers, key=lambda who: who != REFERENCE):
            worker = workers[who]
            if who in timings.failed:
                continue
            context.say(f"comparing pictures: {who}, {run} steps")
            try:
                given = worker.enhance(picture, run, patience=max(60, seconds))
            except PeerError as error:
                context.note(f"{group.label}: {who} failed: {error}")
                continue
            wanted = given if who == REFERENCE else wanted
            for series in timings.series:
                if series.who == who and series.run == run and wanted is not None:
                    found[who, series.steps] = fidelity(given, wanted)
    return found


def cold_starts(
    context: Context, group: Group, workers: dict[str, WorkerProcess], seconds: float
) -> dict[str, tuple[float, ...]]:
    """Seconds to the first picture, twice each: when the group was opened, and once more on its own."""
    if not group.cold:
        return {}
    found = {}
    for who, worker in workers.items():
        times: tuple[float, ...] = (worker.cold_start,)
        if worker.cold_start < seconds / 20:
            context.say(f"cold start of {who}")
            try:
                again = _open(context, group, worker.peer, worker.job.precision, seconds)
                again.close()
                times += (again.cold_start,)
            except PeerError as error:
                context.note(f"{group.label}: {who} did not start again: {error}")
        found[who] = times
    return found


def _assemble(
    context: Context,
    group: Group,
    worker: WorkerProcess,
    series: TimingSeries,
    compared: tuple[float, float] | None,
    cold: tuple[float, ...],
) -> Measurement:
    own = series.steps == group.source.config.sampling.steps
    peer, precision = worker.peer, worker.job.precision
    row = Measurement(
        model=group.source.name,
        backend=peer.name,
        precision=precision,
        width=group.width,
        height=group.height,
        batch=group.batch,
        steps=series.steps,
        seconds=series.seconds,
        derived=series.derived,
        noise=noise(series.seconds),
        stages=_stages(series, context.decode.get((group.width, group.height))),
        overhead=_overhead(series),
        cold_start=() if peer.per_size or not own else cold,
        cold_start_uncached=cold if peer.per_size and own else (),
        host_memory=_largest([sample.memory for sample in series.samples]),
        device_memory=_largest([sample.device_memory for sample in series.samples]),
        threads=len(context.cpus),
        note=peer.about,
    )
    return _with_quality(context, _with_cost(context, group, row), compared)


def _stages(series: TimingSeries, decode: float | None) -> Stages:
    medians = {
        name: known_median([getattr(sample.stages, name) for sample in series.samples])
        for name in ("pre", "level", "encoder", "color_map", "step", "post")
    }
    return Stages(decode=decode, **medians)


def _overhead(series: TimingSeries) -> float | None:
    """Median share of a call outside the bare engine; not known of calls that were put together."""
    if series.derived:
        return None
    return known_median([1 - s.bare / s.seconds if s.bare is not None else None for s in series.samples])


def _largest(values: list[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _with_cost(context: Context, group: Group, row: Measurement) -> Measurement:
    cost = count(json.dumps(group.source.config.to_dict()), group.height, group.width, group.batch)
    ceilings = context.ceilings.get(row.precision)
    return replace(
        row,
        operations=cost.operations(row.steps),
        bytes=cost.bytes(row.steps, row.precision),
        limit=cost.limit(row.steps, ceilings) if ceilings else None,
    )


def _with_quality(context: Context, row: Measurement, compared: tuple[float, float] | None) -> Measurement:
    if compared is None:
        return row
    row = replace(row, psnr_reference=compared[0], brightness_drift=compared[1])
    precision = EXACT if compared[0] >= SAME_QUALITY else row.precision
    quality = context.quality.get((row.model, row.steps, precision))
    if quality is None or (precision == EXACT and compared[0] < SAME_QUALITY):
        return row
    return replace(row, psnr=quality.psnr, ssim=quality.ssim, lpips=quality.lpips)
