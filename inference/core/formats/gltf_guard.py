"""glTF from strangers, looked through before a program that trusts it opens it.

Sources: glTF 2.0 specification, 4.4 (GLB container), 3.6 (buffers, accessors). What is refused: containers and
accessors that claim what is not there, and addresses that lead out of the file's folder: absolute ones, `..`, shares of
other computers (which hands over the user's password hash on Windows), and anything with a scheme but `data:`.
"""

from __future__ import annotations

import json
import struct
import urllib.parse
from pathlib import Path, PureWindowsPath
from typing import Any, NoReturn

from ...protocol.errors import InputError

MAX_BYTES = 2 << 30
MAX_JSON_BYTES = 64 << 20
MAX_THINGS = 200_000  # of each kind
MAX_ELEMENTS = 200_000_000
MAX_DEPTH = 512  # of nodes in nodes
_GLB, _JSON = b"glTF", b"JSON"
_COMPONENT = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COUNT = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_LISTS = ("accessors", "animations", "buffers", "bufferViews", "images", "materials", "meshes", "nodes", "skins")
_BROKEN = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, struct.error)


def check_gltf(path: Path) -> None:
    """Look a .glb or .gltf through.

    Raises:
        InputError: missing, damaged, claiming more than there is, or leading out of its folder.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path.name} has {size / 2**30:.1f} GiB; at most {MAX_BYTES >> 30} are read.")
        text, binary = _read_glb(path, size) if path.suffix.lower() == ".glb" else (_read_text(path, size), 0)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    table = _parse(path, text)
    try:
        _check_lists(table)
        sizes = _check_buffers(path, table, binary)
        _check_views(table, sizes)
        _check_accessors(table)
        _check_nodes(table)
        for image in table.get("images", []):
            _check_address(path, image.get("uri"))
    except InputError as error:
        raise InputError(f"{path.name}: {error.message}", error.hint) from error
    except _BROKEN as error:
        said = str(error)[:120] or type(error).__name__
        raise InputError(f"{path.name} does not say what a glTF file must: {said}.") from error


def _read_text(path: Path, size: int) -> bytes:
    if size > MAX_JSON_BYTES:
        raise InputError(f"{path.name} has {size >> 20} MiB of JSON; at most {MAX_JSON_BYTES >> 20} are read.")
    return path.read_bytes()


def _read_glb(path: Path, size: int) -> tuple[bytes, int]:
    """Give the JSON of a container and the bytes of its binary part."""
    with path.open("rb") as stream:
        head = stream.read(20)
        if len(head) < 20 or head[:4] != _GLB or head[16:20] != _JSON:
            raise InputError(f"{path.name} is not a GLB file.")
        version, total, length = struct.unpack_from("<III", head, 4)
        if version != 2:
            raise InputError(f"{path.name} is glTF {version}; only 2 is read.")
        if total > size or length > min(total - 20, MAX_JSON_BYTES):
            raise InputError(f"{path.name} claims {total:,} bytes and {length:,} of JSON; the file has {size:,}.")
        text = stream.read(length)
        rest = stream.read(8)
        binary = struct.unpack("<II", rest)[0] if len(rest) == 8 else 0
        if binary > size - 28 - length:
            raise InputError(f"{path.name} claims {binary:,} bytes of data; {max(size - 28 - length, 0):,} are there.")
        return text, binary


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no number")

    try:
        table = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} holds no JSON: {str(error)[:120]}.") from error
    if not isinstance(table, dict) or not isinstance(table.get("asset"), dict):
        raise InputError(f"{path.name} is not a glTF file: it names no asset.")
    if not str(table["asset"].get("version", "")).startswith("2."):
        raise InputError(f"{path.name} is glTF {str(table['asset'].get('version'))[:20]}; only 2 is read.")
    return table


def _check_lists(table: dict[str, Any]) -> None:
    for name in _LISTS:
        things = table.get(name, [])
        if not isinstance(things, list) or not all(isinstance(thing, dict) for thing in things):
            raise InputError(f"{name} is not a list of objects.")
        if len(things) > MAX_THINGS:
            raise InputError(f"{len(things):,} {name}; at most {MAX_THINGS:,} are read.")


def _check_buffers(path: Path, table: dict[str, Any], binary: int) -> list[int]:
    sizes = []
    for number, buffer in enumerate(table.get("buffers", [])):
        length, address = _whole(buffer["byteLength"]), buffer.get("uri")
        inside = number == 0 and address is None and path.suffix.lower() == ".glb"
        there = binary + 3 if inside else _check_address(path, address)
        if length > there:
            raise InputError(f"buffer {number} claims {length:,} bytes; {there:,} are there.")
        sizes.append(length)
    return sizes


def _check_address(path: Path, address: Any) -> int:
    """Give the bytes behind an address; 0 for none.

    Raises:
        InputError: it leads out of the file's folder, or to nothing.
    """
    if address is None:
        return 0
    if not isinstance(address, str):
        raise InputError("an address is not a text.")
    if address.startswith("data:"):
        return len(address.partition(",")[2]) * 3 // 4 + 3
    plain = urllib.parse.unquote(address)
    parts = PureWindowsPath(plain)  # knows the separators of all systems
    if parts.anchor or ".." in parts.parts or "\0" in plain or ":" in plain:
        raise InputError(f"it asks for {plain[:80]!r}, outside of its folder.", "Ask for a file that holds its data.")
    file = path.parent / plain
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise InputError(f"{plain[:80]!r} is a link that leads out of its folder.")
    try:
        return file.stat().st_size
    except OSError as error:
        raise InputError(f"{plain[:80]!r}, which it asks for, is not there.") from error


def _check_views(table: dict[str, Any], sizes: list[int]) -> None:
    for number, view in enumerate(table.get("bufferViews", [])):
        end = _whole(view.get("byteOffset", 0)) + _whole(view["byteLength"])
        if end > sizes[_whole(view["buffer"])]:
            raise InputError(f"bufferView {number} ends at byte {end:,} of {sizes[view['buffer']]:,}.")


def _check_accessors(table: dict[str, Any]) -> None:
    views, total = table.get("bufferViews", []), 0
    for number, accessor in enumerate(table.get("accessors", [])):
        count = _whole(accessor["count"])
        item = _COMPONENT[accessor["componentType"]] * _COUNT[accessor["type"]]
        total += count * _COUNT[accessor["type"]]
        if total > MAX_ELEMENTS:
            raise InputError(f"its accessors claim more than {MAX_ELEMENTS:,} numbers.")
        if "bufferView" not in accessor:
            continue
        view = views[_whole(accessor["bufferView"])]
        step = _whole(view.get("byteStride", 0)) or item
        end = _whole(accessor.get("byteOffset", 0)) + step * (count - 1) + item if count else 0
        if end > view["byteLength"]:
            raise InputError(f"accessor {number} ends at byte {end:,} of a view of {view['byteLength']:,}.")


def _check_nodes(table: dict[str, Any]) -> None:
    """Refuse nodes that are their own ancestors, have two parents, or stand deeper than any character's."""
    nodes = table.get("nodes", [])
    parents: dict[int, int] = {}
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if _whole(child) >= len(nodes) or child in parents:
                raise InputError(f"node {child} is nobody, or has two parents.")
            parents[child] = number
    depths: dict[int, int] = {}
    for number in range(len(nodes)):
        chain = []
        while number in parents and number not in depths and len(chain) <= MAX_DEPTH:
            chain.append(number)
            number = parents[number]  # noqa: PLW2901 - upwards
        depth = depths.setdefault(number, 0)
        for up in reversed(chain):
            depth += 1
            depths[up] = depth
        if depth > MAX_DEPTH or len(chain) > MAX_DEPTH:
            raise InputError(f"its nodes stand in a circle, or deeper than {MAX_DEPTH}.")


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise InputError(f"{str(value)[:40]} is not a count.")
    return value
