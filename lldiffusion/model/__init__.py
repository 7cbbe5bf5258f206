"""The network and its checkpoints."""

from .checkpoint import load_model, save_checkpoint
from .network import LLDiffusion, fold_spectral_norm

__all__ = ["LLDiffusion", "fold_spectral_norm", "load_model", "save_checkpoint"]
