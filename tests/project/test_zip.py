"""The repository as a zip download, where links are missing or are text files: it builds, installs and works."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from support.installing import install_with_borrowed_dependencies, run

LINKS = {"engines": "lldiffusion/engines", "export": "lldiffusion/export"}  # at the top of the tree
UNTRACKED = {".git", ".venv", "build", "dist", "demo", "__pycache__"}  # where there is no git to ask


def tracked(root: Path) -> Iterator[str]:
    """Names of the repository's files, links left out."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        names = [name for name in listed.stdout.split("\0") if name]
    else:  # unpacked from such a zip
        found = (path.relative_to(root) for path in root.rglob("*"))
        names = [path.as_posix() for path in found if not UNTRACKED & {*path.parts} and not path.match("*.egg-info/*")]
    return (name for name in names if (root / name).is_file() and not (root / name).is_symlink() and name not in LINKS)


KINDS = ("without links", "links as text")  # git on Windows writes a link as a file that holds its target


def build(root: Path, kind: str, folder: Path) -> Path:
    """The wheel of an unpacked download."""
    with zipfile.ZipFile(folder / "source.zip", "w") as archive:
        for name in tracked(root):
            archive.write(root / name, f"lldiffusion-main/{name}")
        for name, target in LINKS.items() if kind == "links as text" else ():
            archive.writestr(f"lldiffusion-main/{name}", target)
    with zipfile.ZipFile(folder / "source.zip") as archive:
        archive.extractall(folder)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder, folder / "lldiffusion-main", cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each kind of download."""
    return {kind: build(root, kind, tmp_path_factory.mktemp("zip")) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_wheel_holds_the_package_alone(kind: str, wheels: dict[str, Path], root: Path) -> None:
    """Every tracked file of the package, and no name beside it that another project might have: engines, tests ..."""
    names = {name for name in zipfile.ZipFile(wheels[kind]).namelist() if ".dist-info/" not in name}
    assert names == {name for name in tracked(root) if name.startswith("lldiffusion/")}
    assert {"lldiffusion/engines/__init__.py", "lldiffusion/export/__init__.py"} <= names
    assert not [name for name in names if "benchmarks" in name]


def test_both_wheels_are_the_same_so_that_one_is_tried(wheels: dict[str, Path]) -> None:
    one, other = (zipfile.ZipFile(wheels[kind]) for kind in KINDS)
    assert {name: one.read(name) for name in one.namelist()} == {name: other.read(name) for name in other.namelist()}


def test_it_enhances_a_picture_where_the_repository_is_not(wheels: dict[str, Path], tmp_path: Path) -> None:
    binaries, site = install_with_borrowed_dependencies(wheels["links as text"], tmp_path / "venv")
    places = run(
        binaries / "python",
        "-c",
        "import lldiffusion.engines as engines, lldiffusion.export as export; print(engines.__file__, export.__file__)",
        cwd=tmp_path,
    )
    assert [place for place in places.split() if not place.startswith(str(site))] == []
    Pillow.new("RGB", (64, 64), (9, 8, 7)).save(tmp_path / "dark.png")
    run(binaries / "lldiff", "enhance", "dark.png", "-o", "bright.png", cwd=tmp_path)
    with Pillow.open(tmp_path / "bright.png") as bright:
        assert bright.size == (64, 64) and np.asarray(bright).mean() > 2 * 8
