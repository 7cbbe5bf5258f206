"""`benchmark`: the whole run, phase after phase, within a budget."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lldiffusion.atomic import scratch
from lldiffusion.engines.driver import driver
from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.evaluation.lpips import lpips_at_hand
from lldiffusion.evaluation.metrics import Metric

from .auto import remarks_on_auto
from .ceilings import TYPES, measure_ceilings
from .group import Context, Group, run_group
from .machine import commit, conditions, describe_machine, versions
from .models import BenchModel, find_bench_model, with_bundle
from .operators import steep_operators
from .peers import Peer, choose_peers, label
from .pictures import QualityPair, dark_picture, decode_seconds, find_quality_pairs
from .quality import EXACT, measure_classical, measure_quality
from .record import BenchResult, Measurement, Scaling
from .scaling import PIXELS, SMALL_PIXELS, measure_scaling, steepest
from .settings import Settings, policy
from .worker_process import PeerError, WorkerProcess

# Shares of the budget; what a phase leaves over goes to the later ones.
CEILINGS, QUALITY, SCALING = 0.02, 0.1, 0.2
LEAST = 0.3  # of the first group, whatever the others took
MOST = 0.5  # that a group may need for single steps
DEFAULT = Settings()
LINEAR = 1.1  # exponent above which the responsible operator is looked for
OnProgress = Callable[[str, float], None]  # what is being done, and the share of the budget that is used


def benchmark(settings: Settings = DEFAULT, progress: OnProgress = lambda text, share: None) -> BenchResult:
    """Measure and return everything; Ctrl-C returns what was measured until then (`complete` is False).

    Raises LLDiffusionError for a model, backend or device that cannot be used, and when nothing could be measured.
    """
    require("torch", "train", "lldiff bench (the eager model is what engines are compared with)")
    require("skimage", "eval", "lldiff bench")
    with scratch() as folder:
        run = _Benchmark(settings, folder, progress)
        try:
            run.everything()
        except KeyboardInterrupt:
            run.complete = False
            run.context.note("stopped by Ctrl-C before all was measured")
    result = run.result()
    if not result.measurements and run.complete:
        raise LLDiffusionError(f"nothing could be measured: {'; '.join(result.notes) or 'no backend was chosen'}")
    return result


@dataclass
class _Benchmark:
    """The state of one run; what has been measured stays here when it is interrupted."""

    settings: Settings
    folder: Path
    progress: OnProgress
    complete: bool = True
    lpips: Metric | None = None
    measurements: list[Measurement] = field(default_factory=list)
    scaling: list[Scaling] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin = time.monotonic()
        self.date = datetime.now(UTC).isoformat(timespec="seconds")
        self.device = self.settings.device
        if self.device == "auto":
            self.device = "cpu" if driver().problem else "cuda:0"
        self.peers = choose_peers(self.settings.backends, self.device)
        self.machine = describe_machine()
        self.context = Context(self.folder, self.device, self.settings.cpus, {}, self.say)

    # -- phases

    def everything(self) -> None:
        """All phases; each measurement is kept as soon as it is made."""
        sources = self.find_sources()
        pairs = self.find_pairs(sources)
        self.begin = time.monotonic()  # exporting is not part of the budget
        self.measure_ceilings()
        self.time_decoding()
        self.classical(pairs)
        for source in sources:
            self.quality_of(source, pairs, QUALITY * self.settings.budget / len(sources))
        self.groups(sources)
        if self.settings.scaling:
            self.scale(sources[0])
        recurrent = {source.name for source in sources if source.config.model.recurrent}
        for remark in remarks_on_auto(self.measurements, recurrent):
            self.context.note(remark)

    def find_sources(self) -> list[BenchModel]:
        found = [find_bench_model(given) for given in self.settings.models]
        # OpenVINO makes bfloat16 of float32 graphs; eight bits are measured where a model has them
        wanted = {
            "fp32" if peer.name == "openvino" else precision for peer, precision in self.peers if peer.from_bundle
        }
        half = next((precision for precision in ("fp16", "bf16") if precision in wanted), "fp32")
        if not wanted:
            return found
        return [with_bundle(source, half, self.say) for source in found]

    def measure_ceilings(self) -> None:
        self.say("measuring the machine's ceilings")
        for precision in dict.fromkeys(precision for _, precision in self.peers if precision in TYPES):
            seconds = min(CEILINGS * self.settings.budget, 10)
            threads = len(self.settings.cpus)
            found = measure_ceilings(self.device, precision, threads, seconds, self.settings.small)
            self.context.ceilings[precision] = found

    def find_pairs(self, sources: list[BenchModel]) -> list[QualityPair]:
        if not self.settings.pictures:
            return []
        if not any(source.trained for source in sources):
            self.context.note("random weights: no quality against the truth")
        found = lpips_at_hand()
        if isinstance(found, str):
            self.context.note(f"LPIPS is not measured: {found}")
        else:
            self.lpips = found
        return find_quality_pairs(self.settings.data, self.settings.pictures)

    def time_decoding(self) -> None:
        for size in self.settings.sizes:
            self.say(f"decoding {size[0]}x{size[1]}")
            self.context.decode[size] = decode_seconds(*size, self.folder)

    def classical(self, pairs: list[QualityPair]) -> None:
        import numpy as np

        if pairs:
            self.say("classical methods")
            picture = np.load(dark_picture(*self.settings.sizes[0], self.folder))
            self.measurements += measure_classical(pairs, picture, self.lpips)

    def quality_of(self, source: BenchModel, pairs: list[QualityPair], seconds: float) -> None:
        """Quality against the truth, on the first peer that opens; the most steps first to be left out."""
        if not pairs or not source.trained:
            return
        end = time.monotonic() + seconds
        with self._first_open(source, pairs[0]) as worker:
            if worker is None:
                return
            own, *others = self.steps(source)
            for steps in (own, *sorted(others)):
                self.say(f"quality of {source.name} with {steps} steps")
                start = time.monotonic()
                self.context.quality[source.name, steps, EXACT] = measure_quality(
                    pairs, partial(self._enhance, worker, steps), self.lpips
                )
                if time.monotonic() + 4 * (time.monotonic() - start) > end:
                    break
        if self.device == "cpu":
            self.quality_of_precisions(source, pairs)

    def quality_of_precisions(self, source: BenchModel, pairs: list[QualityPair]) -> None:
        """Quality of what is no float32, with the model's own steps, on the first peer that opens."""
        own = source.config.sampling.steps
        for wanted in dict.fromkeys(precision for _, precision in self.peers if precision != "fp32"):
            with self._first_open(source, pairs[0], wanted) as worker:
                if worker is not None:
                    self.say(f"quality of {source.name} in {wanted}")
                    found = measure_quality(pairs, partial(self._enhance, worker, own), self.lpips)
                    self.context.quality[source.name, own, wanted] = found

    def _enhance(self, worker: WorkerProcess, steps: int, low: Any) -> Any:
        import numpy as np

        file = self.folder / "pair.npy"
        np.save(file, low)
        return worker.enhance(file, steps)

    def groups(self, sources: list[BenchModel]) -> None:
        groups = [group for group in self._groups(sources) if self._can(group)]
        later = SCALING * self.settings.budget if self.settings.scaling else 0
        for i, group in enumerate(groups):
            weights = [_weight(one) for one in groups[i:]]
            left = self.end - later - time.monotonic()
            if i == 0:  # is always measured: a budget that all went into preparing would tell nothing
                left = max(left, LEAST * self.settings.budget)
            if left <= 0:
                self.context.note(f"{group.label}: not measured, the budget of {self.settings.budget:g} s was used up")
                continue
            self.measurements += run_group(self.context, group, left * weights[0] / sum(weights))

    def _can(self, group: Group) -> bool:
        """Whether single steps of all its peers fit in half of the budget, going by the machine's ceilings."""
        least = group.least_seconds(self.context.ceilings)
        if least <= MOST * self.settings.budget:
            return True
        self.context.note(
            f"{group.label}: not measured, its single steps alone would take {least:.0f} s or more of the budget of "
            f"{self.settings.budget:g} s"
        )
        return False

    def scale(self, source: BenchModel) -> None:
        """Curves of the backend that `auto` would take, and the operator that bends them."""
        with self._first_open(source, None) as worker:
            if worker is None:
                return
            sizes = SMALL_PIXELS if self.settings.small else PIXELS
            for curve in measure_scaling(worker, source.name, self.folder, self.end, self.say, sizes):
                self.scaling.append(self._explain(source, worker.peer, curve))

    def _explain(self, source: BenchModel, peer: Peer, curve: Scaling) -> Scaling:
        """Name the operator responsible where time grows faster than the picture."""
        if (curve.against, curve.of) != ("pixels", "seconds") or not source.bundle or self.device != "cpu":
            return curve
        exponent, before, after = steepest(curve.points)
        sizes = {width * height: (width, height) for width, height in PIXELS}
        if max(exponent, curve.exponent) <= LINEAR or after > 1920 * 1080:  # a profile of 4K would take long
            before, after = 512 * 512, 1920 * 1080
        if curve.exponent <= LINEAR and exponent <= LINEAR:
            return curve
        self.say("profiling operators")
        try:
            found = steep_operators(source.bundle, sizes[int(before)], sizes[int(after)])
        except LLDiffusionError as error:
            found = f"the operator could not be found: {error}"
        return replace(curve, note="; ".join(filter(None, (curve.note, found))))

    # -- helpers

    def result(self) -> BenchResult:
        """What there is so far."""
        after = {f"{name}, at the end": value for name, value in conditions().items()}
        return BenchResult(
            machine=replace(self.machine, conditions=self.machine.conditions | after),
            versions=versions(),
            commit=commit(),
            command=shlex.join(["lldiff", *sys.argv[1:]]),
            date=self.date,
            policy=policy(self.settings, self.device),
            ceilings=tuple(self.context.ceilings.values()),
            measurements=tuple(self.measurements),
            scaling=tuple(self.scaling),
            notes=tuple(self.context.notes),
            complete=self.complete,
        )

    @property
    def end(self) -> float:
        """When the budget ends, on the monotonic clock."""
        return self.begin + self.settings.budget

    def say(self, text: str) -> None:
        self.progress(text, min((time.monotonic() - self.begin) / self.settings.budget, 1.0))

    def steps(self, source: BenchModel) -> tuple[int, ...]:
        """Numbers of steps to measure a model at, its own first."""
        return tuple(dict.fromkeys((source.config.sampling.steps, *self.settings.steps)))

    def _groups(self, sources: list[BenchModel]) -> Iterator[Group]:
        """First every model at the first size, then the larger ones."""
        for i, size in enumerate(self.settings.sizes):
            for source in sources:
                for j, batch in enumerate(self.settings.batches):
                    first = i == j == 0
                    compiled = first and (source.trained or len(sources) == 1)
                    peers = tuple(pair for pair in self.peers if compiled or not pair[0].per_size)
                    yield Group(source, *size, batch, self.steps(source), peers, first)

    def _first_open(self, source: BenchModel, pair: QualityPair | None, wanted: str = "") -> Any:
        """A worker of the first peer that opens, bundle peers before eager ones, float32 first; a context manager.

        `wanted`: the only precision that will do.
        """
        from contextlib import closing, nullcontext

        if pair is None:
            picture = dark_picture(64, 64, self.folder)
        else:
            picture = dark_picture(pair.low.shape[1], pair.low.shape[0], self.folder)
        peers = [entry for entry in self.peers if wanted in ("", entry[1])]
        for peer, precision in sorted(
            peers, key=lambda entry: (not entry[0].from_bundle, entry[1] in ("bf16", "int8"))
        ):
            self.say(f"opening {peer.name}")
            try:
                job = self.context.job(source, peer, precision)
                return closing(WorkerProcess(peer, job, self.folder, picture, cpus=self.settings.cpus))
            except PeerError as error:
                self.context.note(f"{source.name}: {label(peer, precision)} cannot be opened: {error}")
        return nullcontext()


def _weight(group: Group) -> float:
    """A group's share of the time: the first size has the cold starts, a model with random weights is a large one."""
    if not group.first:
        return 1.0
    return 2.5 if group.source.trained else 3.5
