"""The exponential moving average of the weights: what is validated, kept and shipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at update n."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one optimiser step into account."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in model.state_dict().items():
            if value.is_floating_point() and not name.endswith(("._u", "._v")):  # spectral norm's vectors are copied
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def load(self, average: dict[str, Tensor], updates: int) -> None:
        """Continue from saved averages."""
        self.average = {name: average[name].to(value.device) for name, value in self.average.items()}
        self.updates = updates
