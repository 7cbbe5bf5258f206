"""TensorRT and TensorRT for RTX: the same Python interface under two names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flavour:
    """One of the two, and what installs it."""

    module: str  # its Python module
    extra: str  # of this package, which installs it
    install: str  # the command, for messages


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", "gpu", 'pip install "lldiffusion[gpu]"  on a machine with an NVIDIA GPU'),
    "tensorrt-rtx": Flavour("tensorrt_rtx", "rtx", 'pip install "lldiffusion[rtx]"'),
}


def make_logger(trt: Any) -> Any:
    """A logger that keeps the last error in `last`, for our messages, and prints nothing.  `trt`: the module."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()
            self.last = "it gives no reason"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = " ".join(message.split())[:300]

    return Logger()
