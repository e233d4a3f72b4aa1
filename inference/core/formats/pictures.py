"""Frames as files, by numpy and zlib alone: 8-bit PNG with straight alpha, half-float OpenEXR with linear light.

Every file bears a key that says what it was made from, so that work can go on where it was cut off. The same picture
gives the same bytes. Formats: the PNG specification (third edition) and the OpenEXR file layout (version 2).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Literal

import numpy as np

from ...protocol.errors import InputError
from ...protocol.files import atomic_write_bytes

Array = np.ndarray
Format = Literal["png", "exr"]

_PNG = b"\x89PNG\r\n\x1a\n"
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_EXR = struct.pack("<II", 20000630, 2)
_KEY = "understudyKey"
_LEVEL = 4  # of zlib: higher ones take much longer and gain little
_LINES = 16  # in a block of OpenEXR's ZIP compression
_ZIP, _HALF = 3, 1
_COLOUR_TYPES = {3: 2, 4: 6}  # of PNG, by channels
_MAX_HEAD = 1 << 16


def write_picture(path: Path, rgba: Array, *, key: str = "") -> None:
    """Write (H, W, 4) as the format that the name says, whole or not at all.

    Args:
        rgba: float, sRGB-encoded and not multiplied by alpha, in [0, 1]. OpenEXR gets linear light times alpha.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    content = encode_exr(rgba, key=key) if path.suffix.lower() == ".exr" else encode_png(to_bytes(rgba), key=key)
    atomic_write_bytes(path, content)


def to_bytes(values: Array) -> Array:
    """Round [0, 1] to uint8."""
    return np.round(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def encode_png(pixels: Array, *, key: str = "") -> bytes:
    """Encode (H, W, 3 or 4) uint8 sRGB."""
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = 1  # each byte less the one of the pixel to the left
    filtered[:, 1 : 1 + channels] = rows[:, :channels]
    filtered[:, 1 + channels :] = rows[:, channels:] - rows[:, :-channels]
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [_chunk(b"IHDR", head), _chunk(b"sRGB", b"\0")]
    if key:
        chunks.append(_chunk(b"tEXt", _KEY.encode() + b"\0" + key.encode("latin-1")))
    chunks.append(_chunk(b"IDAT", zlib.compress(filtered.tobytes(), _LEVEL)))
    return _PNG + b"".join(chunks) + _END


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def linear(srgb: Array) -> Array:
    """Give the linear light of sRGB-encoded values (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.0) + 0.055) / 1.055) ** 2.4)


def encode_exr(rgba: Array, *, key: str = "") -> bytes:
    """Encode (H, W, 4) float sRGB with straight alpha as half floats: linear light times alpha, Rec. 709 primaries."""
    height, width = rgba.shape[:2]
    alpha = np.clip(rgba[..., 3:], 0.0, 1.0)
    light = linear(np.clip(rgba[..., :3], 0.0, 1.0)) * alpha
    planes = np.stack([alpha[..., 0], light[..., 2], light[..., 1], light[..., 0]], 1).astype("<f2")  # (H, 4, W): ABGR
    blocks = [_block(planes[row : row + _LINES], row) for row in range(0, height, _LINES)]
    head = _exr_head(width, height, key)
    places = np.cumsum([len(head) + 8 * len(blocks), *(len(block) for block in blocks[:-1])])
    return head + places.astype("<u8").tobytes() + b"".join(blocks)


def _block(lines: Array, row: int) -> bytes:
    """Deflate lines after sorting bytes by significance and taking differences, as OpenEXR's ZIP does."""
    raw = np.frombuffer(lines.tobytes(), np.uint8)
    parted = np.concatenate([raw[0::2], raw[1::2]])
    steps = parted.copy()
    steps[1:] = parted[1:] - parted[:-1] + np.uint8(128)
    packed = zlib.compress(steps.tobytes(), _LEVEL)
    content = packed if len(packed) < raw.size else raw.tobytes()
    return struct.pack("<iI", row, len(content)) + content


def _exr_head(width: int, height: int, key: str) -> bytes:
    channels = b"".join(name + b"\0" + struct.pack("<iB3xii", _HALF, 0, 1, 1) for name in (b"A", b"B", b"G", b"R"))
    window = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", channels + b"\0"), ("compression", "compression", bytes([_ZIP])),
        ("dataWindow", "box2i", window), ("displayWindow", "box2i", window), ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)), ("screenWindowCenter", "v2f", bytes(8)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
    ]  # fmt: skip
    if key:
        attributes.append((_KEY, "string", key.encode()))
    parts = [f"{name}\0{kind}\0".encode() + struct.pack("<I", len(value)) + value for name, kind, value in attributes]
    return _EXR + b"".join(parts) + b"\0"


def read_key(path: Path) -> str | None:
    """Read the key of a file written here; None where it is none, or was cut off."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_MAX_HEAD)
            size = stream.seek(0, 2)
            if head.startswith(_EXR):
                return _exr_key(head, stream)
            stream.seek(max(size - len(_END), 0))
            return _png_key(head) if head.startswith(_PNG) and stream.read() == _END else None
    except OSError:
        return None


def _png_key(head: bytes) -> str | None:
    place = len(_PNG)
    while place + 8 <= len(head):
        size, name = struct.unpack(">I", head[place : place + 4])[0], head[place + 4 : place + 8]
        content = head[place + 8 : place + 8 + size]
        if name == b"tEXt" and content.startswith(_KEY.encode() + b"\0"):
            return content[len(_KEY) + 1 :].decode("latin-1")
        if name == b"IDAT":
            return None
        place += 12 + size
    return None


def _exr_key(head: bytes, stream: IO[bytes]) -> str | None:
    place, key, height = len(_EXR), None, 0
    while place < len(head) and head[place]:
        ends = head.find(b"\0", place), head.find(b"\0", head.find(b"\0", place) + 1)
        if min(ends) < 0 or ends[1] + 5 > len(head):
            return None
        name, start = head[place : ends[0]].decode("latin-1"), ends[1] + 5
        length = struct.unpack("<I", head[ends[1] + 1 : start])[0]
        value = head[start : start + length]
        if name == _KEY:
            key = value.decode("latin-1")
        elif name == "dataWindow" and len(value) == 16:
            _, low, _, high = struct.unpack("<iiii", value)
            height = high - low + 1
        place = start + length
    blocks = -(-height // _LINES)
    last = head[place + 1 + 8 * (blocks - 1) : place + 1 + 8 * blocks]
    return key if len(last) == 8 and _is_whole(stream, struct.unpack("<Q", last)[0]) else None


def _is_whole(stream: IO[bytes], last: int) -> bool:
    """Whether the file ends where its last block does."""
    size = stream.seek(0, 2)
    stream.seek(min(last + 4, size))
    length = stream.read(4)
    return len(length) == 4 and last + 8 + struct.unpack("<I", length)[0] == size


def frame_number(path: Path) -> int:
    """Read the number at the end of a frame's name, as in `walk_0017.png`.

    Raises:
        InputError: there is none.
    """
    stem = path.stem
    digits = stem[len(stem.rstrip("0123456789")) :]
    if not digits:
        raise InputError(f"{path.name} has no number at its end.", "Name frames like frame_0001.png.")
    return int(digits[-9:])
