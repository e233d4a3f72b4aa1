"""Where parts of a head meet: lips that close, lids that stay outside eyeballs."""

from __future__ import annotations

import numpy as np

from .nearest import Meshed, face_normals
from .template import PARTS, Template, triangulate

Array = np.ndarray
_THIN = 1.2e-3  # metres of flesh between the skin and what lines it, at least, where the template has as much
CLEAR = 3e-4  # metres between a lid and an eyeball
_REACH = 0.0025  # metres over which a correction fades


def close_pairs(template: Template, vertices: Array, pairs: Array, *parts: str) -> Array:
    """Bring pairs of vertices together at their middles, fading over a few millimetres of `parts`."""
    gap = vertices[pairs[:, 1]] - vertices[pairs[:, 0]]
    wanted: dict[int, list[Array]] = {}
    for (upper, lower), apart in zip(pairs, gap, strict=True):
        wanted.setdefault(int(upper), []).append(apart / 2)
        wanted.setdefault(int(lower), []).append(-apart / 2)
    moved = np.array(sorted(wanted))
    shift = np.array([np.mean(wanted[index], 0) for index in moved])
    return vertices + spread(vertices, moved, shift, template.vertices_of(*parts))


def spread(vertices: Array, moved: Array, shift: Array, rows: Array, reach: float = _REACH) -> Array:
    """(V, 3) offsets: `shift` at `moved`, fading around them among `rows`."""
    offsets = np.zeros(vertices.shape)
    distance = np.linalg.norm(vertices[rows, None] - vertices[moved], axis=2)
    weight = np.exp(-((distance / reach) ** 2))
    near = weight.max(1) > 0.02
    share = weight[near] / weight[near].sum(1, keepdims=True)
    offsets[rows[near]] = share @ shift * weight[near].max(1, keepdims=True)
    offsets[moved] = shift
    return offsets


def lid_rows(template: Template, side: str) -> Array:
    """Vertices of skin that lie outside the eyeball and near it, in front of its middle: lids."""
    centre, radius = template.eye(side, template.vertices)
    skin = template.vertices_of("skin")
    from_centre = template.vertices[skin] - centre
    distance = np.linalg.norm(from_centre, axis=1) - radius
    return skin[(distance > -2e-4) & (distance < 0.006) & (from_centre[:, 1] < 0)]


def depth_in_eye(template: Template, vertices: Array, side: str, rest: Array) -> Array:
    """(L,) metres by which lids' vertices are outside the eyeball of `rest`; negative: through it."""
    centre, radius = template.eye(side, rest)
    return np.linalg.norm(vertices[lid_rows(template, side)] - centre, axis=1) - radius


def push_out(template: Template, vertices: Array, side: str, rest: Array) -> Array:
    """Move lids that are in the eyeball of `rest` to just outside of it, and what is around a little."""
    rows = lid_rows(template, side)
    centre, radius = template.eye(side, rest)
    from_centre = vertices[rows] - centre
    distance = np.linalg.norm(from_centre, axis=1)
    missing = radius + CLEAR - distance
    inside = missing > 0
    if not inside.any():
        return vertices
    shift = from_centre[inside] / distance[inside, None] * missing[inside, None]
    offsets = spread(vertices, rows[inside], shift, rows, 0.0015)
    out = vertices + offsets
    again = out[rows] - centre
    distance = np.linalg.norm(again, axis=1, keepdims=True)
    out[rows] = centre + again * np.maximum(1.0, (radius + CLEAR) / distance)
    return out


class Lining:
    """The inside of the mouth and of lids, which stays behind the skin as on the template."""

    def __init__(self, template: Template) -> None:
        skin = template.face_part == PARTS.index("skin")
        self._triangles = triangulate(template.faces[skin])
        inner = np.setdiff1d(template.vertices_of("mouth", "socket"), template.vertices_of("skin"))
        depth, _, _ = self._depth(template.vertices, inner)
        kept = depth > 1e-4
        self.rows, self._wanted = inner[kept], np.minimum(depth[kept] * 0.6, _THIN)

    def tuck(self, vertices: Array) -> Array:
        """(V, 3) with what comes through the skin, or near to it, moved back."""
        out = np.array(vertices, float)
        for _ in range(2):  # by then the nearest skin may be another
            depth, towards, near = self._depth(out, self.rows)
            missing = np.where(near, np.clip(self._wanted - depth, 0, 0.012), 0)
            out[self.rows] += missing[:, None] * towards
        return out

    def _depth(self, vertices: Array, rows: Array) -> tuple[Array, Array, Array]:
        """Metres (R,) behind the nearest skin, directions (R, 3) into the head, and whether skin is near (R,)."""
        places = Meshed(vertices, self._triangles).nearest(vertices[rows], 0.015)
        inwards = -face_normals(vertices, self._triangles)[places.face.clip(0)]
        depth = ((vertices[rows] - places.points) * inwards).sum(1)
        return depth, inwards, places.face >= 0


def seen_when_closed(template: Template, rest: Array, closed: Array, side: str) -> float:
    """Share of what the front shows of an open eye that it shows between closed lids, too; side "L" or "R"."""
    ball = template.face_part == PARTS.index(f"eye.{side}")
    lids = triangulate(template.faces[np.isin(template.face_part, [PARTS.index("skin"), PARTS.index("socket")])])
    middle = np.asarray(rest)[template.faces[ball][:, :3]].mean(1).astype(float)
    front = middle[middle[:, 1] < template.eye(side, rest)[0][1]]
    ahead = np.broadcast_to([0.0, -1.0, 0.0], front.shape)
    before, after = (Meshed(points, lids).cast(front + 2e-4 * ahead, ahead, 0.2).face < 0 for points in (rest, closed))
    return float((before & after).sum() / max(before.sum(), 1))
