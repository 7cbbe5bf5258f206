"""What this machine's processor has that decides between precisions and code paths: read once, nothing is timed."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Names of Linux's cpuinfo: eight-bit products summed in one instruction, bfloat16 products.
VNNI = ("avx512_vnni", "avx_vnni")
BF16 = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True)
class Processor:
    """The processor, as far as precision is concerned."""

    name: str
    vnni: tuple[str, ...] = ()  # those of VNNI that it has
    bf16: tuple[str, ...] = ()  # those of BF16 that it has
    known: bool = True  # False: this system does not say
    avx512: bool = False  # whether it has AVX-512's foundation

    def __str__(self) -> str:
        flags = (*self.vnni, *self.bf16)
        return f"{self.name}, {', '.join(flags) if flags else 'neither VNNI nor bfloat16' if self.known else 'unknown'}"


@lru_cache(1)
def processor() -> Processor:
    """This machine's processor; on systems other than Linux what it can do is not known."""
    try:
        return parse_cpuinfo(CPUINFO.read_text(errors="replace"))
    except OSError:
        return Processor(platform.processor() or platform.machine() or "unknown", known=False)


def parse_cpuinfo(text: str) -> Processor:
    """The first processor of Linux's /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    name = fields.get("model name") or platform.machine() or "unknown"
    vnni, bf16 = (tuple(flag for flag in wanted if flag in flags) for wanted in (VNNI, BF16))
    return Processor(name, vnni, bf16, avx512="avx512f" in flags)


def cpu_precision(precisions: tuple[str, ...], here: Processor | None = None) -> tuple[str, str]:
    """(precision, why) that ONNX Runtime runs fastest on this CPU, of those that a bundle has within its thresholds.

    With VNNI eight bits took 0.53 of float32's time (`tiny`, 1280x720, one thread).  Nothing is claimed of
    processors without it, ARM's among them: they get float32.  bfloat16 (OpenVINO) was slower than
    float32 with avx512_bf16 and one thread, so it is left to those who ask for it.
    """
    here = here or processor()
    if "int8" in precisions and here.vnni:
        return "int8", f"the processor has {here.vnni[0]}, and the bundle eight-bit graphs within its thresholds"
    why = "the bundle has no eight-bit graphs" if "int8" not in precisions else f"no VNNI was seen ({here})"
    if "fp32" in precisions:
        return "fp32", why
    return "", "the bundle holds nothing else"
