"""What the presets promise: their size, and that `fast` trains and exports like `tiny`, which it resembles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lldiffusion.config import load_config
from support.pictures import write_pairs

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from lldiffusion.model import LLDiffusion, load_model  # noqa: E402
from lldiffusion.training import train  # noqa: E402

# A multiply-add counts as two operations.  Both models' weights in float16 must fit in 16 MB.
PROMISES = {"tiny": (0.1e6, 2.0e6), "fast": (1.5e6, 5.2e6)}  # operations a pixel and step, parameters


@pytest.mark.parametrize("preset", PROMISES)
def test_a_preset_is_no_larger_than_it_says(preset: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = LLDiffusion(load_config(preset), with_degrader=False).eval()
    x_t, y = torch.randn(1, 3, 128, 128), torch.rand(1, 3, 128, 128) * 0.2 - 1
    with torch.no_grad():
        features, c = model.encoder(y), model.color_map(y)
        with FlopCounterMode(display=False) as counter:
            model.denoiser(x_t, y, c, 500, features, torch.zeros(1, 9, 8, 12))
    operations, parameters = PROMISES[preset]
    assert 0.5 * operations < counter.get_total_flops() / 128**2 <= operations
    assert 0.5 * parameters < sum(p.numel() for p in model.parameters()) <= parameters


def test_fast_is_designed_like_tiny() -> None:
    fast, tiny = load_config("fast").model, load_config("tiny").model
    width = {"channels", "multipliers", "blocks", "refine"}
    same = {name: getattr(tiny.denoiser, name) for name in vars(tiny.denoiser) if name not in width}
    assert replace(fast.denoiser, **same) == fast.denoiser
    assert (fast.tone, fast.level, fast.encoder.norm) == (tiny.tone, tiny.level, tiny.encoder.norm)
    assert (fast.size_multiple, load_config("fast").diffusion) == (32, load_config("tiny").diffusion)


def test_fast_trains(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    one = ["train.joint_steps=1", "train.warmup=0", "train.batch=1", "train.guess_steps=2"]
    data = [f'data.pairs=["{pairs}"]', "data.validation=0", "data.crop=32"]
    model = load_model(train(load_config("fast", [*one, *data]), tmp_path / "run", "joint"))
    torch.manual_seed(0)  # train.seed
    start = LLDiffusion(model.config).state_dict()
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, start[name])}
    assert moved == {"encoder", "denoiser", "degrader", "level"}


@pytest.mark.slow
def test_fast_exports(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from lldiffusion.bundle import Bundle
    from lldiffusion.export.exporter import export_bundle
    from lldiffusion.model.checkpoint import save_checkpoint

    torch.manual_seed(0)
    config = load_config("fast")
    save_checkpoint(tmp_path / "random", config, LLDiffusion(config, with_degrader=False).state_dict())
    export_bundle(tmp_path / "random", tmp_path / "bundle")  # fails where a graph does not answer like the model
    assert Bundle.open(tmp_path / "bundle").config.model == config.model
