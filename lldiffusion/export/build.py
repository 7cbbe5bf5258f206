"""The engines of a bundle: built once, kept beside its graphs under the key that says what they fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lldiffusion.bundle import Bundle, EngineKey, graphs_of
from lldiffusion.engines.backends.tensorrt_flavours import FLAVOURS
from lldiffusion.errors import choose
from lldiffusion.interrupts import Interrupts

from .engine_builder import BuildOptions, Toolchain, build_engine, installed, open_toolchain
from .profiles import Profile, parse_profiles
from .refit import donor_engine, refit_engine

Progress = Callable[[str, float], None]  # graph, finished share of its engine


@dataclass(frozen=True)
class Built:
    """One engine of a bundle."""

    graph: str
    path: Path
    bytes: int
    seconds: float  # 0 when it was there already


def default_flavour() -> str:
    """TensorRT for RTX where only that is installed, else TensorRT."""
    return "tensorrt-rtx" if installed("tensorrt-rtx") and not installed("tensorrt") else "tensorrt"


def build_engines(
    bundle: Bundle,
    flavour: str,
    precision: str | None = None,
    profiles: tuple[str, ...] = (),
    options: BuildOptions | None = None,
    force: bool = False,
    like: Bundle | None = None,
    progress: Progress = lambda graph, share: None,
) -> list[Built]:
    """Build the engines of all graphs; those that fit already are kept unless `force`.

    Args:
        precision: of the graphs; default: the bundle's own.
        profiles: smallest:usual:largest picture sizes; empty: the default buckets.
        like: a bundle of the same network with other weights, whose engines (built with `refit`) get the new weights.
    Raises LLDiffusionError when the flavour cannot build here or a graph is refused, KeyboardInterrupt on Ctrl-C;
    engines finished before that stay.
    """
    precision = choose(precision or bundle.manifest.default_precision, bundle.precisions, "precision of this bundle")
    options = options or BuildOptions()
    ranges = parse_profiles(profiles, bundle.manifest.size_multiple)
    tools = open_toolchain(flavour)
    built = []
    with ctrl_c() as cancelled:
        for graph in graphs_of(bundle.config):
            key = engine_key(bundle, graph, precision, tools, ranges, options)
            there = None if force else _find(bundle, key)
            there = there or (None if like is None else _refit(bundle, like, key, tools))
            built.append(there or _build(bundle, key, tools, ranges, options, progress, cancelled))
            progress(graph, 1.0)
    return built


def engine_key(
    bundle: Bundle, graph: str, precision: str, tools: Toolchain, profiles: tuple[Profile, ...], options: BuildOptions
) -> EngineKey:
    """What an engine built here and now fits."""
    return EngineKey(
        graph=graph,
        onnx_sha256=bundle.onnx_sha256(precision, graph),
        gpu=tools.gpu,
        flavour=tools.flavour,
        version=tools.version,
        precision=precision,
        profiles=tuple(str(profile) for profile in profiles),
        options=options.names(),
    )


def _find(bundle: Bundle, key: EngineKey) -> Built | None:
    for engine in bundle.engines():
        if engine.key == key and engine.trusted:
            return Built(key.graph, engine.path, engine.path.stat().st_size, 0.0)
    return None


def _refit(bundle: Bundle, like: Bundle, key: EngineKey, tools: Toolchain) -> Built | None:
    """The engine with the weights it has in another bundle, changed for this one's."""
    start, donor = time.monotonic(), donor_engine(like, bundle, key)
    if donor is None:
        return None
    blob = refit_engine(tools, donor.read_bytes(), bundle.graphs(key.precision)[key.graph])
    seconds = time.monotonic() - start
    path = bundle.add_engine(key, blob, {"refitted from": str(donor), "seconds": round(seconds, 1)})
    return Built(key.graph, path, len(blob), seconds)


def _build(
    bundle: Bundle,
    key: EngineKey,
    tools: Toolchain,
    profiles: tuple[Profile, ...],
    options: BuildOptions,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Built:
    start = time.monotonic()
    graph = bundle.graphs(key.precision)[key.graph]

    def tick(share: float) -> None:
        progress(key.graph, share)

    inputs, multiple = bundle.manifest.inputs[graph.name], bundle.manifest.size_multiple
    blob, about = build_engine(tools, graph, inputs, profiles, multiple, options, tick, cancelled)
    seconds = time.monotonic() - start
    path = bundle.add_engine(key, blob, about | {"seconds": round(seconds, 1)})
    return Built(key.graph, path, len(blob), seconds)


@contextmanager
def ctrl_c() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C instead of raising in the middle of TensorRT, which asks for the note between its steps."""
    with Interrupts(raise_second=False) as interrupts:
        yield interrupts.asked.is_set
    if interrupts.asked.is_set():
        raise KeyboardInterrupt


def how_to_get(flavour: str, bundle: Path) -> str:
    """The commands that lead to engines where there is no such TensorRT now."""
    return f"{FLAVOURS[flavour].install}, then  lldiff build {bundle} --engine {flavour}"
