"""Build options reach TensorRT's own configuration; kernel timings are kept, checked, and dropped when foreign."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lldiffusion.cli import run
from lldiffusion.engines.backends.tensorrt_flavours import make_logger
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export import engine_builder
from lldiffusion.export.engine_builder import BuildOptions, Toolchain, open_toolchain

trt = pytest.importorskip("tensorrt_rtx", reason='pip install "lldiffusion[rtx]"')


@pytest.fixture
def tools() -> Toolchain:
    """The flavour that takes every option, with the module that is here."""
    return Toolchain("tensorrt", trt, "11.4.0", "8.9")


def test_options_are_set_on_the_real_configuration(tools: Toolchain) -> None:
    options = BuildOptions(effort=5, workspace=64, refit=True, version_compatible=True)
    config = engine_builder._configure(tools, trt.Builder(make_logger(trt)), options)
    assert config.builder_optimization_level == 5
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 64 << 20
    assert config.get_flag(trt.BuilderFlag.REFIT) and config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    plain = engine_builder._configure(tools, trt.Builder(make_logger(trt)), BuildOptions())
    assert not plain.get_flag(trt.BuilderFlag.REFIT) and not plain.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert plain.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) > 64 << 20


def test_hardware_compatibility_is_set(tools: Toolchain) -> None:
    """A stand-in is asked: TensorRT for RTX, whose engines fit every GPU as they are, ignores it."""
    config = SimpleNamespace(set_flag=lambda flag: None)
    builder = SimpleNamespace(create_builder_config=lambda: config)
    engine_builder._configure(tools, builder, BuildOptions(hardware_compatible=True))
    assert config.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS


class FakeConfig:
    """Takes timing caches that start with its own device's header."""

    def __init__(self) -> None:
        self.given: list[bytes] = []
        self.cache = b""

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.given.append(cache)
        if cache and not cache.startswith(b"here"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self.cache + b"here")


def test_timings_are_kept_from_build_to_build(
    tools: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path))
    for wanted in (b"", b"here", b"herehere"):
        config = FakeConfig()
        engine_builder._TimingCache(tools, config).keep()
        assert config.given == [wanted]
    (file,) = (tmp_path / "timing").glob("*.cache")
    assert file.name == "tensorrt-11.4.0-sm89.cache"
    engine_builder.write_checked(file, b"another device")
    config = FakeConfig()
    engine_builder._TimingCache(tools, config).keep()
    assert config.given == [b"another device", b""] and engine_builder.read_checked(file) == b"here"
    file.write_bytes(b"here damaged")
    config = FakeConfig()
    engine_builder._TimingCache(tools, config)
    assert config.given == [b""]


def test_rtx_keeps_no_timings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path))
    config = FakeConfig()
    engine_builder._TimingCache(open_toolchain("tensorrt-rtx"), config).keep()
    assert config.given == [] and not list(tmp_path.rglob("*.cache"))


@pytest.mark.parametrize("option", ["--refit", "--version-compatible", "--hardware-compatible"])
def test_what_rtx_does_not_have_is_refused_in_one_line(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from support.toy import toy_bundle

    bundle = toy_bundle(tmp_path / "toy")
    assert run(["build", str(bundle), "--engine", "tensorrt-rtx", option]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error == f"error: {option}: only --engine tensorrt has this, tensorrt-rtx does not"


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(LLDiffusionError, match="workspace -1: MiB, 0 for no limit"):
        BuildOptions(workspace=-1)
