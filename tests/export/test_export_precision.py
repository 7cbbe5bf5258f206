"""Half precision in the graph: which nodes stay float32, and what that costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from lldiffusion.errors import LLDiffusionError
from lldiffusion.export.graphs import ports, save
from lldiffusion.export.precision import check_islands, half_tensor, islands, to_half
from support.exported import force_half, inputs, micro_graphs


def graph(name: str) -> onnx.ModelProto:
    return onnx.load(micro_graphs() / f"{name}.onnx")


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = {v.name: v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.input, *inferred.output]}
    return known | {tensor.name: tensor.data_type for tensor in inferred.initializer}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_heavy_operators_are_half_and_islands_float32(precision: str) -> None:
    typed, kept = to_half(graph("denoiser"), precision)
    onnx.checker.check_model(typed, full_check=True)
    half = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    known = types(typed)
    for node in typed.graph.node:
        given = {known[name] for name in node.input if name in known} & {1, half}
        if node.op_type == "Conv":
            assert given == {half}, node.name
        if node.op_type in ("LayerNormalization", "Softmax", "ReduceMean", "Sin", "Cos", "Abs", "Pow", "Exp"):
            assert given == {1}, node.name
    assert {island.reason for island in kept} == {"norm", "softmax", "time", "tone", "step"}
    assert check_islands(typed, kept) == []


def test_every_norm_softmax_and_step_operator_is_an_island() -> None:
    counts = Counter(island.operator for island in islands(graph("denoiser")).values())
    operators = Counter(node.op_type for node in graph("denoiser").graph.node)
    for operator in ("LayerNormalization", "Softmax", "ReduceMean", "Sin", "Cos"):
        assert counts[operator] == operators[operator] > 0
    nodes = islands(graph("color_map"))
    assert len(nodes) == sum(node.op_type != "Cast" for node in graph("color_map").graph.node)


def test_a_picture_is_brightened_in_float32() -> None:
    """Places in the picture, hat functions of them, powers of two: half precision would shift and band the light."""
    model, kept = graph("denoiser"), islands(graph("denoiser"))
    reached = {"level", "window"}
    for node in model.graph.node:
        if node.op_type == "Shape" or reached.isdisjoint(node.input):
            continue
        if node.op_type == "Concat":  # what the network sees is put together there
            break
        reached.update(node.output)
        assert node.op_type == "Cast" or node.output[0] in kept, node.name
    operators = Counter(island.operator for island in kept.values() if island.reason == "tone")
    assert operators["Range"] == 2 and operators["MatMul"] == 3 and operators["Abs"] == 2


def test_only_features_cross_the_border_in_half_precision(tmp_path: Path) -> None:
    for name in ("encoder", "denoiser"):
        save(to_half(graph(name), "fp16")[0], tmp_path / f"{name}.onnx")
        for port in [*ports(tmp_path / f"{name}.onnx")[0], *ports(tmp_path / f"{name}.onnx")[1]]:
            assert port["dtype"] == ("float16" if port["name"] == "feature_0" else "float32"), port


def test_half_weights_halve_the_file() -> None:
    whole, typed = graph("denoiser"), to_half(graph("denoiser"), "fp16")[0]
    sizes = [sum(len(t.raw_data) for t in model.graph.initializer) for model in (whole, typed)]
    assert sizes[1] < 0.65 * sizes[0]


def test_float16_graph_and_its_emulation_stay_close_to_float32() -> None:
    """The emulation rounds every stored value, ONNX Runtime's CPU does not: both are close, the first less so."""
    given = inputs("pixel", 1, 64, 96, 700.0)
    half = given | {"feature_0": given["feature_0"].astype(np.float16)}
    wanted = run(graph("denoiser"), given)
    for model, feeds, limit in (
        (to_half(graph("denoiser"), "fp16")[0], half, 2e-3),
        (to_half(graph("denoiser"), "fp16", emulate=True)[0], given, 4e-3),
        (to_half(graph("denoiser"), "bf16", emulate=True)[0], given, 3e-2),
    ):
        error = np.abs(run(model, feeds) - wanted).max() / np.abs(wanted).max()
        assert 1e-6 < error < limit


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # would drop the rounding
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(["x0"], feeds)[0]


def test_a_norm_forced_to_float16_is_named() -> None:
    typed, kept = to_half(graph("denoiser"), "fp16")
    norm = next(node for node in typed.graph.node if node.op_type == "LayerNormalization")
    force_half(typed, norm)
    wrong = check_islands(typed, kept)
    assert wrong == [f"{norm.name} (LayerNormalization): mean and variance over many values"]


def test_a_weight_beyond_float16_is_refused() -> None:
    tensor = onnx.numpy_helper.from_array(np.array([7e4], np.float32), "w")
    with pytest.raises(LLDiffusionError, match="weight 'w' does not fit in fp16: export with --bf16"):
        half_tensor(tensor, "w_fp16", "fp16")
