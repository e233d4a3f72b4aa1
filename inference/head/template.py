"""The template head: quads, texture places, parts, 52 shapes, how people differ, and where landmarks lie on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from ..protocol.errors import WeightsError
from ..protocol.files import atomic_write

Array = np.ndarray
NAME = "head-template"
SCHEMA = 1
PARTS = ("skin", "mouth", "socket", "eye.L", "eye.R", "teeth", "tongue", "body")


@dataclass(frozen=True)
class Template:
    """A head in the frame of heads, metres.

    vertices (V, 3); faces (F, 4), last corner -1 for triangles; uv (F, 4, 2), v up; face_part (F,) into `PARTS`;
    shape_keys (52, V, 3); identity (K, V, 3): one standard deviation of people each; landmark_vertices (478, 3) and
    landmark_weights (478, 3): mediapipe's points; lips (P, 2): upper and lower vertices that touch when the mouth is
    closed; trust (V,): 0 to 1, how far what a surface shows there can be skin: the face, little of the scalp, and
    nothing of ears, mouth and sockets; neck_loop (N,), in order;
    body_vertices (B, 3) and body_faces (G, 4) into template's, then body's vertices; body_uv (G, 4, 2);
    neck (3,): the base of the neck.
    """

    vertices: Array
    faces: Array
    uv: Array
    face_part: Array
    shape_keys: Array
    identity: Array
    landmark_vertices: Array
    landmark_weights: Array
    lips: Array
    trust: Array
    neck_loop: Array
    body_vertices: Array
    body_faces: Array
    body_uv: Array
    neck: Array
    shape_key_names: tuple[str, ...]

    @cached_property
    def triangles(self) -> Array:
        """(T, 3) of all faces."""
        return triangulate(self.faces)

    def vertices_of(self, *parts: str) -> Array:
        """Vertices of parts, sorted."""
        chosen = np.isin(self.face_part, [PARTS.index(part) for part in parts])
        rows = np.unique(self.faces[chosen])
        return rows[rows >= 0]

    def landmarks(self, vertices: Array) -> Array:
        """(478, 3) mediapipe's points on some vertices of this topology."""
        return np.einsum("nk,nkc->nc", self.landmark_weights, vertices[self.landmark_vertices])

    def eye(self, side: str, vertices: Array) -> tuple[Array, float]:
        """Centre (3,) and radius of an eyeball, "L" or "R"."""
        points = vertices[self.vertices_of(f"eye.{side}")]
        centre = (points[0] + points[-1]) / 2
        return centre, float(np.linalg.norm(points[0] - points[-1]) / 2)

    def key(self, name: str) -> Array:
        """(V, 3) offsets of a shape."""
        return self.shape_keys[self.shape_key_names.index(name)]


def triangulate(faces: Array) -> Array:
    """(T, 3) of quads, and of triangles whose last corner is -1."""
    four = faces[:, 3] >= 0
    return np.concatenate([faces[:, :3], faces[four][:, [0, 2, 3]]])


def save_template(path: Path, template: Template) -> None:
    """Write it; offsets are kept in steps of 1/32767 of their largest."""
    arrays, scales = {}, {}
    for entry in fields(template):
        value = getattr(template, entry.name)
        if entry.name in ("shape_keys", "identity"):
            scales[entry.name] = float(np.abs(value).max())
            value = np.round(value / scales[entry.name] * 32767).astype(np.int16)
        if isinstance(value, np.ndarray):
            kind = np.float32 if value.dtype.kind == "f" else np.int16  # there are fewer than 32768 vertices
            arrays[entry.name] = np.ascontiguousarray(value, kind)
    names = json.dumps(template.shape_key_names)
    header = {"net": NAME, "schema": str(SCHEMA), "scales": json.dumps(scales), "names": names}
    content = to_bytes(arrays, header)
    atomic_write(path, lambda stream: stream.write(content))


def read_template(path: Path) -> Template:
    """Read what `save_template` wrote.

    Raises:
        WeightsError: the file is damaged or of another kind.
    """
    try:
        with safe_open(path, "numpy") as stream:
            header: Mapping[str, str] = stream.metadata() or {}
            if header.get("net") != NAME or int(header["schema"]) > SCHEMA:
                raise WeightsError(f"{path.name} holds no template head of schema {SCHEMA}.")
            scales, names = json.loads(header["scales"]), json.loads(header["names"])
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a mapping
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path.name} cannot be read: {error}") from error
    for name, scale in scales.items():
        arrays[name] = arrays[name].astype(np.float32) * np.float32(scale / 32767)
    whole = {name: a.astype(np.int32) if a.dtype.kind == "i" else a for name, a in arrays.items()}
    return Template(**whole, shape_key_names=tuple(names))
