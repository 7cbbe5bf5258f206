"""Engines: profiles, keys, and real TensorRT for RTX builds, which need no GPU."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from lldiffusion.bundle import Bundle, Manifest
from lldiffusion.bundle.engine_cache import sidecar
from lldiffusion.engines.backends.tensorrt_files import choose_profile
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export import engine_builder
from lldiffusion.export.build import build_engines, ctrl_c
from lldiffusion.export.engine_builder import (
    BuildOptions,
    Toolchain,
    build_engine,
    installed,
    open_toolchain,
    read_checked,
    write_checked,
)
from lldiffusion.export.graphs import ports, save
from lldiffusion.export.precision import to_half
from lldiffusion.export.profiles import DEFAULT_PROFILES, parse_profile, parse_profiles, shape_at
from support.exported import micro_graphs, micro_model

PROFILE = "64x64:96x64:128x96"
needs_rtx = pytest.mark.skipif(not installed("tensorrt-rtx"), reason='no tensorrt_rtx: pip install "lldiffusion[rtx]"')


@pytest.fixture(scope="module")
def rtx() -> Toolchain:
    return open_toolchain("tensorrt-rtx")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle with the micro model's float16 graphs."""
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))
    files = {"encoder": "encoder.fp16.onnx", "color_map": "color_map.onnx", "denoiser": "denoiser.fp16.onnx"}
    files["level"] = "level.onnx"
    with Bundle.write(tmp_path / "bundle") as draft:
        for graph, file in files.items():
            model = onnx.load(micro_graphs() / f"{graph}.onnx")
            save(model if graph in ("color_map", "level") else to_half(model, "fp16")[0], draft.folder / file)
        described = {file: ports(draft.folder / file) for file in files.values()}
        takes, gives = ({file: both[i] for file, both in described.items()} for i in (0, 1))
        config = micro_model().config.to_dict()
        draft.manifest = Manifest(
            name="micro",
            weights_sha256="0" * 64,
            config=config,
            size_multiple=32,
            default_precision="fp16",
            graphs={"fp16": files},
            inputs=takes,
            outputs=gives,
        )
    return Bundle.open(tmp_path / "bundle")


@needs_rtx
def test_a_float16_dynamic_engine_is_really_that(bundle: Bundle, rtx: Toolchain) -> None:
    """Read back from the network TensorRT built: types of inputs, outputs and every convolution."""
    graph, ticks = bundle.graphs("fp16")["denoiser"], list[float]()
    inputs, profiles = bundle.manifest.inputs[graph.name], parse_profiles([PROFILE], 32)
    blob, about = build_engine(rtx, graph, inputs, profiles, 32, BuildOptions(effort=0), ticks.append)
    assert len(blob) > 100_000
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(graph).graph.node)
    assert about["convolutions"] == {"HALF": convolutions}
    assert about["inputs"]["feature_0"] == "HALF" and about["inputs"]["x_t"] == about["inputs"]["k_x"] == "FLOAT"
    assert about["outputs"] == {"x_next": "FLOAT", "x0": "FLOAT"}
    assert about["profiles"] == [PROFILE]
    assert about["inputs"]["level"] == about["inputs"]["window"] == about["inputs"]["exposure"] == "FLOAT"
    assert ticks and max(ticks) > 0.8 and all(0 <= share <= 1 for share in ticks)


@needs_rtx
def test_a_level_engine_has_one_profile_whatever_the_pictures(bundle: Bundle, rtx: Toolchain) -> None:
    graph, sizes = bundle.graphs("fp16")["level"], (PROFILE, "64x64:128x128:160x128")
    inputs, profiles = bundle.manifest.inputs[graph.name], parse_profiles(sizes, 32)
    made: list[tuple[Any, ...]] = []

    class Profile:
        def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
            made.append((name, *shapes))

    class Network:
        num_inputs = 1

        def get_input(self, index: int) -> Any:
            return SimpleNamespace(name="thumbnail", shape=(-1, 3, 64, 96))

    builder = SimpleNamespace(create_optimization_profile=Profile)
    config = SimpleNamespace(add_optimization_profile=lambda profile: 0)
    engine_builder._add_profiles(builder, config, Network(), inputs, profiles, 32)
    assert made == [("thumbnail", *[(1, 3, 64, 96)] * 3)]
    assert len(build_engine(rtx, graph, inputs, profiles, 32, BuildOptions(effort=0))[0]) > 10_000


@needs_rtx
def test_engines_of_a_bundle_are_kept_keyed_and_found_again(bundle: Bundle) -> None:
    shown: list[tuple[str, float]] = []
    options = BuildOptions(effort=0)
    built = build_engines(bundle, "tensorrt-rtx", None, (PROFILE,), options, progress=lambda *now: shown.append(now))
    assert [engine.graph for engine in built] == ["encoder", "color_map", "denoiser", "level"]
    again = build_engines(bundle, "tensorrt-rtx", None, (PROFILE,), options)
    assert [engine.path for engine in again] == [engine.path for engine in built]
    assert all(engine.seconds == 0 for engine in again)
    assert ("denoiser", 1.0) in shown
    key = json.loads(sidecar(built[2].path).read_text())["key"]
    assert key["onnx_sha256"] == bundle.onnx_sha256("fp16", "denoiser") and key["gpu"] == "any"
    assert key["profiles"] == [PROFILE] and key["options"] == ["effort=0", "workspace=0"]
    found = Bundle.open(bundle.source).engines()  # the bundle still opens, and trusts what was built here
    assert len(found) == 4 and all(engine.trusted for engine in found)


@needs_rtx
def test_cancelling_stops_the_build_and_leaves_nothing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(graph: str, share: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engines(bundle, "tensorrt-rtx", None, (PROFILE,), BuildOptions(effort=0), progress=press)
    assert bundle.engines() == [] and not list(bundle.folder.rglob("*.tmp"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@needs_rtx
def test_what_the_builder_refuses_is_said_in_one_line(tmp_path: Path, rtx: Toolchain) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(LLDiffusionError, match=r"tensorrt-rtx .* does not accept 'bad.onnx'"):
        build_engine(rtx, tmp_path / "bad.onnx", [], (), 32, BuildOptions())
    with pytest.raises(LLDiffusionError, match="--refit: only --engine tensorrt has this"):
        build_engine(rtx, tmp_path / "bad.onnx", [], (), 32, BuildOptions(refit=True))
    graph, profiles = micro_graphs() / "denoiser.onnx", parse_profiles(["64x64:96x64:1920x1088"], 32)
    with pytest.raises(LLDiffusionError, match="could not build"):
        build_engine(rtx, graph, ports(graph)[0], profiles, 32, BuildOptions(effort=0, workspace=1))


def test_a_missing_tensorrt_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LLDiffusionError, match=r'pip install "lldiffusion\[rtx\]", then run  lldiff build'):
        open_toolchain("tensorrt-rtx")
    with pytest.raises(LLDiffusionError, match=r"unknown TensorRT flavour 'tensor': .*did you mean 'tensorrt'"):
        open_toolchain("tensor")


def test_tensorrt_without_a_gpu_is_refused_before_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from lldiffusion.engines.driver import Driver

    monkeypatch.setattr("lldiffusion.export.engine_builder.installed", lambda flavour: True)
    monkeypatch.setattr("lldiffusion.export.engine_builder.driver", lambda: Driver("no NVIDIA driver is installed"))
    with pytest.raises(LLDiffusionError, match=r"builds on the GPU .* here no NVIDIA driver is installed"):
        open_toolchain("tensorrt")


def test_profiles_are_read_checked_and_turned_into_shapes() -> None:
    profile = parse_profile("64x64:608x416:1920x1088", 32)
    assert profile.usual == (608, 416) and str(profile) == "64x64:608x416:1920x1088"
    assert shape_at(["n", 48, "4*h", "8*w"], profile.usual, 32) == (1, 48, 52, 152)
    assert shape_at(["n", 3, "h", "w"], profile.smallest, 32, count=2) == (2, 3, 2, 2)
    assert len(parse_profiles((), 32)) == len(DEFAULT_PROFILES)
    for text, words in (
        ("64x64:600x416:1920x1088", "600 is not a multiple of 32 .* the nearest is 608"),
        ("64x64:608x416", "write smallest:usual:largest"),
        ("64x64:608x416:512x512", "must not shrink"),
        ("32x64:608x416:1920x1088", "32 is not a multiple of 32 of at least 64"),
    ):
        with pytest.raises(LLDiffusionError, match=words):
            parse_profile(text, 32)


@pytest.mark.parametrize(
    ("height", "width", "largest"),
    [
        (64, 64, (512, 512)),
        (416, 608, (736, 1280)),
        (608, 416, (1280, 736)),
        (1088, 1920, (1088, 1920)),
        (1920, 1088, (1920, 1088)),
    ],
)
def test_the_default_profiles_hold_pictures_both_ways_up(height: int, width: int, largest: tuple[int, int]) -> None:
    """The room is that of the nearest bucket, not of a square around both orientations."""
    parts = [[shape_at(["n", 3, "32*h", "32*w"], part, 32) for part in astuple(p)] for p in parse_profiles((), 32)]
    ranges = [(part[0], part[1], part[2]) for part in parts]
    assert ranges[choose_profile(ranges, (1, 3, height, width))][2][2:] == largest


def test_options_name_what_changes_an_engine() -> None:
    assert BuildOptions().names() == ("effort=3", "workspace=0")
    assert replace(BuildOptions(), refit=True, effort=5).names() == ("effort=5", "refit=True", "workspace=0")
    with pytest.raises(LLDiffusionError, match=r"builder effort 6: 0 .*to 5"):
        BuildOptions(effort=6)


def test_a_damaged_timing_cache_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a" / "timing.cache"
    assert read_checked(path) == b""
    write_checked(path, b"timings")
    assert read_checked(path) == b"timings"
    path.write_bytes(b"timinks")
    assert read_checked(path) == b""


def test_ctrl_c_is_noted_inside_and_raised_outside() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt), ctrl_c() as cancelled:  # noqa: PT012
        seen.append(cancelled())
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(cancelled())
    assert seen == [False, True]
