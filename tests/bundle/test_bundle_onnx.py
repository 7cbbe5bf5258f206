"""External data of ONNX files: found without loading them, refused when it lies outside the bundle."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from lldiffusion.bundle import Bundle
from lldiffusion.bundle.onnx_external import external_files
from lldiffusion.errors import LLDiffusionError
from support.bundles import graph_bytes, refused, write_bundle


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
