"""The YAML that calibrations are written in: OpenCV's FileStorage, EasyMocap and ROS.

Mappings and sequences by indentation, flow lists and maps over any number of lines, plain and quoted scalars, comments
and OpenCV's matrix tag. What YAML can do besides (anchors, merge keys, objects, text over several lines) is refused:
no calibration needs it, and it is what makes YAML from strangers dangerous. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from ...protocol.errors import InputError

_DEEPEST = 16
_MOST_LINES = 100_000
_TAG = re.compile(r"!!?(opencv-matrix|opencv-nd-matrix|map|seq|str|int|float|bool)(?=\s|$)")
_TOKEN = re.compile(
    r"""\s*(?:([\[\]{},]|:(?=[\s"'\[{]))|"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|([^\[\]{},:"'\s][^\[\]{},:]*))"""
)
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_NUMBER = re.compile(r"[-+]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][-+]?\d{1,4})?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None, ".nan": float("nan"), ".inf": float("inf"),
          "-.inf": float("-inf"), "+.inf": float("inf")}  # fmt: skip


def parse_yaml(text: str, name: str) -> Any:
    """Parse one document to dictionaries, lists, strings and numbers.

    Raises:
        InputError: not in this subset; names the file and the line.
    """
    lines = _logical_lines(text, name)
    if not lines:
        return None
    reader = _Blocks(lines, name)
    value = reader.block(lines[0].indent, 0)
    if reader.at < len(lines):
        reader.refuse("is not indented like the lines before it")
    return value


@dataclass
class _Line:
    number: int
    indent: int
    text: str


class _Blocks:
    """Walk down the lines, deeper where they are indented."""

    def __init__(self, lines: list[_Line], name: str) -> None:
        self.lines, self.name, self.at = lines, name, 0

    def refuse(self, what: str) -> NoReturn:
        """Raise InputError about the line that is being read."""
        number = self.lines[min(self.at, len(self.lines) - 1)].number
        raise InputError(f"{self.name} is not YAML as calibrations are written: line {number} {what}.")

    def block(self, indent: int, depth: int) -> Any:
        """Read the mapping or sequence that stands at an indentation."""
        if depth > _DEEPEST:
            self.refuse(f"is nested deeper than {_DEEPEST}")
        if _is_item(self.lines[self.at].text):
            return self._sequence(indent, depth)
        if _split_key(self.lines[self.at].text) is None:
            line = self.lines[self.at]
            self.at += 1
            return self._scalar_or_flow(line.text, depth)
        return self._mapping(indent, depth)

    def _here(self, indent: int) -> bool:
        return self.at < len(self.lines) and self.lines[self.at].indent == indent

    def _sequence(self, indent: int, depth: int) -> list[Any]:
        out: list[Any] = []
        while self._here(indent) and _is_item(self.lines[self.at].text):
            line = self.lines[self.at]
            rest = line.text[1:].lstrip()
            if not rest:
                self.at += 1
                out.append(self._below(indent, depth))
            else:  # what follows the dash is a block of its own, indented to where it begins
                inner = indent + len(line.text) - len(rest)
                self.lines[self.at] = _Line(line.number, inner, rest)
                out.append(self.block(inner, depth + 1))
        return out

    def _mapping(self, indent: int, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while self._here(indent) and not _is_item(self.lines[self.at].text):
            pair = _split_key(self.lines[self.at].text)
            if pair is None:
                self.refuse("has no key")
            key, rest = pair
            if key in out:
                self.refuse(f"says {key[:60]!r} a second time")
            tag = _TAG.match(rest)
            rest = rest[tag.end() :].strip() if tag else rest
            self.at += 1
            out[key] = self._scalar_or_flow(rest, depth) if rest else self._below(indent, depth, dashes=True)
        return out

    def _below(self, indent: int, depth: int, *, dashes: bool = False) -> Any:
        """Read what is indented under a key or a dash; a list may stand at its key's own indentation."""
        if self.at < len(self.lines):
            line = self.lines[self.at]
            if line.indent > indent or (dashes and line.indent == indent and _is_item(line.text)):
                return self.block(line.indent, depth + 1)
        return None

    def _scalar_or_flow(self, text: str, depth: int) -> Any:
        if text[:1] in "&*|>!%@`":
            self.at -= 1
            self.refuse(f"uses {text[:20]!r}, which calibrations do without")
        if text[:1] in "[{":
            try:
                return _only(_tokens(text), depth)
            except _Unreadable:
                self.at -= 1
                self.refuse("holds a list that cannot be read")
        if text[:1] in "\"'":
            return _unquoted(text)
        return _plain(text)


def _logical_lines(text: str, name: str) -> list[_Line]:
    """Drop comments, directives and empty lines; join the lines of a flow list."""
    out: list[_Line] = []
    parts: list[str] = []
    opened = 0
    for number, raw in enumerate(text.split("\n"), 1):
        if number > _MOST_LINES:
            raise InputError(f"{name} has more than {_MOST_LINES:,} lines.")
        if not opened and (raw.startswith("%") or raw.strip() in ("---", "...")):
            continue
        line = _without_comment(raw).rstrip()
        if not line.strip():
            continue
        begins = opened == 0
        opened += _opened(line)
        stripped = line.strip()
        if begins:
            out.append(_Line(number, len(line) - len(line.lstrip(" ")), stripped))
            parts = [stripped]
        else:
            parts.append(stripped)
        if opened <= 0:
            opened = 0
            if len(parts) > 1:
                out[-1].text = " ".join(parts)
    if opened:
        raise InputError(
            f"{name} is not YAML as calibrations are written: line {out[-1].number} opens a list for ever."
        )
    return out


def _without_comment(line: str) -> str:
    if "#" not in line:
        return line
    quote = ""
    for at, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote and line[at - 1] != "\\" else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "#" and (at == 0 or line[at - 1] in " \t"):
            return line[:at]
    return line


def _opened(line: str) -> int:
    if not any(bracket in line for bracket in "[]{}"):
        return 0
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', "", line)
    return bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")


def _is_item(text: str) -> bool:
    return text == "-" or text.startswith("- ")


def _split_key(text: str) -> tuple[str, str] | None:
    if text[:1] in "\"'":
        end = text.find(text[0], 1)
        if end < 0 or not text[end + 1 :].lstrip().startswith(":"):
            return None
        return text[1:end], text[end + 1 :].lstrip()[1:].strip()
    if text[:1] in "[{":
        return None
    at = text.find(": ")
    if at < 0:
        at = len(text) - 1 if text.endswith(":") else -1
    return (text[:at].strip(), text[at + 1 :].strip()) if at > 0 else None


def _only(tokens: list[tuple[str, Any]], depth: int) -> Any:
    value, after = _flow(tokens, 0, depth)
    if after < len(tokens):
        raise _Unreadable
    return value


def _tokens(text: str) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    at, text = 0, text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _Unreadable
        mark, double, single, plain = found.groups()
        if mark is not None:
            out.append(("mark", mark))
        elif plain is not None:
            out.append(("value", _plain(plain.strip())))
        else:
            out.append(("value", double if double is not None else single))
        at = found.end()
    return out


class _Unreadable(Exception):
    """A flow list or map is broken."""


def _flow(tokens: list[tuple[str, Any]], at: int, depth: int) -> tuple[Any, int]:
    """Read the value at a token; give it and where the next token stands.

    Raises:
        _Unreadable: it is broken or nested too deeply.
    """
    if at >= len(tokens) or depth > _DEEPEST:
        raise _Unreadable
    kind, value = tokens[at]
    if kind == "value":
        return value, at + 1
    if value not in "[{":
        raise _Unreadable
    end = ("mark", "]" if value == "[" else "}")
    items: list[Any] = []
    pairs: dict[str, Any] = {}
    at += 1
    while at < len(tokens) and tokens[at] != end:
        item, at = _flow(tokens, at, depth + 1)
        if value == "[":
            items.append(item)
        elif tokens[at : at + 1] == [("mark", ":")]:
            pairs[str(item)], at = _flow(tokens, at + 1, depth + 1)
        else:
            raise _Unreadable
        if tokens[at : at + 1] == [("mark", ",")]:
            at += 1
        elif tokens[at : at + 1] != [end]:
            raise _Unreadable
    if at >= len(tokens):
        raise _Unreadable
    return (items if value == "[" else pairs), at + 1


def _unquoted(text: str) -> str:
    quote = text[0]
    inner = text[1:-1] if len(text) > 1 and text.endswith(quote) else text[1:]
    return inner.replace("''", "'") if quote == "'" else re.sub(r"\\(.)", r"\1", inner)


def _plain(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return text if text[:1] == "0" and len(text) > 1 else int(text)  # 01 is a name
    return float(text) if _NUMBER.fullmatch(text) else text
