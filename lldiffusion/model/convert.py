"""Reads the authors' checkpoints (github.com/TaoWangzj/LLDiffusion) into ours.

The rules below are the facts of their parameter names; the network itself is `lldiffusion.model.network`.
"""

from __future__ import annotations

import argparse
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError

from .checkpoint import save_checkpoint
from .network import LLDiffusion, fold_spectral_norm

RULES = [  # (their name, ours), applied in order
    *[(rf"^encoder\.encoder\.layer{i + 1}\.0\.", f"encoder.net.pyramid.{i}.conv.") for i in range(5)],
    (r"^encoder\.encoder\.conv_7x7\.", "encoder.net.wide."),
    (r"^encoder\.encoder\.res_(\d)\.conv_block\.1\.", r"encoder.net.residual.\1.conv1."),
    (r"^encoder\.encoder\.res_(\d)\.conv_block\.4\.", r"encoder.net.residual.\1.conv2."),
    (r"^encoder\.encoder\.out\.1\.0\.", "encoder.net.head.0.conv."),
    (r"^encoder\.encoder\.out\.4\.0\.", "encoder.net.head.1.conv."),
    (r"^encoder\.encoder\.out\.7\.0\.", "encoder.net.head.2.conv."),
    (r"^encoder\.upsample\.convs\.(\d)\.0\.module\.", r"encoder.net.ladder.\1.up."),
    (r"^encoder\.upsample\.convs\.(\d)\.2\.", r"encoder.net.ladder.\1.conv.conv."),
    (r"^diff_unet\.", "denoiser.net."),
    (r"^deg_unet\.", "degrader."),
    (r"\.temb\.dense\.0\.", ".time.expand."),
    (r"\.temb\.dense\.1\.", ".time.mix."),
    (r"\.mid\.block_1\.", ".middle.0."),
    (r"\.mid\.attn_1\.", ".middle.1."),
    (r"\.mid\.block_2\.", ".middle.2."),
    (r"\.up\.fuse\.cattns\.(\d)\.attention\.1\.", r".fusion.\1.reduce."),
    (r"\.up\.fuse\.cattns\.(\d)\.attention\.3\.", r".fusion.\1.expand."),
    (r"\.(down|up)\.(\d)\.block\.", r".\1.\2.blocks."),
    (r"\.(down|up)\.(\d)\.attn\.", r".\1.\2.attentions."),
    (r"\.(down|up)\.(\d)\.(downsample|upsample)\.", r".\1.\2.resize."),
    (r"\.temb_proj\.", ".time."),
    (r"\.nin_shortcut\.", ".shortcut."),
    (r"\.proj_out\.", ".out."),
    (r"\.weight_orig$", ".parametrizations.weight.original"),
    (r"\.weight_u$", ".parametrizations.weight.0._u"),
    (r"\.weight_v$", ".parametrizations.weight.0._v"),
]
# Attention over a lone h, or after the last level: built by their constructor, never called by their forward pass.
UNUSED = re.compile(r"^(denoiser\.net|degrader)\.fuse\.cattns\.")


def convert(
    source: str | Path, config: Config, out: str | Path, ema: bool = True, fold: bool = False
) -> dict[str, Any]:
    """Convert the authors' file `source` into the checkpoint folder `out`.

    Args:
        config: the preset of the network that is in the file.
        ema: take the averaged weights (their evaluation never did); False takes the raw ones.
        fold: store plain weights instead of spectral norm's three tensors (same outputs).
    Returns what was done: weights taken, decoder order, parameters left out.
    Raises LLDiffusionError when the file is not such a checkpoint or holds another network.
    """
    payload = read_authors(source)
    theirs, notes = select_weights(payload, ema)
    theirs, notes["decoder_reversed"] = forward_order(theirs)
    model, notes["left_out"] = fill(config, theirs, str(source))
    notes |= {
        "source": Path(source).name,
        "epoch": epoch if isinstance(epoch := payload.get("epoch"), int) else None,
        "spectral_norm": "folded" if fold else "exact",
    }
    if fold:
        config = unnormed(config)
        fold_spectral_norm(model)
    save_checkpoint(out, config, model.state_dict(), notes)
    return notes


def read_authors(source: str | Path) -> dict[str, Any]:
    """Load their pickled dictionary with every class refused but `argparse.Namespace`."""
    path = Path(source)
    if not path.is_file():
        raise LLDiffusionError(f"no checkpoint file '{source}'")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of older formats and types
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged and for refused files
        raise LLDiffusionError(f"'{source}' is not a checkpoint that can be loaded safely: {_why(error)}") from error
    if not isinstance(payload, dict) or not payload:
        raise LLDiffusionError(f"'{source}' holds {type(payload).__name__}, not a dictionary with 'state_dict'")
    payload = payload if "state_dict" in payload else {"state_dict": payload}
    for name in ("state_dict", "ema_helper"):
        if not isinstance(payload.get(name), dict | None):
            raise LLDiffusionError(f"'{source}': '{name}' is {type(payload[name]).__name__}, not a dictionary")
    return payload


def _why(error: Exception) -> str:
    """In our words: torch's own advise to load the file without its safeguards."""
    if wanted := re.search(r"GLOBAL ([\w.]{1,80})", str(error)):
        return f"it asks for the Python object '{wanted[1]}', which is never given to a file"
    return "it is damaged, truncated, or no file of PyTorch; copy it again"


def select_weights(payload: dict[str, Any], ema: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Their weights without the `module.` prefix: the raw ones, with the averaged ones laid over them if asked for."""
    weights = _bare(payload["state_dict"] or {})
    shadow = _bare(payload.get("ema_helper") or {})
    if ema and shadow:
        weights |= {name: value for name, value in shadow.items() if name in weights}
    return weights, {"weights": "ema" if ema and shadow else "raw"}


def _bare(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name.removeprefix("module."): value for name, value in state.items() if _is_weight(name, value)}


def _is_weight(name: Any, value: Any) -> bool:
    """Whether this is a plain array of real numbers under a name: not sparse, quantised, complex or without memory."""
    if not (isinstance(name, str) and isinstance(value, Tensor)):
        return False
    plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    return plain and not value.is_complex()


def forward_order(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Older files count decoder levels from the finest: their level 0 lacks the upsampling.  Renumber if so."""
    levels = {int(m[1]) for name in weights if (m := re.match(r"diff_unet\.up\.(\d{1,3})\.", name))}
    if not levels or f"diff_unet.up.{max(levels)}.upsample.conv.weight" not in weights:
        return weights, False

    def renumber(match: re.Match[str]) -> str:
        return f"{match[1]}_unet.up.{max(levels) - int(match[2])}."

    pattern = re.compile(r"^(diff|deg)_unet\.up\.(\d{1,3})\.")
    return {pattern.sub(renumber, name): value for name, value in weights.items()}, True


def our_name(theirs: str) -> str:
    """Our name of one of their parameters."""
    for pattern, replacement in RULES:
        theirs = re.sub(pattern, replacement, theirs)
    return theirs


def fill(config: Config, theirs: dict[str, Tensor], source: str) -> tuple[LLDiffusion, list[str]]:
    """Our network with their weights, and the names of theirs that their forward pass never uses."""
    weights = {our_name(name): value for name, value in theirs.items()}
    model = LLDiffusion(config, with_degrader=any(name.startswith("degrader.") for name in weights)).eval()
    wanted = model.state_dict()
    left_out = [n for n in weights if n not in wanted and (UNUSED.match(n) or _unused_fusion(n, config))]
    foreign = [n for n in weights if n not in wanted and n not in left_out]
    wrong = [n for n in wanted if n not in weights or weights[n].shape != wanted[n].shape]
    if foreign or wrong:
        first = (wrong + foreign)[0]
        raise LLDiffusionError(
            f"'{source}' does not hold the network of preset '{config.name}': {len(wrong)} parameters missing or of "
            f"another shape, {len(foreign)} unknown (first: {first:.80}); try another --preset"
        )
    broken = [name for name in wanted if not torch.isfinite(weights[name]).all()]
    if broken:
        raise LLDiffusionError(f"'{source}' is damaged: '{broken[0]}' holds NaN or infinite values; copy it again")
    model.load_state_dict({name: weights[name].float() for name in wanted})
    return model, left_out


def _unused_fusion(name: str, config: Config) -> bool:
    match = re.search(r"\.fusion\.(\d{1,3})\.", name)
    return match is not None and not 1 <= int(match[1]) <= len(config.model.encoder.ladder)


def unnormed(config: Config) -> Config:
    """The same configuration with spectral norm folded away."""
    encoder = replace(config.model.encoder, spectral_norm=False)
    return replace(config, model=replace(config.model, encoder=encoder))
