"""A very small model as checkpoint and bundle in one folder, for the tests of the benchmarks."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from lldiffusion.bundle import Bundle, Manifest, graphs_of
from lldiffusion.export.graphs import ports
from lldiffusion.hashing import sha256_of
from lldiffusion.lock import exclusive
from lldiffusion.model.checkpoint import save_checkpoint
from support.exported import WAIT, micro_config, micro_graphs, micro_model, source_key


def micro_source() -> Path:
    """The folder, made once for each state of the sources by the first process that asks; not to be changed."""
    folder = Path(tempfile.gettempdir()) / f"lldiffusion-bench-{source_key()}"
    micro_graphs()  # before the lock: whoever waits for it can trace meanwhile
    with exclusive(folder.with_name(f"{folder.name}.made"), wait=WAIT):
        if not folder.is_dir():
            _make(folder)
    return folder


def _make(folder: Path) -> None:
    with Bundle.write(folder) as draft, tempfile.TemporaryDirectory() as other:
        save_checkpoint(Path(other) / "micro", micro_config(), micro_model().state_dict())
        for path in [*(Path(other) / "micro").iterdir(), *micro_graphs().glob("*.onnx")]:
            shutil.copy(path, draft.folder)
        weights = sha256_of(draft.folder / "model.safetensors")
        files = {graph: f"{graph}.onnx" for graph in graphs_of(micro_config())}
        described = {file: ports(draft.folder / file) for file in files.values()}
        inputs, outputs = ({file: both[i] for file, both in described.items()} for i in (0, 1))
        config = json.loads((draft.folder / "config.json").read_text())["config"]
        draft.manifest = Manifest(
            name="micro",
            weights_sha256=weights,
            config=config,
            size_multiple=32,
            default_precision="fp32",
            graphs={"fp32": files},
            inputs=inputs,
            outputs=outputs,
        )
