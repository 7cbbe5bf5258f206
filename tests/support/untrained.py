"""Untrained networks whose every input matters: a fresh one does not look at x_t yet, and hardly at the timestep."""

from __future__ import annotations

import torch

from lldiffusion.model import LLDiffusion
from lldiffusion.model.plain import PlainBlock, PlainUNet


def see_all(model: LLDiffusion) -> LLDiffusion:
    """Gives the weights of noise and timestep PyTorch's usual random values; returns the model."""
    net = model.denoiser.net
    with torch.no_grad():
        if isinstance(net, PlainUNet):
            net.conv_in.reset_parameters()
        for block in net.modules():
            if isinstance(block, PlainBlock) and block.time is not None:
                block.time.reset_parameters()
    return model
