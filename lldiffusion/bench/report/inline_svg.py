"""Turns matplotlib's SVG file into an element of a page.

The page's CSS gives the colours, so that one drawing serves light and dark mode; names of parts are made unique, since
all plots share one document; nothing in it reaches outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from .style import COLOURS

SVG = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
_ROLES = {light: f"var(--{role})" for role, (light, _) in COLOURS.items()}
_COLOUR = re.compile("|".join(_ROLES))


def for_page(svg: str, name: str, words: str, tips: Sequence[str]) -> str:
    """The <svg> element of a file that matplotlib wrote.

    Args:
        name: comes before every name in it.
        words: what a reader who cannot see it is told.
        tips: shown over the part called "NAME-0", "NAME-1", ...
    """
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for part in root.iter():
        _rename(part, name)
    for number, tip in enumerate(tips):
        _title(root, f"{name}_{name}-{number}", tip)
    root.attrib = {"class": "plot", "role": "img", "aria-label": words, "viewBox": root.attrib["viewBox"]}
    return ElementTree.tostring(root, encoding="unicode")


def _rename(part: ElementTree.Element, name: str) -> None:
    """Colours to variables, references and names to this plot's own; fonts are the page's."""
    for key, value in list(part.attrib.items()):
        if key == "id":
            part.set(key, f"{name}_{value}")
        elif key == HREF:
            del part.attrib[key]
            part.set("href", f"#{name}_{value.removeprefix('#')}")
        elif key == "style":
            part.set(key, _COLOUR.sub(lambda found: _ROLES[found[0]], re.sub(r"font-family:[^;]*;?", "", value)))
        elif key == "clip-path":
            part.set(key, value.replace("url(#", f"url(#{name}_"))


def _title(root: ElementTree.Element, identity: str, text: str) -> None:
    """The browser shows a title while the pointer rests on its parent."""
    part = next(part for part in root.iter() if part.get("id") == identity)
    title = ElementTree.Element(f"{{{SVG}}}title")
    title.text = text
    part.insert(0, title)
