"""A real Ray cluster on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 400  # until what does not come fails the test


def nodes(count: int) -> tuple[Any, Any]:
    """A cluster of so many nodes of one processor each, and its last node.

    Ray gives a node 30 s to start, which a busy machine needs.
    """
    from ray.cluster_utils import Cluster

    for attempt in range(4):
        cluster = Cluster()
        try:
            cluster.add_node(num_cpus=1, include_dashboard=False)
            for _ in range(count - 1):
                last = cluster.add_node(num_cpus=1)
            return cluster, last
        except Exception as error:
            cluster.shutdown()
            if attempt == 3 or "timed out during startup" not in str(error):
                raise
    raise AssertionError


def wait_until(ready: Callable[[], bool], over: threading.Event | None = None) -> bool:
    """False where that does not come, or the work is over before."""
    over = over or threading.Event()
    for _ in range(SECONDS * 20):
        if ready():
            return True
        if over.wait(0.05):
            break
    return False


@contextmanager
def struck(cluster: Any, ready: Callable[[], bool], strike: Callable[[], None]) -> Iterator[threading.Event]:
    """While the block runs, `strike` as soon as it is `ready`; the event says that it happened.  Ends the cluster."""
    over, happened = threading.Event(), threading.Event()

    def wait_and_strike() -> None:
        if wait_until(ready, over):
            strike()
            happened.set()

    striker = threading.Thread(target=wait_and_strike)
    striker.start()
    try:
        yield happened
    finally:
        over.set()
        striker.join()
        cluster.shutdown()
