"""Writers killed at random moments: what stands under a final name is whole, and the next run clears the rest."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lldiffusion.bundle import Bundle
from lldiffusion.images import read_image
from support.bundles import write_bundle

WRITERS = {
    "enhance": """
from lldiffusion.images import Image, write_image
values = np.random.default_rng(0).random((300, 400, 3), np.float32)
write = lambda: [write_image(folder / name, Image(values)) for name in ("a.png", "a.bmp", "a.tif")]
""",
    "export": """
from support.bundles import graph_bytes, manifest
from lldiffusion.bundle import GRAPHS, Bundle
def write():
    for name in ("b", "b.lldiff"):
        with Bundle.write(folder / name, overwrite=True) as draft:
            for graph in GRAPHS:
                (draft.folder / f"{graph}.onnx").write_bytes(graph_bytes())
            draft.manifest = manifest()
""",
    "train": """
import torch
from lldiffusion.config import load_config
from lldiffusion.model.checkpoint import save_checkpoint
config, weights = load_config("tiny"), {"a": torch.ones(1 << 18)}
write = lambda: save_checkpoint(folder / "c", config, weights, extra={"state": weights}, overwrite=True)
""",
}
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[1])
{writer}
write()
print("written", flush=True)
while True:
    write()
"""


def check(folder: Path) -> int:
    """Every finished file opens; returns how many there are."""
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in found:
        if path.suffix in (".png", ".bmp", ".tif"):
            assert read_image(path).pixels.shape == (300, 400, 3)
        elif path.name == "c":
            from safetensors.numpy import load_file

            assert (path / "config.json").is_file()
            assert all(load_file(path / f"{name}.safetensors")["a"].all() for name in ("model", "state"))
        else:
            Bundle.open(path)
    return len(found)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
@pytest.mark.parametrize("verb", WRITERS)
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))
    folder, chance = tmp_path / "out", random.Random(verb)
    folder.mkdir()
    paths = os.pathsep.join((str(Path(__file__).parents[2]), str(Path(__file__).parents[1])))
    command = [sys.executable, "-c", PROGRAM.format(writer=WRITERS[verb]), str(folder)]
    kills = int(os.environ.get("LLDIFF_KILLS", "8"))
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths})
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        time.sleep(chance.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        check(folder)
    clear = "import sys; from pathlib import Path; from lldiffusion.atomic import write_text; "
    clear += "write_text(Path(sys.argv[1]) / '.last', '')"
    subprocess.run([sys.executable, "-c", clear, str(folder)], check=True)
    assert not [path.name for path in folder.iterdir() if path.name.endswith((".tmp", ".old", ".tmp.d"))]
    assert check(folder) == {"enhance": 3, "export": 2, "train": 1}[verb]
    write_bundle(tmp_path / "still-works")
