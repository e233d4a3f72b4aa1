"""How a phone was held: the turn that a film's file asks players for (ISO/IEC 14496-12, the track header's matrix)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MATRIX_AT = {0: 40, 1: 52}  # bytes into a track header, by its version
_HANDLER_AT = 8
_ONE = 1 << 16


def quarter_turns(path: Path) -> int:
    """Quarter turns, counter-clockwise, that make a film's pictures upright; 0 where no .mp4 or .mov says so."""
    try:
        with path.open("rb") as file:
            tracks = _named(file, (0, path.stat().st_size), b"moov", b"trak")
            return next((turn for track in tracks if (turn := _of_track(file, track)) is not None), 0)
    except (OSError, struct.error):
        return 0


def _of_track(file: BinaryIO, track: tuple[int, int]) -> int | None:
    """The turn of one track; None where it is not of pictures."""
    kinds = [_read(file, span, _HANDLER_AT, 4) for span in _named(file, track, b"mdia", b"hdlr")]
    if kinds[:1] != [b"vide"]:
        return None
    for span in _named(file, track, b"tkhd"):
        a, b = struct.unpack(">2i", _read(file, span, _MATRIX_AT[_read(file, span, 0, 1)[0] & 1], 8))
        return round(-math.atan2(b, a) / (math.pi / 2)) % 4 if max(abs(a), abs(b)) >= _ONE / 2 else 0
    return 0


def _named(file: BinaryIO, span: tuple[int, int], *names: bytes) -> Iterator[tuple[int, int]]:
    """Spans of the contents of boxes that lie in boxes of these names, the outermost first."""
    if not names:
        yield span
        return
    start, end = span
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", _read(file, (start, end), 0, 8))
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", _read(file, (start, end), 8, 8))[0], 16
        size = size or end - start  # the last box may say nothing
        if size < head or start + size > end:
            return
        if name == names[0]:
            yield from _named(file, (start + head, start + size), *names[1:])
        start += size


def _read(file: BinaryIO, span: tuple[int, int], at: int, count: int) -> bytes:
    """Bytes of a span.

    Raises:
        struct.error: they are not all there.
    """
    start, end = span
    if start + at + count > end:
        raise struct.error("the file is cut")
    file.seek(start + at)
    found = file.read(count)
    if len(found) < count:
        raise struct.error("the file is cut")
    return found
