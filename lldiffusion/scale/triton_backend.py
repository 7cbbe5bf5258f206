"""What Triton's Python backend calls.  https://github.com/triton-inference-server/python_backend

Tensors go in and out by DLPack: Triton's own NumPy functions, built for NumPy 1, return empty pictures under NumPy 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError

from .triton_repository import EXPOSURE, PICTURE


class TritonPythonModel:
    """One instance of the model; Triton calls its methods by name, one call at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle beside model.py, on the device that Triton chose."""
        bundle = Path(args["model_repository"]) / args["model_version"] / "bundle"
        gpu = args["model_instance_kind"] == "GPU"
        self._enhancer = Enhancer.open(bundle, device=f"cuda:{args['model_instance_device_id']}" if gpu else "cpu")

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response for each request: the picture, or one line."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Let go of the engine."""
        self._enhancer.close()

    def _answer(self, request: Any) -> Any:
        import triton_python_backend_utils as triton  # Triton brings it

        try:
            picture = np.from_dlpack(triton.get_input_tensor_by_name(request, PICTURE))
            exposure = triton.get_input_tensor_by_name(request, EXPOSURE)
            stops = 0.0 if exposure is None else float(np.from_dlpack(exposure).ravel()[0])
            bright = np.ascontiguousarray(self._enhancer(picture, exposure=stops))
        except LLDiffusionError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse([triton.Tensor.from_dlpack(PICTURE, bright)])
