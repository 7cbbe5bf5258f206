"""A step's numbers written into the denoiser's graph: the same answers, and one graph for each step of few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lldiffusion.config import SamplingConfig, load_config
from lldiffusion.engines.backends.fixed_step import ANY_STEP, FEW, MOST, NUMBERS, Denoisers, fixed, is_few, is_last
from lldiffusion.engines.sampler import Step, plan_steps
from lldiffusion.errors import DamagedGraphError
from support.exported import inputs, micro_graphs, session

STEP = Step(700, 0.3, 0.8, 0.5, 0.4, 0.2, of=2)


def answers(path: Path, step: Step) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], onnx.ModelProto]:
    """(of the file, of the fixed file) by output, and the fixed graph."""
    given = inputs("pixel", 2, 64, 96, 0.0)
    numbers = {name: np.array([getattr(step, name)], np.float32) for name in NUMBERS}
    whole = session(path)
    wanted = dict(zip(("x_next", "x0"), whole.run(["x_next", "x0"], given | numbers), strict=True))
    data = fixed(path, step)
    short = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in short.get_outputs()]
    made = short.run(names, {port.name: given[port.name] for port in short.get_inputs()})
    return wanted, dict(zip(names, made, strict=True)), onnx.load_from_string(data)


def test_it_answers_the_same_and_asks_for_no_number() -> None:
    wanted, given, model = answers(micro_graphs() / "denoiser.onnx", STEP)
    assert set(given) == {"x_next", "x0"}
    for name, values in given.items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-5)
    onnx.checker.check_model(model)
    assert not set(NUMBERS) & {port.name for port in model.graph.input}
    before = onnx.load(micro_graphs() / "denoiser.onnx")
    assert model.graph.node == before.graph.node and model.metadata_props == before.metadata_props


def test_of_a_last_step_only_x0_is_made() -> None:
    last = replace(STEP, a=0.0, b=1.0, c=0.0)
    wanted, given, _ = answers(micro_graphs() / "denoiser.onnx", last)
    assert set(given) == {"x0"} and is_last(last) and not is_last(STEP)
    np.testing.assert_allclose(given["x0"], wanted["x_next"], atol=1e-5)


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "denoiser.onnx"
    path.write_bytes((micro_graphs() / "denoiser.onnx").read_bytes()[:-7])
    with pytest.raises(DamagedGraphError, match="no readable ONNX file"):
        fixed(path, STEP)


def test_a_plan_says_how_many_steps_it_has() -> None:
    config = load_config("tiny")
    for count, few in ((1, True), (FEW, True), (FEW + 1, False)):
        steps = plan_steps(replace(config, sampling=SamplingConfig("ddim", count, "trailing", True)))
        assert len(steps) == count and all(is_few(step) is few for step in steps)
    assert not is_few(ANY_STEP)


def test_steps_of_few_have_a_denoiser_each_others_share_one() -> None:
    opened: list[tuple[str, Step | None]] = []
    denoisers = Denoisers(lambda name, step: opened.append((name, step)))
    steps = [replace(STEP, t=t) for t in range(MOST + 3)]
    names = [denoisers.name(step) for step in steps]
    assert len(set(names[:MOST])) == MOST and len(set(names[MOST:])) == 1
    assert denoisers.name(replace(steps[0], exposure=2.0)) == names[0]
    assert denoisers.name(ANY_STEP) == denoisers.name(replace(STEP, of=25)) == names[-1]
    assert [step for _, step in opened] == [*steps[:MOST], None]
    shared = Denoisers(lambda name, step: None, alone=False)
    assert shared.name(steps[0]) == shared.name(steps[1])
