"""The authors' checkpoints: every variant of the file, and everything that must be refused."""

import argparse
import pickle
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lldiffusion.cli import run
from lldiffusion.config import load_config
from lldiffusion.errors import LLDiffusionError

torch = pytest.importorskip("torch")

from lldiffusion.model import load_model  # noqa: E402
from lldiffusion.model.convert import convert, forward_order, our_name  # noqa: E402

Weights = dict[str, Any]


# ---- files as their code writes them, around a network of the same parts made small ----

SMALL = [
    "model.encoder.channels=[4,8,8,8,16]",
    "model.encoder.head_channels=16",
    "model.encoder.ladder=[16,16,8]",
    "model.denoiser.channels=32",
    "model.denoiser.blocks=1",
    "model.degrader.channels=32",
    "model.degrader.blocks=1",
]
UNDO = [  # our names back into theirs
    (r"^encoder\.net\.wide\.", "encoder.encoder.conv_7x7."),
    (r"^encoder\.net\.residual\.(\d)\.conv1\.", r"encoder.encoder.res_\1.conv_block.1."),
    (r"^encoder\.net\.residual\.(\d)\.conv2\.", r"encoder.encoder.res_\1.conv_block.4."),
    (r"^encoder\.net\.ladder\.(\d)\.up\.", r"encoder.upsample.convs.\1.0.module."),
    (r"^encoder\.net\.ladder\.(\d)\.conv\.conv\.", r"encoder.upsample.convs.\1.2."),
    (r"^denoiser\.net\.time\.expand\.", "diff_unet.temb.dense.0."),
    (r"^denoiser\.net\.time\.mix\.", "diff_unet.temb.dense.1."),
    (r"^denoiser\.net\.", "diff_unet."),
    (r"^degrader\.", "deg_unet."),
    (r"\.middle\.0\.", ".mid.block_1."),
    (r"\.middle\.1\.", ".mid.attn_1."),
    (r"\.middle\.2\.", ".mid.block_2."),
    (r"\.fusion\.(\d)\.reduce\.", r".up.fuse.cattns.\1.attention.1."),
    (r"\.fusion\.(\d)\.expand\.", r".up.fuse.cattns.\1.attention.3."),
    (r"\.blocks\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"\.down\.(\d)\.resize\.", r".down.\1.downsample."),
    (r"\.up\.(\d)\.resize\.", r".up.\1.upsample."),
    (r"\.time\.(weight|bias)$", r".temb_proj.\1"),
    (r"\.shortcut\.", ".nin_shortcut."),
    (r"(attn.*)\.out\.", r"\1.proj_out."),
    (r"\.parametrizations\.weight\.original$", ".weight_orig"),
    (r"\.parametrizations\.weight\.0\._u$", ".weight_u"),
    (r"\.parametrizations\.weight\.0\._v$", ".weight_v"),
]


def _theirs(name: str) -> str:
    if match := re.match(r"encoder\.net\.pyramid\.(\d)\.conv\.(.*)", name):
        name = f"encoder.encoder.layer{int(match[1]) + 1}.0.{match[2]}"
    if match := re.match(r"encoder\.net\.head\.(\d)\.conv\.(.*)", name):
        name = f"encoder.encoder.out.{3 * int(match[1]) + 1}.0.{match[2]}"
    for pattern, replacement in UNDO:
        name = re.sub(pattern, replacement, name)
    return name


def _network(preset: str) -> tuple[Any, Weights]:
    """The network, not to be changed, and its weights with their names."""
    model = _made(preset)
    return model, {_theirs(name): value.clone() for name, value in model.state_dict().items()}


@cache
def _made(preset: str) -> Any:
    from lldiffusion.model.network import LLDiffusion

    ladder = ["model.encoder.ladder=[16,16,8,8,4,4]"] if preset == "paper-v2" else []
    groups = ["model.denoiser.groups=4", "model.degrader.groups=4"]  # 32 + 4 features before the last norm
    overrides = [o for o in SMALL if not (ladder and o.startswith("model.encoder.ladder"))] + ladder + groups
    torch.manual_seed(0)
    return LLDiffusion(load_config(preset, overrides)).eval()


def _file(path: Path, state: Weights, shadow: Weights | None = None) -> Path:
    payload = {
        "epoch": 7,
        "step": 70,
        "state_dict": {f"module.{n}": v for n, v in state.items()},
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "ema_helper": shadow,
        "params": argparse.Namespace(sampling_timesteps=25),
        "config": argparse.Namespace(model=argparse.Namespace(ch=64)),
    }
    torch.save(payload, path)
    return path


@pytest.mark.parametrize("preset", ["paper", "paper-v2"])
@pytest.mark.parametrize("fold", [False, True])
def test_a_converted_file_computes_the_same(preset: str, fold: bool, tmp_path: Path) -> None:
    model, state = _network(preset)
    source = _file(tmp_path / "theirs.pth", state)
    notes = convert(source, model.config, tmp_path / "ours", fold=fold)
    assert (notes["weights"], notes["decoder_reversed"], notes["epoch"]) == ("raw", False, 7)
    loaded = load_model(tmp_path / "ours")
    y = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        for a, b in zip(model.encoder(y), loaded.encoder(y), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        one, two = (m.denoiser(y, y, y, 5, m.encoder(y)) for m in (model, loaded))
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_averaged_weights_are_taken_unless_raw_ones_are_asked_for(tmp_path: Path) -> None:
    model, state = _network("paper")
    shadow = {n: v + 1 for n, v in state.items() if not n.endswith(("weight_u", "weight_v"))}
    source = _file(tmp_path / "theirs.pth", state, shadow)
    assert convert(source, model.config, tmp_path / "ema")["weights"] == "ema"
    assert convert(source, model.config, tmp_path / "raw", ema=False)["weights"] == "raw"
    name = "denoiser.net.conv_in.weight"
    ema, raw = (load_model(tmp_path / which).state_dict()[name] for which in ("ema", "raw"))
    torch.testing.assert_close(ema, raw + 1)


def test_reversed_decoders_of_older_files(tmp_path: Path) -> None:
    model, state = _network("paper-v2")
    flip = {n: re.sub(r"_unet\.up\.(\d)\.", lambda m: f"_unet.up.{5 - int(m[1])}.", n) for n in state}
    old = {flip[n]: v for n, v in state.items()}
    assert forward_order(old)[1]
    assert not forward_order(state)[1]
    convert(_file(tmp_path / "old.pth", old), model.config, tmp_path / "ours")
    loaded = load_model(tmp_path / "ours").state_dict()
    assert all(torch.equal(loaded[n], v) for n, v in model.state_dict().items())


def test_a_bare_state_dict_without_dgnet(tmp_path: Path) -> None:
    model, state = _network("paper")
    torch.save({n: v for n, v in state.items() if not n.startswith("deg_unet")}, tmp_path / "bare.pth")
    convert(tmp_path / "bare.pth", model.config, tmp_path / "ours")
    assert load_model(tmp_path / "ours").degrader is None


def test_every_name_comes_back() -> None:
    model, state = _network("paper")
    assert {our_name(name) for name in state} == set(model.state_dict())


class Evil:
    """What a malicious pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("owned",))


def test_what_must_be_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, state = _network("paper")
    torch.save({"state_dict": state, "config": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state_dict": {"other.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    cut = _file(tmp_path / "cut.pth", state)
    cut.write_bytes(cut.read_bytes()[:-5000])
    for name in ("evil", "plain", "text", "list", "other", "cut", "missing"):
        with pytest.raises(LLDiffusionError, match=name):
            convert(tmp_path / f"{name}.pth", model.config, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert "owned" not in capsys.readouterr().out


def _with(**changes: Any) -> Any:
    def make(state: Weights) -> Any:
        return {"state_dict": state} | changes

    return make


def _one_changed(value: Any) -> Any:
    def make(state: Weights) -> Any:
        return {"state_dict": state | {"diff_unet.conv_in.weight": value}}

    return make


MALFORMED: dict[str, Any] = {
    "state_dict is a list": _with(state_dict=[1]),
    "state_dict is nothing": _with(state_dict=None),
    "state_dict is a tensor": _with(state_dict=torch.ones(2)),
    "averages are text": _with(ema_helper="x"),
    "averages are a tensor": _with(ema_helper=torch.zeros(0)),
    "averages of another shape": lambda state: {"state_dict": state, "ema_helper": {n: torch.ones(1) for n in state}},
    "names are numbers": lambda state: {"state_dict": dict(enumerate(state.values()))},
    "a name of 5000 digits": lambda state: {"state_dict": state | {f"diff_unet.up.{'9' * 5000}.x": torch.ones(1)}},
    "a fusion of 5000 digits": lambda state: {"state_dict": state | {f"a.fusion.{'9' * 5000}.x": torch.ones(1)}},
    "NaN": lambda state: {"state_dict": {n: v * float("nan") for n, v in state.items()}},
    "sparse": _one_changed(torch.ones(32, 3, 3, 3).to_sparse()),
    "complex": _one_changed(torch.ones(32, 9, 3, 3, dtype=torch.complex64)),
    "quantised": _one_changed(torch.quantize_per_tensor(torch.ones(32, 9, 3, 3), 0.1, 0, torch.qint8)),
    "without memory": _one_changed(torch.ones(32, 9, 3, 3, device="meta")),
}


@pytest.mark.parametrize("make", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_one_line_of_ours(make: Any, tmp_path: Path) -> None:
    model, state = _network("paper")
    torch.save(make(state), tmp_path / "a.pth")
    with pytest.raises(LLDiffusionError, match=r"a\.pth") as caught:
        convert(tmp_path / "a.pth", model.config, tmp_path / "out")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500 and "weights_only" not in message
    assert not (tmp_path / "out").exists()


def test_an_epoch_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    model, state = _network("paper")
    torch.save({"state_dict": state, "epoch": torch.ones(3)}, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", model.config, tmp_path / "out")["epoch"] is None


def test_what_torch_advises_is_never_quoted(tmp_path: Path) -> None:
    model, state = _network("paper")
    torch.save({"state_dict": state, "config": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(LLDiffusionError, match="asks for the Python object 'print'") as caught:
        convert(tmp_path / "evil.pth", model.config, tmp_path / "out")
    assert "weights_only" not in str(caught.value)
    whole = _file(tmp_path / "a.pth", state).read_bytes()
    for keep in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pth").write_bytes(whole[:keep])
        with pytest.raises(LLDiffusionError, match=r"cut\.pth") as caught:
            convert(tmp_path / "cut.pth", model.config, tmp_path / "out")
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, state = _network("paper")
    source = _file(tmp_path / "theirs.pth", state)
    assert run(["convert", str(source), str(tmp_path / "out")]) == 2  # a smaller network than the preset's
    assert "does not hold the network of preset 'paper'" in capsys.readouterr().err
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious.txt").write_text("mine")
    assert run(["convert", str(source), str(tmp_path / "taken")]) == 2
