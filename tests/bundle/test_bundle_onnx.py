"""External data of ONNX files: found without loading them, refused when it lies outside the bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from lldiffusion.bundle import GRAPHS, Bundle
from lldiffusion.bundle.onnx_external import external_files
from lldiffusion.engines.select_backend import Candidate, open_bundle
from lldiffusion.errors import DamagedGraphError, LLDiffusionError
from support.bundles import graph_bytes, manifest, refused, write_bundle


def test_external_data_in_the_bundle_is_accepted(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "b", "weights.data", **{"weights.data": bytes(16)})
    bundle = Bundle.open(path)
    assert external_files(bundle.graphs("fp32")["encoder"]) == {"weights.data"}
    assert "weights.data" in bundle.manifest.files


@pytest.mark.parametrize("location", ["/etc/passwd", "../outside", "unlisted.data", "sub/../../x"])
def test_external_data_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    path = write_bundle(tmp_path / "b", location)
    refused(path, "'encoder.onnx'", f"'{location}'")


def test_external_data_is_found_in_subgraphs_attributes_and_functions(tmp_path: Path) -> None:
    tensor = onnx.load_from_string(graph_bytes("deep.data")).graph.initializer[0]
    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "inner", [], [])
    outer = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=inner)], "outer", [], [])
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    function = helper.make_function("local", "f", [], ["y"], [node], [helper.make_opsetid("", 18)])
    for model in (
        helper.make_model(outer),
        helper.make_model(helper.make_graph([], "g", [], []), functions=[function]),
    ):
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        assert external_files(path) == {"deep.data"}


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x3a\xff\xff\xff\x0f", b"\x0b\x0c", b"not onnx at all"])
def test_a_file_that_is_no_onnx(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(LLDiffusionError, match="ONNX"):
        external_files(path)


def _damaged(change: Callable[[onnx.ModelProto], object], location: str | None = None) -> bytes:
    model = onnx.load_from_string(graph_bytes(location))
    change(model)
    return bytes(model.SerializeToString())


def _strides(model: onnx.ModelProto, name: str, value: object) -> None:
    node = helper.make_node("AveragePool", ["x"], ["y"], **{name: value})
    model.graph.node.append(node)


def _place(model: onnx.ModelProto, **place: int) -> None:
    for key, value in place.items():
        model.graph.initializer[0].external_data.add(key=key, value=str(value))


DAMAGED: dict[str, tuple[bytes, str]] = {
    "short weight": (_damaged(lambda m: m.graph.initializer[0].dims.append(1000)), "of 16000 bytes has 16"),
    "impossible shape": (_damaged(lambda m: m.graph.initializer[0].dims.append(1 << 60)), "impossible shape"),
    "negative shape": (_damaged(lambda m: m.graph.initializer[0].dims.append(-1)), "impossible shape"),
    "other type": (_damaged(lambda m: setattr(m.graph.initializer[0], "data_type", 11)), "of 32 bytes has 16"),
    "stride 0": (_damaged(lambda m: _strides(m, "strides", [0, 1])), "strides"),
    "huge kernel": (_damaged(lambda m: _strides(m, "kernel_shape", [1 << 40])), "kernel_shape"),
    "group -1": (_damaged(lambda m: _strides(m, "group", -1)), "group"),
    "other input": (_damaged(lambda m: setattr(m.graph.input[0], "name", "z")), "inputs are not those"),
    "no output": (_damaged(lambda m: m.graph.ClearField("output")), "outputs are not those"),
    "other port type": (
        _damaged(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7)),
        "inputs are not those",
    ),
    "no graph": (_damaged(lambda m: m.ClearField("graph")), "no graph"),
    "beyond the file": (_damaged(lambda m: _place(m, offset=8, length=16), "w.data"), "lies at 8"),
    "negative offset": (_damaged(lambda m: _place(m, offset=-4, length=16), "w.data"), "lies at -4"),
    "another length": (_damaged(lambda m: _place(m, length=4), "w.data"), "4 long"),
}


@pytest.mark.parametrize(("graph", "says"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_graph_with_the_right_hash_reaches_no_native_library(graph: bytes, says: str, tmp_path: Path) -> None:
    with Bundle.write(tmp_path / "b") as draft:
        for name in GRAPHS:
            (draft.folder / f"{name}.onnx").write_bytes(graph_bytes())
        (draft.folder / "denoiser.onnx").write_bytes(graph)
        (draft.folder / "w.data").write_bytes(bytes(16))
        draft.manifest = manifest()
    refused(tmp_path / "b", "denoiser.onnx' is damaged", says)


def test_a_graph_that_one_library_finds_damaged_is_given_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found_damaged(bundle: Bundle, precision: str, device: str) -> Any:
        raise DamagedGraphError("no graph")

    def never(bundle: Bundle, precision: str, device: str) -> Any:
        raise AssertionError("the next library was given the graph")

    candidates = (Candidate("onnxruntime", "cpu", found_damaged), Candidate("openvino", "cpu", never))
    monkeypatch.setattr("lldiffusion.engines.select_backend.CANDIDATES", candidates)
    with pytest.raises(DamagedGraphError, match="no graph"):
        open_bundle(Bundle.open(write_bundle(tmp_path / "b")), "auto", "auto", "auto")


def test_a_graph_without_what_the_engines_use_is_not_run(tmp_path: Path) -> None:
    for backend in ("onnxruntime", "openvino"):
        bundle = write_bundle(tmp_path / backend)
        with pytest.raises(LLDiffusionError, match=r"encoder\.onnx' cannot be run: it has no 'low'"):
            open_bundle(Bundle.open(bundle), backend, "cpu", "auto")
