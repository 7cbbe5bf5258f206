"""What we call of TensorRT and CUDA exists in the installed packages, with that many arguments.

Neither runs without a GPU, so a misspelt method would wait for the first who has one.  TensorRT for RTX stands for
both flavours: their Python interfaces are the same but for what `RTX_ONLY` names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import fake_gpu

trt = pytest.importorskip("tensorrt_rtx", reason='pip install "lldiffusion[rtx]"')

# Names of variables in our files -> what they hold.
RUNNER = {
    "engine": trt.ICudaEngine,
    "e": trt.ICudaEngine,
    "context": trt.IExecutionContext,
    "config": trt.IRuntimeConfig,
    "_runtime": trt.Runtime,
    "trt": trt,
    "_trt": trt,
}
BUILDER = {
    "trt": trt,
    "builder": trt.Builder,
    "network": trt.INetworkDefinition,
    "parser": trt.OnnxParser,
    "config": trt.IBuilderConfig,
    "_config": trt.IBuilderConfig,
    "added": trt.IOptimizationProfile,
    "layer": trt.ILayer,
    "tensor": trt.ITensor,
    "given": trt.ITensor,
}
REFITTER = {
    "trt": trt,
    "engine": trt.ICudaEngine,
    "refitter": trt.Refitter,
    "parser": trt.OnnxParserRefitter,
}
FILES = {"engines/backends/tensorrt.py": RUNNER, "export/engine_builder.py": BUILDER, "export/refit.py": REFITTER}
Use = tuple[str, Any, str, int | None]  # where, owner, attribute, number of positional arguments of a call


def uses(tree: ast.Module, known: dict[str, Any]) -> Iterator[Use]:
    """Every attribute taken of something known, `trt.A.B` included."""
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = holds(node.value, known)
        if owner is not None:
            call = calls.get(id(node))
            counted = call is not None and not any(isinstance(given, ast.Starred) for given in call.args)
            yield f"line {node.lineno}", owner, node.attr, len(call.args) if call is not None and counted else None


def holds(node: ast.expr, known: dict[str, Any]) -> Any:
    """What an expression is, as far as `known` says."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in ("self", "tools"):
            return known.get(node.attr)
        owner = holds(node.value, known)
        return getattr(owner, node.attr, None) if owner is trt else None
    return None


def accepted(function: Any) -> set[int]:
    """Numbers of positional arguments, from the signatures that the binding writes into its documentation."""
    name = function.__name__
    counts: set[int] = set()
    for line in (function.__doc__ or "").splitlines():
        found = re.match(rf"(?:\d+\. )?{name}\((.*)\)(?: -> .*)?$", line.strip())
        if found and not found[1].startswith("*"):
            given = [part for part in found[1].split(", ") if part and not part.startswith("self")]
            required = [part for part in given if " = " not in part]
            counts |= set(range(len(required), len(given) + 1))
    return counts


@pytest.mark.parametrize("file", FILES)
def test_everything_called_exists(root: Path, file: str) -> None:
    found = list(uses(ast.parse((root / file).read_text(encoding="utf-8")), FILES[file]))
    assert len(found) > 5
    for where, owner, name, count in found:
        what = getattr(owner, name, None)
        assert what is not None, f"{file}, {where}: {owner.__name__} has no {name}"
        if count is not None and not isinstance(what, type) and accepted(what):
            assert count in accepted(what), f"{file}, {where}: {name} takes {accepted(what)} arguments, not {count}"


def test_a_misspelt_method_would_be_seen() -> None:
    source = "engine.get_tensor_nam(0)\ncontext.set_device_memory(1)\ntrt.BuilderFlag.REFITT"
    wrong = [
        name
        for _, owner, name, count in uses(ast.parse(source), RUNNER)
        if not hasattr(owner, name) or (count is not None and count not in accepted(getattr(owner, name)))
    ]
    assert sorted(wrong) == ["REFITT", "get_tensor_nam", "set_device_memory"]


@pytest.mark.parametrize(
    ("fake", "real"),
    [(fake_gpu.FakeEngine, trt.ICudaEngine), (fake_gpu.FakeContext, trt.IExecutionContext)],
)
def test_the_stand_ins_have_only_what_the_real_ones_have(fake: type, real: type) -> None:
    methods = {name for name, value in vars(fake).items() if callable(value) and not name.startswith("_")}
    assert len(methods) > 4
    assert {name for name in methods if not hasattr(real, name)} == set()


def test_the_types_we_translate_are_tensorrt_s() -> None:
    from lldiffusion.engines.backends.tensorrt import TYPES

    assert set(TYPES) <= set(trt.DataType.__members__)


def test_cuda_s_runtime_has_what_we_call(root: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-python")
    tree = ast.parse((root / "engines/cuda.py").read_text(encoding="utf-8"))
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("cuda")]
    calls = [
        (str(node.args[0].value), len(node.args) - 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "_call"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert len(calls) > 8
    known = vars(runtime) | vars(runtime.cudaMemcpyKind) | vars(runtime.cudaStreamCaptureMode)
    assert {name for name in [*names, *(name for name, _ in calls)] if name not in known} == set()
    for name, count in calls:
        parameters = re.match(rf"{name}\((.*?)\)", getattr(runtime, name).__doc__ or "")
        assert parameters is not None and len(parameters[1].split(", ")) == count, name
