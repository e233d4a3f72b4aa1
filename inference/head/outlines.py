"""What the outline of a head in a photo says of how far it reaches.

A ray through an outline touches the head: along it, the least of what a place's distance from the middle of the head
exceeds the head's reach in that direction is nought.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..core.cameras import rays
from ..nets.head_shape import about
from .camera import camera_of
from .frame import CENTRE, RADIUS
from .seen import Seen

Array = np.ndarray
LOWEST_M = -0.07  # height below which necks and clothes begin
_PLACES = 250  # of each outline that are looked at
_AROUND_M, _LOOKS, _FINER = 0.13, 25, 3  # along a ray, about where it is nearest to the middle


def outline(photo: Seen, pose: Array) -> Array:
    """(N, 2) px along the outline of a mask where that is the head's: not the picture's edge, nor of clothes."""
    found, _ = cv2.findContours((photo.mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    middle = photo.landmarks.mean(0).tolist()
    own = [each for each in found if cv2.pointPolygonTest(each, middle, measureDist=False) >= 0]
    if not own:
        return np.zeros((0, 2))
    places = own[0][:, 0].astype(float)
    height, width = photo.mask.shape
    places = places[((places > 1) & (places < [width - 2, height - 2])).all(1)]
    if photo.edge is not None:
        places = places[photo.edge[tuple(places.astype(int).T[::-1])]]
    camera = camera_of(photo, pose)
    origin, lines = camera.centre, rays(camera, places)
    nearest_there = origin + lines * (lines @ (CENTRE - origin))[:, None]
    known = (nearest_there[:, 2] > LOWEST_M) & (np.linalg.norm(nearest_there - CENTRE, axis=1) < RADIUS)
    places = places[known]
    return places[np.linspace(0, len(places) - 1, min(_PLACES, len(places))).astype(int)]


class Clearance(NamedTuple):
    """How rays pass a head.

    apart (N,) metres, less than nought within it; towards (N, 3): unit vectors from its middle to there; steep (N,):
    how much farther than `apart` the surface is along them.
    """

    apart: Array
    towards: Array
    steep: Array


def clearance(radii: Array, origin: Array, lines: Array, steep: Array | None = None) -> Clearance:
    """How rays (N, 3) of length 1 from origin (3,) metres pass a head of radii (V,) metres.

    steep (N,): what is known of it; it jumps from place to place, and derivatives must not see that.
    """
    middle, half = lines @ (CENTRE - origin), np.full(len(lines), _AROUND_M)
    rows = np.arange(len(lines))
    over = place = far = np.zeros(0)
    for _ in range(_FINER):
        line = middle[:, None] + half[:, None] * np.linspace(-1, 1, _LOOKS)
        place = origin + lines[:, None] * line[..., None] - CENTRE
        far = np.linalg.norm(place, axis=-1)
        over = far - along(radii, (place / far[..., None]).reshape(-1, 3)).reshape(far.shape)
        least = over.argmin(1)
        middle, half = line[rows, least], 2 * half / (_LOOKS - 1)
        over, place, far = over[rows, least], place[rows, least], far[rows, least]
    steep = steepness(radii, place) if steep is None else steep
    return Clearance(over / steep, place / far[:, None], steep)


def steepness(radii: Array, place: Array) -> Array:
    """(N,) how much farther a surface of radii (V,) metres is along than across it, at (N, 3) from the middle."""
    over = np.linalg.norm(place, axis=1) - _reach_of(radii, place)
    moved = [place + small for small in 1e-3 * np.eye(3)]
    slant = [(np.linalg.norm(there, axis=1) - _reach_of(radii, there) - over) / 1e-3 for there in moved]
    return np.linalg.norm(np.stack(slant, -1), axis=1).clip(1, 4)


def along(radii: Array, towards: Array) -> Array:
    """(N,) metres of radii (V,) along unit vectors (N, 3)."""
    corners, counts = about(towards)
    return (radii[corners] * counts).sum(1)


def _reach_of(radii: Array, place: Array) -> Array:
    return along(radii, place / np.linalg.norm(place, axis=1, keepdims=True))
