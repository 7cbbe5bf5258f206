"""`lldiff inspect` on everything it knows, and on what it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lldiffusion.bundle import Bundle, EngineKey
from lldiffusion.cli import run
from lldiffusion.config import load_config
from support.toy import toy_bundle

KEY = EngineKey("denoiser", "a" * 64, "8.9", "tensorrt", "11.1.0", "fp16", ("64x64:608x416:1920x1088",))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON; the table is printed as well, and must hold every top-level key."""
    assert run(["inspect", str(path), "--json"]) == 0
    table: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert run(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert all(key in text for key in table)
    return table


@pytest.mark.parametrize("name", ["toy", "toy.lldiff"])
def test_a_bundle(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = inspected(toy_bundle(tmp_path / name), capsys)
    assert table["kind"] == "bundle"
    assert table["sampler"] == "dpm++, 5 steps"
    assert table["precisions"] == ["fp32"]
    assert len(table["files"]) == 3


def test_parity_is_shown_by_its_worst_and_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"precision": "fp16", "how": "onnxruntime", "graph": "denoiser", "max_error": 0.01}
    rows = [row | {"size": size, "psnr": psnr} for size, psnr in (("64x64", 80.0), ("96x64", 61.25), ("128x96", 70.0))]
    islands = {"denoiser.fp16.onnx": [{"node": f"n{i}", "operator": "Mul", "reason": "step"} for i in range(7)]}
    parity = {"rows": rows, "thresholds": {}, "notes": [], "islands": islands, "wrong_islands": {}, "passed": True}
    with Bundle.write(tmp_path / "b") as draft:
        source = Bundle.open(toy_bundle(tmp_path / "toy"))
        for name in source.manifest.files:
            (draft.folder / name).write_bytes((source.folder / name).read_bytes())
        (draft.folder / "parity.json").write_text(json.dumps(parity))
        draft.manifest = source.manifest
    assert inspected(tmp_path / "b", capsys)["parity"] == parity
    run(["inspect", str(tmp_path / "b")])
    text = capsys.readouterr().out
    assert "fp16 denoiser (onnxruntime)  dB 61.2, largest error 1.0e-02, at 96x64" in text
    assert "step 7" in text and "80.0" not in text and "n3" not in text


PARITY: dict[str, Any] = {"rows": [], "thresholds": {}, "notes": [], "islands": {}, "passed": True}


@pytest.mark.parametrize(
    "parity",
    [
        [],
        3,
        {},
        PARITY | {"rows": 3},
        PARITY | {"rows": [{"psnr": "high"}]},
        PARITY | {"islands": [1]},
        PARITY | {"islands": {"a": 1}},
        PARITY | {"notes": {"a": {"b": [1]}}},
    ],
)
def test_a_parity_of_another_shape_is_one_line(
    tmp_path: Path, parity: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with Bundle.write(tmp_path / "b") as draft:
        source = Bundle.open(toy_bundle(tmp_path / "toy"))
        for name in source.manifest.files:
            (draft.folder / name).write_bytes((source.folder / name).read_bytes())
        (draft.folder / "parity.json").write_text(json.dumps(parity))
        draft.manifest = source.manifest
    assert run(["inspect", str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err
    assert "parity.json' is damaged" in error and error.count("\n") == 1


def test_a_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = inspected(toy_bundle(tmp_path / "toy", "fp16") / "encoder.onnx", capsys)
    assert table["kind"] == "onnx"
    assert table["inputs"] == [{"name": "low", "shape": ["n", 3, "h", "w"], "dtype": "float"}]
    assert [port["dtype"] for port in table["outputs"]] == ["float16", "float16"]
    assert table["operators"] == {"AveragePool": 2, "Cast": 2}
    assert table["opset"] == {"ai.onnx": 21}


def test_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    path = Bundle.open(bundle).add_engine(KEY, b"engine", {"seconds": 3})
    table = inspected(path, capsys)
    assert (table["kind"], table["trusted"], table["gpu"], table["bytes"]) == ("engine", True, "8.9", 6)
    assert table["about"] == {"seconds": 3}
    assert inspected(bundle, capsys)["engines"][0]["file"] == path.name


def test_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"format": 1, "config": load_config("tiny").to_dict(), "notes": {"step": 7}}
    (tmp_path / "config.json").write_text(json.dumps(table))
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16)}, tmp_path / "model.safetensors")
    found = inspected(tmp_path, capsys)
    assert (found["kind"], found["model"], found["notes"]) == ("checkpoint", "tiny", {"step": 7})
    assert found["weights"]["model.safetensors"] == {"tensors": 2, "parameters": 17, "types": {"F32": 12, "F16": 5}}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("absent", None, "does not exist"),
        ("photo.jpg", b"x", "nothing lldiff knows"),
        ("a.onnx", b"\xff" * 9, "no readable ONNX"),
        ("a.engine", b"x", "lldiff build"),
        ("a.lldiff", b"x", "damaged or truncated"),
    ],
)
def test_bad_paths_are_one_line(
    tmp_path: Path, name: str, data: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    assert run(["inspect", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "words"), [("config.json", "config.json"), ("model.safetensors", "model.safetensors")]
)
def test_a_damaged_checkpoint(tmp_path: Path, file: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "config": load_config("tiny").to_dict()}))
    (tmp_path / file).write_text("{")
    assert run(["inspect", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_a_run_folder_names_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    for folder in (tmp_path, tmp_path / "model"):
        (folder / "config.json").write_text("{}")
    assert run(["inspect", str(tmp_path)]) == 2
    assert f"did you mean its model, '{tmp_path / 'model'}'" in capsys.readouterr().err


def test_a_shipped_model_by_its_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["inspect", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny"
