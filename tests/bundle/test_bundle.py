"""Bundles: what is written can be opened, and nothing else can (the ways a folder goes bad, one test each)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from lldiffusion.bundle import GRAPHS, SCHEMA, Bundle
from lldiffusion.config import load_config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.lock import exclusive
from support.bundles import graph_bytes, manifest, refused, write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))


def edit_manifest(folder: Path, **changes: object) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(table | changes))


# -- what is written can be opened


@pytest.mark.parametrize("name", ["bundle", "bundle.lldiff"])
def test_written_and_opened(tmp_path: Path, name: str) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / name))
    assert bundle.manifest.name == "tiny"
    assert bundle.config == load_config("tiny", ["model.level=none"])
    assert set(bundle.graphs("fp32")) == set(GRAPHS)
    onnx.checker.check_model(onnx.load(str(bundle.graphs("fp32")["denoiser"])))
    digest = hashlib.sha256(graph_bytes()).hexdigest()
    assert bundle.onnx_sha256("fp32", "encoder") == digest
    bundle.verify()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_zip_is_reproducible_and_unpacked_once(tmp_path: Path) -> None:
    one, two = write_bundle(tmp_path / "a.lldiff"), write_bundle(tmp_path / "b.lldiff")
    assert one.read_bytes() == two.read_bytes()
    first = Bundle.open(one)
    stamp = first.graphs("fp32")["encoder"].stat().st_ino
    assert Bundle.open(two).graphs("fp32")["encoder"].stat().st_ino == stamp


def test_a_tampered_unpacked_copy_is_replaced(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.lldiff")
    graph = Bundle.open(path).graphs("fp32")["encoder"]
    graph.write_bytes(b"x" * graph.stat().st_size)
    assert Bundle.open(path).graphs("fp32")["encoder"].read_bytes() == graph_bytes()


def test_hidden_files_of_a_file_manager_are_ignored(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")
    bundle = Bundle.open(folder)
    bundle.verify()
    assert ".DS_Store" not in bundle.manifest.files
    assert bundle.graphs("fp32")["encoder"].read_bytes() == graph_bytes()


def test_an_unknown_precision_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(LLDiffusionError, match="accepted are fp32"):
        Bundle.open(folder).graphs("fp61")


# -- writing is all or nothing


@pytest.mark.parametrize("name", ["bundle", "bundle.lldiff"])
def test_a_failed_write_leaves_nothing_and_harms_nothing(tmp_path: Path, name: str) -> None:
    path = write_bundle(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ZeroDivisionError), Bundle.write(path, overwrite=True) as draft:
        (draft.folder / "encoder.onnx").write_bytes(b"half" * (1 // 0))
    assert sorted(tmp_path.rglob("*")) == before
    Bundle.open(path)


def test_a_bundle_is_replaced_only_on_demand_and_nothing_else_ever(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="exists already"):
        write_bundle(folder)
    with Bundle.write(folder, overwrite=True) as draft:
        for graph in GRAPHS:
            (draft.folder / f"{graph}.onnx").write_bytes(graph_bytes())
        draft.manifest = replace(manifest(), name="second")
    assert Bundle.open(folder).manifest.name == "second"
    precious = tmp_path / "photos"
    precious.mkdir()
    (precious / "a.jpg").write_bytes(b"x")
    with pytest.raises(LLDiffusionError, match="not a bundle"), Bundle.write(precious, overwrite=True):
        pass


def test_a_manifest_that_could_not_be_opened_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match=r"encoder\.onnx"), Bundle.write(tmp_path / "b") as draft:
        draft.manifest = manifest()  # without its files
    assert not (tmp_path / "b").exists()


def test_two_builders_exclude_each_other(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "b"),
        pytest.raises(LLDiffusionError, match=f"process {os.getpid()}"),
        Bundle.write(tmp_path / "b"),
    ):
        pass


def test_the_lock_of_a_dead_builder_locks_nothing(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from lldiffusion.lock import exclusive
with exclusive(Path({str(tmp_path / "b")!r})):
    os._exit(1)  # as if killed
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / ".b.lock").is_file()
    write_bundle(tmp_path / "b")
    assert not (tmp_path / ".b.lock").exists()


# -- damaged and hostile folders


def test_a_missing_path_and_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "does not exist", ".lldiff")
    refused(tmp_path, "is not a bundle", "lldiff export")


def test_a_tampered_file_is_named(folder: Path) -> None:
    data = bytearray((folder / "encoder.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "encoder.onnx").write_bytes(data)
    refused(folder, "'encoder.onnx'", "SHA-256")


def test_a_truncated_file_is_named(folder: Path) -> None:
    with (folder / "denoiser.onnx").open("r+b") as file:
        file.truncate(10)
    refused(folder, "'denoiser.onnx'", "truncated", "10 bytes")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "color_map.onnx").unlink()
    refused(folder, "lacks 'color_map.onnx'")


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "evil.onnx").write_bytes(b"x")
    refused(folder, "'more/evil.onnx'", "does not list")


def test_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "encoder.onnx", tmp_path / "elsewhere.onnx")
    (folder / "encoder.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    refused(folder, "'encoder.onnx'", "link")


def test_a_newer_schema_says_upgrade(folder: Path) -> None:
    edit_manifest(folder, schema=SCHEMA + 1, lldiffusion="3.1")
    refused(folder, f"schema {SCHEMA + 1}", "3.1", "upgrade")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "1"}', '{"schema": 1}', "[" * 100_000, "\xff"])
def test_a_manifest_that_is_no_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    refused(folder, "manifest.json is damaged")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "c:\\x", "a\\b", "", "./a", "a//b", "manifest.json", "a\nb"]
)
def test_names_that_lead_out_are_refused(folder: Path, name: str) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    edit_manifest(folder, files=table["files"] | {name: {"sha256": "0" * 64, "bytes": 1}})
    refused(folder, "damaged", "not a path inside")


def test_names_that_differ_in_case_are_refused(folder: Path) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    edit_manifest(folder, files=table["files"] | {"Encoder.onnx": table["files"]["encoder.onnx"]})
    refused(folder, "upper and lower case")


@pytest.mark.parametrize(
    "changes",
    [
        {"graphs": {}},
        {"graphs": {"fp32": {"encoder": "encoder.onnx"}}},
        {"graphs": {"fp32": dict.fromkeys(GRAPHS, "other.onnx")}},
        {"graphs": [1]},
        {"files": {"encoder.onnx": {"sha256": "short", "bytes": 1}}},
        {"files": {"encoder.onnx": 3}},
        {"config": {"nonsense": 1}},
        {"inputs": 3},
        {"inputs": {"encoder.onnx": 3}},
        {"engines": [3]},
        {"engines": [[]]},
        {"engines": {"file": "a"}},
        {"engines": [{"file": "encoder.onnx"}]},
        {"engines": [{"file": "encoder.onnx", "key": {}}]},
        {"engines": [{"file": ["encoder.onnx"], "key": 1}]},
        {"tools": [1]},
        {"tools": {"torch": 2}},
        {"name": None},
        {"lldiffusion": []},
        {"size_multiple": 0},
        {"size_multiple": "32"},
        {"default_precision": ["fp32"]},
        {"schema": True},
        {"config": [1]},
        {"files": [[]]},
        {"files": {"encoder.onnx": {"sha256": "0" * 64, "bytes": True}}},
    ],
)
def test_a_manifest_with_a_wrong_part(folder: Path, changes: dict[str, object]) -> None:
    edit_manifest(folder, **changes)
    refused(folder, "manifest.json is damaged")
