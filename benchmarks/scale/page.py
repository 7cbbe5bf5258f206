"""The tables of what was measured and simulated."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.markdown import table_lines
from lldiffusion.bench.record import percentile
from lldiffusion.scale.ray_pictures import MOST

from .cluster import efficiency

FILM = 1000 * 3600 * 25  # frames of a thousand hours


def middle(seconds: Sequence[float]) -> str:
    """Median and range, in milliseconds."""
    low, high = 1000 * min(seconds), 1000 * max(seconds)
    return f"{1000 * median(seconds):.1f} ({low:.1f} to {high:.1f})"


def to_markdown(found: dict[str, Any]) -> str:
    """Everything, a table each."""
    lines = ["# More workers", ""]
    lines += [f"{found['what']}. Milliseconds: median (least to most) unless it says otherwise.", ""]
    lines += ["## The service", "", *_overheads(found["overheads"]), "", *_starts(found["starts"]), ""]
    lines += [*_loads(found["load"]), "", *_workers(found["workers"]), "", "## Ray", ""]
    lines += [*_ray(found["ray"]), "", _handing(found["handing"]), ""]
    lines += ["## A frame of 1280x720", "", *_video(found["video"]), "", "## Simulated", "", *_assumed(found), ""]
    lines += [*_pools(found["pools"]), "", *_services(found["services"]), ""]
    return "\n".join(lines) + "\n"


def _overheads(found: dict[str, Any]) -> list[str]:
    processor, call = found["processor"], found["processor"]["call"]
    names = {
        "call": "a bare call, pixels to pixels",
        "file": "a file's bytes to a file's bytes, in one process",
        "request": "a request",
    }
    rows = [
        [about, f"{1000 * processor[way]:.1f}", f"{100 * (processor[way] - call) / call:.1f} %", middle(found[way])]
        for way, about in names.items()
    ]
    own = processor["request"] - processor["file"]
    rows.append(["of that the service's own", f"{1000 * own:.1f}", f"{100 * own / call:.1f} %", ""])
    return table_lines(["600x400 JPEG", "processor, mean", "over the bare call", "clock"], rows)


def _starts(found: dict[str, list[float]]) -> list[str]:
    return [f"Ready after {middle(found['wall'])} ms, of the processor {middle(found['processor'])}."]


def _loads(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, way in (("each on a beat of its own", "beat"), ("each at random times", "random")):
        half, most = median(found[way]), percentile(found[way], 99)
        rows.append([name, f"{1000 * half:.0f}", f"{1000 * most:.0f}", f"{most / half:.2f}", str(len(found[way]))])
    return table_lines(["4 clients, 70 % load, 1 worker", "p50", "p99", "p99 / p50", "requests"], rows)


def _workers(found: list[dict[str, Any]]) -> list[str]:
    heads, rows = ["workers", "pictures a second", "p50", "p99"], []
    for each in found:
        p50, p99 = (f"{1000 * percentile(each['seconds'], at):.0f}" for at in (50, 99))
        rows.append([str(each["workers"]), f"{each['per_second']:.2f}", p50, p99])
    return table_lines(heads, rows)


def _ray(found: list[dict[str, Any]]) -> list[str]:
    heads = ["actors", "bare, pictures a second", "on Ray", "of the bare speed", "first picture after, s"]
    rows = []
    for each in found:
        spread = [f"{median(each[way]):.2f} ({min(each[way]):.2f} to {max(each[way]):.2f})" for way in ("bare", "ray")]
        rows.append([str(each["actors"]), *spread, f"{100 * efficiency(each):.0f} %", f"{median(each['start']):.1f}"])
    return table_lines(heads, rows)


def _handing(seconds: float) -> str:
    return f"To hand out a part takes Ray {1000 * seconds:.1f} ms; a part has up to {MOST} pictures."


def _video(found: dict[str, list[float]]) -> list[str]:
    enhanced, looked = (median(found[way]) for way in ("enhanced", "looked_at"))
    hours = FILM * (enhanced + looked) / 3600
    return [
        f"Enhanced from file to file: {middle(found['enhanced'])} ms of processor time; only looked at, as the machine "
        f"that hands out pieces does: {middle(found['looked_at'])}.",
        f"So one film goes no faster from {enhanced / looked:.0f} workers on, at {1 / looked:.0f} frames a second; "
        f"a thousand hours at 25 frames a second cost {hours:,.0f} processor hours.",
    ]


def _assumed(found: dict[str, Any]) -> list[str]:
    measured = ", ".join(f"{name} {value:.4g}" for name, value in found["measured"].items())
    assumed = ", ".join(f"{name} {value:g}" for name, value in found["assumed"].items())
    return [f"Measured (seconds): {measured}.", f"Assumed (see benchmarks/scale/simulate.py): {assumed}."]


def _pools(found: list[dict[str, Any]]) -> list[str]:
    heads = ["way, store", "workers", "pictures a second", "of the bare speed", "a million: busy", "paid for"]
    rows = [
        [
            each["way"],
            f"{each['workers']:,}",
            f"{each['per_second']:.1f}",
            f"{100 * each['efficiency']:.0f} %",
            f"{each['busy_hours']:.0f}",
            f"{each['paid_hours']:.0f}",
        ]
        for each in found
    ]
    return [*table_lines(heads, rows), "", "The last two columns are processor hours of a million pictures of 600x400."]


def _services(found: list[dict[str, Any]]) -> list[str]:
    heads = ["service, who is asked", "load", "replicas", "p50", "p99", "p99 / p50"]
    rows = [
        [
            each["who"],
            f"{100 * each['load']:.0f} %",
            f"{each['replicas']:,}",
            f"{1000 * each['p50']:.0f}",
            f"{1000 * each['p99']:.0f}",
            f"{each['p99'] / each['p50']:.2f}",
        ]
        for each in found
    ]
    return table_lines(heads, rows)
