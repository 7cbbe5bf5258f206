"""The engine cache: keys, and which engine files are trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lldiffusion.bundle import GRAPHS, Bundle, EngineKey
from support.bundles import graph_bytes, manifest, write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))


KEY = EngineKey("denoiser", "a" * 64, "8.9", "tensorrt", "11.1.0", "fp16", ("64x64:608x416:1920x1088",))


def test_an_engine_built_here_is_trusted(folder: Path) -> None:
    bundle = Bundle.open(folder)
    path = bundle.add_engine(KEY, b"engine", {"seconds": 3})
    assert [(e.path, e.key, e.trusted) for e in Bundle.open(folder).engines()] == [(path, KEY, True)]


def test_an_engine_from_elsewhere_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Bundle.open(folder).add_engine(KEY, b"engine")
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "another machine"))
    assert [e.trusted for e in Bundle.open(folder).engines()] == [False]


def test_a_changed_engine_is_not_trusted(folder: Path) -> None:
    path = Bundle.open(folder).add_engine(KEY, b"engine")
    path.write_bytes(b"enginE")
    assert [e.trusted for e in Bundle.open(folder).engines()] == [False]


@pytest.mark.parametrize("sidecar", [None, b"{", b"[]", b"{}", b'{"signature": "x", "key": {}}'])
def test_an_engine_without_a_good_sidecar_is_passed_over(folder: Path, sidecar: bytes | None) -> None:
    path = Bundle.open(folder).add_engine(KEY, b"engine")
    description = path.with_name(path.name + ".json")
    description.unlink() if sidecar is None else description.write_bytes(sidecar)
    assert Bundle.open(folder).engines() == []


def test_an_engine_in_the_manifest_is_trusted_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lldiffusion.bundle.engine_cache import write_engine

    with Bundle.write(tmp_path / "b.lldiff") as draft:
        for graph in GRAPHS:
            (draft.folder / f"{graph}.onnx").write_bytes(graph_bytes())
        write_engine(draft.folder, KEY, b"engine", {})
        draft.manifest = manifest()
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "another machine"))
    (engine,) = Bundle.open(tmp_path / "b.lldiff").engines()
    assert engine.trusted
    assert engine.key == KEY
    assert engine.path.read_bytes() == b"engine"


def test_the_key_names_what_differs() -> None:
    other = replace(KEY, gpu="9.0", version="11.2.0")
    assert KEY.differences(other) == ["GPU of compute capability 8.9, here 9.0", "version 11.1.0, here 11.2.0"]
    assert KEY.differences(KEY) == []
    assert len({key.file() for key in (KEY, other, replace(KEY, profiles=("a",)), replace(KEY, options=("b=1",)))}) == 4
    assert KEY.file().startswith("engines/sm89-tensorrt11.1.0-fp16-denoiser-")
