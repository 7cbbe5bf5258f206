"""Which operator makes the time grow faster than the picture: ONNX Runtime's own profile at two sizes."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from lldiffusion.atomic import scratch
from lldiffusion.bundle import LEVEL, Bundle
from lldiffusion.engines.backends.base import Conditions, Floats
from lldiffusion.engines.backends.feeds import condition_inputs, step_inputs, threads
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine, import_onnxruntime
from lldiffusion.engines.level import thumbnail_of
from lldiffusion.engines.pixels import pad_to_multiple
from lldiffusion.engines.sampler import make_noise, plan_steps

RUNS = 3  # profiled, after one that is not; of each operator the shortest counts
STEEP = 1.25  # exponent of an operator that counts as growing faster than the picture
WORTH = 0.02  # share of the time below which an operator is not named


def steep_operators(bundle: str, small: tuple[int, int], large: tuple[int, int]) -> str:
    """One sentence on the operators of a step whose time grows faster than the pixels between two (width, height)."""
    times = [profile(Bundle.open(bundle), *size) for size in (small, large)]
    growth = math.log((large[0] * large[1]) / (small[0] * small[1]))
    total = sum(times[1].values())
    steep = []
    for name, seconds in sorted(times[1].items(), key=lambda pair: -pair[1]):
        before = times[0].get(name, 0.0)
        exponent = math.log(seconds / before) / growth if before and seconds else 0.0
        if exponent > STEEP and seconds > WORTH * total:
            steep.append(f"{name} (exponent {exponent:.1f}, {100 * seconds / total:.0f} % of a step)")
    where = f"between {small[0]}x{small[1]} and {large[0]}x{large[1]}"
    return f"{where}: {', '.join(steep)}" if steep else f"{where} no single operator grows faster than the pixels"


def profile(bundle: Bundle, width: int, height: int) -> dict[str, float]:
    """Operator type -> seconds in one step of a picture of this size, float32 on the CPU."""
    ort = import_onnxruntime("profiling")
    feeds = _denoiser_feeds(bundle, width, height)
    with scratch() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        graph = str(bundle.graphs("fp32")["denoiser"])
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(1 + RUNS):
            session.run(None, feeds)
        return _sum(Path(session.end_profiling()))


def _sum(path: Path) -> dict[str, float]:
    """Kernel times by operator type: of each node the shortest of the runs after the first."""
    events = json.loads(path.read_text(encoding="utf-8"))
    starts = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    second = starts[1] if len(starts) > 1 else 0
    nodes: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= second:
            key = event["args"]["op_name"], event["name"]
            nodes[key] = min(nodes.get(key, math.inf), event["dur"] / 1e6)
    times: defaultdict[str, float] = defaultdict(float)
    for (operator, _), seconds in nodes.items():
        times[operator] += seconds
    return dict(times)


def _denoiser_feeds(bundle: Bundle, width: int, height: int) -> dict[str, Floats]:
    """Inputs of the denoiser's first step, float32, for a grey picture of this size."""
    config, engine = bundle.config, OnnxRuntimeEngine(bundle.graphs("fp32"), "fp32")
    low = pad_to_multiple(np.full((1, 3, height, width), -0.9, np.float32), config.model.size_multiple)
    level = window = None
    if LEVEL in bundle.graphs("fp32"):
        level, window = engine.numpy(engine.level(thumbnail_of(low))), np.array([[0, 0, 1, 1]], np.float32)
    features = tuple(map(engine.numpy, engine.encode(low)))
    conditions = Conditions(low, engine.numpy(engine.color_map(low)), features, level, window)
    step = plan_steps(config)[0]
    moving = {"x_t": make_noise(0, low.shape), "x0_previous": np.zeros_like(low)}
    return moving | condition_inputs(conditions) | step_inputs(step)
