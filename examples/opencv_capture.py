"""OpenCV: read a dark video (or a camera), enhance it, write it.

    python examples/opencv_capture.py dark.mp4 bright.mp4
    python examples/opencv_capture.py 0 bright.mp4          # the first camera, until Ctrl-C

OpenCV's frames are BGR: open the model with channels="bgr" and no conversion is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import cv2

from lldiffusion import Enhancer, LLDiffusionError


def frames(capture: Any) -> Iterator[Any]:
    """What the capture yields until it ends, (H, W, 3) uint8 BGR."""
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame


def main(source: str, target: str) -> int:
    """Returns the number of frames written."""
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        raise SystemExit(f"cannot open '{source}'")
    fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    writer = cv2.VideoWriter(target, cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    count = 0
    try:
        with Enhancer.open("tiny", channels="bgr") as enhancer:
            for bright in enhancer.stream(frames(capture), fps=fps):
                writer.write(bright)
                count += 1
    except KeyboardInterrupt:
        pass  # what was written is kept
    finally:
        capture.release()
        writer.release()
    return count


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/opencv_capture.py DARK BRIGHT.mp4")
    try:
        print(f"{main(*sys.argv[1:])} frames")
    except LLDiffusionError as error:
        sys.exit(f"error: {error}")
