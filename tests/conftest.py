"""What every test may ask for, and what is said at the end of a run."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("LLDIFF_SHARED", ROOT.parent / "shared"))

# A shell that runs us in the background has Ctrl-C ignored, and so would every process that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the processors; PyTorch, NumPy and their children read this
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Words in the reason of a skipped test -> the one line that brings what it lacks.
REMEDIES = {
    "ffmpeg": "apt-get install ffmpeg",
    "ffprobe": "apt-get install ffmpeg",
    "onnxruntime-web": "npm install onnxruntime-web, and LLDIFF_ORT_WEB=node_modules/onnxruntime-web/dist pytest",
    "chromium": "apt-get install chromium chromium-driver",
    "no shared data": "LLDIFF_SHARED=FOLDER make test  (the folder with DATA.md, which is not published)",
    "could not import": 'pip install -c constraints.txt -e ".[cpu,train,dev]"',
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every reason for which tests were skipped, with the line that brings what they lack."""
    reports = terminalreporter.stats.get("skipped", [])
    for reason, count in sorted(Counter(map(skip_reason, reports)).items()):
        remedy = next((line for words, line in REMEDIES.items() if words in reason.lower()), None)
        terminalreporter.write_line(f"{count} skipped: {reason}" + (f"\n    to run them:  {remedy}" if remedy else ""))


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped, in its own words."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(text).removeprefix("Skipped: ")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the tests' models leave behind is not the user's."""
    os.environ["LLDIFF_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with DATA.md, `data/` and `golden/`: $LLDIFF_SHARED or ../shared; the test is skipped without it."""
    if not (SHARED / "DATA.md").is_file():
        pytest.skip(f"no shared data at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the repository."""
    return ROOT
