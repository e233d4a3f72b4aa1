"""The newest pose of a running capture: `live.bin` in the job's folder, written by the worker and read by anyone.

The file has a fixed size, is opened once by either side and never replaced, so that every system lets both in:

    magic, size of the head, number of bones
    head      a block of JSON: bones, parents, rest matrices (armature space, metres), lengths, and what else a reader
              needs once; its `generation` grows when the skeleton has been measured better
    two slots each a block of one frame; the older one is overwritten

A block is its CRC-32, its length and its content. Whoever reads while it is being written finds that the sum is wrong
and takes the other slot, so that half a frame is never seen and nobody waits for anybody. Times are of
`time.perf_counter_ns`, which on each of our systems is one clock for all processes.
"""

from __future__ import annotations

import contextlib
import json
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import RequestError
from .files import storage_error

MAGIC = b"UNDLIVE1"
STAGES = ("wait", "detect", "lift", "fit", "other")  # where a frame's time went, in this order
MAX_BONES = 1000
_START = struct.Struct("=8sII")
_BLOCK = struct.Struct("=II")
_FRAME = struct.Struct("=QqqII")
_HEAD_BYTES = 1 << 15


def clock_ns() -> int:
    """Give the time that frames are stamped with."""
    return time.perf_counter_ns()


@dataclass(frozen=True)
class LiveFrame:
    """One pose on the floor, Z up, metres.

    captured_ns: when the picture was there; published_ns: when the pose was; recorded: frames kept so far, 0 where
    nothing is recorded. rotations (4 B) wxyz local to rest, bone after bone; root (3) head of bone 0; confidence (B);
    contacts (4): left heel, left toe, right heel, right toe; timings (5) milliseconds of `STAGES`.
    """

    sequence: int
    captured_ns: int
    published_ns: int
    generation: int
    recorded: int
    rotations: Sequence[float]
    root: Sequence[float]
    confidence: Sequence[float]
    contacts: Sequence[float]
    timings: Sequence[float]


class StreamWriter:
    """Publishes the frames of a skeleton of so many bones; close it after use.

    Raises:
        ResourceError: the file cannot be written.
    """

    def __init__(self, path: Path, bones: int) -> None:
        self._path, self._bones, self._sequence = path, bones, 0
        self._floats = struct.Struct(f"={_count(bones)}f")
        self._slot = _slot_bytes(bones)
        try:
            self._file = path.open("wb", buffering=0)
            self._file.write(_START.pack(MAGIC, _HEAD_BYTES, bones) + bytes(_HEAD_BYTES + 2 * self._slot))
        except OSError as error:
            raise storage_error(path, error) from error

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def describe(self, head: Mapping[str, Any]) -> None:
        """Say what the following frames are of; `head` holds at least `generation`, bones, parents, rest, lengths."""
        block = _block(json.dumps(head, allow_nan=False).encode("ascii"))
        assert len(block) <= _HEAD_BYTES, len(block)
        self._put(_START.size, block)

    def write(self, **values: Any) -> None:
        """Publish a frame, `values` being the fields of `LiveFrame` but for `sequence` and `published_ns`."""
        self._sequence += 1
        frame = LiveFrame(sequence=self._sequence, published_ns=clock_ns(), **values)
        fixed = _FRAME.pack(
            frame.sequence, frame.captured_ns, frame.published_ns, frame.generation, frame.recorded
        )  # fmt: skip
        floats = self._floats.pack(*frame.rotations, *frame.root, *frame.confidence, *frame.contacts, *frame.timings)
        self._put(_START.size + _HEAD_BYTES + self._sequence % 2 * self._slot, _block(fixed + floats))

    def _put(self, offset: int, content: bytes) -> None:
        try:
            self._file.seek(offset)
            self._file.write(content)
        except OSError as error:
            raise storage_error(self._path, error) from error


class StreamReader:
    """Reads the newest frame; `head` is what the writer said of the frame's generation."""

    def __init__(self, path: Path) -> None:
        self.head: dict[str, Any] = {}
        self._path = path
        self._file: Any = None
        self._bones = 0
        self._sequence = 0

    def read(self) -> LiveFrame | None:
        """Give the newest frame; None where there has been none since the last call.

        Raises:
            RequestError: the file is of another version.
        """
        try:
            if not self._is_open():
                return None
            self._file.seek(_START.size + _HEAD_BYTES)
            both = self._file.read(2 * _slot_bytes(self._bones))
        except OSError:  # not there yet, or not any more
            return None
        size = len(both) // 2
        found = [_unpack(content, self._bones) for start in (0, size) if (content := _content(both[start:][:size]))]
        frame = max(found, key=lambda frame: frame.sequence, default=None)
        if frame is None or frame.sequence <= self._sequence or not self._read_head(frame.generation):
            return None
        self._sequence = frame.sequence
        return frame

    def _is_open(self) -> bool:
        if self._file is not None:
            return True
        file = self._path.open("rb", buffering=0)
        start = file.read(_START.size)
        if len(start) < _START.size:  # it is being made
            file.close()
            return False
        magic, head, bones = _START.unpack(start)
        if magic != MAGIC or head != _HEAD_BYTES or not 0 < bones <= MAX_BONES:
            file.close()
            hint = "The add-on and its environment differ in version: update both, then restart Blender."
            raise RequestError(f"{self._path.name} is not a stream of this version.", hint)
        self._file, self._bones = file, bones
        return True

    def _read_head(self, generation: int) -> bool:
        """Have the head of a generation at hand; False while it is being written."""
        if self.head.get("generation") == generation:
            return True
        self._file.seek(_START.size)
        content = _content(self._file.read(_HEAD_BYTES))
        with contextlib.suppress(ValueError, RecursionError):
            head = json.loads(content) if content else None
            if isinstance(head, dict) and head.get("generation") == generation:
                self.head = head
                return True
        return False

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _count(bones: int) -> int:
    return 4 * bones + 3 + bones + 4 + len(STAGES)


def _slot_bytes(bones: int) -> int:
    return -(-(_BLOCK.size + _FRAME.size + 4 * _count(bones)) // 64) * 64


def _block(content: bytes) -> bytes:
    return _BLOCK.pack(zlib.crc32(content), len(content)) + content


def _content(block: bytes) -> bytes:
    """Take the content out of a block; nothing where it is not whole."""
    if len(block) < _BLOCK.size:
        return b""
    checksum, length = _BLOCK.unpack_from(block)
    content = block[_BLOCK.size : _BLOCK.size + length]
    return content if length and len(content) == length and zlib.crc32(content) == checksum else b""


def _unpack(content: bytes, bones: int) -> LiveFrame:
    fixed = _FRAME.unpack_from(content)
    floats = struct.unpack_from(f"={_count(bones)}f", content, _FRAME.size)
    parts, start = [], 0
    for length in (4 * bones, 3, bones, 4, len(STAGES)):
        parts.append(floats[start : start + length])
        start += length
    return LiveFrame(*fixed, *parts)
