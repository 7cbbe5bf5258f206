"""A real Ray cluster on this machine."""

from __future__ import annotations

from typing import Any


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
