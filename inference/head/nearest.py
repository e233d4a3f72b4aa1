"""Nearest places on a triangle mesh, and what rays meet first, by warp on the CPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import warp as wp

Array = np.ndarray
wp.config.quiet = True


@wp.kernel
def _closest(  # noqa: ANN202 - a kernel
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    reach: float,
    face: wp.array(dtype=wp.int32),
    where: wp.array(dtype=wp.vec3),
):
    index = wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[index], reach)
    face[index] = -1
    if query.result:
        face[index] = query.face
        where[index] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)


@wp.kernel
def _cast(  # noqa: ANN202, PLR0917 - a kernel takes what it reads as arguments
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    reach: float,
    face: wp.array(dtype=wp.int32),
    where: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=wp.float32),
):
    index = wp.tid()
    query = wp.mesh_query_ray(mesh, origins[index], directions[index], reach)
    face[index] = -1
    if query.result:
        face[index] = query.face
        where[index] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
        depth[index] = query.t


class Places(NamedTuple):
    """Places on a mesh: face (N,), -1 for none; weights (N, 3) of its corners; points (N, 3); depth (N,) along rays."""

    face: Array
    weights: Array
    points: Array
    depth: Array


class Meshed:
    """A triangle mesh that answers questions."""

    def __init__(self, vertices: Array, triangles: Array) -> None:
        self.vertices, self.triangles = np.asarray(vertices, np.float32), np.ascontiguousarray(triangles, np.int32)
        self._points = wp.array(self.vertices, dtype=wp.vec3, device="cpu")
        self._indices = wp.array(self.triangles.ravel(), dtype=wp.int32, device="cpu")
        self._mesh = wp.Mesh(points=self._points, indices=self._indices)

    def nearest(self, points: Array, reach: float = 1.0) -> Places:
        """Where the mesh is nearest to points (N, 3); none beyond `reach`."""
        face, where = self._launch(_closest, [points], reach, [])
        return self._places(face, where, np.zeros(len(points)))

    def cast(self, origins: Array, directions: Array, reach: float = 10.0) -> Places:
        """What rays meet first; directions (N, 3) of length 1."""
        depth = wp.zeros(len(origins), dtype=wp.float32, device="cpu")
        face, where = self._launch(_cast, [origins, directions], reach, [depth])
        return self._places(face, where, depth.numpy())

    def _launch(self, kernel: Any, inputs: list[Array], reach: float, more: list[Any]) -> tuple[Array, Array]:
        count = len(inputs[0])
        face = wp.zeros(count, dtype=wp.int32, device="cpu")
        where = wp.zeros(count, dtype=wp.vec3, device="cpu")
        given = [wp.array(np.ascontiguousarray(item, np.float32), dtype=wp.vec3, device="cpu") for item in inputs]
        wp.launch(kernel, dim=count, inputs=[self._mesh.id, *given, reach, face, where, *more], device="cpu")
        return face.numpy(), where.numpy()

    def _places(self, face: Array, weights: Array, depth: Array) -> Places:
        points = np.einsum("nk,nkc->nc", weights, self.vertices[self.triangles[face.clip(0)]])
        return Places(face, weights.astype(np.float64), points.astype(np.float64), depth)

    def at(self, places: Places, values: Array) -> Array:
        """(N, C) values of vertices (V, C), taken at places."""
        return np.einsum("nk,nkc->nc", places.weights, values[self.triangles[places.face.clip(0)]])


def face_normals(vertices: Array, triangles: Array) -> Array:
    """(T, 3) of length 1, 0 for faces without area."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)


def vertex_normals(vertices: Array, triangles: Array) -> Array:
    """(V, 3) of length 1, weighted by area."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    out = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(out, triangles[:, k], normal)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-20)
