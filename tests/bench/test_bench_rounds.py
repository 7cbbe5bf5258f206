"""Interleaving, derived series and failing peers, on peers that take no time."""

from __future__ import annotations

import time

from lldiffusion.bench.record import Stages
from lldiffusion.bench.rounds import MOST_ROUNDS, MOST_WARMUPS, Timings, TimingSeries, measure, plan, warm_up
from lldiffusion.bench.timed_engine import TimedCall
from lldiffusion.bench.worker_process import PeerError


class Fake:
    """Says it took `base + steps * step` seconds, at once; keeps a diary."""

    def __init__(
        self, name: str, diary: list[str], base: float = 0.001, step: float = 0.002, fails_at: int = 0
    ) -> None:
        self.name, self.diary, self.base, self.step, self.fails_at = name, diary, base, step, fails_at

    def call(self, steps: int, patience: float = 1) -> TimedCall:
        self.diary.append(f"{self.name}{steps}")
        if self.fails_at and len([entry for entry in self.diary if entry[0] == self.name]) >= self.fails_at:
            raise PeerError("out of order")
        return TimedCall(self.base + steps * self.step, Stages(step=self.step))


def test_rounds_are_interleaved_and_begin_elsewhere_each_time() -> None:
    diary: list[str] = []
    timings = measure({name: Fake(name, diary) for name in "ABC"}, [1], 30)
    rounds = diary[6:]  # two warm-up calls each: the second agrees with the first
    assert rounds[:9] == ["A1", "B1", "C1", "B1", "C1", "A1", "C1", "A1", "B1"]
    assert [len(series.samples) for series in timings.series] == [MOST_ROUNDS] * 3


def test_what_would_take_too_long_is_put_together_for_all_peers() -> None:
    diary: list[str] = []
    peers = {"A": Fake("A", diary, 0.5, 2.0), "B": Fake("B", diary, 0.5, 1.0)}
    timings = measure(dict(peers), [25, 1], 40)
    found = {(series.who, series.steps): series for series in timings.series}
    assert found["A", 25].derived and found["B", 25].derived and not found["A", 1].derived
    assert set(diary) == {"A1", "B1"}
    assert found["A", 25].seconds[0] == 0.5 + 25 * 2.0 and found["B", 25].seconds[0] == 0.5 + 25 * 1.0


def test_whole_calls_are_made_where_they_fit() -> None:
    single = {"A": TimedCall(0.3, Stages(step=0.1))}
    assert [s.derived for s in plan(single, ["A"], [4, 1], 3.0)] == [False, False]
    assert [s.derived for s in plan(single, ["A"], [4, 1], 2.0)] == [True, False]


def test_one_slow_peer_makes_all_of_them_derived() -> None:
    single = {"slow": TimedCall(10.0, Stages(step=9.0)), "fast": TimedCall(0.01, Stages(step=0.009))}
    found = {(s.who, s.steps): s.derived for s in plan(single, ["slow", "fast"], [4, 1], 60)}
    assert found == {("slow", 4): True, ("fast", 4): True, ("slow", 1): False, ("fast", 1): False}


def test_a_peer_that_fails_leaves_and_the_others_go_on() -> None:
    diary: list[str] = []
    timings = measure({"A": Fake("A", diary, fails_at=5), "B": Fake("B", diary)}, [1], 30)
    assert timings.failed == {"A": "out of order"}
    counts = {series.who: len(series.samples) for series in timings.series}
    assert counts == {"A": 2, "B": MOST_ROUNDS}  # what A measured before is kept


def test_a_peer_that_cannot_even_start_is_named() -> None:
    timings = measure({"A": Fake("A", [], fails_at=1)}, [1], 30)
    assert timings.failed and not timings.series


def test_warm_up_gives_up_on_a_restless_peer() -> None:
    class Restless(Fake):
        def call(self, steps: int, patience: float = 1) -> TimedCall:
            self.base *= 1.5
            return super().call(steps)

    diary: list[str] = []
    warm_up({"A": Restless("A", diary)}, 30, Timings([]))
    assert len(diary) == MOST_WARMUPS


def test_slow_calls_end_with_the_time_and_say_so() -> None:
    class Slow(Fake):
        def call(self, steps: int, patience: float = 1) -> TimedCall:
            time.sleep(0.2)
            return super().call(steps)

    timings = measure({"A": Slow("A", [])}, [1], 0.3)
    assert timings.notes and "rounds fitted" in timings.notes[0]
    assert 1 <= len(timings.series[0].samples) < 3


def test_a_derived_series_adds_single_steps() -> None:
    series = TimingSeries("A", 5, 1, [TimedCall(1.0, Stages(step=0.5))])
    assert series.derived and series.seconds == (3.0,)
