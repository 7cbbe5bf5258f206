"""256 colours for a whole GIF: FFmpeg's palettegen chooses them, its paletteuse puts them in.

One palette for all pictures: with one for each, flat areas would change their colour from picture to picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

_OPAQUE = 128  # alpha, 0 to 255, from which a pixel is opaque


def paletted(pictures: Callable[[], Iterable[Any]], alpha: bool) -> Iterator[Any]:
    """PyAV frames in pal8, with the timestamps and durations of `pictures`, which is called twice."""
    from av.error import BlockingIOError as NotYet
    from av.error import EOFError as Ended

    palette, graph, durations = _palette(pictures(), alpha), None, []
    for picture in chain(pictures(), [None]):
        if graph is None:
            graph, source = _palette_user(picture, palette)
        if picture is not None:
            durations.append(picture.duration)
        source.push(picture)
        while durations:
            try:
                done = graph.pull()
            except (NotYet, Ended):
                break
            done.duration = durations.pop(0)
            yield done


def _palette(pictures: Iterable[Any], alpha: bool) -> Any:
    """A PyAV frame of 16x16."""
    graph = None
    for picture in pictures:
        if graph is None:
            graph, source = _graph(picture)
            step = graph.add("palettegen", f"reserve_transparent={int(alpha)}")
            sink = graph.add("buffersink")
            source.link_to(step)
            step.link_to(sink)
            graph.configure()
        source.push(picture)
    assert graph is not None  # a job has a frame
    source.push(None)
    return graph.pull()


def _palette_user(picture: Any, palette: Any) -> tuple[Any, Any]:
    graph, source = _graph(picture)
    colours = graph.add_buffer(width=16, height=16, format=palette.format.name, time_base=picture.time_base)
    step, sink = graph.add("paletteuse", f"alpha_threshold={_OPAQUE}"), graph.add("buffersink")
    source.link_to(step, 0, 0)
    colours.link_to(step, 0, 1)
    step.link_to(sink)
    graph.configure()
    palette.pts, palette.time_base = 0, picture.time_base
    colours.push(palette)
    colours.push(None)
    return graph, source


def _graph(picture: Any) -> tuple[Any, Any]:
    import av

    graph = av.filter.Graph()
    size = {"width": picture.width, "height": picture.height}
    return graph, graph.add_buffer(**size, format=picture.format.name, time_base=picture.time_base)
