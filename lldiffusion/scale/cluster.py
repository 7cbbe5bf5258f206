"""Joining a Ray cluster, or starting one here: an address that does not answer costs seconds and one line.

Ray itself waits some ten minutes for an address where nothing listens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from lldiffusion.errors import LLDiffusionError, printable, require

from .reach import greet

SHARE = 0.9  # of a CPU that a worker asks for: where workers take all, Ray's own work waits for ever
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5)  # of HTTP/2 (RFC 9113, 3.4), which gRPC is
SETTINGS = 4  # the kind of frame that a server of HTTP/2 begins with


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """The module `ray`, connected; what was started or joined here is left at the end.

    Args:
        address: "local" starts a Ray on this machine, "auto" or an address joins one.
    Raises LLDiffusionError where there is no such cluster.
    """
    ray = require("ray", "ray", "--ray")
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        where = _answering(address)
        ray.init(where, include_dashboard=False if where == "local" else None)
    except Exception as error:  # of a dozen kinds
        reason = " ".join(str(error).split())[:300]
        raise LLDiffusionError(
            f"--ray '{printable(address)}': {reason}; give local, auto or the address of a cluster that runs"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def places_for_work(ray: Any, gpu: bool) -> int:
    """How many workers of one CPU, or one GPU, the cluster takes.

    Raises LLDiffusionError where it has none: Ray would wait for one to come.
    """
    kind = "GPU" if gpu else "CPU"
    found = int(ray.cluster_resources().get(kind, 0))
    if not found:
        hint = "leave --device cuda out, or add" if gpu else "add"
        raise LLDiffusionError(f"the Ray cluster has no {kind}: {hint} a machine that has one  (ray start --address)")
    return found


def _answering(address: str) -> str:
    """What to call `ray.init` with: the address itself, or the one that "auto" means.  Raises OSError or ValueError."""
    where = _meant_by_auto() if address == "auto" else address
    if where == "local" or ("://" in where and not where.startswith("ray://")):
        return where  # other schemes are plugins' of Ray
    parts = urlsplit(where if "://" in where else f"//{where}")
    if parts.hostname is None or parts.port is None:
        raise ValueError("an address is HOST:PORT, such as 10.0.0.1:6379, or ray://HOST:PORT")
    _check_ray(parts.hostname, parts.port)
    return where


def _meant_by_auto() -> str:
    """As Ray finds it: $RAY_ADDRESS, or the cluster that runs on this machine or was started here last."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(os.environ.get("RAY_ADDRESS") or canonicalize_bootstrap_address("auto"))
    except ConnectionError as error:  # its words are about options of its own
        raise ConnectionError("no Ray runs on this machine, and $RAY_ADDRESS is not set") from error


def _check_ray(host: str, port: int) -> None:
    head = greet(host, port, GREETING)
    encrypted = os.environ.get("RAY_USE_TLS", "0") != "0"  # then whatever answers will do
    if not encrypted and (len(head) < 4 or head[3] != SETTINGS):
        raise ValueError(f"what answers at {host}:{port} is no Ray")
