"""Many workers, simulated from measured times (SimPy): where throughput stops growing, and what the work costs.

A picture is handed out (by Ray: one after the other), fetched, enhanced and committed.  Some machines are slow for
good, some are lost in the middle of a picture and come back; a store takes so many writes a second and no more.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from random import Random
from typing import Any


@dataclass(frozen=True)
class Assumed:
    """What is not measured here."""

    fetch: float = 0.05  # seconds to read a picture from an object store, median
    commit: float = 0.15  # seconds to write one there and move it to its name, with its receipt, median
    spread: float = 0.7  # sigma of both (lognormal): the slowest of a hundred takes five times the median
    slow: float = 0.05  # share of the workers that are slow for good, and
    times: float = 3.0  # how many times slower they are
    losses: float = 0.05  # machines lost per worker and hour: each about once in 20 hours, as of a spot market
    back: float = 120.0  # seconds until another machine has taken a lost one's place
    writes: float = 3500.0  # that a store takes a second below one prefix (Amazon S3's documented least)
    each: int = 6  # writes of a picture: result and receipt, each put, copied to its name and deleted


@dataclass(frozen=True)
class Measured:
    """What is."""

    picture: float  # seconds of processor time of one from file to file
    handing: float  # seconds to hand out one, as a share of the part that it is in
    start: float  # seconds of processor time until a worker is ready
    deviation: float = 0.05  # of a picture's time, relative


@dataclass
class Outcome:
    """Of one simulation."""

    workers: int
    per_second: float  # pictures, between the first and the last tenth
    efficiency: float  # of that, against as many bare workers without a store
    busy_hours: float  # processor hours of a million pictures, while enhancing
    paid_hours: float  # of all workers until the last picture is done


def pool(workers: int, pictures: int, measured: Measured, assumed: Assumed, central: bool, seed: int = 0) -> Outcome:
    """Workers that take the next picture, from one who hands them out (`central`) or each from a list of its own."""
    import simpy

    dice, env = Random(seed), simpy.Environment()
    run = _Run(env, dice, measured, assumed, pictures)
    lists = [[pictures] for _ in range(workers)] if central else _shares(pictures, workers)
    if central:
        lists = [lists[0]] * workers
    ends = [env.process(run.worker(left, dice.random() < assumed.slow, central)) for left in lists]
    env.run(env.all_of(ends))
    done = sorted(run.done)
    first, last = pictures // 10, pictures - pictures // 10 - 1
    rate = (last - first) / (done[last] - done[first])
    paid = workers * env.now if central else sum(run.paid)
    million = 1e6 / pictures / 3600
    return Outcome(workers, rate, rate * measured.picture / workers, run.busy * million, paid * million)


class _Run:
    def __init__(self, env: Any, dice: Random, measured: Measured, assumed: Assumed, pictures: int) -> None:
        import simpy

        self.env, self.dice, self.measured, self.assumed = env, dice, measured, assumed
        self.done: list[float] = []
        self.paid: list[float] = []  # by worker, in seconds
        self.busy = 0.0
        self._hand, self._store = simpy.Resource(env), simpy.Resource(env)

    def worker(self, left: list[int], slow: bool, central: bool) -> Generator[Any, Any, None]:
        """From its start until nothing is left."""
        env, assumed, began = self.env, self.assumed, self.env.now
        factor = assumed.times if slow else 1.0
        yield env.timeout(self.measured.start)
        lost = self._next_loss()
        while left[0] > 0:
            left[0] -= 1
            if central:
                yield from self._through(self._hand, self.measured.handing)
            yield env.timeout(self._latency(assumed.fetch))
            seconds = factor * self.measured.picture * max(self.dice.gauss(1, self.measured.deviation), 0.5)
            self.busy += seconds
            yield env.timeout(seconds)
            if env.now > lost:  # with all that it had in hand: the picture is done again
                left[0] += 1
                yield env.timeout(assumed.back + self.measured.start)
                lost = self._next_loss()
                continue
            yield from self._through(self._store, assumed.each / assumed.writes)
            yield env.timeout(self._latency(assumed.commit))
            self.done.append(env.now)
        self.paid.append(env.now - began)

    def _through(self, resource: Any, seconds: float) -> Generator[Any, Any, None]:
        with resource.request() as turn:
            yield turn
            yield self.env.timeout(seconds)

    def _latency(self, middle: float) -> float:
        return self.dice.lognormvariate(math.log(middle), self.assumed.spread)

    def _next_loss(self) -> float:
        rate = self.assumed.losses / 3600
        return self.env.now + self.dice.expovariate(rate) if rate else math.inf


def _shares(pictures: int, workers: int) -> list[list[int]]:
    return [[pictures // workers + (number < pictures % workers)] for number in range(workers)]


def service(replicas: int, requests: int, picture: float, load: float, fewest: bool, seed: int = 0) -> list[float]:
    """Latencies behind a balancer that asks whoever has the fewest requests, or anybody; arrivals at random."""
    import simpy

    dice, env, latencies = Random(seed), simpy.Environment(), list[float]()
    servers = [simpy.Resource(env) for _ in range(replicas)]
    waiting = [0] * replicas

    def request() -> Generator[Any, Any, None]:
        start = env.now
        two = dice.sample(range(replicas), 2) if replicas > 1 else [0, 0]  # "fewest" of two: as good, and not herding
        chosen = min(two, key=waiting.__getitem__) if fewest else two[0]
        waiting[chosen] += 1
        with servers[chosen].request() as turn:
            yield turn
            yield env.timeout(picture * max(dice.gauss(1, 0.05), 0.5))
        waiting[chosen] -= 1
        latencies.append(env.now - start)

    def arrivals() -> Generator[Any, Any, None]:
        for _ in range(requests):
            yield env.timeout(dice.expovariate(load * replicas / picture))
            env.process(request())

    env.process(arrivals())
    env.run()
    return latencies
