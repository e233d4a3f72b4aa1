"""Quick pictures of heads: what `portrait` ray-casts, rasterised with one sample a pixel and a shadow map.

Frames as there; a few pixels in ten thousand differ visibly.
"""

from __future__ import annotations

import numpy as np
import warp as wp

from ...core.cameras import Camera
from .heads import CUTOFF, Head
from .portrait import Light, paint_of
from .render import texel_at, vertex_normals

Array = np.ndarray
_SHADOW_PX = 320  # of the shadow map's side
_BIAS = 0.003  # metres before which nothing shades a place


@wp.kernel
def _fill(  # noqa: ANN202, PLR0913, PLR0917 - a kernel takes what it reads as arguments
    seen: wp.array(dtype=wp.vec3),
    uv: wp.array(dtype=wp.vec2),
    faces: wp.array(dtype=wp.int32),
    face_texture: wp.array(dtype=wp.int32),
    texels: wp.array(dtype=wp.vec4),
    texture_start: wp.array(dtype=wp.int32),
    texture_size: wp.array(dtype=wp.vec2i),
    width: int,
    height: int,
    cutoff: float,
    nearness: wp.array(dtype=wp.float32),
    face: wp.array(dtype=wp.int32),
    place: wp.array(dtype=wp.vec2),
):
    """Draw a triangle: seen (V) x, y px and nearness, which is linear in the picture and larger in front.

    A cutoff below 0 takes triangles for opaque. Threads follow each other on a CPU, so they share the buffers.
    """
    triangle = wp.tid()
    ia = faces[triangle * 3]
    ib = faces[triangle * 3 + 1]
    ic = faces[triangle * 3 + 2]
    a = seen[ia]
    b = seen[ib]
    c = seen[ic]
    left = wp.max(wp.int32(wp.ceil(wp.min(a[0], wp.min(b[0], c[0])))), 0)
    right = wp.min(wp.int32(wp.floor(wp.max(a[0], wp.max(b[0], c[0])))), width - 1)
    top = wp.max(wp.int32(wp.ceil(wp.min(a[1], wp.min(b[1], c[1])))), 0)
    bottom = wp.min(wp.int32(wp.floor(wp.max(a[1], wp.max(b[1], c[1])))), height - 1)
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if area == 0.0:
        return
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            px = wp.float32(x)
            py = wp.float32(y)
            u = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
            v = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
            w = 1.0 - u - v
            if u >= 0.0 and v >= 0.0 and w >= 0.0:
                near = u * a[2] + v * b[2] + w * c[2]
                pixel = y * width + x
                if near > nearness[pixel]:
                    # weights in space, not in the picture
                    u = u * a[2] / near
                    v = v * b[2] / near
                    opaque = bool(True)  # noqa: UP018 - a kernel variable that changes must be made so
                    if cutoff >= 0.0:
                        st = uv[ia] * u + uv[ib] * v + uv[ic] * (1.0 - u - v)
                        texture = face_texture[triangle]
                        texel = texel_at(texels, texture_start[texture], texture_size[texture], st)
                        opaque = texel[3] >= cutoff
                    if opaque:
                        nearness[pixel] = near
                        face[pixel] = triangle
                        place[pixel] = wp.vec2(u, v)


@wp.kernel
def _shade(  # noqa: ANN202, PLR0913, PLR0917
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    uv: wp.array(dtype=wp.vec2),
    faces: wp.array(dtype=wp.int32),
    face_texture: wp.array(dtype=wp.int32),
    texels: wp.array(dtype=wp.vec4),
    texture_start: wp.array(dtype=wp.int32),
    texture_size: wp.array(dtype=wp.vec2i),
    centre: wp.vec3,
    harmonics: wp.array(dtype=wp.vec3),
    gloss: float,
    key: wp.vec3,
    to_map: wp.mat33,
    map_shift: wp.vec3,
    map_side: int,
    shadow: wp.array(dtype=wp.float32),
    face: wp.array(dtype=wp.int32),
    place: wp.array(dtype=wp.vec2),
    image: wp.array(dtype=wp.vec3),
):
    """Light what a pixel sees, as `portrait` does."""
    pixel = wp.tid()
    triangle = face[pixel]
    if triangle < 0:
        return
    ia = faces[triangle * 3]
    ib = faces[triangle * 3 + 1]
    ic = faces[triangle * 3 + 2]
    u = place[pixel][0]
    v = place[pixel][1]
    w = 1.0 - u - v
    st = uv[ia] * u + uv[ib] * v + uv[ic] * w
    texture = face_texture[triangle]
    texel = texel_at(texels, texture_start[texture], texture_size[texture], st)
    point = points[ia] * u + points[ib] * v + points[ic] * w
    normal = wp.normalize(normals[ia] * u + normals[ib] * v + normals[ic] * w)
    ray = wp.normalize(point - centre)
    if wp.dot(normal, ray) > 0.0:
        normal = -normal
    ambient = harmonics[0] + harmonics[1] * normal[0] + harmonics[2] * normal[1] + harmonics[3] * normal[2]
    lit = wp.max(wp.dot(normal, key), 0.0)
    shine = wp.pow(wp.max(wp.dot(normal, wp.normalize(key - ray)), 0.0), 24.0) * gloss
    on_map = to_map * (point + normal * wp.static(_BIAS)) + map_shift
    x = wp.clamp(wp.int32(on_map[0] + 0.5), 0, map_side - 1)
    y = wp.clamp(wp.int32(on_map[1] + 0.5), 0, map_side - 1)
    if shadow[y * map_side + x] > on_map[2]:
        lit = lit * 0.25
        shine = 0.0
    light = wp.max(ambient, wp.vec3(0.02, 0.02, 0.02)) + harmonics[4] * lit
    image[pixel] = wp.cw_mul(wp.vec3(texel[0], texel[1], texel[2]), light) + harmonics[4] * shine


class Raster:
    """One head, ready to be posed and photographed many times."""

    def __init__(self, head: Head) -> None:
        wp.init()
        self._triangles = np.ascontiguousarray(head.faces, np.int32)
        self._uv, self._faces = _array(head.uv, wp.vec2), _array(self._triangles.ravel(), wp.int32)
        self._paint = paint_of(head)
        self.pose(head.vertices)

    def pose(self, vertices: Array) -> None:
        """Move the vertices to (V, 3); all else stays."""
        self._points = vertices.astype(np.float32)
        self._normals = vertex_normals(self._points, self._triangles)

    def photograph(self, camera: Camera, light: Light) -> tuple[Array, Array]:
        """(H, W, 3) uint8 sRGB on black, and (H, W) bool: where the head is."""
        rotation = camera.rotation.astype(np.float32)
        in_camera = self._points @ rotation.T + camera.translation.astype(np.float32)
        nearness = 1.0 / np.maximum(in_camera[:, 2:], 1e-3)
        focal, middle = np.diag(camera.matrix)[:2], camera.matrix[:2, 2]
        seen = np.concatenate([in_camera[:, :2] * nearness * focal + middle, nearness], 1)
        size = (camera.size[0], camera.size[1])
        face, place, _ = self._filled(seen, size, CUTOFF)
        to_map, shift = _towards(light.key, self._points)
        _, _, shadow = self._filled(self._points @ to_map.T + shift, (_SHADOW_PX, _SHADOW_PX), -1.0)
        image = wp.zeros(size[0] * size[1], dtype=wp.vec3, device="cpu")
        harmonics = _array(np.concatenate([light.harmonics, light.lamp[None]]), wp.vec3)
        wp.launch(
            _shade,
            dim=size[0] * size[1],
            inputs=[
                _array(self._points, wp.vec3), _array(self._normals, wp.vec3), self._uv, self._faces, *self._paint,
                wp.vec3(*camera.centre.tolist()), harmonics, light.gloss, wp.vec3(*light.key.tolist()),
                wp.mat33(*to_map.ravel().tolist()), wp.vec3(*shift.tolist()), _SHADOW_PX, shadow, face, place, image,
            ],
            device="cpu",
        )  # fmt: skip
        there = face.numpy().reshape(size[::-1]) >= 0
        out = np.zeros((*there.shape, 3), np.uint8)
        out[there] = np.clip(image.numpy().reshape(out.shape)[there], 0, 1) ** np.float32(1 / 2.2) * 255 + 0.5
        return out, there

    def _filled(self, seen: Array, size: tuple[int, int], cutoff: float) -> tuple[wp.array, wp.array, wp.array]:
        pixels = size[0] * size[1]
        face = wp.full(pixels, -1, dtype=wp.int32, device="cpu")
        place, nearness = (
            wp.zeros(pixels, dtype=wp.vec2, device="cpu"),
            wp.zeros(pixels, dtype=wp.float32, device="cpu"),
        )
        wp.launch(
            _fill,
            dim=len(self._triangles),
            inputs=[_array(seen, wp.vec3), self._uv, self._faces, *self._paint, *size, cutoff, nearness, face, place],
            device="cpu",
        )
        return face, place, nearness


def _array(values: Array, dtype: type) -> wp.array:
    kind = np.int32 if dtype in (wp.int32, wp.vec2i) else np.float32
    return wp.array(np.ascontiguousarray(values, kind), dtype=dtype, device="cpu")


def _towards(key: Array, points: Array) -> tuple[Array, Array]:
    """(3, 3) and (3,) that carry places onto a map seen from a lamp: x, y px and how near they are, metres from 0."""
    side = np.cross(key, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(key, side), key]).astype(np.float32)
    low, high = (points @ axes.T).min(0), (points @ axes.T).max(0)
    scale = np.array([(_SHADOW_PX - 1) / np.max(high[:2] - low[:2])] * 2 + [1.0], np.float32)
    return axes * scale[:, None], -low * scale + [0, 0, 1e-3]
