"""Distillation: the teacher's path is the engine's, students come closer to it, runs resume, mistakes are named."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import SMALL, dark, photograph, write_pairs

from lldiffusion.cli import run
from lldiffusion.config import Config, load_config
from lldiffusion.errors import LLDiffusionError

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from lldiffusion.engines import Enhancer  # noqa: E402
from lldiffusion.engines.backends.torch_eager import TorchEngine  # noqa: E402
from lldiffusion.engines.loop import sample  # noqa: E402
from lldiffusion.engines.sampler import plan, plan_steps  # noqa: E402
from lldiffusion.engines.schedule import make_schedule  # noqa: E402
from lldiffusion.model import LLDiffusion, load_model  # noqa: E402
from lldiffusion.model.blocks import ResBlock  # noqa: E402
from lldiffusion.model.checkpoint import read_info, save_checkpoint  # noqa: E402
from lldiffusion.training.distill import DistillObjective, Paths, Recipe  # noqa: E402
from lldiffusion.training.distill_run import distill, plan_distillation, plan_resumed  # noqa: E402
from lldiffusion.training.state import checkpoints  # noqa: E402
from lldiffusion.training.trainer import Trainer  # noqa: E402

# Two levels and few channels: only the arithmetic around the network is tested here.
MICRO = [
    *SMALL,
    "model.encoder.channels=[8,8]",
    "model.encoder.residual_blocks=1",
    "model.encoder.ladder=[16]",
    "model.encoder.ladder_scales=[2]",
    "model.denoiser.multipliers=[1,2]",
    "model.denoiser.attention_down=[]",
    "model.denoiser.attention_up=[]",
    "model.degrader.multipliers=[1,2]",
    "data.crop=32",
]
EPS = ["diffusion.prediction=eps", "diffusion.zero_terminal_snr=false", "model.denoiser.gain=false"]
EPS += ["model.denoiser.polish=0", "loss.l1=0.0", "loss.ssim=0.0", "loss.brightness=0.0", "sampling.clip=false"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs", height=64, width=64)


def _model(*overrides: str) -> LLDiffusion:
    torch.manual_seed(0)
    return LLDiffusion(load_config("tiny", [*MICRO, *overrides]), with_degrader=False).eval().requires_grad_(False)


def _teacher(folder: Path, *overrides: str) -> str:
    model = _model(*overrides)
    save_checkpoint(folder / "teacher", model.config, model.state_dict())
    return str(folder / "teacher")


def _timely_teacher(folder: Path) -> str:
    """One whose answer depends on t above all: few and many steps then end far apart, in a way that is soon learnt."""
    model = _model("model.level=false")
    model.denoiser.net.conv_in.weight[:, :12] *= 0.05  # x_t, four pixels of three channels
    for block in model.denoiser.net.modules():
        if isinstance(block, ResBlock) and block.time is not None:
            block.time.weight *= 20
    save_checkpoint(folder / "teacher", model.config, model.state_dict())
    return str(folder / "teacher")


def _settings(pairs: Path, *overrides: str) -> list[str]:
    run = [f'data.pairs=["{pairs}"]', "train.warmup=0", "train.save_every=2", "train.validate_every=1000"]
    return [*run, "train.enhance_steps=2", "train.schedule=constant", *overrides]


def _weights(folder: Path) -> dict[str, Any]:
    return load_file(str(folder / "model.safetensors"))


def _images(count: int = 2) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(1)
    normal = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    return (normal + 1) * 0.05 - 1, normal, torch.randn(count, 3, 32, 32, generator=generator)


@pytest.mark.parametrize("kind", [[], EPS, ["sampling.spacing=leading"], ["diffusion.prediction=v", *EPS[2:]]])
def test_the_teachers_path_is_the_engines_loop(kind: list[str]) -> None:
    model = _model("model.level=false", *kind)
    low, normal, noise = _images()
    sampling = replace(model.config.sampling, steps=8)
    steps = plan_steps(replace(model.config, sampling=sampling))
    expected = sample(TorchEngine(model), low.numpy(), steps, noise.numpy())
    paths = Paths(model, Recipe().paths(model.config))
    ours = paths.walk(noise, low, normal, torch.zeros(2, dtype=torch.int64))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_starts_are_where_sampling_goes_on() -> None:
    assert Recipe(steps=1).starts(1000) == [999]
    assert Recipe(steps=2).starts(1000) == [499, 999]
    assert Recipe(steps=4).starts(1000) == [249, 499, 749, 999]
    assert Recipe(steps=2, method="progressive").starts(1000) == [499, 999]
    assert Recipe(steps=2, method="progressive").paths(load_config("tiny"))[1] == [499, 374, 249, 124, -1]


class _Says(nn.Module):
    """A denoiser that says what it is told, and remembers where it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answer, self.seen = nn.Parameter(torch.zeros(())), list[Any]()

    def forward(self, x: Any, y: Any, c: Any, t: Any, features: Any, exposure: float = 0.0) -> Any:
        self.seen.append((x, t))
        return self.answer.expand_as(x)


def _asked(recipe: Recipe, t: list[int]) -> tuple[DistillObjective, dict[str, Any], Any, Any]:
    """The objective, its terms for a student that says 0 everywhere, and what the student saw."""
    student, teacher = _model("model.level=false"), _model("model.level=false")
    says = _Says()
    student.denoiser = says  # type: ignore[assignment]
    objective = DistillObjective(student, student.config, teacher if recipe.taught else None, recipe)
    terms = objective(*_images(len(t)), torch.tensor(t))
    return objective, terms, *says.seen[0]


def test_a_trajectory_student_is_asked_for_the_end_of_the_path() -> None:
    objective, terms, x_t, t = _asked(Recipe(steps=2, truth=0.0), [0, 999])
    assert t.tolist() == [499, 999]  # the drawn t only chooses
    low, _, noise = _images()
    end = torch.from_numpy(
        sample(
            TorchEngine(_model("model.level=false")),
            low.numpy(),
            plan_steps(load_config("tiny", [*MICRO, "model.level=false", "sampling.steps=8"])),
            noise.numpy(),
        )
    )
    alpha = make_schedule(objective.model.config.diffusion).alpha_bar[499] ** 0.5
    torch.testing.assert_close(x_t[0], (alpha * end + (1 - alpha**2) ** 0.5 * noise)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x_t[1], noise[1])
    assert set(terms) == {"teacher"}
    assert terms["teacher"].item() == pytest.approx(float(end.square().mean()), rel=1e-3)


def test_a_progressive_student_lands_where_the_teacher_does() -> None:
    """One step of the student with the target as x0, by the engine's own numbers, is two of the teacher."""
    recipe = Recipe(steps=2, method="progressive", teacher_steps=4)
    objective, _, x_t, _ = _asked(recipe, [999, 0])
    low, normal, noise = _images()
    place = torch.tensor([1, 0])
    seen, target = objective._goal(low, normal, noise, place)
    assert torch.equal(seen, x_t)
    config = objective.model.config
    schedule = make_schedule(config.diffusion)
    coarse = plan(schedule, replace(config.sampling, steps=2))
    fine = plan(schedule, replace(config.sampling, steps=4))
    for i, whole in enumerate(coarse):
        lands = whole.a * seen[i] + whole.b * target[i]
        halves = fine[2 * i : 2 * i + 2]
        expected = sample(
            TorchEngine(_model("model.level=false")), low[i : i + 1].numpy(), halves, seen[i : i + 1].numpy()
        )
        np.testing.assert_allclose(lands.numpy(), expected[0], atol=2e-4)


def test_regression_asks_no_teacher_and_truth_adds_its_terms() -> None:
    objective, terms, x_t, t = _asked(Recipe(method="regression"), [5, 10])
    _, normal, noise = _images()
    assert objective.paths is None
    assert t.tolist() == [999, 999]
    assert torch.allclose(x_t, noise, atol=1e-6)
    assert terms["prediction"].item() == pytest.approx(float(normal.square().mean()), rel=1e-5)
    _, half, _, _ = _asked(Recipe(truth=0.5), [5, 10])
    _, whole, _, _ = _asked(Recipe(truth=1.0), [5, 10])
    assert set(half) == {"teacher", "truth", "l1", "ssim", "brightness"}
    assert half["truth"].item() == pytest.approx(0.5 * float(normal.square().mean()), rel=1e-5)
    assert all(half[n].item() == pytest.approx(whole[n].item() / 2, rel=1e-5) for n in whole if n != "teacher")


@pytest.mark.parametrize("method", ["trajectory", "progressive"])
def test_a_student_comes_closer_to_its_teacher(pairs: Path, tmp_path: Path, method: str) -> None:
    teacher = _timely_teacher(tmp_path)
    speed = ["train.enhance_lr=5e-4", "train.ema=0.8", "train.save_every=1000"]
    overrides = _settings(pairs, "train.enhance_steps=30", *speed)
    recipe = Recipe(steps=2, method=method, truth=0.0)
    student = distill(plan_distillation(teacher, tmp_path / "student", recipe, overrides=overrides))
    picture, errors = dark(photograph(height=64, width=64)), {}
    many = _enhanced(teacher, picture, 8)
    for steps in (2, 1) if method == "trajectory" else (2,):
        for model in (teacher, student):
            errors[str(model)] = float(np.mean((_enhanced(model, picture, steps) - many) ** 2))
        assert errors[str(student)] < 0.5 * errors[teacher], f"{steps} steps: {errors}"


def _enhanced(model: str | Path, picture: Any, steps: int) -> Any:
    loaded = load_model(model)
    config = loaded.config
    return Enhancer(TorchEngine(loaded), replace(config, sampling=replace(config.sampling, steps=steps)))(picture)


def test_the_command_makes_a_checkpoint_that_everything_opens(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student = _teacher(tmp_path), tmp_path / "student"
    overrides = [f"--set={o}" for o in _settings(pairs)]
    assert run(["distill", teacher, "-o", str(student), "--steps", "4", *overrides]) == 0
    assert f"--model {student}" in capsys.readouterr().out
    info = read_info(student)
    assert (info.config.sampling.steps, info.config.sampling.spacing, info.has_degrader) == (4, "trailing", False)
    assert (info.notes["stage"], info.notes["step"], info.notes["method"]) == ("distill", 2, "trajectory")
    assert len(info.notes["teacher_sha256"]) == 64
    before, after = _weights(Path(teacher)), _weights(student)
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"denoiser"}  # the encoder is frozen, the level stays
    assert Enhancer.open(str(student))(dark(photograph())).shape == (96, 128, 3)
    assert run(["distill", teacher, "-o", str(student), *overrides]) == 2
    assert "exists already" in capsys.readouterr().err


def test_resuming_is_bit_identical(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = _teacher(tmp_path)
    four = _settings(pairs, "train.enhance_steps=4")
    straight = distill(plan_distillation(teacher, tmp_path / "straight", Recipe(), overrides=four))
    stopped = distill(plan_distillation(teacher, tmp_path / "stopped", Recipe(), overrides=_settings(pairs)))
    half = _weights(stopped)
    advance, taken = Trainer._advance, []
    monkeypatch.setattr(Trainer, "_advance", lambda *args: taken.append(1) or advance(*args))  # type: ignore[func-returns-value]
    again = distill(plan_resumed(stopped, ["train.enhance_steps=4"]))
    assert len(taken) == 2
    assert again == stopped
    a, b = _weights(straight), _weights(again)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(half[name], b[name]) for name in half)


def test_another_network_learns_with_its_encoder_from_an_eps_teacher(pairs: Path, tmp_path: Path) -> None:
    teacher = _teacher(tmp_path, *EPS, "model.denoiser.channels=32", "model.level=false", "sampling.spacing=leading")
    file = tmp_path / "student.toml"
    described = load_config("tiny", MICRO)
    file.write_text(_toml(described))
    plan = plan_distillation(teacher, tmp_path / "student", Recipe(), str(file), overrides=_settings(pairs))
    student = load_model(distill(plan))
    assert student.degrader is None
    assert student.config.model == described.model
    torch.manual_seed(described.train.seed)
    start = LLDiffusion(plan.config).state_dict()
    moved = {n.split(".")[0] for n, v in student.state_dict().items() if not torch.equal(v, start[n])}
    assert moved == {"encoder", "denoiser"}
    assert student.encoder.level is not None
    assert student.encoder.level.centre.abs().sum() > 0  # fitted: the teacher had none


def _toml(config: Config) -> str:
    model = config.to_dict()["model"]
    lines = ['preset = "tiny"', f"[data]\ncrop = {config.data.crop}\nvalidation = 1", "[train]\nbatch = 2"]
    for part in ("encoder", "denoiser", "degrader"):
        lines += [f"[model.{part}]", *(f"{key} = {json.dumps(value)}" for key, value in model[part].items())]
    return "\n".join(lines)


def test_ctrl_c_saves_and_says_how_to_go_on(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher, student = _teacher(tmp_path), tmp_path / "student"
    overrides = [f"--set={o}" for o in _settings(pairs, "train.enhance_steps=100000", "train.save_every=100000")]

    def interrupt() -> None:
        while not (tmp_path / "student.run" / "tensorboard").is_dir():
            time.sleep(0.05)
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert run(["distill", teacher, "-o", str(student), *overrides]) == 130
    assert f"lldiff distill --resume {student}" in capsys.readouterr().err
    [saved] = checkpoints(tmp_path / "student.run" / "distill")
    assert not student.exists()
    done = read_info(saved).notes["step"]
    assert run(["distill", "--resume", str(student), f"--set=train.enhance_steps={done + 1}"]) == 0
    assert read_info(student).notes["step"] == done + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "TEACHER"),
        (["TEACHER"], "-o STUDENT"),
        (["no-such-model", "-o", "OUT"], "does not exist"),
        (["BUNDLE", "-o", "OUT"], "is a bundle"),
        (["BUNDLE.lldiff", "-o", "OUT"], "is a bundle"),
        (["TEACHER", "-o", "OUT", "--steps", "3"], "1, 2, 4"),
        (["TEACHER", "-o", "OUT", "--method", "progresive"], "did you mean 'progressive'"),
        (["TEACHER", "-o", "OUT", "--truth", "-1"], "0 or more"),
        (["TEACHER", "-o", "OUT", "--teacher-steps", "1"], "takes more"),
        (["TEACHER", "-o", "OUT", "--steps", "4", "--teacher-steps", "6", "--method", "progressive"], "multiple"),
        (["TEACHER", "-o", "OUT", "--set", "model.tone=none"], "cannot be changed"),
        (["TEACHER", "-o", "OUT", "--set", "diffusion.zero_terminal_snr=false"], "cannot be changed"),
        (["TEACHER", "-o", "OUT", "--set", "sampling.spacing=leading"], "trailing"),
        (["TEACHER", "-o", "OUT"], "nothing to train on"),
        (["TEACHER", "-o", "OUT", "--student", "tinny"], "did you mean 'tiny'"),
        (["TEACHER", "-o", "OUT", "--student", "paper"], "predicts eps"),
        (["EPS", "-o", "OUT"], "predicts eps"),
        (["EPS", "-o", "OUT", "--student", "tiny", "--method", "progressive"], "noise schedule"),
        (["TEACHER", "-o", "x.run"], "another name"),
        (["--resume", "OUT"], "cannot be resumed"),
        (["TEACHER", "--resume", "OUT", "--steps", "2"], "leave out --steps, TEACHER"),
    ],
)
def test_mistakes(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {"TEACHER": _teacher(tmp_path), "OUT": str(tmp_path / "out"), "BUNDLE": str(tmp_path / "bundle")}
    places |= {"EPS": _teacher(tmp_path / "eps", *EPS), "BUNDLE.lldiff": str(tmp_path / "b.lldiff")}
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    (tmp_path / "b.lldiff").write_bytes(b"zip")
    assert run(["distill", *(places.get(a, a) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.run").exists()


def test_a_teacher_that_changed_is_noticed(pairs: Path, tmp_path: Path) -> None:
    teacher = _teacher(tmp_path)
    student = distill(plan_distillation(teacher, tmp_path / "student", Recipe(), overrides=_settings(pairs)))
    (tmp_path / "teacher" / "model.safetensors").write_bytes((student / "model.safetensors").read_bytes())
    with pytest.raises(LLDiffusionError, match="have changed"):
        plan_resumed(student)


@pytest.mark.slow
def test_a_student_is_exported_with_its_number_of_steps(pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from lldiffusion.export.exporter import export_bundle

    recipe, teacher = Recipe(steps=2), _teacher(tmp_path)
    student = distill(plan_distillation(teacher, tmp_path / "student", recipe, overrides=_settings(pairs)))
    export_bundle(student, tmp_path / "bundle")
    picture = dark(photograph(height=64, width=96))
    bundle = Enhancer.open(str(tmp_path / "bundle"), backend="onnxruntime")
    assert bundle.info()["steps"] == "2"
    np.testing.assert_allclose(bundle(picture), Enhancer.open(str(student))(picture), atol=1e-3)
