"""What OpenVINO compiled is kept, found again, and never trusted when it is damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends import compiled as module
from support.toy import toy_bundle

pytest.importorskip("openvino")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


def enhanced(bundle: Path) -> np.ndarray:
    dark = np.random.default_rng(0).integers(0, 60, (48, 64, 3), np.uint8)
    with Enhancer.open(bundle, backend="openvino", device="cpu") as enhancer:
        return enhancer(dark)


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    from lldiffusion.engines.backends.openvino_cpu import OpenVinoEngine

    made: list[Path] = []
    before = OpenVinoEngine._make

    def make(self: OpenVinoEngine, path: Path, *more: Any) -> Any:
        made.append(path)
        return before(self, path, *more)

    monkeypatch.setattr(OpenVinoEngine, "_make", make)
    return made


def test_the_second_opening_compiles_nothing(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, made = toy_bundle(tmp_path / "toy"), compilations(monkeypatch)
    first = enhanced(bundle)
    assert len(made) == len(list(cache.glob("*.blob"))) > 2
    np.testing.assert_array_equal(enhanced(bundle), first)
    assert len(made) == len(list(cache.glob("*.blob")))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "folder"])
def test_a_damaged_file_is_compiled_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    first = enhanced(bundle)
    for blob in cache.glob("*.blob"):
        content = blob.read_bytes()
        blob.unlink()
        if damage == "folder":
            blob.mkdir()
        else:
            middle = len(content) // 2
            flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            blob.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b""}[damage])
    made = compilations(monkeypatch)
    np.testing.assert_array_equal(enhanced(bundle), first)
    assert len(made) == len(list(cache.glob("*.blob")))


def test_another_model_is_compiled_for_itself(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enhanced(toy_bundle(tmp_path / "toy"))
    count, made = len(list(cache.glob("*.blob"))), compilations(monkeypatch)
    enhanced(toy_bundle(tmp_path / "other", level="grid"))
    assert made and len(list(cache.glob("*.blob"))) == count + len(made)


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "file"))
    assert enhanced(toy_bundle(tmp_path / "toy")).shape == (48, 64, 3)


def test_the_oldest_make_room(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    enhanced(bundle)
    largest = max(blob.stat().st_size for blob in cache.glob("*.blob"))
    monkeypatch.setattr(module, "ROOM", 2 * largest)
    enhanced(toy_bundle(tmp_path / "other", level="grid"))
    assert 0 < sum(blob.stat().st_size for blob in cache.glob("*.blob")) <= 2 * largest
