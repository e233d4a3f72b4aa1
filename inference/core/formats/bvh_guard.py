"""BVH from strangers, looked through before Blender's reader, which trusts it, opens it.

Source: the layout as Biovision's own files have it: a statement a line, a row of values a frame. What is refused:
brackets that do not close, channels that are none, values that are missing or no numbers, and more of anything than
a recorded motion has; bones in bones a thousand deep end Blender itself.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...protocol.errors import InputError

MAX_BYTES = 512 << 20
MAX_LINE = 1 << 20
MAX_JOINTS = 4096
MAX_DEPTH = 256  # of joints in joints
MAX_FRAMES = 1_000_000
MAX_VALUE = 1e7  # millimetres are written too
_CHANNELS = frozenset(f"{axis}{what}" for axis in "xyz" for what in ("position", "rotation"))
_ROWS = 2000  # looked at together


class _Line(NamedTuple):
    number: int
    words: list[str]


def check_bvh(path: Path) -> float:
    """Look a .bvh through; give the seconds between its frames.

    Raises:
        InputError: missing, too large, damaged, or claiming what it does not hold; names the line.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path.name} has {size >> 20} MiB; at most {MAX_BYTES >> 20} are read of a BVH file.")
        with path.open("rb") as stream:
            lines = _lines(path, stream)
            return _check(path, lines)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _lines(path: Path, stream: Iterator[bytes]) -> Iterator[_Line]:
    """Lines that say something. A file whose lines end with CR alone is one line here, and Blender splits it."""
    number = 0
    for raw in stream:
        parts = raw.split(b"\r") if raw.count(b"\r") > 1 else [raw]
        for part in parts:
            number += 1
            if len(part) > MAX_LINE:
                raise _broken(path, number, f"has {len(part):,} characters")
            try:
                words = part.decode("utf-8").removeprefix("\ufeff").split()
            except UnicodeDecodeError as error:
                raise _broken(path, number, "is not UTF-8, which Blender asks for") from error
            if words:
                yield _Line(number, words)


def _check(path: Path, lines: Iterator[_Line]) -> float:
    first = next(lines, _Line(1, [""]))
    if first.words[0].upper() != "HIERARCHY":
        raise InputError(f"{path.name} is no BVH file: it does not begin with HIERARCHY.")
    channels = _hierarchy(path, lines)
    frames, step = _timing(path, lines)
    held = 0
    while rows := list(islice(lines, _ROWS)):
        _check_rows(path, rows, channels)
        held += len(rows)
        if held > MAX_FRAMES:
            raise InputError(f"{path.name} has over {MAX_FRAMES:,} frames.")
    if not held:
        raise InputError(f"{path.name} says {frames} frames and holds none.")
    return step


def _hierarchy(path: Path, lines: Iterator[_Line]) -> int:
    """Read the joints up to MOTION; give the number of channels."""
    depth = joints = channels = 0
    for line in lines:
        word = line.words[0].lower()
        if word == "motion":
            if depth or not joints:
                raise _broken(path, line.number, f"begins the motion with {depth} open brackets, {joints} joints")
            return channels
        if word in ("root", "joint"):
            joints, depth = joints + 1, depth + 1
            if joints > MAX_JOINTS or depth > MAX_DEPTH:
                raise _broken(path, line.number, f"is joint {joints}, {depth} deep; {MAX_JOINTS}, {MAX_DEPTH} are read")
            if len(line.words) < 2:
                raise _broken(path, line.number, "names no joint")
            _open(path, lines)
            channels += _channels(path, next(lines, None))
        elif word == "end":
            depth += 1
            _open(path, lines)
        elif word == "}" and len(line.words) == 1 and depth:
            depth -= 1
        else:
            raise _broken(path, line.number, f"says {' '.join(line.words)[:40]!r} among the joints")
    raise InputError(f"{path.name} has no MOTION: it was cut, or is no BVH file.")


def _open(path: Path, lines: Iterator[_Line]) -> None:
    """Take an opening bracket and the offset behind it."""
    bracket, offset = next(lines, None), next(lines, None)
    if bracket is None or offset is None:
        raise InputError(f"{path.name} ends among its joints.")
    if bracket.words != ["{"]:
        raise _broken(path, bracket.number, "should be an opening bracket")
    values = [_number(word) for word in offset.words[1:]]
    if offset.words[0].lower() != "offset" or len(values) != 3 or not all(abs(v) <= MAX_VALUE for v in values):
        raise _broken(path, offset.number, "should be an OFFSET of three numbers")


def _channels(path: Path, line: _Line | None) -> int:
    if line is None:
        raise InputError(f"{path.name} ends among its joints.")
    names = [word.lower() for word in line.words[2:]]
    said = line.words[1] if len(line.words) > 1 else ""
    if line.words[0].lower() != "channels" or said != str(len(names)) or not set(names) <= _CHANNELS:
        raise _broken(path, line.number, "should be CHANNELS, their number, and as many names")
    if len(set(names)) < len(names):
        raise _broken(path, line.number, "names a channel twice")
    return len(names)


def _timing(path: Path, lines: Iterator[_Line]) -> tuple[int, float]:
    counted, timed = next(lines, None), next(lines, None)
    if counted is None or timed is None:
        raise InputError(f"{path.name} ends before its frames.")
    said = re.fullmatch(r"frames:\s*(\d{1,9})", " ".join(counted.words), re.IGNORECASE)
    if said is None:
        raise _broken(path, counted.number, "should say Frames: and their number")
    rate = re.fullmatch(r"frame time:\s*(\S+)", " ".join(timed.words), re.IGNORECASE)
    step = _number(rate[1]) if rate else math.nan
    if not 1e-4 < step < 10:
        raise _broken(path, timed.number, "should say Frame Time: and seconds, 0.0001 to 10")
    return int(said[1]), step


def _check_rows(path: Path, rows: list[_Line], channels: int) -> None:
    for row in rows:
        if len(row.words) != channels:
            raise _broken(path, row.number, f"has {len(row.words)} values for {channels} channels")
    text = " ".join(word for row in rows for word in row.words)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # how numpy before 2.3 tells of text that is no number
            values = np.fromstring(text, float, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.array([])
    if len(values) == len(rows) * channels and (np.abs(values) <= MAX_VALUE).all():
        return
    for row in rows:
        bad = [word for word in row.words if not abs(_number(word)) <= MAX_VALUE]
        if bad:
            raise _broken(path, row.number, f"holds {bad[0][:20]!r} where a number should be")


def _number(text: str) -> float:
    """A number as Python and Blender's reader take it; NaN for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _broken(path: Path, number: int, what: str) -> InputError:
    return InputError(f"{path.name}: line {number:,} {what}.", "Export the motion as BVH again.")
