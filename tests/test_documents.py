"""Tables from outside: what cannot be read, walked, printed or encoded is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lldiffusion.config import load_config
from lldiffusion.documents import parse_json, read_json, read_toml
from lldiffusion.errors import LLDiffusionError

DAMAGED = {
    "empty": (b"", "no JSON"),
    "no table": (b"[1]", "a table is expected, not list"),
    "no UTF-8": (b'{"a": "\xff"}', "no JSON"),
    "half a letter": (b'{"a": "\\ud800"}', "surrogates not allowed"),
    "deep": (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested too deeply"),
    "deeper than Python": (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "a number of 80 bits": (b'{"a": ' + str(1 << 80).encode() + b"}", "63 bits"),
    "a number of 10,000 digits": (b'{"a": ' + b"9" * 10_000 + b"}", "no JSON"),
    "large": (b'{"a": "' + bytes(100) + b'"}', "more than 0 MiB"),
}


@pytest.mark.parametrize(("text", "says"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_one_line_that_names_the_source(text: bytes, says: str, tmp_path: Path) -> None:
    largest = 100 if "MiB" in says else 1 << 20
    with pytest.raises(LLDiffusionError, match=f"'here'.*{says}") as caught:
        parse_json(text, "here", largest)
    assert "\n" not in str(caught.value)
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(LLDiffusionError, match=says):
        read_json(tmp_path / "a.json", largest)


@pytest.mark.parametrize(
    "text", [b"a = " + b"[" * 50_000, b"a = 0x" + b"f" * 99, b"\xff", b"a = {" * 5000, b"a" + b".a" * 99]
)
def test_toml_is_read_with_the_same_limits(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(text + (b" = 1" if text.endswith(b".a") else b""))
    with pytest.raises(LLDiffusionError, match="is damaged"):
        read_toml(tmp_path / "a.toml")
    with pytest.raises(LLDiffusionError, match="not a readable configuration"):
        load_config(tmp_path / "a.toml")


@pytest.mark.parametrize("given", ["train.lr=0x" + "f" * 9000, "name=\udcff", "data.pairs=" + "[" * 5000])
def test_an_override_is_checked_like_a_file(given: str) -> None:
    with pytest.raises(LLDiffusionError):
        load_config("tiny", [given])


def test_a_configuration_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(LLDiffusionError, match="a table is expected"):
        load_config(tmp_path / "config.json")
