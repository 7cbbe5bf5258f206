"""The first operator of a graph that goes wrong: every intermediate value compared, in the order they are computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.backends.onnx_runtime import import_onnxruntime


@dataclass(frozen=True)
class Suspect:
    """The first value that is not what it should be."""

    node: str
    operator: str
    psnr: float  # dB against the reference, of the value's own range
    nonfinite: int

    def __str__(self) -> str:
        what = f"{self.nonfinite} NaN or infinite values" if self.nonfinite else f"{self.psnr:.1f} dB"
        return f"{self.node} ({self.operator}): {what}"


def first_bad_operator(graph: Path, wanted: dict[str, Floats], feeds: dict[str, Floats], psnr: float) -> Suspect | None:
    """Run a graph and name the first node whose output is less like the one in `wanted` than `psnr` dB.

    Args:
        graph: the suspect, in any precision.
        wanted: right values by name: `every_value` of the float32 graph it was made from, or `traced_values`.
        feeds: float32 inputs.
    """
    for node, name, values in _computed(graph, feeds):
        if name not in wanted or wanted[name].shape != values.shape:
            continue
        nonfinite = int(values.size - np.isfinite(values).sum())
        found = likeness(values, wanted[name])
        if nonfinite or found < psnr:
            return Suspect(node.name or name, node.op_type, found, nonfinite)
    return None


def likeness(values: Floats, wanted: Floats) -> float:
    """PSNR in dB, of the range of `wanted` (of its size where it is constant); -inf when not finite."""
    span = float(np.ptp(wanted)) or float(np.abs(wanted).max()) or 1.0
    with np.errstate(all="ignore"):
        mse = float(np.mean((values.astype(np.float64) - wanted) ** 2))
    if not np.isfinite(mse):
        return -np.inf
    return 200.0 if mse == 0 else float(10 * np.log10(span**2 / mse))


def traced_values(program: Any, feeds: dict[str, Floats]) -> dict[str, Floats]:
    """What PyTorch computes at every point of a traced program (a `torch.onnx.ONNXProgram`), by the graph's names."""
    import torch

    seen: dict[str, Floats] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                seen[n.name] = value.numpy(force=True)
            return value

    tensors = [torch.from_numpy(feeds[port.name]) for port in program.model_proto.graph.input]
    with torch.no_grad():
        Recorder(program.exported_program.module(check_guards=False)).run(*tensors)
    return seen


def every_value(path: Path, feeds: dict[str, Floats]) -> dict[str, Floats]:
    """All floating-point values of a graph, by name, as float32."""
    return {name: values for _, name, values in _computed(path, feeds)}


def _computed(path: Path, feeds: dict[str, Floats]) -> Iterator[tuple[Any, str, Floats]]:
    """(node, name of its value, value as float32) in the order of the graph."""
    import onnx

    onnxruntime = import_onnxruntime("comparing graphs")
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    types = {v.name: v.type.tensor_type.elem_type for v in [*model.graph.value_info, *model.graph.output]}
    nodes = {name: node for node in model.graph.node for name in node.output if types.get(name) in (1, 10)}
    shown = {output.name for output in model.graph.output}
    for name in nodes:
        if name not in shown:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, types[name], None))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    kinds = {port.name: np.float16 if port.type == "tensor(float16)" else np.float32 for port in session.get_inputs()}
    values = session.run(list(nodes), {name: feeds[name].astype(kind) for name, kind in kinds.items()})
    for (name, node), value in zip(nodes.items(), values, strict=True):
        yield node, name, value.astype(np.float32)
