"""Ctrl-C at a known place: a test that waits for a while instead fails on a busy machine."""

from __future__ import annotations

import os
import signal

import pytest


def interrupt_at_step(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C as soon as a training has recorded this optimiser step."""
    from lldiffusion.training.journal import Journal

    record = Journal.step

    def step(journal: Journal, step: int, terms: dict[str, float], rate: float, images_per_second: float) -> None:
        record(journal, step, terms, rate, images_per_second)
        if step == number:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Journal, "step", step)
