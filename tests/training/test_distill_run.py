"""Distilling from start to end: the command, resuming, other networks, and mistakes that are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.cli import run
from lldiffusion.config import Config, load_config
from lldiffusion.errors import LLDiffusionError
from support.interrupts import interrupt_at_step
from support.pictures import dark, photograph, write_pairs

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402

from lldiffusion.engines import Enhancer  # noqa: E402
from lldiffusion.model import LLDiffusion, load_model  # noqa: E402
from lldiffusion.model.checkpoint import read_info  # noqa: E402
from lldiffusion.training.distill import Recipe  # noqa: E402
from lldiffusion.training.distill_run import distill, plan_distillation, plan_resumed  # noqa: E402
from lldiffusion.training.state import checkpoints  # noqa: E402
from lldiffusion.training.trainer import Trainer  # noqa: E402
from support.micro import EPS, MICRO, save_teacher, settings  # noqa: E402


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs", height=64, width=64)


def _weights(folder: Path) -> dict[str, Any]:
    return load_file(str(folder / "model.safetensors"))


def test_the_command_makes_a_checkpoint_that_everything_opens(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student = save_teacher(tmp_path), tmp_path / "student"
    overrides = [f"--set={o}" for o in settings(pairs)]
    assert run(["distill", teacher, "-o", str(student), "--steps", "4", *overrides]) == 0
    assert f"--model {student}" in capsys.readouterr().out
    info = read_info(student)
    assert (info.config.sampling.steps, info.config.sampling.spacing, info.has_degrader) == (4, "trailing", False)
    assert (info.notes["stage"], info.notes["step"], info.notes["method"]) == ("distill", 2, "progressive")
    assert len(info.notes["teacher_sha256"]) == 64
    before, after = _weights(Path(teacher)), _weights(student)
    moved = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert moved == {"denoiser"}  # the encoder is frozen, the level stays
    assert Enhancer.open(str(student))(dark(photograph())).shape == (96, 128, 3)
    assert run(["distill", teacher, "-o", str(student), *overrides]) == 2
    assert "exists already" in capsys.readouterr().err


def test_resuming_is_bit_identical(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = save_teacher(tmp_path)
    four = settings(pairs, "train.enhance_steps=4")
    straight = distill(plan_distillation(teacher, tmp_path / "straight", Recipe(), overrides=four))
    stopped = distill(plan_distillation(teacher, tmp_path / "stopped", Recipe(), overrides=settings(pairs)))
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
    teacher = save_teacher(
        tmp_path, *EPS, "model.denoiser.channels=32", "model.level=false", "sampling.spacing=leading"
    )
    file = tmp_path / "student.toml"
    described = load_config("tiny", MICRO)
    file.write_text(_toml(described))
    plan = plan_distillation(
        teacher, tmp_path / "student", Recipe(), str(file), overrides=settings(pairs, "train.guess_steps=20")
    )
    assert plan.recipe.method == "trajectory"  # the teacher's noise schedule is another
    student = load_model(distill(plan))
    assert student.degrader is None
    assert student.config.model == described.model
    torch.manual_seed(described.train.seed)
    start = LLDiffusion(plan.config).state_dict()
    moved = {n.split(".")[0] for n, v in student.state_dict().items() if not torch.equal(v, start[n])}
    assert moved == {"encoder", "denoiser", "level"}  # the level's guess was fitted: the teacher had none
    assert student.level is not None
    assert all(guess.get_parameter("usual").abs().sum() > 0 for guess in student.level.mean)


def test_a_student_with_tones_takes_the_grid_of_a_teacher_without(pairs: Path, tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path, "model.tones=false")
    file = tmp_path / "student.toml"
    file.write_text(_toml(load_config("tiny", [*MICRO, "model.tones=true"])))
    fit = settings(pairs, "train.guess_steps=20")
    student = load_model(distill(plan_distillation(teacher, tmp_path / "student", Recipe(), str(file), overrides=fit)))
    level, taught = student.level, load_model(teacher).level
    assert level is not None and taught is not None
    torch.testing.assert_close(level.grid.overall.weight, taught.grid.overall.weight, atol=0.01, rtol=0)  # two steps on
    assert all(tones.get_buffer("usual").abs().sum() > 0 for tones in level.tones)  # fitted


def _toml(config: Config) -> str:
    model = config.to_dict()["model"]
    lines = ['preset = "tiny"', f"[data]\ncrop = {config.data.crop}\nvalidation = 1", "[train]\nbatch = 2"]
    for part in ("encoder", "denoiser", "degrader"):
        lines += [f"[model.{part}]", *(f"{key} = {json.dumps(value)}" for key, value in model[part].items())]
    return "\n".join(lines)


def test_ctrl_c_saves_and_says_how_to_go_on(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student = save_teacher(tmp_path), tmp_path / "student"
    overrides = [f"--set={o}" for o in settings(pairs, "train.enhance_steps=100000", "train.save_every=100000")]

    interrupt_at_step(3, monkeypatch)
    assert run(["distill", teacher, "-o", str(student), *overrides]) == 130
    assert f"lldiff distill --resume {student}" in capsys.readouterr().err
    [saved] = checkpoints(tmp_path / "student.run" / "distill")
    assert not student.exists()
    done = read_info(saved).notes["step"]
    assert run(["distill", "--resume", str(student), f"--set=train.enhance_steps={done + 1}"]) == 0
    assert read_info(student).notes["step"] == done + 1


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models that nobody learns from: TEACHER is like `tiny`, EPS predicts the noise."""
    folder = tmp_path_factory.mktemp("teachers")
    return {"TEACHER": save_teacher(folder), "EPS": save_teacher(folder / "eps", *EPS)}


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
def test_mistakes(
    arguments: list[str], words: str, teachers: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = teachers | {"OUT": str(tmp_path / "out"), "BUNDLE": str(tmp_path / "bundle")}
    places |= {"BUNDLE.lldiff": str(tmp_path / "b.lldiff")}
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    (tmp_path / "b.lldiff").write_bytes(b"zip")
    assert run(["distill", *(places.get(a, a) for a in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.run").exists()


def test_a_teacher_that_changed_is_noticed(pairs: Path, tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path)
    student = distill(plan_distillation(teacher, tmp_path / "student", Recipe(), overrides=settings(pairs)))
    (tmp_path / "teacher" / "model.safetensors").write_bytes((student / "model.safetensors").read_bytes())
    with pytest.raises(LLDiffusionError, match="have changed"):
        plan_resumed(student)


@pytest.mark.slow
def test_a_student_is_exported_with_its_number_of_steps(pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from lldiffusion.export.exporter import export_bundle

    recipe, teacher = Recipe(steps=2), save_teacher(tmp_path)
    student = distill(plan_distillation(teacher, tmp_path / "student", recipe, overrides=settings(pairs)))
    export_bundle(student, tmp_path / "bundle")
    picture = dark(photograph(height=64, width=96))
    bundle = Enhancer.open(str(tmp_path / "bundle"), backend="onnxruntime")
    assert bundle.info()["steps"] == "2"
    np.testing.assert_allclose(bundle(picture), Enhancer.open(str(student))(picture), atol=1e-3)
