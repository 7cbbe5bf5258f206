"""What this machine can run, and how to close each gap.  Every check answers; none of them raises."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from lldiffusion.images.formats import PACKAGES, suffixes_of
from lldiffusion.limits import processors
from lldiffusion.versions import __version__

from .backends.onnx_runtime import disable_telemetry
from .driver import driver
from .memory import host_memory
from .processor import processor

# A whole ONNX file: y = Identity(x), one float.  Small enough to prove that a provider really starts.
IDENTITY = (
    b'\x08\x08:9\n\x12\n\x01x\x12\x01y"\x08Identity:\x00\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
ENCODERS = ("libx264", "libx265", "libsvtav1", "h264_nvenc", "hevc_nvenc")  # of video, in PyAV's FFmpeg
FORMATS = {"png": "pngload", "jpeg": "jpegload", "webp": "webpload", "tiff": "tiffload"}  # -> libvips operation
FORMATS |= {"avif": "heifload", "gif": "gifload"}
PICTURE_EXTRAS = {"heic": "pillow-heif", "jxl": "pillow-jxl-plugin", "raw": "rawpy"}  # -> package


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    topic: str
    state: str  # "ok", "missing" (optional and not here) or "broken" (here, and does not work)
    detail: str
    fix: str = ""  # what to do, empty when nothing need be done


def examine() -> list[Finding]:
    """All findings, in the order of the report."""
    return [check() for check in CHECKS]


def check_machine() -> Finding:
    free = f"{host_memory() / 2**30:.1f} GiB of memory free"
    system = f"{platform.system()} {platform.machine()}, cores: {processors()}, {free}"
    return Finding("lldiffusion", "ok", f"{__version__}, Python {platform.python_version()}, {system}")


def check_processor() -> Finding:
    """What the processor has, and which precision that makes `auto` take."""
    here = processor()
    fast = "eight-bit graphs where a bundle has them" if here.vnni else "float32"
    if here.vnni and installed("openvino"):
        fast += ", through OpenVINO in videos, services and for many pictures: it starts more slowly and runs faster"
    bf16 = "; --precision bf16 with OpenVINO" if here.bf16 else ""
    return Finding("processor", "ok", f"{here}: auto takes {fast}{bf16}")


def check_gpu() -> Finding:
    found = driver()
    if found.problem:
        return Finding(
            "gpu", "missing", found.problem, "for a GPU: install NVIDIA's driver (nvidia-smi must list the GPU)"
        )
    gpus = "; ".join(f"cuda:{g.index} {g.name}, sm_{g.capability}, {g.memory / 2**30:.0f} GiB" for g in found.gpus)
    return Finding("gpu", "ok", f"{gpus}; the driver runs CUDA up to {found.cuda}")


def check_torch() -> Finding:
    here = installed("torch")
    if here is None:
        return _missing("torch", "only training, export and checkpoints need it", "train")
    if "+cpu" in here and not driver().problem:
        return Finding("torch", "ok", f"{here}, without CUDA", "for eager runs on the GPU: a CUDA build (pytorch.org)")
    return Finding("torch", "ok", here)


def check_onnx_runtime() -> Finding:
    """Both packages install the same folder: the one installed last wins, and removing one breaks the other."""
    names = {name: installed(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    here = ", ".join(f"{name} {found}" for name, found in names.items() if found)
    wanted = "onnxruntime" if driver().problem else "onnxruntime-gpu"
    if not here:
        return _missing("onnxruntime", "runs bundles on CPUs (and, as onnxruntime-gpu, on NVIDIA GPUs)", "cpu")
    repair = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {wanted}"
    if all(names.values()):
        return Finding("onnxruntime", "broken", f"{here}: they overwrite each other's files", repair)
    disable_telemetry()
    module = _import("onnxruntime")
    if isinstance(module, str):
        return Finding("onnxruntime", "broken", f"{here}: {module}", repair)
    return _providers(module, here, repair)


def _providers(module: ModuleType, here: str, repair: str) -> Finding:
    """Start each provider that is listed: being listed says little."""
    listed = [
        name for name in module.get_available_providers() if name in ("CUDAExecutionProvider", "CPUExecutionProvider")
    ]
    dead = [name for name in listed if not _starts(module, name)]
    alive = ", ".join(name.removesuffix("ExecutionProvider") for name in listed if name not in dead)
    if "CPUExecutionProvider" in dead:
        return Finding("onnxruntime", "broken", f"{here}: cannot run a graph", repair)
    if dead and driver().problem is None:
        cuda = 'pip install "onnxruntime-gpu[cuda,cudnn]"'
        return Finding("onnxruntime", "broken", f"{here}: runs on {alive}; CUDA is listed but does not start", cuda)
    return Finding("onnxruntime", "ok", f"{here}: runs on {alive}")


def _starts(module: ModuleType, provider: str) -> bool:
    if provider.startswith("CUDA"):
        if driver().problem:
            return False
        module.preload_dlls()
    options = module.SessionOptions()
    options.log_severity_level = 4  # fatal: the question is asked, the answer need not be printed
    try:
        session = module.InferenceSession(IDENTITY, options, providers=[provider])
    except Exception:  # its exceptions have no common base class of their own
        return False
    return provider in session.get_providers()


def check_openvino() -> Finding:
    found = _working("openvino", "openvino", "another way to run bundles on CPUs", "openvino")
    if isinstance(found, Finding):
        return found
    from .backends.openvino_cpu import core

    return Finding("openvino", "ok", f"{found[0]}: {', '.join(core().available_devices)}")


def check_tensorrt() -> Finding:
    here = first_installed("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
    if here is None:
        return _missing("tensorrt", "the fastest engines, built and run on NVIDIA GPUs", "gpu")
    return _flavour("tensorrt", here, "builds and runs")


def check_tensorrt_rtx() -> Finding:
    here = first_installed("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12")
    if here is None:
        return _missing(
            "tensorrt-rtx", "TensorRT for RTX: builds engines anywhere, runs them on GeForce RTX GPUs", "rtx"
        )
    return _flavour("tensorrt-rtx", here, "builds engines here; running them")


def _flavour(topic: str, here: str, does: str) -> Finding:
    module = _import(topic.replace("-", "_"))
    if isinstance(module, str):
        return Finding(topic, "broken", f"{here}: {module}", f"pip install --force-reinstall {here.replace(' ', '==')}")
    if driver().problem:
        return Finding(topic, "ok", f"{here}: {does} needs an NVIDIA GPU ({driver().problem})")
    return Finding(topic, "ok", here)


def check_cuda_python() -> Finding:
    here = first_installed("cuda-bindings", "cuda-python")
    return (
        Finding("cuda-python", "ok", here)
        if here
        else _missing("cuda-python", "TensorRT engines run through it", "gpu")
    )


def check_onnx() -> Finding:
    names = {name: installed(name) for name in ("onnx", "onnxscript")}
    absent = [name for name, found in names.items() if not found]
    if absent:
        return Finding(
            "onnx", "missing", f"{', '.join(absent)} not installed: export needs it", f"pip install {' '.join(absent)}"
        )
    return Finding("onnx", "ok", ", ".join(f"{name} {found}" for name, found in names.items()))


def check_images() -> Finding:
    module = _import("pyvips")
    if isinstance(module, str):
        return Finding("images", "broken", module, 'pip install --force-reinstall "pyvips[binary]"')
    lacking = [name for name, operation in FORMATS.items() if not module.type_find("VipsOperation", operation)]
    if lacking:
        return Finding(
            "images", "broken", f"this libvips cannot read {', '.join(lacking)}", 'pip install "pyvips[binary]"'
        )
    pillow = _import("PIL.BmpImagePlugin")
    if isinstance(pillow, str):
        return Finding("images", "broken", f"no BMP: pillow {pillow}", "pip install --force-reinstall pillow")
    libvips = ".".join(str(module.version(part)) for part in range(3))
    formats = ", ".join((*FORMATS, "bmp"))
    return Finding("images", "ok", f"pyvips {installed('pyvips')}, libvips {libvips}, pillow: {formats}")


def check_picture_extra(extra: str) -> Finding:
    """A picture format that needs a package of its own."""
    module, name = PACKAGES[extra]
    package, suffixes = PICTURE_EXTRAS[extra], " ".join(suffixes_of(extra))
    here = installed(package)
    if here is None:
        return _missing(extra, f"{name} pictures ({suffixes})", extra)
    found = _import(module)
    if isinstance(found, str):
        return Finding(extra, "broken", f"{package} {here}: {found}", f"pip install --force-reinstall {package}")
    return Finding(extra, "ok", f"{package} {here}: {name} pictures ({suffixes})")


def check_video() -> Finding:
    found = _working("video", "av", "reads and writes video (the package 'av')", "video")
    if isinstance(found, Finding):
        return found
    here, module = found
    encoders = [name for name in ENCODERS if _can_encode(module, name)]
    return Finding("video", "ok", f"av {here}, encoders: {', '.join(encoders) or 'none of the usual'}")


def _can_encode(av: ModuleType, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except Exception:  # UnknownCodecError, whose place in PyAV has moved between versions
        return False
    return True


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_machine,
    check_processor,
    check_gpu,
    check_onnx_runtime,
    check_openvino,
    check_tensorrt,
    check_tensorrt_rtx,
    check_cuda_python,
    check_torch,
    check_onnx,
    check_images,
    *(partial(check_picture_extra, extra) for extra in PICTURE_EXTRAS),
    check_video,
)


def installed(distribution: str) -> str | None:
    """Version of an installed package, without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def first_installed(*distributions: str) -> str | None:
    """ "name version" of the first of these packages that is installed."""
    return next((f"{name} {found}" for name in distributions if (found := installed(name))), None)


def _missing(topic: str, what_for: str, extra: str) -> Finding:
    return Finding(topic, "missing", f"not installed: {what_for}", f'pip install "lldiffusion[{extra}]"')


def _working(topic: str, package: str, what_for: str, extra: str) -> Finding | tuple[str, ModuleType]:
    """Version and module of an optional package, or the finding that it is missing or broken."""
    here = installed(package)
    if here is None:
        return _missing(topic, what_for, extra)
    module = _import(package)
    if isinstance(module, str):
        return Finding(topic, "broken", f"{package} {here}: {module}", f"pip install --force-reinstall {package}")
    return here, module


def _import(name: str) -> ModuleType | str:
    """The module, or why it cannot be imported."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken binary package may raise anything
        sys.modules.pop(name, None)
        return f"cannot be imported ({' '.join(str(error).split())[:200]})"
