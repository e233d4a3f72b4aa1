"""One sheet of texture for the template head: where each piece of it lies.

MakeHuman's own sheet is made for whole bodies, with the face on its side and small. Here it is upright and its middle
is spread out by monotone maps of both axes, which cannot fold; the rest lies below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..head.template import PARTS

Array = np.ndarray
SPREAD = 2.2  # how much wider the middle of the face is laid out than the back of the head
_PLACES = {  # left, bottom, right, top on the sheet, v up
    "skin": (0.006, 0.372, 0.994, 0.994),
    "neck": (0.006, 0.256, 0.994, 0.362),
    "eye.L": (0.006, 0.03, 0.20, 0.224),
    "eye.R": (0.21, 0.03, 0.404, 0.224),
    "socket.L": (0.42, 0.02, 0.52, 0.12),
    "socket.R": (0.42, 0.13, 0.52, 0.23),
    "mouth": (0.53, 0.02, 0.71, 0.23),
    "tongue": (0.72, 0.02, 0.79, 0.23),
    "teeth.lower": (0.80, 0.02, 0.994, 0.115),
    "teeth.upper": (0.80, 0.13, 0.994, 0.23),
}


@dataclass(frozen=True)
class Islands:
    """Pieces of texture: places of corners (F, 4, 2) in the source's sheets; parts (F,); rings (F,): 0 on the neck."""

    places: Array
    parts: Array
    rings: Array


def lay_out(pieces: Islands, faces: Array, vertices: Array) -> Array:
    """(F, 4, 2) places on the one sheet, v up."""
    uv = np.zeros((*faces.shape, 2))
    corners = vertices[faces.clip(0)]
    centre = np.where(faces[..., None] < 0, np.nan, corners)
    centre = np.nanmean(centre, 1)
    for name, box in _PLACES.items():
        base, _, side = name.partition(".")
        part = name if name in PARTS else base
        if name == "neck":
            chosen = (pieces.parts == PARTS.index("skin")) & (pieces.rings >= 0)
            uv[chosen] = _fitted(_around(faces[chosen], vertices, centre[chosen]), box)
            continue
        chosen = pieces.parts == PARTS.index(part)
        if name == "skin":
            chosen &= pieces.rings < 0
            uv[chosen] = _fitted(_spread(pieces.places[chosen], corners[chosen]), box)
            continue
        if base == "socket":
            chosen &= (centre[:, 0] > 0) == (side == "L")
        if base == "teeth":
            chosen &= (pieces.places[:, 0, 1] > 1.5) == (side == "upper")
        uv[chosen] = _fitted(pieces.places[chosen], box)
    uv[..., 3, :][faces[:, 3] < 0] = 0.0
    return uv


def _fitted(places: Array, box: tuple[float, float, float, float]) -> Array:
    low, high = places.reshape(-1, 2).min(0), places.reshape(-1, 2).max(0)
    return np.array(box[:2]) + (places - low) / (high - low) * (np.array(box[2:]) - box[:2])


def _spread(places: Array, corners: Array) -> Array:
    """Turn the head's piece upright, and give its middle more room."""
    upright = np.stack([places[..., 1], -places[..., 0]], -1)
    left = corners[..., 0].ravel()
    if np.corrcoef(upright[..., 0].ravel(), left)[0, 1] < 0:
        upright[..., 0] *= -1
    face = corners.reshape(-1, 3)
    front = face[:, 1] < np.quantile(face[:, 1], 0.25)
    middle = upright.reshape(-1, 2)[front].mean(0)
    half = np.abs(upright - middle).reshape(-1, 2).max(0)
    at = (upright - middle) / half
    return np.arcsinh(SPREAD * at * 1.5) / SPREAD


def _around(faces: Array, vertices: Array, centre: Array) -> Array:
    """Unroll the neck: the angle about it, cut at the back, and the height."""
    corners = vertices[faces]
    axis = corners.reshape(-1, 3).mean(0)
    angle = np.arctan2(corners[..., 0], -(corners[..., 1] - axis[1]))
    own = np.arctan2(centre[:, 0], -(centre[:, 1] - axis[1]))[:, None]
    angle = np.where(angle - own > np.pi, angle - 2 * np.pi, np.where(own - angle > np.pi, angle + 2 * np.pi, angle))
    return np.stack([angle, corners[..., 2] - 0.357 * corners[..., 1]], -1)
