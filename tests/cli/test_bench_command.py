"""`lldiff bench` as a user types it: a whole small run, Ctrl-C in the middle of one, and bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lldiffusion.bench import benchmark as benchmark_module
from lldiffusion.bench import group
from lldiffusion.bench.auto import remarks_on_auto
from lldiffusion.bench.benchmark import benchmark
from lldiffusion.bench.peers import PEERS, choose_peers
from lldiffusion.bench.record import Ceilings, Measurement, load_result
from lldiffusion.bench.settings import Settings
from lldiffusion.cli import run
from lldiffusion.engines.processor import Processor
from lldiffusion.errors import LLDiffusionError
from support.bench_models import micro_source
from support.pictures import write_pairs


def small(**more: object) -> Settings:
    options = {"sizes": ((64, 64),), "steps": (2, 1), "pictures": 1, "threads": 1, "small": True, "device": "cpu"}
    return Settings(**{"models": (str(micro_source()),), **options, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Measurement]:
    """(backend, steps) -> measurement, of one run with a fast and a slow peer."""
    said: list[tuple[str, float]] = []
    data = write_pairs(tmp_path_factory.mktemp("pairs"), count=1)
    settings = small(backends="onnxruntime,eager-authors,eager", budget=20, scaling=False, data=data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_module, "lpips_at_hand", lambda: lambda result, truth: 0.25)
        patch.setattr("lldiffusion.bench.rounds.MOST_ROUNDS", 5)  # enough for every column, whatever the budget
        result = benchmark(settings, lambda text, share: said.append((text, share)))
    assert result.complete and not result.scaling
    assert all(0 <= share <= 1 for _, share in said)
    assert [share for _, share in said if share] == sorted(share for _, share in said if share)
    assert result.versions["onnxruntime"] and result.ceilings[0].operations > 0
    return {(row.backend, row.steps): row for row in result.measurements}


def test_every_peer_is_measured_at_every_number_of_steps(rows: dict[tuple[str, int], Measurement]) -> None:
    peers = {"onnxruntime", "eager", "eager-authors"}
    assert set(rows) == {(peer, steps) for peer in peers for steps in (1, 2, 3)} | {("gamma", 0), ("clahe", 0)}
    for (peer, _), row in rows.items():
        assert row.seconds and row.threads in (1, None)
        if peer in peers:
            assert row.limit and row.over_limit and row.operations and row.bytes
            assert row.stages.decode and row.stages.step


def test_pictures_agree_with_eager_and_share_its_quality(rows: dict[tuple[str, int], Measurement]) -> None:
    assert rows["eager", 3].psnr_reference == 200
    for peer in ("onnxruntime", "eager-authors"):
        row = rows[peer, 3]
        assert row.psnr_reference is not None and row.psnr_reference > 90
        assert row.brightness_drift is not None and abs(row.brightness_drift) < 0.01
        assert row.psnr == rows["eager", 3].psnr is not None
    assert rows["gamma", 0].psnr is not None
    assert rows["gamma", 0].lpips == rows["onnxruntime", 3].lpips == 0.25


def test_cold_starts_are_those_of_the_models_own_steps(rows: dict[tuple[str, int], Measurement]) -> None:
    assert rows["onnxruntime", 3].cold_start and not rows["onnxruntime", 1].cold_start
    assert min(rows["onnxruntime", 3].cold_start) > rows["onnxruntime", 3].p50


def test_the_authors_way_computes_conditions_at_every_step(rows: dict[tuple[str, int], Measurement]) -> None:
    stages = rows["eager-authors", 3].stages
    assert stages.encoder is not None and stages.encoder < 1e-3  # it happens inside the step


def test_without_weights_lpips_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark_module, "lpips_at_hand", lambda: "no weights at hand")
    bench = benchmark_module._Benchmark(small(), tmp_path, lambda text, share: None)
    assert len(bench.find_pairs([])) == 1
    assert bench.lpips is None and "LPIPS is not measured: no weights at hand" in bench.context.notes


def test_a_peer_that_fails_is_a_note_and_all_failing_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = small(backends="tensorrt:fp32", device="cuda:0", budget=5, scaling=False, pictures=0)
    monkeypatch.setattr("lldiffusion.bench.benchmark.measure_ceilings", lambda *arguments: None)
    with pytest.raises(LLDiffusionError, match=r"nothing could be measured: .*tensorrt.* left out"):
        benchmark(broken)


def test_ctrl_c_keeps_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = iter([group.run_group])

    def interrupted(*arguments: Any) -> Any:
        for measure in groups:
            return measure(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("lldiffusion.bench.benchmark.run_group", interrupted)
    monkeypatch.setattr("lldiffusion.bench.rounds.MOST_ROUNDS", 3)
    quick = Ceilings("cpu", "fp32", operations=1e12, bandwidth=1e11, how="made up")
    monkeypatch.setattr("lldiffusion.bench.benchmark.measure_ceilings", lambda *arguments: quick)
    text = "--backends onnxruntime --sizes 64x64,96x64 --steps 1 --pictures 0 --budget 300"
    options = text.split()
    assert run(["bench", str(micro_source()), *options, "-o", str(tmp_path / "out")]) == 130
    result = load_result(tmp_path / "out")
    assert not result.complete and {row.size for row in result.measurements} == {"64x64"}
    assert f"{len(result.measurements)} measurements are kept" in capsys.readouterr().err


BAD = {
    "no such model": (["nonsense"], "model 'nonsense' does not exist"),
    "no such backend": (["--backends", "onnxruntim"], "did you mean 'onnxruntime'"),
    "gpu backend on a cpu": (["--backends", "cuda-graph", "--device", "cpu"], "does not run on device 'cpu'"),
    "precision": (["--backends", "openvino:fp16", "--device", "cpu"], "precision of 'openvino'"),
    "size": (["--sizes", "huge"], "size 'huge'"),
    "steps": (["--steps", "0"], "1 to 1000"),
    "steps are words": (["--steps", "few"], "whole numbers"),
    "batch": (["--batch", "100000"], "1 to 256"),
    "budget": (["--budget", "1"], "too short"),
    "threads": (["--threads", "100000"], "may use"),
    "data": (["--data", "/nowhere", "--budget", "5", "--backends", "eager"], "/nowhere"),
}


@pytest.mark.parametrize(("options", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if options[0] == "nonsense" else [str(micro_source())]
    assert run(["bench", *model, *options, "-o", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out" / "bench.json").exists()


def test_a_result_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.json").write_text("{}")
    assert run(["bench", "-o", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(["bench", "-o", str(tmp_path / "file")]) == 2
    assert json.loads((tmp_path / "bench.json").read_text()) == {}


def test_a_faster_backend_than_autos_is_pointed_out() -> None:
    def row(backend: str, *seconds: float) -> Measurement:
        return Measurement("tiny", backend, "fp32", 600, 400, 1, 4, seconds)

    rows = [row("onnxruntime", 1.0, 1.01, 1.0), row("openvino", 1.0, 1.0, 0.99), row("compile", 0.1)]
    assert not list(remarks_on_auto(rows))  # level, and compiled PyTorch is no backend of ours
    assert list(remarks_on_auto([*rows, row("eager", 0.8, 0.8, 0.81)])) == [
        "tiny at 600x400, 4 steps: auto takes onnxruntime in fp32, eager in fp32 is 1.25 times as fast"
    ]


def test_eight_bits_of_many_pictures_are_openvinos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lldiffusion.engines.processor.processor", lambda: Processor("new", ("avx_vnni",)))

    def row(backend: str, precision: str, *seconds: float) -> Measurement:
        return Measurement("tiny", backend, precision, 600, 400, 1, 1, seconds)

    rows = [row("onnxruntime", "int8", 1.0, 1.01, 1.0), row("openvino", "int8", 0.7, 0.71, 0.7)]
    assert not list(remarks_on_auto(rows))
    assert "auto takes onnxruntime in int8" in next(remarks_on_auto(rows, {"tiny"}))


def test_peers_of_a_device() -> None:
    cpu = [peer.name for peer, _ in choose_peers("all", "cpu")]
    assert cpu[0] == "eager" and "tensorrt" not in cpu and "openvino" in cpu
    pairs = [(peer.name, precision) for peer, precision in choose_peers("all", "cpu")]
    assert {("onnxruntime", "int8"), ("openvino", "bf16"), ("openvino", "int8")} < set(pairs)
    assert len(pairs) == len(set(pairs)) and not {"int8", "bf16"} & {p for _, p in choose_peers("all", "cuda:0")}
    assert ("tensorrt", "fp16") in [(peer.name, precision) for peer, precision in choose_peers("all", "cuda:1")]
    assert [p for _, p in choose_peers("onnxruntime:fp16,onnxruntime:fp32", "cpu")] == ["fp16", "fp32"]
    assert all(peer.about for peer in PEERS.values())
