"""The same pictures make the same bytes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.engines.processor import Processor, parse_cpuinfo
from lldiffusion.video.colour import Colour
from lldiffusion.video.frame import Frame
from lldiffusion.video.planes import Origin
from lldiffusion.video.video_info import VideoInfo
from lldiffusion.video.writing.encoding import choose_encoding
from lldiffusion.video.writing.repeatable import repeatable_options
from lldiffusion.video.writing.segment import VideoSegmentWriter


def test_only_x264_with_avx512_is_held_back() -> None:
    new = parse_cpuinfo("model name\t: Xeon\nflags\t\t: fpu avx2 avx512f avx512_vnni\n")
    assert repeatable_options("libx264", new) == {"x264-params": "asm=AVX2"}
    assert repeatable_options("libx264", Processor("old")) == {} == repeatable_options("libx265", new)


def test_segments_made_again_are_the_same(tmp_path: Path) -> None:
    """x264 as it comes made other bytes in about one of five on a processor with AVX-512."""
    pytest.importorskip("av")
    info = VideoInfo("in", 480, 288, "yuv420p", 8, Colour(), Fraction(1, 25), Fraction(25))
    encoding = replace(choose_encoding(info, Path("out.mp4"), crf=18), threads=1)
    dice, seen = np.random.default_rng(0), set()
    base = dice.random((288, 480, 3), np.float32)
    pixels = [np.roll(base, (3 * i, 5 * i), (0, 1)) * np.float32(0.7) for i in range(20)]
    for number in range(4):
        writer = VideoSegmentWriter(tmp_path, f"{number}.nut", encoding)
        for i, each in enumerate(pixels):
            writer.add(Frame(each, i, Fraction(1, 25), Origin()))
        seen.add(hashlib.sha256((tmp_path / writer.close().name).read_bytes()).hexdigest())
    assert len(seen) == 1
