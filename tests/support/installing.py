"""Programs run as a user runs them, and environments with nothing of this repository in sight."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that knows nothing of this environment; both outputs are shown when it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install_with_borrowed_dependencies(wheel: Path, folder: Path) -> tuple[Path, Path]:
    """Install a wheel in a new virtual environment in `folder`; returns its `bin` and its site-packages.

    The dependencies are this environment's.  A path in a .pth file is searched, but the .pth files in it are not read,
    so this environment's own (editable) lldiffusion stays out of sight.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=folder)
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(run(python, "-c", code, cwd=folder).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin", site
