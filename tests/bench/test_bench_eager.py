"""The PyTorch peers give the pictures of the eager reference, each in its own way."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from lldiffusion.bench.eager import AuthorsEngine, CompiledEngine, HalfEngine, PlainEngine
from lldiffusion.bench.quality import fidelity
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.torch_eager import TorchEngine
from support.exported import micro_model

PICTURE = np.random.default_rng(0).random((64, 96, 3), np.float32) * 0.1


def picture(kind: Any, norm: str = "pixel") -> tuple[Any, Any]:
    """(what an engine makes of the picture, the engine); on a model of its own, since engines change theirs."""
    model = copy.deepcopy(micro_model(norm))
    engine = kind(model)
    return Enhancer(engine, model.config)(PICTURE), engine


@pytest.mark.parametrize("norm", ["pixel", "group"])
@pytest.mark.parametrize(("kind", "enough"), [(PlainEngine, 90.0), (AuthorsEngine, 90.0), (HalfEngine, 35.0)])
def test_peers_answer_like_the_reference(kind: Any, enough: float, norm: str) -> None:
    wanted, _ = picture(TorchEngine, norm)
    given, engine = picture(kind, norm)
    assert fidelity(given, wanted)[0] > enough
    assert (engine.info()["precision"] == "fp16") == (kind is HalfEngine)


def test_the_authors_way_encodes_at_every_step_and_the_others_once() -> None:
    for kind, calls in ((AuthorsEngine, 3), (PlainEngine, 1)):
        model, seen = copy.deepcopy(micro_model()), list[int]()
        model.encoder.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        Enhancer(kind(model), model.config)(PICTURE)  # three steps
        assert len(seen) == calls


def test_layouts_are_what_they_are_called() -> None:
    weights = {kind: picture(kind)[1]._model.denoiser.net.conv_in.weight for kind in (PlainEngine, TorchEngine)}
    assert weights[PlainEngine].is_contiguous()
    assert weights[TorchEngine].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiled_answers_like_the_reference_and_is_compiled_once() -> None:
    wanted, _ = picture(TorchEngine)
    torch._dynamo.reset()
    given, _ = picture(CompiledEngine)
    assert fidelity(given, wanted)[0] > 90
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # the timestep is no constant
