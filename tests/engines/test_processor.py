"""Which precision a CPU is given: by its flags, as they stand in cpuinfo, and by what the bundle holds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from lldiffusion.bundle import Bundle
from lldiffusion.cli import run
from lldiffusion.config import load_config
from lldiffusion.engines import Enhancer, select_backend
from lldiffusion.engines import processor as module
from lldiffusion.engines.processor import Processor, cpu_precision, parse_cpuinfo, processor
from support.toy import toy_bundle

X86 = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n"
OLD = "processor\t: 0\nmodel name\t: Core 2\nflags\t\t: fpu sse2 ssse3\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50\nFeatures\t: fp asimd asimddp\n"


@pytest.mark.parametrize(
    ("text", "vnni", "bf16"),
    [(X86, ("avx512_vnni",), ("avx512_bf16",)), (OLD, (), ()), (ARM, (), ()), ("", (), ())],
)
def test_flags_are_read(text: str, vnni: tuple[str, ...], bf16: tuple[str, ...]) -> None:
    found = parse_cpuinfo(text)
    assert (found.vnni, found.bf16) == (vnni, bf16)


def test_without_cpuinfo_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "absent")
    processor.cache_clear()
    try:
        assert not processor().known and not processor().vnni and "unknown" in str(processor())
    finally:
        processor.cache_clear()


@pytest.mark.parametrize(
    ("precisions", "text", "wanted", "words"),
    [
        (("fp32", "int8"), X86, "int8", "avx512_vnni"),
        (("fp32", "int8"), OLD, "fp32", "no VNNI"),
        (("fp32", "fp16"), X86, "fp32", "no eight-bit graphs"),
        (("fp16",), X86, "", "nothing else"),
    ],
)
def test_the_choice(precisions: tuple[str, ...], text: str, wanted: str, words: str) -> None:
    chosen, why = cpu_precision(precisions, parse_cpuinfo(text))
    assert chosen == wanted and words in why


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle that lists the same graphs as float32 and as int8."""
    bundle = Bundle.open(toy_bundle(tmp_path / "toy"))
    bundle.manifest.graphs["int8"] = bundle.manifest.graphs["fp32"]
    return bundle


@pytest.mark.parametrize(("here", "wanted"), [(Processor("new", ("avx_vnni",)), "int8"), (Processor("old"), "fp32")])
def test_auto_takes_it_and_asking_overrides(
    both: Bundle, monkeypatch: pytest.MonkeyPatch, here: Processor, wanted: str
) -> None:
    monkeypatch.setattr(module, "processor", lambda: here)
    opened = select_backend.open_bundle(both, "auto", "cpu", "auto")
    assert opened.engine.info()["precision"] == wanted and opened.why
    asked = select_backend.open_bundle(both, "openvino", "cpu", "int8")
    assert (asked.engine.info()["precision"], asked.why) == ("int8", "asked for")


@pytest.mark.parametrize(
    ("here", "many", "precision", "wanted"),
    [
        (Processor("new", ("avx_vnni",)), True, "auto", "openvino"),
        (Processor("new", ("avx_vnni",)), True, "fp32", "onnxruntime"),
        (Processor("new", ("avx_vnni",)), False, "auto", "onnxruntime"),
        (Processor("old"), True, "auto", "onnxruntime"),
    ],
)
def test_eight_bits_for_many_pictures_are_openvinos(
    both: Bundle, monkeypatch: pytest.MonkeyPatch, here: Processor, many: bool, precision: str, wanted: str
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(module, "processor", lambda: here)
    opened = select_backend.open_bundle(both, "auto", "cpu", precision, many=many)
    assert opened.engine.info()["backend"] == wanted
    other = next(name for name in ("openvino", "onnxruntime") if name != wanted)
    assert opened.passed_over[other] == f"{wanted} comes first"


@pytest.mark.parametrize(("recurrent", "first"), [(False, "openvino"), (True, "onnxruntime")])
def test_recurrent_models_stay_with_what_starts_sooner(
    monkeypatch: pytest.MonkeyPatch, recurrent: bool, first: str
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(module, "processor", lambda: Processor("new", ("avx_vnni",)))
    config = load_config("live" if recurrent else "tiny")
    bundle = cast(Bundle, SimpleNamespace(config=config, precisions=("fp32", "int8")))
    on_cpu = [each for each in select_backend.CANDIDATES if each.device == "cpu"]
    assert select_backend._for_many(on_cpu, bundle)[0].backend == first


def test_without_openvino_nothing_else_is_lost(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "processor", lambda: Processor("new", ("avx_vnni",)))
    monkeypatch.setattr(select_backend, "find_spec", lambda name: None)
    opened = select_backend.open_bundle(both, "auto", "cpu", "auto", many=True)
    assert opened.engine.info()["backend"] == "onnxruntime" and "openvino" in opened.passed_over


def test_bfloat16_is_openvinos(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    about = Enhancer.open(bundle, device="cpu", precision="bf16").info()
    assert (about["backend"], about["precision"], about["precision because"]) == ("openvino", "bf16", "asked for")
    assert "OpenVINO does" in about["not onnxruntime"]


def test_doctor_says_what_auto_takes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("lldiffusion.engines.doctor.processor", lambda: Processor("Xeon", ("avx512_vnni",)))
    run(["doctor", "--json"])
    found = {finding["topic"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert "eight-bit" in found["processor"]["detail"] and "avx512_vnni" in found["processor"]["detail"]
