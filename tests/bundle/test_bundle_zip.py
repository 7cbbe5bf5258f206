"""`.lldiff` files: a zip is unpacked only when it holds exactly what its manifest says."""

from __future__ import annotations

import os
import stat
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from lldiffusion.bundle import Bundle
from lldiffusion.errors import LLDiffusionError
from support.bundles import graph_bytes, refused, write_bundle


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))


def rezip(path: Path, add: dict[str, bytes] | None = None, skip: str = "") -> Path:
    """Write the zip again, with entries added or left out."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if name != skip}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (entries | (add or {})).items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle.lldiff")


def test_a_file_that_is_no_zip(tmp_path: Path) -> None:
    (tmp_path / "a.lldiff").write_bytes(b"hello" * 100)
    refused(tmp_path / "a.lldiff", "damaged or truncated")


@pytest.mark.parametrize("keep", [10, 0.5, 0.9])
def test_a_truncated_zip(zipped: Path, keep: float) -> None:
    size = zipped.stat().st_size
    os.truncate(zipped, int(keep * size) if keep < 1 else int(keep))
    refused(zipped, "damaged or truncated")


def test_a_damaged_entry(zipped: Path) -> None:
    data = bytearray(zipped.read_bytes())
    data[data.index(b"weight")] ^= 1
    zipped.write_bytes(data)
    refused(zipped, "damaged")


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "c:\\evil"])
def test_a_zip_that_climbs_out(zipped: Path, tmp_path: Path, name: str) -> None:
    refused(rezip(zipped, {name: b"x"}), "outside the bundle")
    assert not list(tmp_path.rglob("evil"))


def test_a_zip_with_more_than_its_manifest(zipped: Path) -> None:
    refused(rezip(zipped, {"more.bin": b"x"}), "'more.bin'", "not in its manifest")


def test_a_zip_with_less_than_its_manifest(zipped: Path) -> None:
    refused(rezip(zipped, skip="denoiser.onnx"), "lacks 'denoiser.onnx'")


def test_a_zip_without_manifest(zipped: Path) -> None:
    refused(rezip(zipped, skip="manifest.json"), "not a bundle")


def test_a_link_in_a_zip(zipped: Path) -> None:
    entry = zipfile.ZipInfo("encoder.onnx")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    rezip(zipped, skip="encoder.onnx")
    with zipfile.ZipFile(zipped, "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    refused(zipped, "'encoder.onnx'", "link")


def test_the_same_name_twice(zipped: Path) -> None:
    with zipfile.ZipFile(zipped, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("encoder.onnx", graph_bytes())
    refused(zipped, "twice")


def test_a_zip_that_says_it_is_larger_than_its_manifest(zipped: Path) -> None:
    refused(rezip(zipped, {"encoder.onnx": bytes(1 << 20)}), "1048576 bytes", "manifest says")


def test_a_zip_that_unpacks_to_more_than_it_says(zipped: Path, tmp_path: Path) -> None:
    """Headers that lie: a bomb of 64 MiB behind the size that the manifest gives."""
    honest = len(graph_bytes())
    rezip(zipped, {"encoder.onnx": bytes(64 << 20)})
    data = zipped.read_bytes().replace((64 << 20).to_bytes(4, "little"), honest.to_bytes(4, "little"))
    zipped.write_bytes(data)
    refused(zipped, "encoder.onnx")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx"])
def test_other_ways_to_pack_are_refused(zipped: Path, name: str, method: int) -> None:
    with zipfile.ZipFile(zipped) as archive:
        data = archive.read(name)
    rezip(zipped, skip=name)
    with zipfile.ZipFile(zipped, "a", method) as archive:
        archive.writestr(name, data)
    refused(zipped, f"'{name}'", f"method {method}")
    whole = bytearray(zipped.read_bytes())
    at = whole.index(name.encode()) + len(name)
    whole[at + 8 : at + 20] = bytes(12)  # and its packed bytes are damaged
    zipped.write_bytes(whole)
    refused(zipped)


@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx"])
def test_an_encrypted_entry_is_refused(zipped: Path, name: str) -> None:
    data = bytearray(rezip(zipped).read_bytes())
    at = data.index(name.encode(), data.index(b"PK\x01\x02")) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    data[at + 8] |= 1
    zipped.write_bytes(data)
    refused(zipped, f"'{name}'", "encrypted")


def test_every_byte_of_the_directory_may_be_wrong(zipped: Path) -> None:
    whole = zipped.read_bytes()
    start = whole.index(b"PK\x01\x02")
    for at in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        zipped.write_bytes(damaged)
        with suppress(LLDiffusionError):
            Bundle.open(zipped)
