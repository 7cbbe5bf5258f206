"""`lldiff` in two processes that train together, told of each other as torchrun does:  python -m support.two_processes

Both are forked when the imports are done, which take longer than a short training.
"""

from __future__ import annotations

import os
import socket
import sys

import accelerate  # noqa: F401
import skimage.metrics  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

import lldiffusion.training.run  # noqa: F401
from lldiffusion.cli import load_verb, run


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(rank: int, port: int, arguments: list[str]) -> int:
    """The number of a new process that carries a command line out as process `rank` of two."""
    if process := os.fork():
        return process
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = 70
    try:
        code = run(arguments)
    finally:
        sys.stdout.flush()
        os._exit(code)


def main(arguments: list[str]) -> int:
    """The larger exit code of the two."""
    load_verb(arguments[0])
    port = free_port()
    processes = [start(rank, port, arguments) for rank in range(2)]
    return max(abs(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])) for process in processes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
