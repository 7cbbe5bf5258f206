"""Numbers for Prometheus, in a registry of the service's own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

STAGES = ("receive", "wait", "decode", "enhance", "encode")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What is counted.  Safe from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "lldiff_requests", "Answers, by route and status.", ("route", "status"), registry=self.registry
        )
        self.stages = Histogram(
            "lldiff_stage_seconds",
            "Time of a picture in each stage.",
            ("stage",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self.total = Histogram(
            "lldiff_request_seconds",
            "From a request's header to its answer.",
            ("route",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self.pixels = Counter("lldiff_pixels", "Pixels enhanced in pictures.", registry=self.registry)
        for stage in STAGES:
            self.stages.labels(stage)

    def gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A number that is asked for when it is looked at."""
        Gauge(name, about, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)
