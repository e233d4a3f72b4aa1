"""glTF 2.0 binary files (GLB) of heads: positions, normals, texture places, named morph targets and pictures inside.

Written by hand from the Khronos specification, so that nothing is needed but numpy. glTF is y up and faces +z, metres,
texture places are v down, triangles only; meshes here are z up and face -y.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.files import atomic_write
from ..artifacts import HeadMesh

Array = np.ndarray
_FLOAT, _UINT = 5126, 5125
_VERTICES, _INDICES = 34962, 34963  # what a buffer view is for
_ROUGH = {"skin": 0.55, "mouth": 0.35, "socket": 0.5, "eye": 0.08, "teeth": 0.2, "tongue": 0.3, "body": 0.6}
_BODY_COLOR = (0.6, 0.44, 0.36, 1.0)  # linear


class _Buffer:
    """Bytes with the views and accessors that say what they are."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, content: bytes, target: int | None = None) -> int:
        self.content.extend(b"\0" * (-len(self.content) % 4))
        entry: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(content)}
        self.views.append(entry if target is None else {**entry, "target": target})
        self.content.extend(content)
        return len(self.views) - 1

    def vectors(self, values: Array, *, bounds: bool = False) -> int:
        values = np.ascontiguousarray(values, np.float32)
        entry: dict[str, Any] = {
            "bufferView": self.view(values.tobytes(), _VERTICES), "componentType": _FLOAT, "count": len(values),
            "type": f"VEC{values.shape[1]}",
        }  # fmt: skip
        if bounds:
            entry |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def moved(self, values: Array) -> int:
        """Offsets of which most are nothing, as a sparse accessor."""
        rows = np.flatnonzero(np.abs(values).max(1) > 1e-7).astype(np.uint32)
        entry: dict[str, Any] = {
            "componentType": _FLOAT, "count": len(values), "type": "VEC3", "min": values.min(0).tolist(),
            "max": values.max(0).tolist(),
        }  # fmt: skip
        if len(rows):
            entry["sparse"] = {
                "count": len(rows),
                "indices": {"bufferView": self.view(rows.tobytes()), "componentType": _UINT},
                "values": {"bufferView": self.view(np.ascontiguousarray(values[rows], np.float32).tobytes())},
            }
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def indices(self, values: Array) -> int:
        flat = np.ascontiguousarray(values.ravel(), np.uint32)
        view = self.view(flat.tobytes(), _INDICES)
        self.accessors.append({"bufferView": view, "componentType": _UINT, "count": len(flat), "type": "SCALAR"})
        return len(self.accessors) - 1


def write(path: Path, mesh: HeadMesh, color: Array, normal: Array | None = None) -> None:
    """Write a head, or a body with it, whole or not at all.

    Args:
        color: (H, W, 3 | 4) uint8 sRGB; normal: (H, W, 3) uint8, tangent space, green up.

    Raises:
        ResourceError: the disk is full.
    """
    content = to_glb(mesh, color, normal)
    atomic_write(path, lambda stream: stream.write(content))


def to_glb(mesh: HeadMesh, color: Array, normal: Array | None = None) -> bytes:
    """The bytes of such a file."""
    buffer = _Buffer()
    corners = _split(mesh)
    names = [str(name) for name in mesh.shape_key_names]
    parts, primitives, materials = mesh.header["parts"], [], []
    groups = _groups(parts, np.unique(mesh.face_part).tolist())
    images = [buffer.view(png(color))] + ([] if normal is None else [buffer.view(png(normal))])
    shared = _attributes(buffer, mesh, corners)
    targets = [{"POSITION": buffer.moved(_y_up(key)[corners.vertex])} for key in mesh.shape_keys]
    for name, members in groups.items():
        chosen = np.isin(mesh.face_part[corners.face], members)
        primitives.append({
            "attributes": shared, "indices": buffer.indices(corners.triangles[chosen]), "material": len(materials),
            **({"targets": targets} if targets else {}),
        })  # fmt: skip
        materials.append(_material(name, normal is not None))
    document = {
        "asset": {"version": "2.0", "generator": "Understudy"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "Head"}],
        "meshes": [{
            "name": "Head", "primitives": primitives, "extras": {"targetNames": names},
            **({"weights": [0.0] * len(names)} if names else {}),
        }],
        "materials": materials,
        "textures": [{"source": index, "sampler": 0} for index in range(len(images))],
        "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
        "images": [{"bufferView": view, "mimeType": "image/png", "name": name}
                   for view, name in zip(images, ("color", "normal"), strict=False)],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.content)}],
    }  # fmt: skip
    return _packed(document, bytes(buffer.content))


class _Split:
    """vertex (N,): of the mesh, for each written vertex; uv (N, 2), v down; triangles (T, 3); face (T,)."""

    def __init__(self, vertex: Array, uv: Array, triangles: Array, face: Array) -> None:
        self.vertex, self.uv, self.triangles, self.face = vertex, uv, triangles, face


def _split(mesh: HeadMesh) -> _Split:
    """Triangles, and a vertex of its own for each place of texture that a vertex has."""
    four = np.flatnonzero(mesh.faces[:, 3] >= 0)
    face = np.concatenate([np.arange(len(mesh.faces)), four])
    corners = np.concatenate([mesh.faces[:, :3], mesh.faces[four][:, [0, 2, 3]]]).ravel()
    uv = np.concatenate([mesh.uv[:, :3], mesh.uv[four][:, [0, 2, 3]]]).reshape(-1, 2)
    key = np.concatenate([corners[:, None], np.round(uv * 65536)], 1).astype(np.int64)
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    down = np.stack([uv[first, 0], 1 - uv[first, 1]], -1)
    return _Split(corners[first], down, inverse.reshape(-1, 3), face)


def _attributes(buffer: _Buffer, mesh: HeadMesh, corners: _Split) -> dict[str, int]:
    points = _y_up(mesh.vertices)
    normals = _normals(points, corners.vertex[corners.triangles])
    return {
        "POSITION": buffer.vectors(points[corners.vertex], bounds=True),
        "NORMAL": buffer.vectors(normals[corners.vertex]),
        "TEXCOORD_0": buffer.vectors(corners.uv),
    }


def _normals(points: Array, triangles: Array) -> Array:
    """(V, 3) of length 1, by area; up where a vertex has no face."""
    a, b, c = (points[triangles[:, k]].astype(np.float64) for k in range(3))
    each, out = np.cross(b - a, c - a), np.zeros((len(points), 3))
    for k in range(3):
        np.add.at(out, triangles[:, k], each)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.where(length > 1e-20, out / np.maximum(length, 1e-20), [0.0, 1.0, 0.0])


def _y_up(points: Array) -> Array:
    """Z up, facing -y, to y up, facing +z."""
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], -1)


def _groups(parts: list[str], used: list[int]) -> dict[str, list[int]]:
    """Parts that share a material: eyes are wet, the body has no picture."""
    out: dict[str, list[int]] = {}
    for index in used:
        out.setdefault({"eye.L": "eye", "eye.R": "eye"}.get(parts[index], parts[index]), []).append(index)
    return out


def _material(name: str, has_normal: bool) -> dict[str, Any]:  # noqa: FBT001 - a fact about the file
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": _ROUGH.get(name, 0.5)}
    if name == "body":
        return {"name": name, "pbrMetallicRoughness": {**surface, "baseColorFactor": list(_BODY_COLOR)}}
    material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": {**surface, "baseColorTexture": {"index": 0}}}
    if has_normal and name == "skin":
        material["normalTexture"] = {"index": 1}
    return material


def _packed(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        [struct.pack("<4sII", b"glTF", 2, total), struct.pack("<I4s", len(text), b"JSON"), text,
         struct.pack("<I4s", len(binary), b"BIN\0"), binary]
    )  # fmt: skip


def png(image: Array) -> bytes:
    """A PNG file of (H, W, 3 | 4) uint8; every row is stored as its difference from the row above."""
    height, width, channels = image.shape
    rows = image.reshape(height, width * channels)
    lines = np.empty((height, width * channels + 1), np.uint8)
    lines[:, 0] = 2
    lines[0, 1:], lines[1:, 1:] = rows[0], rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"sRGB", b"\0"), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
