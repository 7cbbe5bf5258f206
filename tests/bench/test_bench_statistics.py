"""Noise, percentiles of the bootstrap, warm-up, and fitted exponents, against NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lldiffusion.bench.scaling import curves, fit, steepest
from lldiffusion.bench.statistics import differ, interval, is_stable, noise


def test_noise_is_what_measuring_twice_shows() -> None:
    steady = [1.0, 1.1] * 10  # every second call is 10 % slower: as two measurements they differ by that
    assert noise(steady) == pytest.approx(0.1 / 1.05)
    assert noise([1.0] * 5) == 0
    assert noise([1.0, 2.0]) is None


def test_the_interval_is_scipys_bootstrap() -> None:
    from scipy import stats

    samples = np.random.default_rng(1).normal(1, 0.05, 40)
    ours = interval(samples.tolist())
    theirs = stats.bootstrap((samples,), np.median, method="percentile", random_state=0).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_equal_things_rarely_differ_and_twenty_percent_always_does() -> None:
    chance = np.random.default_rng(0)

    def draw(middle: float) -> list[float]:
        return chance.lognormal(math.log(middle), 0.04, 15).tolist()

    false = sum(differ(draw(1), draw(1)) for _ in range(200))
    assert false < 20
    assert all(differ(draw(1), draw(1.2)) for _ in range(200))


def test_warm_up_ends_when_two_calls_agree() -> None:
    assert is_stable([3.0, 1.0, 1.04])
    assert not is_stable([1.0])
    assert not is_stable([1.0, 1.2])


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.7])
def test_fit_finds_the_exponent_of_the_larger_half(exponent: float) -> None:
    sizes = [64.0**2 * 4**i for i in range(6)]
    points = [(x, 3 * x**exponent) for x in sizes[2:]]
    startup = [(x, 1e9) for x in sizes[:2]]  # small pictures cost what calling costs
    assert fit(startup + points) == pytest.approx(exponent)
    logs = np.log(points)
    assert fit(startup + points) == pytest.approx(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def test_the_steepest_piece_is_found() -> None:
    points = [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (8.0, 32.0)]
    exponent, before, after = steepest(points)
    assert exponent == pytest.approx(3) and (before, after) == (4, 8)


def test_curves_rise_and_reach_from_64_pixels_to_4k() -> None:
    found = curves()
    assert set(found) == {"pixels", "steps", "batch"}
    assert found["pixels"][0].size == (64, 64) and found["pixels"][-1].size == (3840, 2160)
    for points in found.values():
        assert [point.x for point in points] == sorted(point.x for point in points)
