"""New weights for an engine that was built with `--refit`: seconds, where building takes minutes ("tensorrt" only)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lldiffusion.bundle import Bundle, EngineKey
from lldiffusion.engines.backends.tensorrt_flavours import make_logger
from lldiffusion.errors import LLDiffusionError

from .engine_builder import Toolchain

REFIT = "refit=True"  # build option, as engine keys write it
AFTER = "; build without --like"


def donor_engine(donor: Bundle, bundle: Bundle, key: EngineKey) -> Path | None:
    """The engine of `donor` that only the weights tell from the one wanted, or None.

    Raises LLDiffusionError when the two bundles hold different networks: such an engine would take the new weights
    where their names and shapes agree, and compute something else.
    """
    for what, differ in _differences(donor, bundle).items():
        if differ:
            raise LLDiffusionError(
                f"'{donor.source}' cannot lend its engines to '{bundle.source}': they have different {what}{AFTER}"
            )
    if REFIT not in key.options:
        raise LLDiffusionError("--like needs --refit: only engines built with it take other weights")
    wanted = replace(key, onnx_sha256=donor.onnx_sha256(key.precision, key.graph))
    return next((e.path for e in donor.engines() if e.key == wanted and e.trusted), None)


def _differences(donor: Bundle, bundle: Bundle) -> dict[str, bool]:
    """What decides the shape of a graph, and whether it differs."""
    ours, theirs = bundle.config, donor.config
    steps = [(config.diffusion.prediction, config.sampling.clip) for config in (ours, theirs)]
    makers = [(bundle.manifest.tools, bundle.manifest.lldiffusion), (donor.manifest.tools, donor.manifest.lldiffusion)]
    return {
        "networks": ours.model != theirs.model or steps[0] != steps[1],
        "precisions": not set(bundle.precisions) <= set(donor.precisions),
        "exporters (versions of the tools in their manifests)": makers[0] != makers[1],
    }


def refit_engine(tools: Toolchain, blob: bytes, graph: Path) -> bytes:
    """`blob` with the weights of `graph`.  Raises LLDiffusionError when TensorRT refuses."""
    trt, log = tools.module, make_logger(tools.module)
    engine = trt.Runtime(log).deserialize_cuda_engine(blob)
    if engine is None:
        raise LLDiffusionError(f"{tools.flavour} {tools.version} cannot load the engine to refit: {log.last}{AFTER}")
    refitter = trt.Refitter(engine, log)
    parser = trt.OnnxParserRefitter(refitter, log)
    if not parser.refit_from_file(str(graph)) or not refitter.refit_cuda_engine():
        raise LLDiffusionError(f"{tools.flavour} {tools.version} cannot refit to '{graph.name}': {log.last}{AFTER}")
    return bytes(engine.serialize())
