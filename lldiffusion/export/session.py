"""ONNX Runtime on this processor, for what an export asks of its own graphs."""

from __future__ import annotations

from typing import Any

from lldiffusion.engines.backends.onnx_runtime import import_onnxruntime


def cpu_session(model: bytes, purpose: str) -> Any:
    """An InferenceSession that prints errors alone; `purpose` is said where ONNX Runtime is missing."""
    onnxruntime = import_onnxruntime(purpose)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
