"""A model repository for NVIDIA's Triton: its Python backend calls `Enhancer`, for pictures of any size.

REPOSITORY/lldiffusion/config.pbtxt      inputs, outputs, how many instances
REPOSITORY/lldiffusion/1/model.py        hands over to `scale.triton_backend`
REPOSITORY/lldiffusion/1/bundle/         what is run
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lldiffusion.atomic import new_path
from lldiffusion.bundle import Bundle
from lldiffusion.errors import LLDiffusionError

NAME = "lldiffusion"
PICTURE, EXPOSURE = "PICTURE", "EXPOSURE"
CONFIG = f"""\
name: "{NAME}"
backend: "python"
max_batch_size: 0
input [
  {{ name: "{PICTURE}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }},
  {{ name: "{EXPOSURE}" data_type: TYPE_FP32 dims: [ 1 ] optional: true }}
]
output [
  {{ name: "{PICTURE}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }}
]
instance_group [ {{ kind: KIND_AUTO count: 1 }} ]
model_warmup [
  {{
    name: "small"
    batch_size: 0
    inputs {{ key: "{PICTURE}" value {{ data_type: TYPE_UINT8 dims: [ 64, 64, 3 ] zero_data: true }} }}
  }}
]
"""
MODEL = '''\
"""Triton's Python backend loads this file; the code is in the package, which has to be installed where Triton runs."""

from lldiffusion.scale.triton_backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_repository(bundle: Path, repository: Path, overwrite: bool = False) -> Path:
    """Write the model of a bundle into a repository, which may hold others; returns the model's folder.

    Raises LLDiffusionError for what is no bundle, and for a model that is there already unless it may be replaced.
    """
    target, opened = repository / NAME, Bundle.open(bundle)
    if target.exists() and not overwrite:
        raise LLDiffusionError(f"already there: {target}; replace with -y, or name another repository")
    repository.mkdir(parents=True, exist_ok=True)
    with new_path(target) as temporary:
        shutil.copytree(opened.folder, temporary / "1" / "bundle")
        (temporary / "1" / "model.py").write_text(MODEL, encoding="utf-8")
        (temporary / "config.pbtxt").write_text(CONFIG, encoding="utf-8")
    return target
