"""Hundreds of damaged pictures, bundles, checkpoints and tables: every answer is success, or one line of ours.

A quick slice runs by default; `pytest -m slow tests/fuzz` tries LLDIFF_FUZZ inputs of each kind [200].
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bundle import MANIFEST, Bundle
from lldiffusion.bundle.archive import pack
from lldiffusion.cli.inspect import brief, lines
from lldiffusion.config import config_from_dict, load_config
from lldiffusion.engines.describe import describe
from lldiffusion.images import Image, read_image, write_image
from support.bundles import rehash
from support.fuzzing import Try, answers
from support.mutations import ODD, damaged_bytes, damaged_table
from support.toy import toy_bundle

QUICK = 8  # inputs of each kind by default


def show(path: Path) -> str:
    """What `lldiff inspect` does with it."""
    return "\n".join(lines(brief(describe(path)))).encode().decode()


def picture(suffix: str) -> Try:
    def attempt(folder: Path, chance: random.Random) -> object:
        values = np.random.default_rng(0).random((24, 32, 3), np.float32)
        write_image(folder / f"whole{suffix}", Image(values))
        (folder / f"a{suffix}").write_bytes(damaged_bytes((folder / f"whole{suffix}").read_bytes(), chance))
        return read_image(folder / f"a{suffix}").pixels.mean()

    return attempt


def manifest(folder: Path, chance: random.Random) -> object:
    path = toy_bundle(folder / "b") / MANIFEST
    text = path.read_text()
    if chance.random() < 0.8:
        path.write_text(json.dumps(damaged_table(json.loads(text), chance)))
    else:
        path.write_bytes(damaged_bytes(text.encode(), chance))
    return show(path.parent)


def graph(folder: Path, chance: random.Random) -> object:
    bundle = toy_bundle(folder / "b")
    path = bundle / f"{chance.choice(('encoder', 'color_map', 'denoiser'))}.onnx"
    path.write_bytes(damaged_bytes(path.read_bytes(), chance) or b"\x00")
    rehash(bundle)
    return Bundle.open(bundle)


def parity(folder: Path, chance: random.Random) -> object:
    row = {"precision": "fp32", "how": "onnxruntime", "graph": "loop", "size": "64x64", "psnr": 80.0, "max_error": 0.1}
    whole = {"rows": [row] * 2, "thresholds": {"fp32": {"psnr": 70.0}}, "notes": ["a"], "passed": True}
    table = whole | {"islands": {"denoiser.onnx": [{"node": "n", "reason": "step"}]}, "wrong_islands": {}}
    source = Bundle.open(toy_bundle(folder / "toy"))
    with Bundle.write(folder / "b") as draft:
        for name in source.manifest.files:
            (draft.folder / name).write_bytes((source.folder / name).read_bytes())
        (draft.folder / "parity.json").write_text(json.dumps(damaged_table(table, chance)))
        draft.manifest = replace(source.manifest)
    return show(folder / "b")


def archive(folder: Path, chance: random.Random) -> object:
    pack(toy_bundle(folder / "b"), folder / "whole.lldiff")
    (folder / "a.lldiff").write_bytes(damaged_bytes((folder / "whole.lldiff").read_bytes(), chance))
    return show(folder / "a.lldiff")


def configuration(folder: Path, chance: random.Random) -> object:
    return config_from_dict(damaged_table(load_config(chance.choice(("tiny", "paper"))).to_dict(), chance))


def configuration_file(folder: Path, chance: random.Random) -> object:
    table = load_config("tiny").to_dict()
    if chance.random() < 0.5:
        (folder / "a.json").write_bytes(damaged_bytes(json.dumps(table).encode(), chance))
        return load_config(folder / "a.json")
    text = b'preset = "tiny"\nname = "a"\n[train]\nlr = 1e-4\nbatch = 4\n[data]\npairs = ["x"]\n'
    (folder / "a.toml").write_bytes(damaged_bytes(text, chance))
    return load_config(folder / "a.toml")


def override(folder: Path, chance: random.Random) -> object:
    section = chance.choice(("train", "data", "model.encoder", "model.denoiser", "diffusion", "sampling", "loss"))
    names: Any = load_config("tiny")
    for part in section.split("."):
        names = getattr(names, part)
    value = chance.choice((*map(repr, ODD), "0x" + "f" * 40, "[" * 300, "1e999", "nan", "true", "1979-05-27"))
    return load_config("tiny", [f"{section}.{chance.choice(list(vars(names)))}={value}"])


def checkpoint(folder: Path, chance: random.Random) -> object:
    from safetensors.numpy import save_file

    path = folder / "c"
    path.mkdir()
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16)}, path / "model.safetensors")
    table = {"format": 1, "degrader": False, "config": load_config("tiny").to_dict(), "notes": {"step": 7}}
    if chance.random() < 0.5:
        table = damaged_table(table, chance)
    else:
        weights = path / "model.safetensors"
        weights.write_bytes(damaged_bytes(weights.read_bytes(), chance))
    (path / "config.json").write_text(json.dumps(table))
    return show(path)


def authors_file(folder: Path, chance: random.Random) -> object:
    torch = pytest.importorskip("torch")
    from lldiffusion.model.convert import fill, forward_order, read_authors, select_weights

    whole = io.BytesIO()
    state = {"module.diff_unet.up.0.x": torch.ones(2), "module.deg_unet.up.5.upsample.conv.weight": torch.ones(1)}
    torch.save({"state_dict": state, "epoch": 7, "ema_helper": {"module.a": torch.ones(1)}}, whole)
    (folder / "a.pth").write_bytes(damaged_bytes(whole.getvalue(), chance))
    weights, _ = select_weights(read_authors(folder / "a.pth"), ema=True)
    return fill(load_config("tiny"), forward_order(weights)[0], "a.pth")


def job(folder: Path, chance: random.Random) -> object:
    pytest.importorskip("av")
    from lldiffusion.video.jobs.journal import JobJournal
    from lldiffusion.video.writing.segment import Segment

    journal = JobJournal({"seed": 1}, 2, folder=folder / "job")
    journal.start()
    journal.add(Segment("segment-00001.nut", 3, 0, 2), {"x": np.ones((2, 3), np.float32)}, "auto")
    path = folder / "job" / chance.choice(("journal.json", "state-00001.npz"))
    if path.suffix == ".json" and chance.random() < 0.7:
        path.write_text(json.dumps(damaged_table(json.loads(path.read_text()), chance)))
    else:
        path.write_bytes(damaged_bytes(path.read_bytes(), chance))
    again = JobJournal.open(folder / "job")
    return again.frames, again.load_state()


KINDS: dict[str, Try] = {
    **{f"picture {suffix}": picture(suffix) for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp")},
    "manifest": manifest,
    "graph": graph,
    "parity": parity,
    "archive": archive,
    "configuration": configuration,
    "configuration file": configuration_file,
    "override": override,
    "checkpoint": checkpoint,
    "authors' file": authors_file,
    "job": job,
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "authors' file"])
def test_a_few_damaged_inputs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(answers(KINDS[kind], QUICK, tmp_path, monkeypatch)) <= {"success", "one line"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_inputs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = answers(KINDS[kind], int(os.environ.get("LLDIFF_FUZZ", "200")), tmp_path, monkeypatch)
    print("\nfuzzed", kind, dict(found))
    assert set(found) <= {"success", "one line"}


def test_the_same_seed_damages_the_same() -> None:
    table = load_config("tiny").to_dict()
    before = copy.deepcopy(table)
    one, two = (damaged_table(table, random.Random(3)) for _ in range(2))
    assert repr(one) == repr(two) != repr(table) and table == before
