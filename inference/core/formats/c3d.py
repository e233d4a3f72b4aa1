"""C3D, the file of motion laboratories -> Markers: points with their gaps; forces and other signals are left out.

As c3d.org describes it: a header, parameters in groups, frames of 16-bit or 32-bit numbers, by Intel, DEC or MIPS
processors. Every count is checked against the file's size before anything is made of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...protocol.errors import InputError
from .marker_sets import Markers

Array = np.ndarray
MAX_BYTES = 2 << 30
_BLOCK = 512
_KEY = 80  # second byte of every C3D file
_INTEL, _DEC, _MIPS = 84, 85, 86


@dataclass(frozen=True)
class _Parameter:
    """Raw bytes of a parameter: elements of `size` bytes (-1: letters), first dimension fastest."""

    size: int
    dimensions: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class _Numbers:
    """How a processor writes numbers."""

    processor: int

    @property
    def order(self) -> str:
        return ">" if self.processor == _MIPS else "<"

    def floats(self, data: bytes | Array) -> Array:
        """32-bit floats of bytes."""
        if self.processor != _DEC:
            return np.frombuffer(data, f"{self.order}f4")
        # DEC keeps its 16-bit halves the other way round and counts its exponent from two more
        halves = np.frombuffer(data, "<u2").astype(np.uint32)
        return ((halves[0::2] << np.uint32(16)) | halves[1::2]).view(np.float32) / 4.0

    def whole(self, parameter: _Parameter | None) -> list[int]:
        """Numbers of a parameter, without sign, whichever way it is kept."""
        if parameter is None or parameter.size not in (1, 2, 4):
            return []
        if parameter.size == 4:
            values = self.floats(parameter.data[: len(parameter.data) // 4 * 4])
            return [int(value) for value in values if np.isfinite(value)]
        kind = "u1" if parameter.size == 1 else f"{self.order}u2"
        return np.frombuffer(parameter.data[: len(parameter.data) // parameter.size * parameter.size], kind).tolist()

    def number(self, parameter: _Parameter | None, default: float) -> float:
        """The first value of a parameter of floats."""
        if parameter is None or parameter.size != 4 or len(parameter.data) < 4:
            return default
        return float(self.floats(parameter.data[:4])[0])


def is_c3d(path: Path) -> bool:
    """Tell by the first bytes."""
    return _bytes(path, 0, 2)[1:] == bytes([_KEY])


def read_c3d(path: Path) -> Markers:
    """Read the points of a C3D file; points without residual, or at exactly 0, 0, 0, are gaps.

    Raises:
        InputError: missing, too large, damaged, or without points.
    """
    path = Path(path)
    size = _size(path)
    if size > MAX_BYTES:
        raise InputError(f"{path.name} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read.")
    head = _bytes(path, 0, _BLOCK)
    if len(head) < _BLOCK or head[1] != _KEY:
        raise InputError(f"{path.name} is not a C3D file.")
    begin = max(head[0] - 1, 0) * _BLOCK
    section = _bytes(path, begin, 4)
    processor = section[3] if len(section) == 4 else 0
    if processor not in (_INTEL, _DEC, _MIPS):
        raise InputError(f"{path.name} is a C3D file of an unknown processor ({processor}).")
    numbers = _Numbers(processor)
    block = _bytes(path, begin, max(section[2], 1) * _BLOCK)
    parameters = _parameters(block, numbers.order)
    points, analog, first, last = struct.unpack_from(f"{numbers.order}4H", head, 2)
    scale = numbers.number(parameters.get("POINT:SCALE"), float(numbers.floats(head[12:16])[0]))
    rate = numbers.number(parameters.get("POINT:RATE"), float(numbers.floats(head[20:24])[0]))
    start = (numbers.whole(parameters.get("POINT:DATA_START")) or [0])[0] or struct.unpack_from(
        f"{numbers.order}H", head, 16
    )[0]
    points = (numbers.whole(parameters.get("POINT:USED")) or [points])[0]
    if not points or start < 2 or not np.isfinite(scale) or scale == 0:
        raise InputError(f"{path.name} holds {points} points from block {start} on, scaled by {scale:g}: none to read.")
    layout = _Frames((start - 1) * _BLOCK, points, analog, scale)
    count = _count(path, parameters, numbers, layout.available(size), last - first + 1)
    positions = _positions(path, layout, count, numbers)
    labels = _labels(parameters, points)
    return Markers(
        path.name, labels, positions, rate if np.isfinite(rate) else 0.0, _text(parameters.get("POINT:UNITS")),
        _text(parameters.get("POINT:Y_SCREEN")).upper() if _axis(parameters.get("POINT:Y_SCREEN")) else "",
    )  # fmt: skip


@dataclass(frozen=True)
class _Frames:
    """Where the frames begin and what one of them holds; a negative scale says that numbers are floats."""

    offset: int
    points: int
    analog: int
    scale: float

    @property
    def item(self) -> int:
        return 4 if self.scale < 0 else 2

    @property
    def width(self) -> int:
        """Numbers in a frame."""
        return 4 * self.points + self.analog

    def available(self, size: int) -> int:
        """Whole frames that a file of so many bytes has room for."""
        return max(0, size - self.offset) // (self.width * self.item)


def _count(path: Path, parameters: dict[str, _Parameter], numbers: _Numbers, available: int, header: int) -> int:
    """Frames: of all that the file says (16 bits were too few), the most that it has room for."""
    start, end = (numbers.whole(parameters.get(f"TRIAL:ACTUAL_{name}_FIELD")) for name in ("START", "END"))
    claims = [header, *numbers.whole(parameters.get("POINT:FRAMES"))[:1]]
    claims += numbers.whole(parameters.get("POINT:LONG_FRAMES"))[:1]
    if len(start) == 2 and len(end) == 2:
        claims.append(end[0] + (end[1] << 16) - start[0] - (start[1] << 16) + 1)
    fitting = [claim for claim in claims if 0 < claim <= available]
    if not fitting:
        raise InputError(f"{path.name} claims {max(claims):,} frames and has room for {available:,}: it is cut off.")
    return max(fitting)


def _positions(path: Path, layout: _Frames, count: int, numbers: _Numbers) -> Array:
    raw = _bytes(path, layout.offset, count * layout.width * layout.item)
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged file may hold any bits
        if layout.item == 4:
            rows = numbers.floats(raw).reshape(count, layout.width)[:, : 4 * layout.points].astype(float)
        else:
            rows = np.frombuffer(raw, f"{numbers.order}i2").reshape(count, layout.width)[:, : 4 * layout.points]
        rows = rows.reshape(count, layout.points, 4)
        positions, residual = rows[..., :3] * (1.0 if layout.item == 4 else layout.scale), rows[..., 3]
        lost = ~(residual >= 0) | ~np.isfinite(positions).all(axis=-1) | (positions == 0).all(axis=-1)
        lost |= (np.abs(positions) > 1e9).any(axis=-1)
    return np.where(lost[..., None], np.nan, positions)


def _parameters(block: bytes, order: str) -> dict[str, _Parameter]:
    """Parameters by GROUP:NAME; reading stops where the chain of records breaks."""
    groups: dict[int, str] = {}
    found: dict[tuple[int, str], _Parameter] = {}
    at = 4
    while at + 2 < len(block):
        length, group = abs(struct.unpack_from("b", block, at)[0]), struct.unpack_from("b", block, at + 1)[0]
        name = block[at + 2 : at + 2 + length].decode("latin-1").strip().upper()
        pointer = at + 2 + length
        if not length or pointer + 2 > len(block):
            break
        if group < 0:
            groups[-group] = name
        else:
            parameter = _parameter(block[pointer + 2 :])
            if parameter is not None:
                found[group, name] = parameter
        step = struct.unpack_from(f"{order}H", block, pointer)[0]
        if not step:
            break
        at = pointer + step
    return {f"{groups.get(group, '')}:{name}": parameter for (group, name), parameter in found.items()}


def _parameter(record: bytes) -> _Parameter | None:
    """The type, dimensions and bytes of a parameter's record; None where they do not fit into it."""
    if len(record) < 2 or record[0] not in (255, 1, 2, 4) or len(record) < 2 + record[1]:
        return None
    dimensions = tuple(record[2 : 2 + record[1]])
    letters = record[0] == 255
    total = 1 if letters else record[0]
    for dimension in dimensions:
        total *= dimension
        if total > len(record):
            return None
    start = 2 + len(dimensions)
    data = record[start : start + total]
    return _Parameter(-1 if letters else record[0], dimensions, data) if len(data) == total else None


def _labels(parameters: dict[str, _Parameter], points: int) -> tuple[str, ...]:
    """A label for each point; more than 255 continue in LABELS2; what has none gets `*` and its number."""
    labels: list[str] = []
    for number in ("", *map(str, range(2, 300))):
        parameter = parameters.get(f"POINT:LABELS{number}")
        if parameter is None or parameter.size != -1 or not parameter.dimensions or len(labels) >= points:
            break
        length = parameter.dimensions[0]
        rows = len(parameter.data) // length if length else 0
        labels += [_clean(parameter.data[row * length : (row + 1) * length]) for row in range(rows)]
    labels = [label or f"*{index}" for index, label in enumerate(labels[:points])]
    return tuple(labels + [f"*{index}" for index in range(len(labels), points)])


def _clean(data: bytes) -> str:
    return "".join(letter for letter in data.decode("utf-8", "replace") if letter.isprintable()).strip()


def _text(parameter: _Parameter | None) -> str:
    return _clean(parameter.data) if parameter is not None and parameter.size == -1 else ""


def _axis(parameter: _Parameter | None) -> bool:
    return _text(parameter).upper() in {f"{sign}{letter}" for sign in "+-" for letter in "XYZ"}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _bytes(path: Path, offset: int, count: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(count)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
