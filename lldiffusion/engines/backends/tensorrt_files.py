"""Which engine files fit this machine, which profile fits an image, and what to say when none does.

All of it is decided before TensorRT sees a file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lldiffusion.bundle import Bundle, graphs_of
from lldiffusion.bundle.engine_cache import EngineFile
from lldiffusion.errors import LLDiffusionError

Shape = tuple[int, ...]
HARDWARE, VERSION = "hardware_compatible=True", "version_compatible=True"  # build options, as engine keys write them
OLDEST = 8.0  # compute capability from which hardware-compatible engines run: Ampere


@dataclass(frozen=True)
class Target:
    """What an engine must have been built for."""

    flavour: str  # "tensorrt" or "tensorrt-rtx"
    version: str
    capability: str  # compute capability of the GPU, e.g. "8.9"


def fitting_engines(bundle: Bundle, precision: str, target: Target) -> dict[str, EngineFile]:
    """Graph -> engine, for all graphs of the model.

    Raises LLDiffusionError saying what is missing, untrusted or stale, and the command that rebuilds it.
    """
    engines = bundle.engines()
    return {graph: _fitting(bundle, precision, graph, target, engines) for graph in graphs_of(bundle.config)}


def _fitting(bundle: Bundle, precision: str, graph: str, target: Target, engines: list[EngineFile]) -> EngineFile:
    rebuild = f"build it with  lldiff build {bundle.source}"
    candidates = [e for e in engines if e.key.graph == graph and e.key.flavour == target.flavour]
    of_precision = [e for e in candidates if e.key.precision == precision] or candidates
    if not candidates:
        raise LLDiffusionError(f"'{bundle.source}' has no {target.flavour} engine of its {graph}: {rebuild}")
    stale = [(e, _differences(bundle, precision, graph, target, e)) for e in of_precision]
    good = [engine for engine, differences in stale if not differences]
    if not good:
        engine, differences = min(stale, key=lambda pair: len(pair[1]))
        raise LLDiffusionError(f"engine '{engine.path.name}' does not fit: {'; '.join(differences)}; {rebuild}")
    trusted = [engine for engine in good if engine.trusted]
    if not trusted:
        raise LLDiffusionError(
            f"engine '{good[0].path.name}' is neither in the bundle's manifest nor built on this machine, "
            f"so it is not loaded: {rebuild}"
        )
    return trusted[0]


def _differences(bundle: Bundle, precision: str, graph: str, target: Target, engine: EngineFile) -> list[str]:
    """What the engine was built for and is not so here.  Profiles and build options may be as they are."""
    key = engine.key
    any_gpu = key.gpu == "any" or (HARDWARE in key.options and float(target.capability) >= OLDEST)
    wanted = replace(
        key,
        onnx_sha256=bundle.onnx_sha256(precision, graph),
        gpu=key.gpu if any_gpu else target.capability,
        version=key.version if VERSION in key.options else target.version,
    )
    return [f"built for {text}" for text in key.differences(wanted)]


def choose_profile(profiles: list[tuple[Shape, Shape, Shape]], shape: Shape) -> int:
    """Index of the tightest profile (smallest, usual, largest) that holds `shape`; of equals the nearest in shape.

    Raises LLDiffusionError naming the sizes that the engine was built for.
    """
    fitting = [
        (_volume(largest), max(abs(side - common) for side, common in zip(shape, usual, strict=True)), i)
        for i, (smallest, usual, largest) in enumerate(profiles)
        if all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))
    ]
    if fitting:
        return min(fitting)[2]
    ranges = ", ".join(f"{_text(smallest)} to {_text(largest)}" for smallest, _, largest in profiles)
    raise LLDiffusionError(
        f"this engine was built for images (batch x width x height) of {ranges}, not {_text(shape)}: "
        "use tiles (--tile 512), or build with another --profile"
    )


def largest_tile(profiles: list[tuple[Shape, Shape, Shape]], height: int, width: int) -> int | None:
    """None when an image of this size fits whole, else the side of the largest square tile that does."""
    sides = [(largest[2], largest[3]) for _, _, largest in profiles]
    if any(height <= high and width <= wide for high, wide in sides):
        return None
    return max(min(high, wide) for high, wide in sides)


def _volume(shape: Shape) -> int:
    volume = 1
    for side in shape:
        volume *= side
    return volume


def _text(shape: Shape) -> str:
    return f"{shape[0]}x{shape[3]}x{shape[2]}"
