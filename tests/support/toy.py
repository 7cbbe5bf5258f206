"""A toy model of the bundle's contract: hand-written ONNX graphs, and the same arithmetic in NumPy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser

from lldiffusion.bundle import Bundle, Manifest, graphs_of
from lldiffusion.config import Config, SamplingConfig, load_config
from lldiffusion.engines.backends.base import Array, Conditions, Engine, Floats
from lldiffusion.engines.sampler import Step

HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
IMAGE = "float[n,3,h,w]"
ENCODER = """encoder (%(image)s low) => (%(half)s[n,3,h8,w8] feature_0, %(half)s[n,3,h4,w4] feature_1) {
  coarse = AveragePool <kernel_shape=[8,8], strides=[8,8]> (low)
  fine = AveragePool <kernel_shape=[4,4], strides=[4,4]> (low)
  feature_0 = Cast <to=%(type)d> (coarse)
  feature_1 = Cast <to=%(type)d> (fine)
}"""
COLOR_MAP = """color_map (%(image)s low) => (%(image)s color_map)
<float one = {1}, float two = {2}, float small = {0.0001}, int64[1] axis = {1}, float zero = {0}> {
  shifted = Add(low, one)
  u = Div(shifted, two)
  sum = ReduceSum(u, axis)
  divisor = Add(sum, small)
  ratio = Div(u, divisor)
  clipped = Clip(ratio, zero, one)
  doubled = Mul(clipped, two)
  color_map = Sub(doubled, one)
}"""
DENOISER = """denoiser (%(image)s x_t, %(image)s low, %(image)s color_map,
    %(half)s[n,3,h8,w8] feature_0, %(half)s[n,3,h4,w4] feature_1,
    float[1] t, float[1] k_x, float[1] k_p, float[1] a, float[1] b, float[1] c, %(image)s x0_previous%(ports)s)
  => (%(image)s x_next, %(image)s x0)
<float w_x = {0.3}, float w_low = {0.5}, float w_t = {0.0001}, float[4] up8 = {1,1,8,8}, float[4] up4 = {1,1,4,4},
 float minus = {-1}, float plus = {1}> {
  coarse = Cast <to=1> (feature_0)
  fine = Cast <to=1> (feature_1)
  grown8 = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (coarse, , up8)
  grown4 = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (fine, , up4)
  from_x = Mul(x_t, w_x)
  from_low = Mul(low, w_low)
  from_t = Mul(t, w_t)
%(lit)s
  prediction = Add(images, from_t)
  kept = Mul(k_x, x_t)
  added = Mul(k_p, prediction)
  raw = Add(kept, added)
  x0 = Clip(raw, minus, plus)
  one = Mul(a, x_t)
  two = Mul(b, x0)
  three = Mul(c, x0_previous)
  x_next = Sum(one, two, three)
}"""

LEVEL_GRAPH = """level (float[n,3,64,96] thumbnail) => (float[n,6,8,12] level)
<int64[3] axes = {1,2,3}, int64[4] grid = {1,6,8,12}> {
  mean = ReduceMean(thumbnail, axes)
  level = Expand(mean, grid)
}"""
LEVEL_PORTS = ", float[n,6,8,12] level, float[n,4] window, float[1] exposure"
LEVEL_NODES = """
  w_level = Constant <value = float {0.2}> ()
  w_window = Constant <value = float {0.1}> ()
  axes = Constant <value = int64[3] {1,2,3}> ()
  sides = Constant <value = int64[2] {2,3}> ()
  one_axis = Constant <value = int64[1] {1}> ()
  place = Unsqueeze(window, sides)
  edges = ReduceSum(place, one_axis)
  mean_level = ReduceMean(level, axes)
  from_level = Mul(mean_level, w_level)
  from_window = Mul(edges, w_window)
  from_exposure = Mul(exposure, w_window)
  unlit = Sum(from_x, from_low, color_map, grown8, grown4)
  images = Sum(unlit, from_level, from_window, from_exposure)"""
PLAIN_NODES = "  images = Sum(from_x, from_low, color_map, grown8, grown4)"


def toy_config(level: str = "none") -> Config:
    """The tiny preset with a solver that uses all five coefficients."""
    config = load_config("tiny", [f"model.level={level}"])
    return replace(config, name="toy", sampling=SamplingConfig("dpm++", 5, "trailing", True))


def toy_bundle(path: Path, precision: str = "fp32", level: str = "none") -> Path:
    """Write the toy model as a bundle with graphs of one precision."""
    config = toy_config(level)
    files = {graph: f"{graph}.onnx" for graph in graphs_of(config)}
    with Bundle.write(path) as draft:
        for graph in files:
            (draft.folder / f"{graph}.onnx").write_bytes(_toy_graph(graph, precision, level != "none"))
        ports: dict[str, list[dict[str, Any]]] = {file: [] for file in files.values()}
        draft.manifest = Manifest(
            name="toy",
            weights_sha256="0" * 64,
            config=config.to_dict(),
            size_multiple=32,
            default_precision=precision,
            graphs={precision: files},
            inputs=ports,
            outputs=ports,
            tools={"onnx": "hand-written"},
        )
    return path


def _toy_graph(graph: str, precision: str, lit: bool) -> bytes:
    """The file of one graph, checked."""
    texts = {"encoder": ENCODER, "color_map": COLOR_MAP, "denoiser": DENOISER, "level": LEVEL_GRAPH}
    return _parsed(texts[graph], precision, lit)


@cache
def _parsed(text: str, precision: str, lit: bool) -> bytes:
    words = {"image": IMAGE, "half": "float16" if precision == "fp16" else "float"}
    types = words | {"type": 10 if precision == "fp16" else 1, "ports": LEVEL_PORTS if lit else ""}
    types |= {"lit": LEVEL_NODES if lit else PLAIN_NODES}
    model = onnx.parser.parse_model(HEADER + text % types)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


class ToyEngine(Engine):
    """The oracle: NumPy only."""

    def level(self, thumbnail: Array) -> Array:
        return np.broadcast_to(thumbnail.mean(axis=(1, 2, 3), keepdims=True), (len(thumbnail), 6, 8, 12))

    def encode(self, low: Array) -> tuple[Array, ...]:
        return _pool(low, 8), _pool(low, 4)

    def color_map(self, low: Array) -> Array:
        u = (low + 1) / 2
        return np.clip(u / (u.sum(axis=1, keepdims=True) + 1e-4), 0, 1) * 2 - 1

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        grown = sum(f.repeat(k, 2).repeat(k, 3) for f, k in zip(conditions.features, (8, 4), strict=True))
        prediction = 0.3 * x + 0.5 * conditions.low + conditions.color_map + grown + 1e-4 * step.t
        if conditions.level is not None and conditions.window is not None:
            lit = 0.2 * conditions.level.mean(axis=(1, 2, 3)) + 0.1 * conditions.window.sum(axis=1)
            prediction = prediction + (lit + 0.1 * (step.exposure or 0.0))[:, None, None, None]
        x0 = np.clip(step.k_x * x + step.k_p * prediction, -1, 1)
        return step.a * x + step.b * x0 + step.c * previous, x0

    def numpy(self, values: Array) -> Floats:
        return np.asarray(values, dtype=np.float32)

    def info(self) -> dict[str, str]:
        return {"backend": "toy"}

    def free_memory(self) -> int:
        return 1 << 40


def _pool(low: Floats, k: int) -> Floats:
    n, c, h, w = low.shape
    pooled: Floats = low.reshape(n, c, h // k, k, w // k, k).mean(axis=(3, 5))
    return pooled
