"""PyAV: a filter between a decoder and an encoder, with the times of the source.

    python examples/pyav_filter.py dark.mp4 bright.mp4

The smoothing is in seconds, so the frames' own times are handed over: a variable frame rate is smoothed rightly.
`lldiff video` does much more (sound, colours, 10 bit, long jobs); this is the core of it for your own program.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import tee

import av

from lldiffusion import Enhancer, LLDiffusionError


def main(source: str, target: str) -> int:
    """Returns the number of frames written."""
    count = 0
    with av.open(source) as input_, av.open(target, "w") as output, Enhancer.open("tiny") as enhancer:
        if not input_.streams.video:
            raise LLDiffusionError(f"'{source}' holds no video")
        video = input_.streams.video[0]
        stream = output.add_stream("h264", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.codec_context.time_base = video.time_base  # or the encoder would round times to the frame rate
        for pixels, original in enhanced(enhancer, input_.decode(video)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = original.pts, original.time_base
            output.mux(stream.encode(frame))
            count += 1
        output.mux(stream.encode())
    return count


def enhanced(enhancer: Enhancer, decoded: Iterator[av.VideoFrame]) -> Iterator[tuple[object, av.VideoFrame]]:
    """Every bright picture with the frame it was made of."""
    pixels, times, originals = tee(decoded, 3)  # they advance together, so nothing piles up
    bright = enhancer.stream(
        (frame.to_ndarray(format="rgb24") for frame in pixels), (float(frame.time) for frame in times)
    )
    return zip(bright, originals, strict=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/pyav_filter.py DARK BRIGHT")
    try:
        print(f"{main(*sys.argv[1:])} frames")
    except (LLDiffusionError, av.FFmpegError, OSError) as error:
        sys.exit(f"error: {error}")
