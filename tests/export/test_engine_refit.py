"""Engines that take new weights: which engine lends itself, and what is asked of TensorRT (a stand-in here)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lldiffusion.bundle import Bundle
from lldiffusion.cli import run
from lldiffusion.engines.describe import describe_engine
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export.build import build_engines, engine_key
from lldiffusion.export.engine_builder import BuildOptions, Toolchain
from lldiffusion.export.profiles import parse_profiles
from support.toy import toy_bundle

PROFILE = "64x64:96x64:128x96"
OPTIONS = BuildOptions(refit=True)


class FakeTensorRt(SimpleNamespace):
    """Engines are text; refitting writes the graph's name and size into them."""

    def __init__(self, accepts: bool = True) -> None:
        super().__init__(__version__="11.4.0", ILogger=SimpleNamespace)
        self.accepts = accepts

    def Runtime(self, log: Any) -> Any:
        return SimpleNamespace(deserialize_cuda_engine=lambda blob: FakeEngine(blob) if blob[:3] == b"old" else None)

    def Refitter(self, engine: Any, log: Any) -> Any:
        return SimpleNamespace(engine=engine, refit_cuda_engine=lambda: True)

    def OnnxParserRefitter(self, refitter: Any, log: Any) -> Any:
        def refit_from_file(path: str) -> bool:
            refitter.engine.blob = f"new {Path(path).name}".encode()
            return self.accepts

        return SimpleNamespace(refit_from_file=refit_from_file)


class FakeEngine:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def serialize(self) -> bytes:
        return self.blob


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Toolchain:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))
    opened = Toolchain("tensorrt", FakeTensorRt(), "11.4.0", "8.9")  # type: ignore[arg-type]
    monkeypatch.setattr("lldiffusion.export.build.open_toolchain", lambda flavour: opened)
    return opened


def with_engines(bundle: Bundle, tools: Toolchain, options: BuildOptions = OPTIONS) -> Bundle:
    """Engines as `lldiff build --refit` would have made them."""
    for graph in bundle.graphs("fp32"):
        key = engine_key(bundle, graph, "fp32", tools, parse_profiles((PROFILE,), 32), options)
        bundle.add_engine(key, b"old engine")
    return bundle


def other_weights(path: Path) -> Bundle:
    """The toy bundle with one weight changed: a graph of the same structure."""
    from support import toy

    before = toy.DENOISER
    try:
        toy.DENOISER = before.replace("w_x = {0.3}", "w_x = {0.4}")
        return Bundle.open(toy_bundle(path))
    finally:
        toy.DENOISER = before


def test_engines_get_the_weights_of_another_bundle(tools: Toolchain, tmp_path: Path) -> None:
    old = with_engines(Bundle.open(toy_bundle(tmp_path / "old")), tools)
    new = other_weights(tmp_path / "new")
    assert new.onnx_sha256("fp32", "denoiser") != old.onnx_sha256("fp32", "denoiser")
    built = build_engines(new, "tensorrt", None, (PROFILE,), OPTIONS, like=old)
    assert [engine.path.read_bytes() for engine in built][2] == b"new denoiser.onnx"
    assert all(engine.trusted for engine in new.engines()) and len(new.engines()) == 3
    assert new.engines()[2].key.onnx_sha256 in {new.onnx_sha256("fp32", graph) for graph in new.graphs("fp32")}
    assert "refitted from" in describe_engine(built[2].path)["about"]
    assert len(old.engines()) == 3 and all(e.path.read_bytes() == b"old engine" for e in old.engines())


def test_only_an_engine_built_for_it_lends_itself(tools: Toolchain, tmp_path: Path) -> None:
    old, new = with_engines(Bundle.open(toy_bundle(tmp_path / "old")), tools), other_weights(tmp_path / "new")
    with pytest.raises(LLDiffusionError, match="--like needs --refit"):
        build_engines(new, "tensorrt", None, (PROFILE,), BuildOptions(), like=old)
    half = Bundle.open(toy_bundle(tmp_path / "half", "fp16"))
    with pytest.raises(LLDiffusionError, match="different precisions; build without --like"):
        build_engines(half, "tensorrt", None, (PROFILE,), OPTIONS, like=old)


def test_a_refusal_of_tensorrt_is_one_line_and_nothing_is_written(
    tools: Toolchain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = with_engines(Bundle.open(toy_bundle(tmp_path / "old")), tools), other_weights(tmp_path / "new")
    tools.module.accepts = False  # type: ignore[attr-defined]
    command = ["build", str(new.source), "--engine", "tensorrt", "--profile", PROFILE, "--refit", "--like"]
    assert run([*command, str(old.source)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: tensorrt 11.4.0 cannot refit to 'encoder.onnx': ")
    assert new.engines() == []
