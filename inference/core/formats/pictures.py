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
    try:
        attributes, place = _exr_attributes(head)
        _, low, _, high = struct.unpack("<iiii", attributes["dataWindow"])
    except (ValueError, KeyError, IndexError, struct.error):
        return None
    blocks = (high - low + _LINES) // _LINES
    last = head[place + 8 * (blocks - 1) : place + 8 * blocks]
    key = attributes.get(_KEY, b"").decode("latin-1")
    return key if key and len(last) == 8 and _is_whole(stream, struct.unpack("<Q", last)[0]) else None


def _is_whole(stream: IO[bytes], last: int) -> bool:
    """Whether the file ends where its last block does."""
    size = stream.seek(0, 2)
    stream.seek(min(last + 4, size))
    length = stream.read(4)
    return len(length) == 4 and last + 8 + struct.unpack("<I", length)[0] == size


def read_picture(path: Path) -> Array:
    """Read a file that `write_picture` wrote: (H, W, 4) float, sRGB, not multiplied by alpha.

    Raises:
        InputError: it is none, or is damaged.
    """
    try:
        content = path.read_bytes()
        return decode_exr(content) if content.startswith(_EXR) else decode_png(content) / 255.0
    except (OSError, ValueError, KeyError, IndexError, struct.error, zlib.error) as error:
        raise InputError(f"{path.name} is no frame that was written here: {str(error)[:80]}") from error


def decode_png(content: bytes) -> Array:
    """Decode (H, W, 3 or 4) uint8 as `encode_png` writes it."""
    if not content.startswith(_PNG):
        raise ValueError("it is no PNG")
    width, height, _, kind = struct.unpack(">IIBB", content[16:26])
    channels = {colour: count for count, colour in _COLOUR_TYPES.items()}[kind]
    place, packed = len(_PNG), b""
    while place < len(content):
        size, name = struct.unpack(">I4s", content[place : place + 8])
        packed += content[place + 8 : place + 8 + size] if name == b"IDAT" else b""
        place += 12 + size
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    if (rows[:, 0] != 1).any():
        raise ValueError("its rows are coded another way")
    return np.cumsum(rows[:, 1:].reshape(height, width, channels), 1, dtype=np.uint8)


def decode_exr(content: bytes) -> Array:
    """Decode (H, W, 4) float sRGB with straight alpha as `encode_exr` writes it."""
    attributes, place = _exr_attributes(content)
    x0, y0, x1, y1 = struct.unpack("<iiii", attributes["dataWindow"])
    width, height = x1 - x0 + 1, y1 - y0 + 1
    planes = np.empty((height, 4, width), "<f2")
    starts = np.frombuffer(content, "<u8", -(-height // _LINES), place)
    for start in starts.tolist():
        row, size = struct.unpack("<iI", content[start : start + 8])
        lines = planes[row : row + _LINES]
        packed = content[start + 8 : start + 8 + size]
        lines[:] = _unblock(packed, lines.nbytes).reshape(lines.shape)
    light, alpha = planes[:, [3, 2, 1]].transpose(0, 2, 1).astype(float), planes[:, 0, :, None].astype(float)
    straight = np.divide(light, alpha, out=np.zeros_like(light), where=alpha > 0)
    srgb = np.where(straight <= 0.0031308, 12.92 * straight, 1.055 * np.maximum(straight, 0.0) ** (1 / 2.4) - 0.055)
    return np.concatenate([np.clip(srgb, 0.0, 1.0), alpha], -1)


def _unblock(packed: bytes, size: int) -> Array:
    """Reverse `_block`."""
    if len(packed) == size:
        return np.frombuffer(packed, "<f2")
    steps = np.frombuffer(zlib.decompress(packed), np.uint8).copy()
    steps[1:] -= np.uint8(128)
    parted, raw = np.cumsum(steps, dtype=np.uint8), np.empty(size, np.uint8)
    half = (size + 1) // 2
    raw[0::2], raw[1::2] = parted[:half], parted[half:]
    return raw.view("<f2")


def _exr_attributes(head: bytes) -> tuple[dict[str, bytes], int]:
    """Attributes by name, and where they end.

    Raises:
        ValueError: they do not end.
    """
    place, found = len(_EXR), dict[str, bytes]()
    while head[place]:
        name_end = head.index(b"\0", place)
        start = head.index(b"\0", name_end + 1) + 5
        size = struct.unpack("<I", head[start - 4 : start])[0]
        found[head[place:name_end].decode("latin-1")] = head[start : start + size]
        place = start + size
    return found, place + 1


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
