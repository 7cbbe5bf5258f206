"""One table of how good the pictures are: models beside gamma, CLAHE and finished pictures of others.

    python -m benchmarks.quality_table --data DATA --model tiny=CHECKPOINT [--finished old=FOLDER] [--held-out LIST]
                                       [--sets eval15,pairs,mixed,kodak,unpaired] [--lpips FILE] [--sheet sheet.png]

DATA holds LOL/eval15, pairs, mixed_light, kodak24 and unpaired/{LIME,DICM}; LIST names the pairs left out of training
(FOLDER/NAME, one a line).  FOLDER of finished pictures: SET/NAME.png.  What is measured:

    eval15, pairs, mixed   PSNR, SSIM (`standard`), LPIPS-AlexNet; for eval15 PSNR with the mean corrected (`gtmean`)
    kodak                  PSNR of the result against the picture itself, which needs nothing
    unpaired               how many pictures burn (2 points more of their pixels reach 250 in the brightest channel), and
                           of how many the darker half becomes darker
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.data.layouts import Pair, find_pairs
from lldiffusion.evaluation.baselines import automatic_gamma
from lldiffusion.evaluation.lpips import Lpips
from lldiffusion.evaluation.protocols import PROTOCOLS
from lldiffusion.images import Image, list_images, read_image, to_uint8, write_image

Uint8 = NDArray[np.uint8]
Method = Callable[[Uint8, str, str], Uint8]  # (picture, set, name) -> result
SETS = ("eval15", "pairs", "mixed", "kodak", "unpaired")
BURNT, POINTS = 250, 0.02  # of 255, and the share of pixels that may newly reach it
UNCHANGED = 60.0  # dB: a picture given back as it is counts as this
DARKER = 0.5  # of 255: by so much the mean of the darker half may fall


@dataclass(frozen=True)
class Picture:
    """One thing to enhance; `normal` is what it is compared with, where there is such a thing."""

    name: str
    low: Path
    normal: Path | None


def main() -> None:
    options = _options()
    methods = dict(_methods(options))
    lpips = Lpips.load(options.lpips) if options.lpips else None
    rows = []
    for name, method in methods.items():
        row = {}
        for chosen in options.sets.split(","):
            pictures = list(_pictures(chosen, options.data, options.held_out))
            results = [(p, method(_read(p.low), chosen, p.name)) for p in pictures]
            row |= _judge(chosen, results, lpips)
            if chosen == "unpaired" and options.sheet:
                _sheet(results, options.sheet.with_stem(f"{options.sheet.stem}-{name}"))
            if options.save:
                for picture, result in results:
                    _write(options.save / name / chosen / f"{picture.name}.png", result)
        rows.append((name, row))
        print(f"| {name} | " + " | ".join(f"{key} {value}" for key, value in row.items()) + " |", flush=True)
    print(_table(rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], help="NAME=CHECKPOINT")
    parser.add_argument("--told", action="append", default=[], help="NAME=CHECKPOINT, told the level of the truth")
    parser.add_argument("--finished", action="append", default=[], help="NAME=FOLDER of SET/NAME.png")
    parser.add_argument("--baselines", action="store_true", help="gamma and CLAHE too")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--lpips", type=Path)
    parser.add_argument("--sheet", type=Path, help="contact sheet of the unpaired pictures, before and after")
    parser.add_argument("--save", type=Path, help="folder for every result: METHOD/SET/NAME.png")
    return parser.parse_args()


def _methods(options: argparse.Namespace) -> Iterator[tuple[str, Method]]:
    for text in options.model:
        name, _, path = text.partition("=")
        yield name, _model(path)
    for text in options.told:
        name, _, path = text.partition("=")
        yield f"{name} (told the level)", _model(path, options)
    for text in options.finished:
        name, _, path = text.partition("=")
        yield name, lambda low, chosen, picture, folder=Path(path): _read(folder / chosen / f"{picture}.png")
    if options.baselines:
        yield "gamma", lambda low, chosen, picture: to_uint8(automatic_gamma(low))
        yield "CLAHE", lambda low, chosen, picture: _clahe(low)


def _model(path: str, told: argparse.Namespace | None = None) -> Method:
    from lldiffusion.model import load_model
    from lldiffusion.training.validate import enhance

    model = load_model(path)

    def run(low: Uint8, chosen: str, name: str) -> Uint8:
        if told is None:
            return enhance(model, model.config, low)
        same = next(p for p in _pictures(chosen, told.data, told.held_out) if p.name == name)
        return enhance(model, model.config, low, _read(same.normal or same.low))

    return run


def _clahe(low: Uint8) -> Uint8:
    from skimage.exposure import equalize_adapthist

    return to_uint8(equalize_adapthist(low).astype(np.float32))


def _pictures(chosen: str, data: Path, held_out: Path) -> Iterator[Picture]:
    held = {line.strip() for line in held_out.read_text().splitlines()}
    if chosen == "kodak":
        yield from (Picture(path.stem, path, path) for path in list_images(data / "kodak24"))
    elif chosen == "unpaired":
        for part in ("LIME", "DICM"):
            yield from (Picture(f"{part}-{p.stem}", p, None) for p in list_images(data / "unpaired" / part))
    else:
        folder = {"eval15": data / "LOL" / "eval15", "pairs": data / "pairs", "mixed": data / "mixed_light"}[chosen]
        for pair in find_pairs(folder):
            if chosen == "eval15" or f"{folder.name}/{pair.name}" in held:
                yield _picture(pair)


def _picture(pair: Pair) -> Picture:
    return Picture(pair.name, pair.low, pair.normal)


def _judge(chosen: str, results: list[tuple[Picture, Uint8]], lpips: Lpips | None) -> dict[str, str]:
    """The cells of one set, by column."""
    if chosen == "unpaired":
        burnt = [p.name for p, result in results if _burns(_read(p.low), result)]
        darkened = [p.name for p, result in results if _darkens(_read(p.low), result)]
        return {"burnt": _count(burnt), "darkened": _count(darkened)}
    truths = [(result, _read(p.normal)) for p, result in results if p.normal]
    scores = [PROTOCOLS["standard"].measure(*pair, lpips if chosen != "kodak" else None) for pair in truths]
    mean = {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
    if chosen == "kodak":
        each = sorted(min(s["psnr"], UNCHANGED) for s in scores)
        return {"kodak": f"{np.mean(each):.2f} ({each[0]:.2f} at worst, {sum(p < 36 for p in each)} below 36)"}
    cells = {chosen: f"{mean['psnr']:.2f} / {mean['ssim']:.3f}" + (f" / {mean['lpips']:.3f}" if lpips else "")}
    if chosen == "eval15":
        cells["gtmean"] = f"{np.mean([PROTOCOLS['gtmean'].measure(*pair)['psnr'] for pair in truths]):.2f}"
    off = [abs(float(result.mean()) - float(truth.mean())) for result, truth in truths]
    return cells | {f"{chosen} level off": f"{np.mean(off):.1f}"}


def _burns(low: Uint8, result: Uint8) -> bool:
    before, after = ((side.max(axis=2) >= BURNT).mean() for side in (low, result))
    return bool(after - before > POINTS)


def _darkens(low: Uint8, result: Uint8) -> bool:
    grey = low.mean(axis=2)
    dark = grey <= np.median(grey)
    return bool(result.mean(axis=2)[dark].mean() < grey[dark].mean() - DARKER)


def _count(names: list[str]) -> str:
    return f"{len(names)}" + (f" ({', '.join(names)})" if names else "")


def _table(rows: list[tuple[str, dict[str, str]]]) -> str:
    columns = list(dict.fromkeys(key for _, row in rows for key in row))
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row.get(c, "") for c in columns) + " |" for name, row in rows]
    return "\n".join(lines)


def _sheet(results: list[tuple[Picture, Uint8]], path: Path, width: int = 420, columns: int = 3) -> None:
    """Before and after side by side, `columns` such couples a row."""
    cells = [np.concatenate([_fit(_read(p.low), width), _fit(result, width)], axis=1) for p, result in results]
    rows = []
    for start in range(0, len(cells), columns):
        row = cells[start : start + columns]
        height = max(cell.shape[0] for cell in row)
        row += [np.zeros((1, 2 * width, 3), np.uint8)] * (columns - len(row))
        rows.append(np.concatenate([np.pad(c, ((0, height - len(c)), (0, 0), (0, 0))) for c in row], axis=1))
    _write(path, np.concatenate(rows))


def _fit(picture: Uint8, width: int) -> Uint8:
    from skimage.transform import resize

    height = round(picture.shape[0] * width / picture.shape[1])
    return to_uint8(resize(picture, (height, width), anti_aliasing=True).astype(np.float32))


def _read(path: Path) -> Uint8:
    return to_uint8(read_image(path).pixels)


def _write(path: Path, picture: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(pixels=picture.astype(np.float32) / np.float32(255), format="png"))


if __name__ == "__main__":
    main()
