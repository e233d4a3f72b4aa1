"""Where parts of a head meet: lips that close, lids that stay outside eyeballs."""

from __future__ import annotations

import numpy as np

from .template import Template

Array = np.ndarray
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
