"""FBX from strangers, looked through before Blender's reader opens it.

Source: "FBX binary file format specification" (code.blender.org, 2013), and what files of versions 6.1 to 7.7 hold.
What is refused: records that reach out of their parents, arrays that claim more than they hold or unpack to more than
a motion can be, brackets without end, and models inside each other. Addresses of other computers are told, since even
to look for a texture there hands over the user's password hash on Windows.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ...protocol.errors import InputError

MAX_BYTES = 2 << 30
MAX_DEPTH = 64  # of records in records
MAX_RECORDS = 5_000_000
MAX_ARRAY_BYTES = 2 << 30  # unpacked, all together
MAX_LIMBS = 256  # of models in models
_MAGIC = b"Kaydara FBX Binary  \x00\x1a\x00"
_FIXED = {b"C": 1, b"B": 1, b"Y": 2, b"I": 4, b"F": 4, b"D": 8, b"L": 8}
_ITEM = {b"f": 4, b"i": 4, b"d": 8, b"l": 8, b"b": 1, b"c": 1}
_MOST_PACKED = 1100  # zlib packs at most 1,032 bytes into one
_SHARE = re.compile(rb"(?:\\\\|//)[^\\/\s\"\x00]")
_QUOTED = re.compile(rb'"[^"\r\n]*"?|;[^\r\n]*')


class _Record(NamedTuple):
    name: bytes
    start: int  # of its properties
    end: int  # of the record
    inner: int  # where what it contains begins
    count: int  # of properties


def check_fbx(path: Path) -> tuple[range, ...]:
    """Look a .fbx through; give where texts name a share of another computer.

    Raises:
        InputError: missing, too large, damaged, or claiming more than it holds.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path.name} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read.")
        if not size:
            raise InputError(f"{path.name} is empty.")
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(_MAGIC)] == _MAGIC:
                return _Binary(path, data).check()
            return _check_text(path, data)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


class _Binary:
    """One walk over the records of a binary file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data = path, data
        self._head = len(_MAGIC) + 4
        if len(data) < self._head:
            raise self._broken("it was cut in its head")
        version = struct.unpack_from("<I", data, self._head - 4)[0]
        if not 6000 <= version < 9000:
            raise self._broken(f"version {version} is not known")
        self._sizes = struct.Struct("<QQQB" if version >= 7500 else "<IIIB")
        self._unpacked = 0
        self._shares: list[range] = []

    def check(self) -> tuple[range, ...]:
        """Look at every record, without recursion."""
        models, links, names = set[int](), list[tuple[int, int]](), set[bytes]()
        open_: list[tuple[int, int, bytes]] = [(self._head, len(self._data), b"")]  # where it is, its end, its name
        for _ in range(MAX_RECORDS):
            at, end, parent = open_[-1]
            record = self._record(at, end) if at < end else None
            if record is None:  # an empty record, or the end of the parent
                open_.pop()
                if not open_:
                    break
                continue
            values = self._properties(record)
            open_[-1] = record.end, end, parent
            if parent == b"Objects" and record.name == b"Model" and values and isinstance(values[0], int):
                models.add(values[0])
            if parent == b"Connections" and len(values) > 2 and values[0] == b"OO":
                links.append((values[1], values[2]))  # type: ignore[arg-type]
            if len(open_) == 1:
                names.add(record.name)
            if record.inner < record.end:
                if len(open_) >= MAX_DEPTH:
                    raise self._broken(f"records lie more than {MAX_DEPTH} deep in each other")
                open_.append((record.inner, record.end, record.name))
        else:
            raise self._broken(f"it holds more than {MAX_RECORDS:,} records")
        if b"Objects" not in names:
            raise self._broken("it holds no objects")
        self._check_limbs([(child, parent) for child, parent in links if child in models and parent in models])
        return tuple(self._shares)

    def _record(self, at: int, end: int) -> _Record | None:
        if at + self._sizes.size > end:
            raise self._broken(f"a record at byte {at:,} reaches out of what holds it")
        stop, count, length, name = self._sizes.unpack_from(self._data, at)
        start = at + self._sizes.size + name
        if not stop:  # the empty record that closes a list; behind the outermost lies the foot
            return None
        if not start + length <= stop <= end:
            raise self._broken(f"a record at byte {at:,} reaches out of what holds it")
        return _Record(self._data[start - name : start], start, stop, start + length, count)

    def _properties(self, record: _Record) -> list[int | bytes | None]:
        """Values of a record that are whole numbers or short texts; None for others."""
        found: list[int | bytes | None] = []
        at = record.start
        for _ in range(record.count):
            if at >= record.inner:
                raise self._broken(f"the record at byte {record.start:,} holds fewer values than it says")
            code, at = self._data[at : at + 1], at + 1
            if code in _FIXED:
                length = _FIXED[code]
                value = int.from_bytes(self._data[at : at + length], "little") if code in b"LIY" else None
            elif code in (b"S", b"R"):
                length, value = 4 + self._number(at, record), None
                if code == b"S" and length < 4096:
                    value = self._text(at + 4, at + length)
            elif code in _ITEM:
                length, value = 12 + self._array(at, code, record), None
            else:
                raise self._broken(f"{code!r} at byte {at - 1:,} is no kind of value")
            found, at = [*found, value] if len(found) < 4 else found, at + length
        if at != record.inner:
            raise self._broken(f"the values at byte {record.start:,} are not as long as they say")
        return found

    def _number(self, at: int, record: _Record) -> int:
        if at + 4 > record.inner:
            raise self._broken(f"a value at byte {at:,} reaches out of its record")
        return struct.unpack_from("<I", self._data, at)[0]

    def _text(self, start: int, end: int) -> bytes:
        text = self._data[start:end]
        if _SHARE.match(text):
            self._shares.append(range(start, end))
        return text

    def _array(self, at: int, code: bytes, record: _Record) -> int:
        count, packed, length = (self._number(at + 4 * k, record) for k in range(3))
        size = count * _ITEM[code]
        self._unpacked += size
        honest = size == length if packed == 0 else packed == 1 and size <= _MOST_PACKED * length + 64
        if not honest or self._unpacked > MAX_ARRAY_BYTES:
            raise self._broken(f"an array at byte {at:,} claims {count:,} values in {length:,} bytes")
        return length

    def _check_limbs(self, links: list[tuple[int, int]]) -> None:
        """Refuse models that hang from themselves, and chains no creature has."""
        parent = dict(links)
        depth: dict[int, int] = {}
        for model in parent:
            chain = [model]
            while chain[-1] in parent and chain[-1] not in depth and len(chain) <= MAX_LIMBS:
                chain.append(parent[chain[-1]])
            base = depth.get(chain[-1], 0)
            depth |= {each: base + number for number, each in enumerate(reversed(chain))}
            if depth[model] >= MAX_LIMBS:
                raise self._broken(f"models hang {depth[model]} and more deep from each other, or from themselves")

    def _broken(self, what: str) -> InputError:
        return InputError(f"{self._path.name} is a damaged FBX file: {what}.", "Export it again.")


def _check_text(path: Path, data: mmap.mmap) -> tuple[range, ...]:
    """Look at a file of text: its brackets, and its addresses."""
    head = data[:4096]
    if b"FBX" not in head or b"\0" in head:
        raise InputError(f"{path.name} is no FBX file.")
    depth = 0
    for mark in _brackets(data):
        depth += 1 if mark == b"{" else -1
        if not 0 <= depth <= MAX_DEPTH:
            raise InputError(f"{path.name} is a damaged FBX file: brackets {depth} deep.", "Export it again.")
    if depth or re.search(rb"^\s*Objects\s*:", data, re.MULTILINE) is None:
        raise InputError(f"{path.name} is a damaged FBX file: it was cut, or holds no objects.", "Export it again.")
    texts = (match.span() for match in _QUOTED.finditer(data) if match[0].startswith(b'"'))
    return tuple(range(start + 1, end - 1) for start, end in texts if _SHARE.match(data[start + 1 : end]))


def _brackets(data: mmap.mmap) -> Iterator[bytes]:
    for match in re.finditer(rb'"[^"\r\n]*"?|;[^\r\n]*|[{}]', data):
        if match[0] in (b"{", b"}"):
            yield match[0]
