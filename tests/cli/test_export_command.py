"""`lldiff export` and `lldiff build`: from a checkpoint to a bundle that runs, and every way it can go wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from lldiffusion.bundle import Bundle
from lldiffusion.cli import run
from lldiffusion.engines import Enhancer
from lldiffusion.engines.processor import Processor
from lldiffusion.export.precision import Island, to_half
from lldiffusion.images import Image, write_image
from lldiffusion.model import LLDiffusion, save_checkpoint
from support.exported import force_half, micro_graphs, micro_model

PROFILE = "64x64:96x64:128x96"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "micro"
    model = micro_model()
    save_checkpoint(folder, model.config, model.state_dict())
    return folder


def copy_graphs(
    model: LLDiffusion, folder: Path, opset: int, about: dict[str, str], progress: Callable[[str], None]
) -> dict[str, Path]:
    """The graphs that other tests have traced already: tracing itself is tested there."""
    return {
        g: Path(shutil.copy(micro_graphs() / f"{g}.onnx", folder))
        for g in ("encoder", "color_map", "denoiser", "level")
    }


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("lldiffusion.export.exporter.write_graphs", copy_graphs)
    monkeypatch.setattr("lldiffusion.export.sizes.ODD", (37, 69))  # as odd, with a sixth of the pixels
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))


def export(checkpoint: Path, out: Path, *options: str) -> int:
    return run(["export", str(checkpoint), "-o", str(out), "--profile", PROFILE, "--budget", "5", *options])


@pytest.mark.parametrize("name", ["bundle", "bundle.lldiff"])
def test_a_float16_bundle_is_complete_and_runs(
    checkpoint: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    assert export(checkpoint, out, "--half") == 0
    printed = capsys.readouterr().out
    assert "PSNR dB" in printed and "rounded" in printed and "(fp32, fp16)" in printed
    bundle = Bundle.open(out)
    assert bundle.precisions == ("fp32", "fp16") and bundle.manifest.default_precision == "fp16"
    assert bundle.graphs("fp16")["denoiser"].name == "denoiser.fp16.onnx"
    assert bundle.graphs("fp16")["color_map"] == bundle.graphs("fp32")["color_map"]
    report = json.loads((bundle.folder / "parity.json").read_text())
    assert report["passed"] and {row["precision"] for row in report["rows"]} == {"fp32", "fp16"}
    assert {row["size"] for row in report["rows"]} == {"64x64", "37x69", "96x64", "128x96"}
    assert {island["reason"] for island in report["islands"]["denoiser.fp16.onnx"]} >= {"norm", "softmax", "step"}
    takes = {port["name"]: port for port in bundle.manifest.inputs["denoiser.fp16.onnx"]}
    assert takes["feature_0"]["dtype"] == "float16" and takes["x_t"]["shape"] == ["n", 3, "32*h", "32*w"]


def test_the_bundle_answers_like_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    assert export(checkpoint, tmp_path / "bundle") == 0
    picture = np.random.default_rng(0).integers(0, 40, (70, 90, 3), np.uint8)
    with Enhancer.open(checkpoint, backend="torch") as eager, Enhancer.open(tmp_path / "bundle") as exported:
        assert np.abs(eager(picture).astype(int) - exported(picture)).max() <= 1


def test_float32_graphs_can_be_left_out(checkpoint: Path, tmp_path: Path) -> None:
    assert export(checkpoint, tmp_path / "bundle", "--bf16", "--no-fp32") == 0
    names = {path.name for path in (tmp_path / "bundle").glob("*.onnx")}
    assert names == {"encoder.bf16.onnx", "color_map.onnx", "denoiser.bf16.onnx", "level.onnx"}
    assert Bundle.open(tmp_path / "bundle").precisions == ("bf16",)


def test_eight_bits_come_beside_float32_and_auto_takes_them(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(2):
        dark = np.random.default_rng(seed).random((64, 64, 3), np.float32) * 0.2
        write_image(pictures / f"{seed}.png", Image(dark))
    monkeypatch.setattr("lldiffusion.export.int8.SIDE", (64, 96))
    lenient = ("--set", "parity.int8_psnr=15", "--set", "parity.int8_brightness=20")
    assert export(checkpoint, tmp_path / "bundle", "--int8", "--calibrate", str(pictures), *lenient) == 0
    assert "int8 15 dB" in capsys.readouterr().out
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.precisions == ("fp32", "int8") and bundle.manifest.default_precision == "fp32"
    assert bundle.graphs("int8")["denoiser"].name == "denoiser.int8.onnx"
    assert bundle.graphs("int8")["level"] == bundle.graphs("fp32")["level"]
    report = json.loads((bundle.folder / "parity.json").read_text())
    assert {row["precision"] for row in report["rows"]} == {"fp32", "int8"}
    assert all(island["operator"] == "Conv" for island in report["islands"]["denoiser.int8.onnx"])
    monkeypatch.setattr("lldiffusion.engines.processor.processor", lambda: Processor("new", ("avx_vnni",)))
    with Enhancer.open(tmp_path / "bundle", device="cpu") as enhancer:
        assert enhancer.info()["precision"] == "int8" and "avx_vnni" in enhancer.info()["precision because"]
        assert enhancer(np.full((50, 70, 3), 9, np.uint8)).shape == (50, 70, 3)


def test_a_single_graph_is_judged_written_and_used(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def traced_before(model: LLDiffusion, folder: Path, opset: int, progress: Callable[[str], None]) -> dict[str, Path]:
        return copy_graphs(model, folder, opset, {}, progress)

    monkeypatch.setattr("lldiffusion.export.single.write_graphs", traced_before)
    monkeypatch.setattr("lldiffusion.export.single.SIZES", ((40, 51),))
    out = tmp_path / "x.onnx"
    assert run(["export", str(checkpoint), "-o", str(out), "--single"]) == 0
    assert "opset 17" in capsys.readouterr().out
    write_image(tmp_path / "dark.png", Image(np.full((40, 51, 3), 0.05, np.float32)))
    assert run(["enhance", str(tmp_path / "dark.png"), "-o", str(tmp_path / "b.png"), "--model", str(out)]) == 0
    capsys.readouterr()
    assert run(["inspect", str(out), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["metadata"]["model"] == "micro-pixel" and "dB" in about["metadata"]["parity"]
    assert [port["name"] for port in about["inputs"]] == ["image", "exposure", "window", "level"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--single", "--bisect"), "--bisect is for bundles"),
        (("--single", "--int8", "--fp16"), "give --int8 or --fp16, not both"),
        (("--single", "--opset", "21"), "17 to 20"),
        (("--single",), "ends in .onnx"),
        (("--calibrate", "here"), "add --int8"),
        (("--int8", "--calibrate", "nowhere"), "'nowhere' is no folder"),
    ],
)
def test_bad_mixtures_answer_in_one_line(
    checkpoint: Path, tmp_path: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(checkpoint), "-o", str(tmp_path / "bundle"), *options]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ") and words in error


@pytest.mark.parametrize("options", [(), pytest.param(("--bisect",), marks=pytest.mark.slow)])
def test_a_broken_graph_is_refused_and_nothing_written(
    checkpoint: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*arguments: object) -> dict[str, Path]:
        paths = copy_graphs(*arguments)  # type: ignore[arg-type]
        model = onnx.load(paths["denoiser"])
        node = next(node for node in model.graph.node if "k_p" in node.input)
        node.input[list(node.input).index("k_p")] = "a"
        onnx.save(model, paths["denoiser"])
        names.append(node.name)
        return paths

    names: list[str] = []

    monkeypatch.setattr("lldiffusion.export.exporter.write_graphs", broken)
    assert export(checkpoint, tmp_path / "bundle", *options) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: the export does not answer like the model: fp32 denoiser at 64x64")
    assert f"first bad operator of denoiser: {names[0]} (Mul)" in error or not options
    assert not (tmp_path / "bundle").exists()
    assert export(checkpoint, tmp_path / "bundle", "--no-verify") == 0


def test_a_norm_forced_to_float16_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sloppy(model: onnx.ModelProto, precision: str, emulate: bool = False) -> tuple[onnx.ModelProto, list[Island]]:
        typed, kept = to_half(model, precision, emulate)
        norms = [node for node in typed.graph.node if node.op_type == "LayerNormalization"]
        if norms and not emulate:
            force_half(typed, norms[0])
        return typed, kept

    monkeypatch.setattr("lldiffusion.export.exporter.to_half", sloppy)
    assert export(checkpoint, tmp_path / "bundle", "--fp16") == 2
    error = capsys.readouterr().err
    assert "denoiser.fp16.onnx: node_layer_norm (LayerNormalization)" in error and "must stay float32" in error
    assert not (tmp_path / "bundle").exists()


def test_an_engine_that_cannot_be_built_leaves_a_good_export(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lldiffusion.export.engine_builder.installed", lambda flavour: False)
    assert export(checkpoint, tmp_path / "bundle", "--no-verify", "--engine", "tensorrt") == 0
    printed = capsys.readouterr().out
    assert "no engine: tensorrt is not installed" in printed
    assert f"lldiff build {tmp_path / 'bundle'} --engine tensorrt" in printed
    assert Bundle.open(tmp_path / "bundle").engines() == []
    assert run(["build", str(tmp_path / "bundle"), "--engine", "tensorrt"]) == 2


def test_export_and_build_make_engines(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason='pip install "lldiffusion[rtx]"')
    assert export(checkpoint, tmp_path / "bundle", "--fp16", "--no-verify", "--engine", "tensorrt-rtx") == 0
    assert len(Bundle.open(tmp_path / "bundle").engines()) == 4
    again = ["build", str(tmp_path / "bundle"), "--engine", "tensorrt-rtx", "--profile", PROFILE]
    assert run(again) == 0
    assert capsys.readouterr().out.count("there already") == 4
    assert run([*again, "--precision", "bf16"]) == 2
    assert "precision of this bundle 'bf16': accepted are fp32, fp16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--fp16", "--bf16"), "--fp16 and --bf16 exclude each other"),
        (("--no-fp32",), "leaves nothing to write"),
        (("--opset", "23"), "opset 23: 18 to 22 are accepted"),
        (("--engine", "tensort"), "did you mean 'tensorrt'"),
        (("--profile", "64x64:100x64:128x96"), "100 is not a multiple of 32"),
        (("--set", "parity.fp16=50"), "unknown configuration key in [parity] 'fp16'"),
        (("--set", "parity.fp32_psnr=0"), "parity.fp32_psnr is 0.0: a positive number is needed"),
        (("--set", "sampling.steps=2"), "may change the section [parity] only"),
        (("--config", "no.toml"), "no configuration file 'no.toml'"),
        (("--no-verify", "--no-fp32", "--fp16", "--fp32"), "--fp16 and --fp32 exclude"),
    ],
)
def test_bad_options_answer_in_one_line(
    checkpoint: Path, tmp_path: Path, options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, tmp_path / "bundle", *options) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ") and words in error
    assert not (tmp_path / "bundle").exists()


def test_ctrl_c_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(*arguments: object) -> dict[str, Path]:
        copy_graphs(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr("lldiffusion.export.exporter.write_graphs", pressed)
    for name in ("bundle", "bundle.lldiff"):
        assert export(checkpoint, tmp_path / name) == 130
        assert capsys.readouterr().err.strip().splitlines()[-1] == "stopped; nothing was written"
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_thresholds_come_from_the_configuration(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the checkpoint, then of a file, then of the command line; what is demanded is what is judged and written."""
    strict = tmp_path / "strict.toml"
    strict.write_text("[parity]\nfp32_psnr = 60\nfp16_psnr = 300\n")
    assert export(checkpoint, tmp_path / "bundle", "--fp16", "--config", str(strict)) == 2
    assert "dB, at least 300 wanted" in capsys.readouterr().err
    lenient = ("--config", str(strict), "--set", "parity.fp16_psnr=41.5")
    assert export(checkpoint, tmp_path / "bundle", "--fp16", *lenient) == 0
    assert "wanted: fp32 60 dB, fp16 41.5 dB" in capsys.readouterr().out
    written = json.loads((tmp_path / "bundle" / "parity.json").read_text())["thresholds"]
    assert written == {"fp32": {"psnr": 60, "brightness": 0.02}, "fp16": {"psnr": 41.5, "brightness": 0.2}}


def test_an_existing_output_is_kept_unless_asked(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoint, tmp_path / "bundle", "--no-verify") == 0
    assert export(checkpoint, tmp_path / "bundle", "--no-verify") == 2
    assert "exists already" in capsys.readouterr().err
    assert export(checkpoint, tmp_path / "bundle", "--no-verify", "-y") == 0
    assert run(["export", "nowhere", "-o", str(tmp_path / "other")]) == 2
    assert "model 'nowhere' does not exist" in capsys.readouterr().err
