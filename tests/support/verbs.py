"""`lldiff` command lines in forked processes, so that a kill costs a run and no imports:  python -m support.verbs

Each line of standard input is [command line, seconds after which it is killed, or null] in JSON; what is printed when
it has ended is its exit status as `os.waitpid` gives it.  What it says goes to $VERBS_LOG.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401
import av  # noqa: F401
import onnxruntime  # noqa: F401
import torch

import lldiffusion.export.exporter as exporter
import lldiffusion.training.distill_run
import lldiffusion.training.run  # noqa: F401
from lldiffusion.cli import load_verb, run


def copied_graphs(network: Any, folder: Path, *_: Any, **__: Any) -> dict[str, Path]:
    """The graphs that were traced once, in $VERBS_GRAPHS, instead of a new tracing, which takes long."""
    graphs = sorted(Path(os.environ["VERBS_GRAPHS"]).glob("*.onnx"))
    return {path.stem: Path(shutil.copy(path, folder)) for path in graphs}


def carry_out(arguments: list[str]) -> None:
    """Run a command line in this process, which then ends."""
    log = os.open(os.environ["VERBS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        code = run(arguments)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        code = 70
    os._exit(code)


def main() -> None:
    """Serve until standard input ends."""
    torch.set_num_threads(1)
    exporter.write_graphs = copied_graphs  # type: ignore[assignment, attr-defined]
    for verb in ("enhance", "video", "export", "build", "train", "distill"):
        load_verb(verb)
    print("ready", flush=True)
    for line in sys.stdin:
        arguments, kill_after = json.loads(line)
        process = os.fork()
        if not process:
            carry_out(arguments)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process, signal.SIGKILL)  # ended or not: it keeps its number until it is waited for
        print(os.waitpid(process, 0)[1], flush=True)


if __name__ == "__main__":
    main()
