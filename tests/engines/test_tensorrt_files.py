"""Engine files: which fit, which are refused and why; profiles; bfloat16; the LRU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lldiffusion.bundle import GRAPHS, Bundle, EngineKey
from lldiffusion.engines.backends.tensorrt_files import Shape, Target, choose_profile, fitting_engines, largest_tile
from lldiffusion.engines.backends.tensorrt_thread import Lru
from lldiffusion.engines.cuda import from_bfloat16, to_bfloat16
from lldiffusion.errors import LLDiffusionError
from support.toy import toy_bundle

HERE = Target("tensorrt", "11.1.0", "8.9")


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))
    return Bundle.open(toy_bundle(tmp_path / "toy"))


def add(
    bundle: Bundle,
    here: Target = HERE,
    precision: str = "fp32",
    gpu: str | None = None,
    options: tuple[str, ...] = (),
) -> None:
    for graph in GRAPHS:
        sha256 = bundle.onnx_sha256("fp32", graph)
        profiles = ("64x64:512x512:1024x1024",)
        key = EngineKey(graph, sha256, gpu or here.capability, here.flavour, here.version, precision, profiles, options)
        bundle.add_engine(key, b"engine")


def test_engines_that_fit(bundle: Bundle) -> None:
    add(bundle)
    add(bundle, replace(HERE, version="10.0"))
    found = fitting_engines(bundle, "fp32", HERE)
    assert set(found) == set(GRAPHS)
    assert all(engine.key.version == "11.1.0" for engine in found.values())


def test_engines_finished_on_the_gpu_fit_any(bundle: Bundle) -> None:
    rtx = Target("tensorrt-rtx", "1.7", "8.9")
    add(bundle, rtx, gpu="any")
    assert set(fitting_engines(bundle, "fp32", rtx)) == set(GRAPHS)


def test_no_engine_says_how_to_build_one(bundle: Bundle) -> None:
    with pytest.raises(LLDiffusionError, match=r"no tensorrt engine of its encoder.*lldiff build"):
        fitting_engines(bundle, "fp32", HERE)


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (replace(HERE, capability="9.0"), r"built for GPU of compute capability 8\.9, here 9\.0"),
        (replace(HERE, version="11.2.0"), r"built for version 11\.1\.0, here 11\.2\.0"),
        (replace(HERE, flavour="tensorrt-rtx"), "no tensorrt-rtx engine"),
    ],
)
def test_a_stale_engine_is_named(bundle: Bundle, here: Target, words: str) -> None:
    add(bundle)
    with pytest.raises(LLDiffusionError, match=f"{words}.*lldiff build"):
        fitting_engines(bundle, "fp32", here)


def test_compatible_engines_fit_more(bundle: Bundle) -> None:
    add(bundle, options=("hardware_compatible=True", "version_compatible=True"))
    assert set(fitting_engines(bundle, "fp32", Target("tensorrt", "12.0", "12.0"))) == set(GRAPHS)
    with pytest.raises(LLDiffusionError, match=r"compute capability 8\.9, here 7\.5"):
        fitting_engines(bundle, "fp32", replace(HERE, capability="7.5"))


def test_an_engine_of_other_weights_is_stale(bundle: Bundle, tmp_path: Path) -> None:
    add(bundle)
    other = Bundle.open(toy_bundle(tmp_path / "other", "fp16"))
    (other.folder / "engines").mkdir()
    for path in (bundle.folder / "engines").iterdir():
        (other.folder / "engines" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(LLDiffusionError, match="built for ONNX graph"):
        fitting_engines(other, "fp16", HERE)


def test_an_engine_from_elsewhere_is_not_loaded(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(bundle)
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "another machine"))
    with pytest.raises(LLDiffusionError, match=r"nor built on this machine.*lldiff build"):
        fitting_engines(bundle, "fp32", HERE)


PROFILES: list[tuple[Shape, Shape, Shape]] = [
    ((1, 3, 64, 64), (1, 3, 512, 512), (1, 3, 512, 512)),
    ((1, 3, 64, 64), (1, 3, 704, 1280), (1, 3, 736, 1280)),
    ((1, 3, 64, 64), (1, 3, 1088, 1920), (2, 3, 1088, 1920)),
]


@pytest.mark.parametrize(
    ("shape", "index"),
    [((1, 3, 512, 512), 0), ((1, 3, 64, 544), 1), ((1, 3, 1088, 1920), 2), ((2, 3, 64, 64), 2), ((1, 3, 768, 64), 2)],
)
def test_the_tightest_profile_is_chosen(shape: tuple[int, ...], index: int) -> None:
    assert choose_profile(PROFILES, shape) == index


@pytest.mark.parametrize("shape", [(1, 3, 1120, 1920), (1, 3, 32, 64), (3, 3, 64, 64)])
def test_a_size_that_no_profile_holds(shape: tuple[int, ...]) -> None:
    with pytest.raises(LLDiffusionError, match="1x64x64 to 1x512x512"):
        choose_profile(PROFILES, shape)


@pytest.mark.parametrize(
    ("size", "side"), [((1088, 1920), None), ((64, 64), None), ((1920, 1088), 1088), ((2160, 3840), 1088)]
)
def test_what_does_not_fit_is_tiled(size: tuple[int, int], side: int | None) -> None:
    assert largest_tile(PROFILES, *size) == side


def test_bfloat16_against_pytorch() -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 100
    oracle = torch.from_numpy(values).bfloat16()
    assert np.array_equal(to_bfloat16(values), oracle.view(torch.uint16).numpy())
    assert np.array_equal(from_bfloat16(to_bfloat16(values)), oracle.float().numpy())


def test_the_least_recently_used_value_is_closed() -> None:
    closed: list[str] = []
    cache: Lru[str] = Lru(2, closed.append)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda key=key: key)  # type: ignore[misc]
    assert closed == ["b"]
    assert "a" in cache
    assert len(cache) == 2
    cache.clear()
    assert sorted(closed) == ["a", "b", "c"]
