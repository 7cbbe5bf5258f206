"""Training: it learns, stops, resumes bit for bit, survives NaN, and runs on two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lldiffusion.cli import run
from lldiffusion.config import Config, load_config
from lldiffusion.errors import LLDiffusionError
from support.interrupts import interrupt_at_step
from support.pictures import SMALL, write_pairs

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402

from lldiffusion.model import LLDiffusion, load_model  # noqa: E402
from lldiffusion.model.checkpoint import read_info, save_checkpoint  # noqa: E402
from lldiffusion.model.plain import PlainBlock  # noqa: E402
from lldiffusion.training import read_run, train  # noqa: E402
from lldiffusion.training.ema import EMA  # noqa: E402
from lldiffusion.training.losses import Objective  # noqa: E402
from lldiffusion.training.rate import learning_rate  # noqa: E402
from lldiffusion.training.state import checkpoints  # noqa: E402
from lldiffusion.training.trainer import Trainer  # noqa: E402

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


def _config(pairs: Path, *overrides: str) -> Config:
    lengths = ["train.joint_steps=4", "train.enhance_steps=2", "train.save_every=2", "train.validate_every=100"]
    lengths += ["train.warmup=0"]
    return load_config("tiny", [*SMALL, f'data.pairs=["{pairs}"]', *lengths, *overrides])


def _weights(folder: Path) -> dict[str, Any]:
    return load_file(str(folder / "model.safetensors")) | load_file(str(folder / "training_state.safetensors"))


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_both_stages_in_order(pairs: Path, tmp_path: Path) -> None:
    model = train(_config(pairs), tmp_path / "run")
    assert model == tmp_path / "run" / "model"
    assert load_model(model).degrader is None  # dropped for stage 2
    joint, enhance = (load_model(checkpoints(tmp_path / "run" / stage)[-1]) for stage in ("joint", "enhance"))
    assert joint.degrader is not None
    for name, value in joint.encoder.state_dict().items():
        assert torch.equal(value, enhance.encoder.state_dict()[name]), "stage 2 must not touch the encoder"
    assert not torch.equal(joint.denoiser.net.conv_in.weight, enhance.denoiser.net.conv_in.weight)
    notes = json.loads((model / "config.json").read_text())["notes"]
    assert (notes["stage"], notes["step"]) == ("enhance", 2)
    assert list((tmp_path / "run" / "tensorboard").iterdir())


@pytest.mark.parametrize("extra", [[], ["train.accumulate=2", "data.crops_per_image=2", "train.workers=1"]])
def test_resuming_is_bit_identical(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: list[str]
) -> None:
    train(_config(pairs, *extra, "train.schedule=cosine"), tmp_path / "straight", "joint")
    half = _config(pairs, *extra, "train.joint_steps=2", "train.schedule=constant")
    whole = _config(pairs, *extra, "train.schedule=constant")
    train(half, tmp_path / "resumed", "joint")
    advance, taken = Trainer._advance, []
    monkeypatch.setattr(Trainer, "_advance", lambda *args: taken.append(1) or advance(*args))  # type: ignore[func-returns-value]
    train(whole, tmp_path / "resumed", "joint")
    assert len(taken) == 2, "a run that starts over ends at the same weights"
    train(whole, tmp_path / "constant", "joint")
    a, b = (_weights(checkpoints(tmp_path / run / "joint")[-1]) for run in ("resumed", "constant"))
    assert _equal(a, b)
    assert not _equal(a, _weights(checkpoints(tmp_path / "straight" / "joint")[-1]))  # the schedule does matter


def test_the_loss_falls(pairs: Path) -> None:
    config = _config(pairs, "model.level=none")
    torch.manual_seed(0)
    objective = Objective(LLDiffusion(config), config, "joint")
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    normal = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    low, noise = (normal + 1) * 0.05 - 1, torch.randn(2, 3, 64, 64, generator=generator)
    losses = []
    for _ in range(20):
        loss = sum(objective(low, normal, noise, torch.tensor([300, 700])).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]


def test_paper_losses_are_the_papers(pairs: Path) -> None:
    config = load_config("paper")
    objective = Objective(LLDiffusion(config).eval(), config, "joint")
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        terms = objective(x, x, torch.randn(1, 3, 64, 64), torch.tensor([500]))
    assert set(terms) == {"prediction", "degradation"}


def test_stage_one_may_start_from_a_finished_model(pairs: Path, tmp_path: Path) -> None:
    finished = train(_config(pairs, "train.joint_steps=1", "train.enhance_steps=1"), tmp_path / "one")
    again = train(_config(pairs, "train.joint_steps=1"), tmp_path / "two", "joint", start=str(finished))
    assert load_model(again).degrader is not None
    with pytest.raises(LLDiffusionError, match=r"another network .*\(model\.denoiser differ\)"):
        train(_config(pairs, "model.denoiser.channels=32"), tmp_path / "three", "joint", start=str(finished))
    assert not (tmp_path / "three").exists()


def test_bfloat16_trains(pairs: Path, tmp_path: Path) -> None:
    config = _config(pairs, "train.precision=bf16", "train.joint_steps=2", "train.clip_grad=1.0")
    weights = load_model(train(config, tmp_path / "run", "joint")).state_dict()
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())


def test_image_losses_need_an_image(pairs: Path) -> None:
    config = load_config("paper", ["loss.ssim=1.0"])
    with pytest.raises(LLDiffusionError, match="prediction x0 or v"):
        Objective(LLDiffusion(config, with_degrader=False), config, "joint")


def test_nan_stops_with_the_last_good_checkpoint(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Objective.forward
    calls = iter(range(100))

    def poisoned(self: Objective, *args: Any) -> dict[str, Any]:
        terms = forward(self, *args)
        return terms if next(calls) < 2 else {n: v * float("nan") for n, v in terms.items()}

    monkeypatch.setattr(Objective, "forward", poisoned)
    with pytest.raises(LLDiffusionError, match=r"became nan at step 3 .*step-0000002"):
        train(_config(pairs), tmp_path / "run", "joint")
    assert load_model(checkpoints(tmp_path / "run" / "joint")[-1])


def test_ctrl_c_saves_and_says_how_to_resume(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [f"--set={o}" for o in SMALL] + [f'--set=data.pairs=["{pairs}"]', "--set=train.joint_steps=100000"]
    folder = tmp_path / "run"

    interrupt_at_step(3, monkeypatch)
    assert run(["train", "tiny", "-o", str(folder), "--stage", "joint", *overrides]) == 130
    assert f"--resume {folder} --stage joint" in capsys.readouterr().err
    assert [saved.name for saved in checkpoints(folder / "joint")] == ["step-0000003"]


def test_ema_is_what_it_says() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    ema = EMA(model, decay=0.5)
    torch.nn.init.constant_(model.weight, 2.0)
    expected = 1.0
    for n in range(20):
        ema.update(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * 2.0
    assert ema.average["weight"].item() == pytest.approx(expected)


def test_a_dead_trunk_is_said(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scores do not show it: what passes at full resolution hides it."""
    config = _config(pairs, "train.validate_every=1", "train.joint_steps=1")
    model = LLDiffusion(config)
    save_checkpoint(tmp_path / "alive", config, model.state_dict())
    train(config, tmp_path / "a", "joint", str(tmp_path / "alive"))
    assert "idle" not in capsys.readouterr().err
    for block in model.denoiser.modules():
        if isinstance(block, PlainBlock):
            torch.nn.init.constant_(block.conv1.bias, -1e3)
    save_checkpoint(tmp_path / "dead", config, model.state_dict())
    train(config, tmp_path / "b", "joint", str(tmp_path / "dead"))
    assert "100% of the denoiser's channels are idle" in capsys.readouterr().err


def test_the_timesteps_way_into_the_blocks_learns_slowly(pairs: Path, tmp_path: Path) -> None:
    config = _config(pairs, "train.joint_steps=1", "train.lr=0.01")
    model = LLDiffusion(config)
    save_checkpoint(tmp_path / "start", config, model.state_dict())
    train(config, tmp_path / "run", "joint", str(tmp_path / "start"))
    state = load_file(str(checkpoints(tmp_path / "run" / "joint")[-1] / "training_state.safetensors"))
    moved = {name: float((value - state[f"weights.{name}"]).abs().max()) for name, value in model.state_dict().items()}
    block = "denoiser.net.middle.0"
    assert moved[f"{block}.conv1.weight"] == pytest.approx(0.01, rel=0.05)  # Adam's first step
    assert 0 < moved[f"{block}.time.weight"] < 0.01 / 20


def test_learning_rates() -> None:
    lengths = ["train.joint_steps=100", "train.warmup=10", "train.lr=1.0"]
    config = load_config("tiny", [*lengths, "train.schedule=cosine"]).train
    rates = [learning_rate(config, "joint", step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert rates[99] < 0.02
    lengths += ["train.enhance_steps=100", "train.enhance_lr=1.0", "train.schedule=cooldown"]
    cooldown = load_config("tiny", lengths).train
    assert learning_rate(cooldown, "joint", 99) == 1.0 and learning_rate(cooldown, "enhance", 99) < 0.02
    steps = load_config("paper", ["train.milestones=[2, 4]", "train.lr=1.0"]).train
    assert [learning_rate(steps, "joint", step) for step in range(5)] == [1, 1, 0.5, 0.5, 0.25]


def test_dry_run_touches_nothing(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "tiny", "--dry-run", "-o", str(tmp_path / "run"), f'--set=data.pairs=["{pairs}"]']
    assert run([*arguments, "--set=data.validation=1"]) == 0
    printed = capsys.readouterr().out
    assert '"joint_steps"' in printed
    assert "2 pairs" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "no configuration given"),
        (["train", "tiny"], "nothing to train on"),
        (["train", "tiny", "--stage", "jiont"], "did you mean 'joint'"),
        (["train", "--resume", "no-such-run"], "no config.json"),
        (["train", "tiny", "--set", "train.lrr=1"], "did you mean 'lr'"),
        (["train", "tiny", "--set", 'data.pairs=["/no/such/folder"]'], "/no/such/folder"),
        (["train", "tiny", "--stage", "enhance", "--set", 'data.pairs=["x"]'], "--init"),
    ],
)
def test_mistakes(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_a_second_run_in_the_same_folder_is_refused(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert run(["train", "tiny", "-o", str(tmp_path), f'--set=data.pairs=["{pairs}"]']) == 2


def test_what_is_set_when_a_run_goes_on_is_obeyed_or_refused(pairs: Path, tmp_path: Path) -> None:
    config, folder = _config(pairs, "train.joint_steps=1", "train.enhance_steps=1"), tmp_path / "run"
    train(config, folder, "joint")
    with pytest.raises(LLDiffusionError, match=r"--set model\.\* cannot be changed while"):
        read_run(folder, ["model.denoiser.channels=24"])
    with pytest.raises(LLDiffusionError, match=r"--set diffusion\.\* cannot be changed while"):
        read_run(folder, ["diffusion.timesteps=500"])
    changed = read_run(folder, ["sampling.steps=3", "train.joint_steps=2"])
    model = train(changed, folder, "joint")
    assert read_info(model).config.sampling.steps == 3
    assert [path.name for path in checkpoints(folder / "joint")][-1].endswith("2")
    again = train(read_run(folder, ["sampling.steps=4"]), folder, "joint")  # nothing is left to train
    assert read_info(again).config.sampling.steps == 4


TORCHRUN = ("torch.distributed.run", "--nproc-per-node=2", "--master-port=29517", "-m", "lldiffusion")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("program", [("support.two_processes",), pytest.param(TORCHRUN, marks=pytest.mark.slow)])
def test_two_processes(program: tuple[str, ...], pairs: Path, tmp_path: Path) -> None:
    """On the CPU, forked or by torchrun: one checkpoint, and the weights of both processes agree with it."""
    overrides = [f"--set={o}" for o in [*SMALL, "train.joint_steps=2", f'data.pairs=["{pairs}"]']]
    command = [sys.executable, "-m", *program, "train", "tiny", "-o", str(tmp_path / "run"), "--stage", "joint"]
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    done = subprocess.run([*command, *overrides], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("use it:") == 1
    assert len(checkpoints(tmp_path / "run" / "joint")) == 1
    assert load_model(tmp_path / "run" / "model")


def test_a_degrader_that_does_not_fit_leaves_no_folder(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match=r"model\.degrader: feature 1"):
        train(_config(pairs, "model.degrader.multipliers=[1]"), tmp_path / "run", "joint")
    assert not (tmp_path / "run").exists()
