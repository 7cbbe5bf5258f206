"""The bundle: what `lldiff export` writes and everything else opens (needs nothing but the standard library).

A folder, or one `.lldiff` zip of it, with `manifest.json`, the ONNX graphs, `parity.json` and, in `engines/`, a cache
of TensorRT engines.  A bundle is a download: every file is checked against the manifest before anything reads it.
"""

from .core import Bundle, Draft, finish
from .engine_key import EngineKey
from .manifest import EIGHT, GRAPHS, LEVEL, MANIFEST, PRECISIONS, SCHEMA, Manifest, graphs_of

__all__ = [
    "EIGHT",
    "GRAPHS",
    "LEVEL",
    "MANIFEST",
    "PRECISIONS",
    "SCHEMA",
    "Bundle",
    "Draft",
    "EngineKey",
    "Manifest",
    "finish",
    "graphs_of",
]
