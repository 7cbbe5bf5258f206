"""The part of docs/formats.md on clips says what the code does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video.colour import BT2020, LIMITED, Colour
from lldiffusion.video.hdr import HLG
from lldiffusion.video.reading.inputs import VIDEO_SUFFIXES
from lldiffusion.video.video_info import VideoInfo
from lldiffusion.video.writing.animation import CODECS
from lldiffusion.video.writing.encoding import CONTAINERS, choose_encoding
from lldiffusion.video.writing.outputs import ANIMATIONS, VIDEO_OUTPUTS
from lldiffusion.video.writing.streams import AUDIO_CODECS, AUDIO_NAMES, TEXT_CODECS


def clip(pixels: str, bits: int, alpha: bool = False, hdr: bool = False) -> VideoInfo:
    colour = Colour(BT2020, LIMITED, HLG, BT2020) if hdr else Colour()
    rate = Fraction(25)
    return VideoInfo("a", 96, 64, pixels, bits, colour, 1 / rate, rate, alpha=alpha, keep_hdr=hdr)


def keeps_hdr(target: Path) -> str:
    """ "yes", or with which codec it does."""
    for codec in (None, "libsvtav1"):
        try:
            choose_encoding(clip("yuv420p10le", 10, hdr=True), target, codec)
            return f"with {codec}" if codec else "yes"
        except LLDiffusionError:
            pass
    return "no"


def wanted_rows() -> list[list[str]]:
    """The table of containers as the code has it."""
    rows = []
    for container in dict.fromkeys(CONTAINERS.values()):
        suffixes = [suffix for suffix, name in CONTAINERS.items() if name == container]
        target = Path(f"a{suffixes[0]}")
        plain = choose_encoding(clip("yuv420p", 8), target).codec
        deep = choose_encoding(clip("yuv420p10le", 10), target).codec
        clear = choose_encoding(clip("yuva420p", 8, alpha=True), target)
        sound = AUDIO_NAMES[AUDIO_CODECS.get(container, "aac")]
        text = TEXT_CODECS.get(container, "left out")
        alpha = clear.codec if clear.alpha else "dropped"
        rows.append([container, " ".join(suffixes), plain, deep, alpha, keeps_hdr(target), sound, text])
    for suffix, name in ANIMATIONS.items():
        alpha = "on or off" if name == "gif" else "yes"
        rows.append([name, suffix, CODECS[name], CODECS[name], alpha, "no", "left out", "left out"])
    return rows


def test_the_table_of_containers_is_the_codes(root: Path) -> None:
    page = (root / "docs" / "formats.md").read_text(encoding="utf-8")
    lines = page.split("| container |")[1].split("\n\n")[0].splitlines()[2:]
    assert [[cell.strip() for cell in line[1:-1].split("|")] for line in lines] == wanted_rows()
    assert set(VIDEO_OUTPUTS) == {suffix for row in wanted_rows() for suffix in row[1].split()}


def test_the_suffixes_in_a_folder_are_the_codes(root: Path) -> None:
    page = (root / "docs" / "formats.md").read_text(encoding="utf-8")
    named = page.split("(in a folder: `")[1].split("`")[0]
    assert tuple(named.split()) == VIDEO_SUFFIXES


@pytest.mark.parametrize("page", ["video.md", "enhance.md"])
def test_the_page_is_linked(root: Path, page: str) -> None:
    assert "formats.md" in (root / "docs" / page).read_text(encoding="utf-8")
