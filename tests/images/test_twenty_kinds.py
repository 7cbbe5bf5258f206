"""A folder of twenty kinds of file: each done, or named with its reason, and the summary that a stranger would want."""

from __future__ import annotations

import importlib.util
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from skimage import data

from lldiffusion.cli import run
from lldiffusion.images import Image, read_image, write_image
from support.toy import toy_bundle

PHOTO = data.astronaut()[60:124, 150:230]  # (64, 80, 3) uint8
EXTRAS = {"i.heic": "pillow_heif", "j.jxl": "pillow_jxl"}


def missing(module: str) -> bool:
    """Whether a package cannot be imported; one hidden by None in `sys.modules` among them."""
    return (module in sys.modules and sys.modules[module] is None) or importlib.util.find_spec(module) is None


def fill(folder: Path) -> None:
    """Pictures that can be read, pictures that cannot, and other files."""
    folder.mkdir()
    picture = Image((PHOTO / 255).astype(np.float32))
    for name in ("a.png", "b.jpg", "c.webp", "d.tif", "e.bmp", "f.jfif", "g.jpe", "h.avif", *EXTRAS):
        if name not in EXTRAS or importlib.util.find_spec(EXTRAS[name]):
            write_image(folder / name, picture)
        else:
            (folder / name).write_bytes(b"x")
    frame = Pillow.fromarray(PHOTO)
    frame.save(folder / "k.gif", save_all=True, append_images=[Pillow.fromarray(PHOTO[::-1])])
    frame.convert("CMYK").save(folder / "l.jpeg")
    frame.convert("P").save(folder / "m.png")
    tifffile.imwrite(folder / "n.tiff", PHOTO.astype(np.uint16) * 257, photometric="rgb")
    (folder / "o.jpg").write_bytes((folder / "b.jpg").read_bytes()[:-2])
    tifffile.imwrite(folder / "p.tif", PHOTO.astype(np.float32), photometric="rgb")
    (folder / "q.jpg").write_bytes((folder / "b.jpg").read_bytes()[:500])
    (folder / "r.cr3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(40))
    (folder / "s.bmp").write_bytes(
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 99, 0, 0, 54, 40, 30000, 30000, 1, 24, *[0] * 6)
    )
    (folder / "t.txt").write_text("notes")
    (folder / "._u.jpg").write_bytes(b"hidden")


@pytest.mark.parametrize("extras", [True, False])
def test_a_folder_of_twenty_kinds(
    extras: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "in")
    if not extras:
        for module in EXTRAS.values():
            monkeypatch.setitem(sys.modules, module, None)
    lacking = sum(map(missing, EXTRAS.values()))
    model = str(toy_bundle(tmp_path / "toy"))
    assert run(["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", model]) == 1
    said = capsys.readouterr()
    assert said.out.strip() == f"{15 - lacking} enhanced in {tmp_path / 'out'}, {4 + lacking} failed, 1 passed over"
    assert "passed over" in said.err and "t.txt" in said.err and "._u.jpg" not in said.err
    assert said.err.count("k.gif: page 1 of 2") == 1
    reasons = said.err[said.err.index("not enhanced:") :].strip().splitlines()[1:]
    assert len(reasons) == 4 + lacking
    for name, words in {
        "p.tif": "8 or 16 bits",
        "q.jpg": "cannot read",
        "r.cr3": "RAW",
        "s.bmp": "900 million",
    }.items():
        assert any(name in reason and words in reason for reason in reasons), name
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a.png", "h.avif", "k.png", "o.jpg", "n.tiff"} <= made and len(made) == 15 - lacking
    assert read_image(tmp_path / "out" / "n.tiff").bits == 16
