"""Finished work is not done again, and an actor does what `enhance` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.ray_pictures import MOST, PictureActor, parts
from lldiffusion.scale.receipts import once
from lldiffusion.scale.service.query import Wishes
from support.pictures import dark, photograph
from support.toy import toy_bundle

WISH = {"model": "m", "exposure": 0.0}


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, body: bytes) -> bytes:
        self.made += 1
        return body.upper()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    maker, target = Maker(), tmp_path / "new" / "a.png"
    assert [once(target, b"in", WISH, maker) for _ in range(3)] == [True, False, False]
    assert maker.made == 1 and target.read_bytes() == b"IN"
    assert sorted(path.name for path in target.parent.iterdir()) == [".a.png.lldiff", "a.png"]


@pytest.mark.parametrize(
    ("body", "wish"), [(b"other", WISH), (b"in", {**WISH, "exposure": 1.0}), (b"in", {**WISH, "model": "n"})]
)
def test_another_wish_is_done_where_it_may_replace(tmp_path: Path, body: bytes, wish: dict[str, object]) -> None:
    maker, target = Maker(), tmp_path / "a.png"
    once(target, b"in", WISH, maker)
    if body != b"in":
        with pytest.raises(LLDiffusionError, match="already there"):
            once(target, body, wish, maker)
    assert once(target, body, wish, maker, overwrite=True)
    assert target.read_bytes() == body.upper()
    assert not once(target, body, wish, maker)


def test_a_kill_between_the_result_and_its_receipt_changes_nothing(tmp_path: Path) -> None:
    maker, target = Maker(), tmp_path / "a.png"
    target.write_bytes(b"IN")
    before = target.stat().st_mtime_ns
    assert once(target, b"in", WISH, maker) and target.stat().st_mtime_ns == before
    assert not once(target, b"in", WISH, maker) and maker.made == 1
    target.write_bytes(b"somebody's own")
    with pytest.raises(LLDiffusionError, match="already there"):
        once(target, b"in", WISH, maker)
    assert target.read_bytes() == b"somebody's own"


@pytest.mark.parametrize(
    ("pictures", "actors", "wanted"), [(1, 1, 1), (10, 2, 10), (300, 2, 17), (10**6, 1000, 15625), (7, 64, 7)]
)
def test_pictures_are_handed_out_in_parts(pictures: int, actors: int, wanted: int) -> None:
    assert parts(pictures, actors) == wanted and -(-pictures // wanted) <= MOST


def test_an_actor_makes_what_enhance_makes(tmp_path: Path) -> None:
    model = str(toy_bundle(tmp_path / "toy"))
    photo, out = tmp_path / "a.jpg", tmp_path / "out"
    Pillow.fromarray((dark(photograph()) * 255).astype(np.uint8)).save(photo)
    assert run(["enhance", str(photo), "-o", str(tmp_path / "b.jpg"), "--model", model, "--exposure", "0.5", "-q"]) == 0
    engine = {"source": model, "device": "auto"}
    actor = PictureActor(engine, Wishes(model, exposure=0.5), 10**6, False)
    row = {"source": str(photo), "target": str(out / "b.jpg")}
    assert actor(row) == actor(row) == {"source": str(photo), "error": ""}
    assert (out / "b.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
    photo.write_bytes(b"no picture")
    assert f"cannot read '{photo}'" in actor(row)["error"]
    assert "no such file" in actor({"source": str(tmp_path / "x.png"), "target": str(out / "x.png")})["error"].lower()


@pytest.mark.parametrize("options", [["--samples", "2", "--steps", "4"], ["--match", "{photo}"]])
def test_what_a_cluster_does_not_do_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    photo = tmp_path / "a.png"
    Pillow.new("RGB", (64, 64)).save(photo)
    given = [option.format(photo=photo) for option in options]
    assert run(["enhance", str(photo), "-o", str(tmp_path / "out"), "--ray", "local", *given]) == 2
    assert "--ray takes files, one sample of each" in capsys.readouterr().err
