"""What the scale benchmark simulates, against what queueing theory says, and the page it makes."""

from __future__ import annotations

from statistics import fmean

import pytest

from benchmarks.scale.__main__ import simulations
from benchmarks.scale.page import to_markdown
from benchmarks.scale.simulate import Assumed, Measured, pool, service

pytest.importorskip("simpy", reason="needs SimPy (extra 'dev')")
PLAIN = Assumed(fetch=1e-9, commit=1e-9, spread=0.0, slow=0.0, losses=1e-9, writes=1e12)


def test_a_pool_without_hindrance_is_the_sum_of_its_workers() -> None:
    outcome = pool(20, 2000, Measured(0.5, 1e-9, 0.0, deviation=0.0), PLAIN, central=True)
    assert outcome.per_second == pytest.approx(40, rel=0.02) and outcome.efficiency == pytest.approx(1, rel=0.02)
    assert outcome.busy_hours == pytest.approx(0.5e6 / 3600) and outcome.paid_hours >= outcome.busy_hours


def test_who_hands_out_bounds_it() -> None:
    """Ten a second can be handed out: 20 workers of two a second make ten."""
    outcome = pool(20, 2000, Measured(0.5, 0.1, 0.0), PLAIN, central=True)
    assert outcome.per_second == pytest.approx(10, rel=0.02)
    assert pool(20, 2000, Measured(0.5, 0.1, 0.0), PLAIN, central=False).per_second > 30  # shards ask nobody


def test_what_is_lost_is_made_again() -> None:
    risky = Assumed(fetch=1e-9, commit=1e-9, slow=0.0, losses=600.0, back=1.0, writes=1e12)  # one in 6 s
    outcome = pool(10, 1000, Measured(0.5, 1e-9, 0.0), risky, central=True)
    assert outcome.busy_hours > 1.05 * 0.5e6 / 3600  # the busy time of what was lost, too
    assert outcome.efficiency < 0.9


def test_waiting_is_as_long_as_queueing_theory_says() -> None:
    """Times nearly constant, arrivals at random: the mean wait is load / (2 (1 - load)) services (M/D/1)."""
    latencies = service(1, 20_000, 1.0, 0.7, fewest=False)
    assert fmean(latencies) == pytest.approx(1 + 0.7 / (2 * 0.3), rel=0.1)
    spread = service(50, 20_000, 1.0, 0.7, fewest=True)
    assert fmean(spread) < 1.35


def test_the_page_tells_all_of_it() -> None:
    found = {
        "what": "tiny, onnxruntime 1, fp32, steps 1",
        "overheads": {
            **{"call": [0.300, 0.301], "file": [0.315, 0.317], "request": [0.318, 0.320]},
            "processor": {"call": 0.300, "file": 0.315, "request": 0.318},
        },
        "starts": {"wall": [0.9, 1.1], "processor": [0.8, 0.8]},
        "load": {"alone": 0.3, "beat": [0.3, 0.31, 0.5], "random": [0.3, 0.6, 0.9]},
        "workers": [{"workers": 1, "per_second": 3.1, "seconds": [0.3, 0.6]}],
        "handing": 0.002,
        "ray": [{"actors": 1, "bare": [3.0, 3.1], "ray": [2.9, 3.0], "start": [5.0, 5.1]}],
        "video": {"enhanced": [0.3], "looked_at": [0.03]},
    }
    page = to_markdown(found | simulations(found, pictures=3))
    assert "| a bare call, pixels to pixels | 300.0 | 0.0 % | 300.5 (300.0 to 301.0) |" in page
    assert "| of that the service's own | 3.0 | 1.0 % |" in page
    assert "| 1 | 3.05 (3.00 to 3.10) | 2.95 (2.90 to 3.00) | 97 % | 5.0 |" in page
    assert "from 10 workers on, at 33 frames a second" in page and "cost 8,250 processor hours" in page
    assert page.count("| 1,000 |") == 4 + 4
