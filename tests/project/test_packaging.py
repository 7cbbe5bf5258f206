"""What is built holds every package and data file, and works where the repository is not."""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import lldiffusion
from lldiffusion.config import PRESETS
from support.installing import install_with_borrowed_dependencies, run


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, root, cwd=out)
    return out


@pytest.fixture(scope="module")
def expected(root: Path) -> set[str]:
    """Every file that belongs in the package, by its name there."""
    names = set()
    for folder, _, files in os.walk(root / "lldiffusion"):
        if Path(folder).name != "__pycache__":
            names |= {(Path(folder) / name).relative_to(root).as_posix() for name in files}
    return names


def test_wheel_holds_the_package_and_nothing_else(built: Path, expected: set[str]) -> None:
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    assert {f"lldiffusion/presets/{preset}.toml" for preset in PRESETS} <= names
    assert "lldiffusion/engines/__init__.py" in names


def test_sdist_holds_the_package(built: Path, expected: set[str]) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert expected <= names
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_wheel_carries_its_licence_and_version(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    info = f"lldiffusion-{lldiffusion.__version__}.dist-info"
    archive = zipfile.ZipFile(wheel)
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert "License-Expression: Apache-2.0" in archive.read(f"{info}/METADATA").decode()


def test_wheel_works_elsewhere(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    binaries, site = install_with_borrowed_dependencies(wheel, tmp_path / "venv")
    code = (
        "import lldiffusion, lldiffusion.engines as engines\n"
        "[lldiffusion.load_config(preset) for preset in ('tiny', 'paper', 'paper-v2')]\n"
        "print(lldiffusion.__file__, engines.__file__, sep='\\n')"
    )
    places = run(binaries / "python", "-c", code, cwd=tmp_path).split()
    assert [place for place in places if not place.startswith(str(site))] == []
    assert "enhance" in run(binaries / "lldiff", "--help", cwd=tmp_path)


def test_every_page_says_the_same_version(root: Path) -> None:
    assert f"\nversion: {lldiffusion.__version__}\n" in (root / "CITATION.cff").read_text()
    assert f"\n## [{lldiffusion.__version__}] - " in (root / "CHANGELOG.md").read_text()
