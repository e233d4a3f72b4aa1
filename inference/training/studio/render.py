"""A ray-cast studio: posed meshes in a room, seen by calibrated cameras, on the CPU.

Frames: the world is z up, metres; cameras are OpenCV's (`core.cameras.Camera`), without distortion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import warp as wp

from ...core.cameras import Camera, level_rotation, pinhole

Array = np.ndarray
wp.config.quiet = True


@wp.func
def ray_through(pixel: int, width: int, intrinsics: wp.vec4, rotation: wp.mat33) -> wp.vec3:
    """The viewing direction of a pixel, in the world."""
    u = wp.float32(pixel % width)
    v = wp.float32(pixel // width)
    local = wp.vec3((u - intrinsics[2]) / intrinsics[0], (v - intrinsics[3]) / intrinsics[1], 1.0)
    return wp.normalize(wp.transpose(rotation) * local)


@wp.func
def texel_at(  # noqa: ANN201 - a color of as many parts as the texels have
    texels: wp.array(dtype=Any), first: int, size: wp.vec2i, st: wp.vec2
):
    """The colour of a texture that repeats, between its four nearest texels; its own texels begin at `first`."""
    x = wp.clamp((st[0] - wp.floor(st[0])) * wp.float32(size[0]) - 0.5, 0.0, wp.float32(size[0] - 1))
    y = wp.clamp((st[1] - wp.floor(st[1])) * wp.float32(size[1]) - 0.5, 0.0, wp.float32(size[1] - 1))
    x0 = wp.int32(x)
    y0 = wp.int32(y)
    x1 = wp.min(x0 + 1, size[0] - 1)
    y1 = wp.min(y0 + 1, size[1] - 1)
    fx = x - wp.float32(x0)
    fy = y - wp.float32(y0)
    top = texels[first + y0 * size[0] + x0] * (1.0 - fx) + texels[first + y0 * size[0] + x1] * fx
    bottom = texels[first + y1 * size[0] + x0] * (1.0 - fx) + texels[first + y1 * size[0] + x1] * fx
    return top * (1.0 - fy) + bottom * fy


@wp.kernel
def _cast(  # noqa: ANN202, PLR0913, PLR0917 - a kernel takes what it reads as arguments
    mesh: wp.uint64,
    uv: wp.array(dtype=wp.vec2),
    normals: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.int32),
    face_texture: wp.array(dtype=wp.int32),
    texels: wp.array(dtype=wp.vec3),
    texture_start: wp.array(dtype=wp.int32),
    texture_size: wp.array(dtype=wp.vec2i),
    rotation: wp.mat33,
    centre: wp.vec3,
    intrinsics: wp.vec4,
    width: int,
    light: wp.vec3,
    ambient: float,
    floor_a: wp.vec3,
    floor_b: wp.vec3,
    wall: wp.vec3,
    image: wp.array(dtype=wp.vec3),
    mask: wp.array(dtype=wp.float32),
):
    pixel = wp.tid()
    ray = ray_through(pixel, width, intrinsics, rotation)
    query = wp.mesh_query_ray(mesh, centre, ray, 50.0)
    colour = wp.vec3(0.0, 0.0, 0.0)
    if query.result:
        mask[pixel] = 1.0
        a = faces[query.face * 3]
        b = faces[query.face * 3 + 1]
        c = faces[query.face * 3 + 2]
        w = 1.0 - query.u - query.v
        st = uv[a] * query.u + uv[b] * query.v + uv[c] * w
        normal = wp.normalize(normals[a] * query.u + normals[b] * query.v + normals[c] * w)
        texture = face_texture[query.face]
        albedo = texel_at(texels, texture_start[texture], texture_size[texture], st)
        point = centre + ray * query.t
        shade = wp.max(wp.dot(normal, light), 0.0)
        blocked = wp.mesh_query_ray(mesh, point + normal * 0.004, light, 10.0)
        if blocked.result:
            shade = 0.0
        sky = 0.5 + 0.5 * normal[2]
        colour = albedo * (ambient * (0.55 + 0.45 * sky) + (1.0 - ambient) * shade)
    elif ray[2] < -1.0e-4 and centre[2] / -ray[2] < 14.0:
        point = centre - ray * (centre[2] / ray[2])
        even = (wp.int32(wp.floor(point[0] * 1.6)) + wp.int32(wp.floor(point[1] * 1.6))) % 2
        colour = floor_a
        if even != 0:
            colour = floor_b
        shade = light[2]
        blocked = wp.mesh_query_ray(mesh, point + wp.vec3(0.0, 0.0, 0.002), light, 10.0)
        if blocked.result:
            shade = 0.0
        near = wp.exp(-0.012 * wp.length(point - centre) * wp.length(point - centre))
        colour = (colour * near + wall * (1.0 - near)) * (ambient + (1.0 - ambient) * shade)
    else:
        colour = wall * (0.85 + 0.3 * ray[2])
    image[pixel] = colour


@dataclass(frozen=True)
class Room:
    """Colours (linear RGB) and light of a set."""

    light: tuple[float, float, float] = (0.45, -0.4, 0.8)
    ambient: float = 0.55
    floor_a: tuple[float, float, float] = (0.42, 0.38, 0.33)
    floor_b: tuple[float, float, float] = (0.38, 0.345, 0.30)
    wall: tuple[float, float, float] = (0.55, 0.58, 0.6)


class Stage:
    """One mesh with its textures, ready to be posed and photographed many times."""

    def __init__(self, faces: Array, uv: Array, face_texture: Array, textures: tuple[Array, ...]) -> None:
        wp.init()
        self.faces = np.ascontiguousarray(faces, np.int32)
        self._faces = wp.array(self.faces.ravel(), dtype=wp.int32, device="cpu")
        self._uv = wp.array(uv.astype(np.float32), dtype=wp.vec2, device="cpu")
        self._face_texture = wp.array(face_texture.astype(np.int32), dtype=wp.int32, device="cpu")
        flat = [(np.asarray(texture, np.float32) / 255.0).reshape(-1, 3) ** 2.2 for texture in textures]
        starts = np.cumsum([0, *(len(texels) for texels in flat[:-1])])
        sizes = np.array([[texture.shape[1], texture.shape[0]] for texture in textures], np.int32)
        self._texels = wp.array(np.concatenate(flat), dtype=wp.vec3, device="cpu")
        self._starts = wp.array(starts.astype(np.int32), dtype=wp.int32, device="cpu")
        self._sizes = wp.array(sizes, dtype=wp.vec2i, device="cpu")
        self._mesh: wp.Mesh | None = None

    def pose(self, vertices: Array) -> None:
        """Place the mesh: (V, 3) metres, z up."""
        points = vertices.astype(np.float32)
        self._normals = wp.array(vertex_normals(points, self.faces), dtype=wp.vec3, device="cpu")
        self._mesh = wp.Mesh(points=wp.array(points, dtype=wp.vec3, device="cpu"), indices=self._faces)

    def photograph(self, camera: Camera, room: Room | None = None, *, supersample: int = 2) -> tuple[Array, Array]:
        """Render the posed mesh: (H, W, 3) uint8 sRGB and (H, W) coverage in [0, 1]."""
        assert self._mesh is not None, "pose() comes first"
        room = room or Room()
        width, height = camera.size[0] * supersample, camera.size[1] * supersample
        lens = lens_of(camera, supersample)
        image = wp.zeros(width * height, dtype=wp.vec3, device="cpu")
        mask = wp.zeros(width * height, dtype=wp.float32, device="cpu")
        light = np.array(room.light) / np.linalg.norm(room.light)
        wp.launch(
            _cast,
            dim=width * height,
            inputs=[
                self._mesh.id, self._uv, self._normals, self._faces, self._face_texture, self._texels,
                self._starts, self._sizes, wp.mat33(*camera.rotation.ravel().tolist()),
                wp.vec3(*camera.centre.tolist()), lens, width, wp.vec3(*light.tolist()), room.ambient,
                wp.vec3(*room.floor_a), wp.vec3(*room.floor_b), wp.vec3(*room.wall), image, mask,
            ],
            device="cpu",
        )  # fmt: skip
        linear = image.numpy().reshape(camera.size[1], supersample, camera.size[0], supersample, 3).mean(axis=(1, 3))
        coverage = mask.numpy().reshape(camera.size[1], supersample, camera.size[0], supersample).mean(axis=(1, 3))
        return (np.clip(linear, 0.0, 1.0) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8), coverage


def vertex_normals(points: Array, faces: Array) -> Array:
    """(V, 3) unit normals of (V, 3) float32 points, faces weighted by their area."""
    corners = points[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for k in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, k], flat[:, axis], len(points))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def lens_of(camera: Camera, supersample: int) -> wp.vec4:
    """Focal lengths and principal point of a picture of so many rays a pixel and axis."""
    half, k = (supersample - 1) / 2, camera.matrix
    return wp.vec4(
        float(k[0, 0] * supersample), float(k[1, 1] * supersample),
        float(k[0, 2] * supersample + half), float(k[1, 2] * supersample + half),
    )  # fmt: skip


def look_at(
    name: str, size: tuple[int, int], focal_px: float, eye: Array, target: Array, *, roll_rad: float = 0.0
) -> Camera:
    """A camera at `eye` looking at `target`, z up, principal point in the middle."""
    right, down, forward = level_rotation(target - eye)
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    rotation = np.stack([c * right + s * down, -s * right + c * down, forward])
    return replace(pinhole(name, size, focal_px), rotation=rotation, translation=-rotation @ eye)
