"""The same pictures, the same bytes: what an encoder needs for that.

x264's AVX-512 code (for rate control by macroblock tree) made other bytes of the same pictures in 7 of 32 encodes with
one thread; kept to AVX2 it made the same in all 24 with one thread, 16 with two and 16 with four, as fast.  Segments
that are made again, here or on another machine, must not differ from those that they replace.
"""

from __future__ import annotations

from lldiffusion.engines.processor import Processor, processor


def repeatable_options(codec: str, here: Processor | None = None) -> dict[str, str]:
    """Options of FFmpeg's encoder `codec` on a processor, by default this one."""
    here = here or processor()
    return {"x264-params": "asm=AVX2"} if codec == "libx264" and here.avx512 else {}
