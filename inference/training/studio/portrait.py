"""A portrait studio: heads with hair cards, ray-cast on the CPU under soft light, with masks, depths and exact cameras.

Frames: the head's world is z up, metres; cameras are OpenCV's without distortion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from ...core.cameras import Camera
from .heads import CUTOFF, Head
from .render import lens_of, ray_through, texel_at, vertex_normals

Array = np.ndarray
wp.config.quiet = True
_LAYERS = 12  # hair cards that a ray may pass before it stops looking


@wp.kernel
def _cast(  # noqa: ANN202, PLR0913, PLR0917 - a kernel takes what it reads as arguments
    mesh: wp.uint64,
    uv: wp.array(dtype=wp.vec2),
    normals: wp.array(dtype=wp.vec3),
    faces: wp.array(dtype=wp.int32),
    face_texture: wp.array(dtype=wp.int32),
    texels: wp.array(dtype=wp.vec4),
    texture_start: wp.array(dtype=wp.int32),
    texture_size: wp.array(dtype=wp.vec2i),
    rotation: wp.mat33,
    centre: wp.vec3,
    intrinsics: wp.vec4,
    width: int,
    harmonics: wp.array(dtype=wp.vec3),
    gloss: float,
    key: wp.vec3,
    cutoff: float,
    layers: int,
    image: wp.array(dtype=wp.vec3),
    mask: wp.array(dtype=wp.float32),
    depth: wp.array(dtype=wp.float32),
):
    pixel = wp.tid()
    ray = ray_through(pixel, width, intrinsics, rotation)
    start_t = float(0.0)  # noqa: UP018 - a kernel variable that changes must be made so
    for _layer in range(layers):
        query = wp.mesh_query_ray(mesh, centre + ray * start_t, ray, 50.0)
        if not query.result:
            break
        a = faces[query.face * 3]
        b = faces[query.face * 3 + 1]
        c = faces[query.face * 3 + 2]
        w = 1.0 - query.u - query.v
        st = uv[a] * query.u + uv[b] * query.v + uv[c] * w
        texture = face_texture[query.face]
        texel = texel_at(texels, texture_start[texture], texture_size[texture], st)
        start_t = start_t + query.t
        if texel[3] >= cutoff:
            normal = wp.normalize(normals[a] * query.u + normals[b] * query.v + normals[c] * w)
            if wp.dot(normal, ray) > 0.0:
                normal = -normal
            shade = harmonics[0]
            shade = shade + harmonics[1] * normal[0] + harmonics[2] * normal[1] + harmonics[3] * normal[2]
            point = centre + ray * start_t
            blocked = wp.mesh_query_ray(mesh, point + normal * 0.003, key, 2.0)
            lit = wp.max(wp.dot(normal, key), 0.0)
            half = wp.normalize(key - ray)
            shine = wp.pow(wp.max(wp.dot(normal, half), 0.0), 24.0) * gloss
            if blocked.result:
                lit = lit * 0.25
                shine = 0.0
            light = wp.max(shade, wp.vec3(0.02, 0.02, 0.02)) + harmonics[4] * lit
            albedo = wp.vec3(texel[0], texel[1], texel[2])
            image[pixel] = wp.cw_mul(albedo, light) + harmonics[4] * shine
            mask[pixel] = 1.0
            depth[pixel] = start_t * wp.dot(ray, wp.transpose(rotation) * wp.vec3(0.0, 0.0, 1.0))
            break
        start_t = start_t + 1.0e-4


@wp.kernel
def _meet(  # noqa: ANN202, PLR0913, PLR0917 - a kernel takes what it reads as arguments
    mesh: wp.uint64,
    uv: wp.array(dtype=wp.vec2),
    faces: wp.array(dtype=wp.int32),
    face_texture: wp.array(dtype=wp.int32),
    texels: wp.array(dtype=wp.vec4),
    texture_start: wp.array(dtype=wp.int32),
    texture_size: wp.array(dtype=wp.vec2i),
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    cutoff: float,
    layers: int,
    depth: wp.array(dtype=wp.float32),
):
    index = wp.tid()
    start_t = float(0.0)  # noqa: UP018 - a kernel variable that changes must be made so
    for _layer in range(layers):
        query = wp.mesh_query_ray(mesh, origins[index] + directions[index] * start_t, directions[index], 2.0)
        if not query.result:
            break
        w = 1.0 - query.u - query.v
        a = faces[query.face * 3]
        b = faces[query.face * 3 + 1]
        c = faces[query.face * 3 + 2]
        st = uv[a] * query.u + uv[b] * query.v + uv[c] * w
        texture = face_texture[query.face]
        start_t = start_t + query.t
        texel = texel_at(texels, texture_start[texture], texture_size[texture], st)
        if texel[3] >= cutoff:
            depth[index] = start_t
            break
        start_t = start_t + 1.0e-4


@dataclass(frozen=True)
class Light:
    """harmonics (4, 3): ambient RGB and its slopes along x, y, z; key: direction and RGB of a lamp; gloss of skin."""

    harmonics: Array
    key: Array
    lamp: Array
    gloss: float = 0.05

    @staticmethod
    def drawn(rng: np.random.Generator) -> Light:
        """A room with a lamp in front, above and to a side."""
        warm = 1 + rng.normal(size=3) * 0.06
        ambient = rng.uniform(0.35, 0.65) * warm
        slopes = rng.normal(size=(3, 1)) * 0.12 * ambient
        slopes[2] += 0.08 * ambient
        side, up = rng.uniform(-1.1, 1.1), rng.uniform(0.1, 1.0)
        key = np.array([np.sin(side), -np.cos(side), up])
        lamp = rng.uniform(0.2, 0.75) * (1 + rng.normal(size=3) * 0.06)
        return Light(np.stack([ambient, *slopes]), key / np.linalg.norm(key), lamp, rng.uniform(0.0, 0.1))


def paint_of(head: Head) -> list[wp.array]:
    """What kernels read colours from: the texture of each face, linear texels, where each texture starts, its size."""
    linear = (np.arange(256, dtype=np.float32) / 255) ** 2.2
    flat = [np.asarray(texture).reshape(-1, 4) for texture in head.textures]
    flat = [np.concatenate([linear[texels[:, :3]], texels[:, 3:] / np.float32(255)], -1) for texels in flat]
    starts = np.cumsum([0, *(len(texels) for texels in flat[:-1])])
    sizes = np.array([[texture.shape[1], texture.shape[0]] for texture in head.textures], np.int32)
    return [
        wp.array(head.face_texture.astype(np.int32), dtype=wp.int32, device="cpu"),
        wp.array(np.concatenate(flat), dtype=wp.vec4, device="cpu"),
        wp.array(starts.astype(np.int32), dtype=wp.int32, device="cpu"),
        wp.array(sizes, dtype=wp.vec2i, device="cpu"),
    ]


class Portrait:
    """One head, ready to be photographed many times."""

    def __init__(self, head: Head) -> None:
        wp.init()
        faces = np.ascontiguousarray(head.faces, np.int32)
        points = head.vertices.astype(np.float32)
        self._arrays = [
            wp.array(head.uv.astype(np.float32), dtype=wp.vec2, device="cpu"),
            wp.array(vertex_normals(points, faces), dtype=wp.vec3, device="cpu"),
            wp.array(faces.ravel(), dtype=wp.int32, device="cpu"),
            *paint_of(head),
        ]
        self._faces = faces
        self._mesh = wp.Mesh(points=wp.array(points, dtype=wp.vec3, device="cpu"), indices=self._arrays[2])

    def pose(self, vertices: Array) -> None:
        """Move the vertices to (V, 3); all else stays."""
        points = vertices.astype(np.float32)
        self._arrays[1] = wp.array(vertex_normals(points, self._faces), dtype=wp.vec3, device="cpu")
        self._mesh.points.assign(points)  # type: ignore[union-attr]
        self._mesh.refit()

    def meet(self, origins: Array, directions: Array) -> Array:
        """(N,) metres along rays of unit directions (N, 3) to what they meet first, hair included; NaN for nothing."""
        depth = wp.array(np.full(len(origins), np.nan, np.float32), dtype=wp.float32, device="cpu")
        rays = [wp.array(np.ascontiguousarray(part, np.float32), dtype=wp.vec3, device="cpu")
                for part in (origins, directions)]  # fmt: skip
        uv, _, *paint = self._arrays
        wp.launch(_meet, dim=len(origins), inputs=[self._mesh.id, uv, *paint, *rays, CUTOFF, _LAYERS, depth],
                  device="cpu")  # fmt: skip
        return depth.numpy()

    def photograph(self, camera: Camera, light: Light, *, supersample: int = 2) -> tuple[Array, Array, Array]:
        """(H, W, 3) uint8 sRGB on black, (H, W) coverage in [0, 1], (H, W) depth in metres, 0 where nothing is."""
        width, height = camera.size[0] * supersample, camera.size[1] * supersample
        lens = lens_of(camera, supersample)
        image = wp.zeros(width * height, dtype=wp.vec3, device="cpu")
        mask, depth = (wp.zeros(width * height, dtype=wp.float32, device="cpu") for _ in range(2))
        harmonics = np.concatenate([light.harmonics, light.lamp[None]]).astype(np.float32)
        wp.launch(
            _cast,
            dim=width * height,
            inputs=[
                self._mesh.id, *self._arrays, wp.mat33(*camera.rotation.ravel().tolist()),
                wp.vec3(*camera.centre.tolist()), lens, width, wp.array(harmonics, dtype=wp.vec3, device="cpu"),
                light.gloss, wp.vec3(*light.key.tolist()), CUTOFF, _LAYERS, image, mask, depth,
            ],
            device="cpu",
        )  # fmt: skip
        shape = (camera.size[1], supersample, camera.size[0], supersample)
        linear = image.numpy().reshape(*shape, 3).mean(axis=(1, 3))
        coverage = mask.numpy().reshape(shape).mean(axis=(1, 3))
        deep = depth.numpy().reshape(shape)[:, 0, :, 0]
        return (np.clip(linear, 0.0, 1.0) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8), coverage, deep
