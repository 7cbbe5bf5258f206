"""The one face of the video package, which loads nothing before it is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lldiffusion
from lldiffusion import video


def test_importing_the_package_loads_neither_codecs_nor_networks() -> None:
    code = "import sys, lldiffusion.video; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"av", "cv2", "numpy", "onnxruntime", "torch"} & set(loaded)


def test_using_its_names_loads_neither_pyav_nor_opencv() -> None:
    code = (
        "import sys\n"
        "sys.modules['av'] = sys.modules['cv2'] = None  # importing them now raises\n"
        "from lldiffusion.video import Frame, VideoEnhancer, VideoSource, run_pipeline\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_an_unknown_one_is_named() -> None:
    for name in video.__all__:
        assert getattr(video, name).__module__.startswith("lldiffusion.video.")
    assert lldiffusion.VideoEnhancer is video.VideoEnhancer
    with pytest.raises(AttributeError, match="public names: Frame, VideoEnhancer"):
        _ = video.nonsense
