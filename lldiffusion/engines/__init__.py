"""The runtime: NumPy and an engine (PyTorch is imported only by the eager reference, when it is opened)."""

from .enhancer import DEFAULT_MODEL, Enhancer
from .pixels import NotFiniteError

__all__ = ["DEFAULT_MODEL", "Enhancer", "NotFiniteError"]
