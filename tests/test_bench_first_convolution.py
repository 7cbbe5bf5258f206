"""The step without the conditions' share of its first convolution answers as the whole one, and both are timed."""

from __future__ import annotations

import pytest
from exported import micro_model

from lldiffusion.benchmarks.first_convolution import measure


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["pixel", "group"])
def test_both_ways_answer_alike(norm: str) -> None:
    samples, apart = measure(micro_model(norm), 64, 96, rounds=2)
    assert apart < 1e-4
    assert [len(each) for each in samples] == [2, 2, 2] and all(time > 0 for each in samples for time in each)
