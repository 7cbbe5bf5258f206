"""A static page that brightens photographs in the visitor's browser: a model, four small files, ONNX Runtime Web.

Any web server will do, and none of its programs are needed; opened from a disk (file:), browsers refuse the worker.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

from lldiffusion.atomic import new_path
from lldiffusion.bundle.checkpoint_record import read_record
from lldiffusion.bundle.find import find_model
from lldiffusion.config import ParityConfig
from lldiffusion.errors import LLDiffusionError

from .parity import Report
from .single import Progress, SingleSettings, export_single

PAGE = ("index.html", "page.css", "page.js", "worker.js")
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
VERSION = "1.30.0"  # of onnxruntime-web that the page was tried with
MODEL = "model.onnx"


def check_web(model: str | Path, out: Path, runtime: Path, overwrite: bool) -> None:
    """Raise LLDiffusionError for every mistake that can be seen before the work begins."""
    lacking = [name for name in RUNTIME if not (runtime / name).is_file()]
    if lacking:
        raise LLDiffusionError(
            f"'{runtime}' has no {lacking[0]}: give the folder node_modules/onnxruntime-web/dist that  "
            f"npm install onnxruntime-web@{VERSION}  makes"
        )
    config = read_record(find_model(model) / "config.json").config
    if config.get("model", {}).get("level", "none") == "none":
        raise LLDiffusionError(f"model '{model}' has no level, which the page's tiles share: it takes models like tiny")
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (overwrite and (out / MODEL).is_file()))):
        raise LLDiffusionError(f"'{out}' exists already: remove it, name another folder, or allow overwriting (-y)")


def export_web(
    model: str | Path,
    out: str | Path,
    runtime: str | Path,
    *,
    settings: SingleSettings,
    thresholds: ParityConfig | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Report | None:
    """Write the page of a checkpoint folder or shipped model; returns what was measured of its graph.

    Args:
        runtime: the folder `dist` of the npm package onnxruntime-web; three files of it are copied.
        settings: of the graph; its layout is the page's.
    Raises LLDiffusionError as `export_single` does, for a folder without the runtime, and for a model without a level.
    """
    target, source = Path(out), Path(runtime)
    check_web(model, target, source, settings.overwrite)
    with new_path(target) as folder:
        (folder / "runtime").mkdir(parents=True)
        for name in RUNTIME:
            shutil.copyfile(source / name, folder / "runtime" / name)
        for name in PAGE:
            (folder / name).write_bytes((resources.files("lldiffusion.export") / "page" / name).read_bytes())
        graph = replace(settings, layout="nchw-float", explicit=True, overwrite=False)
        return export_single(model, folder / MODEL, settings=graph, thresholds=thresholds, progress=progress)
