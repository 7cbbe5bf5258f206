"""Training: both stages of the paper on Hugging Face accelerate."""

from .run import Plan, execute, plan_run, read_run, train
from .trainer import Stopped

__all__ = ["Plan", "Stopped", "execute", "plan_run", "read_run", "train"]
