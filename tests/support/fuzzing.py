"""What every damaged input must keep to: success or one line, within a time and within an amount of memory."""

from __future__ import annotations

import faulthandler
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import pytest

from lldiffusion.errors import LLDiffusionError

SEED = 20
LONGEST = 60.0  # seconds for one input
LARGEST = 1 << 30  # bytes that one input may add to the process at its peak

Try = Callable[[Path, random.Random], object]  # writes a damaged input into a folder, and does what a command does


class Hung(BaseException):
    """An input took too long; nobody catches it."""


def answer(attempt: Try, folder: Path, number: int) -> str:
    """ "success" or "one line"; everything else is raised, with the number that makes it again."""
    folder.mkdir()
    clock, before = time.monotonic(), _status("VmRSS")
    _forget_peak()
    try:
        with _alarm():
            attempt(folder, random.Random(f"{SEED} {number}"))
        told = "success"
    except LLDiffusionError as error:
        told = "one line" if "\n" not in str(error) else f"{len(str(error).splitlines())} lines"
    except (Hung, Exception) as error:
        seconds = time.monotonic() - clock
        raise AssertionError(f"input {number} ended in {type(error).__name__} ({seconds:.0f} s): {error}") from error
    grown = _status("VmHWM") - before
    assert grown < LARGEST, f"input {number} took {grown >> 20} MiB"
    return told


def answers(attempt: Try, count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many inputs got which answer; AssertionError naming those that got another."""
    monkeypatch.setenv("LLDIFF_CACHE", str(folder / "cache"))
    found: Counter[str] = Counter()
    wrong = []
    for number in range(count):
        try:
            found[answer(attempt, folder / str(number), number)] += 1
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, f"{len(wrong)} of {count}: " + "\n".join(wrong[:20])
    return found


@contextmanager
def _alarm() -> Iterator[None]:
    """Python code that hangs is interrupted; native code that does is named by faulthandler, and ends the run."""

    def hang(number: int, frame: FrameType | None) -> None:
        raise Hung

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    faulthandler.dump_traceback_later(2 * LONGEST, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def _status(key: str) -> int:
    """Bytes, by proc(5); 0 where there is no /proc: memory is not looked at then."""
    with suppress(OSError, TypeError):
        found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
        return 1024 * int(found[1])  # type: ignore[index]
    return 0


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
