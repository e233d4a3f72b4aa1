"""Where cameras stood and how far a head reaches, by what one look says (`guess`) and the outlines of masks.

A ray through an outline touches the head: along it, the least of what a place's distance from the middle of the head
exceeds the head's reach in that direction is nought. By Gauss-Newton, the likeliest cameras and reach are found, these
in the principal modes of what looks get wrong. Face points place the cameras but do not bend the head: the detector's
errors from one side are alike all over the face. Nor do outlines bend the face, of which the look knows more.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..nets.head_shape import about, directions
from .camera import Placed, camera_of, misses, nearest, stand
from .frame import CENTRE, RADIUS
from .guess import Guessed
from .prior import Span
from .seen import Seen

Array = np.ndarray
_LOOSE = 3.3  # of face points, as `camera.stand` has it: so many that are off alike say little
_OUTLINE_M, _OUTLIER_M = 0.008, 0.005  # standard deviation of a place of the outline; what is so far off counts half
_SURE = (_OUTLIER_M / _OUTLINE_M) ** 2
_PLACES = 250  # of each outline that are looked at
_LOWEST_M, _NECK_M = -0.07, 0.03  # height below which outlines are of clothes; over how much heads pass into necks
_ROUNDS, _HALVINGS = 8, 4
_STEP = 1e-4  # of a camera's numbers, for derivatives
_AROUND_M, _LOOKS, _FINER = 0.13, 25, 3  # along a ray, about where it is nearest to the middle


def settle(photos: list[Seen], guessed: Guessed, span: Span) -> Placed:
    """Find cameras and head.

    Raises:
        InputError: a photo's points fit no face.
    """
    poses = [stand(photo, face, _LOOSE) for photo, face in zip(photos, guessed.by_photo, strict=True)]
    sights = [Sight(p, face, outline(p, pose)) for p, face, pose in zip(photos, guessed.by_photo, poses, strict=True)]
    errors, poses = likeliest(sights, guessed, np.stack(poses))
    radii = guessed.face_on(guessed.radii + guessed.errors @ errors)
    cameras = tuple(camera_of(photo, pose) for photo, pose in zip(photos, poses, strict=True))
    return Placed(cameras, nearest(span, guessed.points), guessed.points, radii)


def share_known(radii: Array) -> Array:
    """(V,) from 1 to 0 below the chin: neither looks nor outlines know necks; radii (V,) metres."""
    height = CENTRE[2] + directions()[:, 2] * radii
    return np.clip((height - _LOWEST_M) / _NECK_M + 1, 0, 1)


@dataclass(frozen=True)
class Sight:
    """A photo, the face (478, 3) metres as it is read there, and places (N, 2) px of the outline of its mask."""

    photo: Seen
    face: Array
    outline: Array

    def misses(self, pose: Array, radii: Array) -> tuple[Array, Array, tuple[Array, Array]]:
        """Of points (M,), in standard deviations; of the outline (N,), metres, for a head of radii (V,) metres.

        Then which radii these hang on, and how much: (N, 4) and (N, 4).
        """
        points = misses(self.photo, self.face, pose, _LOOSE)
        apart, rays, steep = clearance(radii, *_rays(self.photo, pose, self.outline))
        corners, counts = about(rays)
        return points, apart, (corners, -counts / steep[:, None])


def likeliest(sights: list[Sight], guessed: Guessed, poses: Array) -> tuple[Array, Array]:
    """Modes of the look's errors (K,) and poses (P, 7), from no errors and poses by points alone."""
    errors, cost = np.zeros(guessed.errors.shape[1]), _cost(sights, guessed, np.zeros(guessed.errors.shape[1]), poses)
    for _ in range(_ROUNDS):
        step = _step(sights, guessed, errors, poses)
        for _ in range(_HALVINGS):
            tried = errors + step[: len(errors)], poses + step[len(errors) :].reshape(poses.shape)
            if (then := _cost(sights, guessed, *tried)) < cost:
                (errors, poses), cost = tried, then
                break
            step = step / 2
        else:
            break
    return errors, poses


def _cost(sights: list[Sight], guessed: Guessed, errors: Array, poses: Array) -> float:
    """Minus twice the logarithm of the likelihood, outlines by Cauchy's distribution."""
    radii, cost = guessed.radii + guessed.errors @ errors, np.square(errors).sum()
    for sight, pose in zip(sights, poses, strict=True):
        points, apart, _ = sight.misses(pose, radii)
        cost += np.square(points).sum() + _SURE * np.log1p(np.square(apart / _OUTLIER_M)).sum()
    return float(cost)


def _step(sights: list[Sight], guessed: Guessed, errors: Array, poses: Array) -> Array:
    """(K + 7 P,) of Gauss-Newton."""
    size, count = len(errors), len(errors) + poses.size
    radii, normal, off = guessed.radii + guessed.errors @ errors, np.zeros((count, count)), np.zeros(count)
    normal[range(size), range(size)], off[:size] = 1.0, errors
    for index, (sight, pose) in enumerate(zip(sights, poses, strict=True)):
        points, apart, (corners, counts) = sight.misses(pose, radii)
        slopes = [sight.misses(pose + small, radii) for small in _STEP * np.eye(7)]
        own = slice(size + 7 * index, size + 7 * index + 7)
        by_points = np.stack([(moved[0] - points) / _STEP for moved in slopes], 1)
        normal[own, own] += by_points.T @ by_points
        off[own] += by_points.T @ points
        by_outline = np.zeros((len(apart), count))
        by_outline[:, :size] = np.einsum("nf,nfk->nk", counts, guessed.errors[corners])
        by_outline[:, own] = np.stack([(moved[1] - apart) / _STEP for moved in slopes], 1)
        weight = _SURE / (_OUTLIER_M**2 + np.square(apart))
        normal += by_outline.T @ (weight[:, None] * by_outline)
        off += by_outline.T @ (weight * apart)
    return -np.linalg.solve(normal + 1e-6 * np.diag(np.diag(normal)), off)


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
    origin, rays = _rays(photo, pose, places)
    nearest_there = origin + rays * (rays @ (CENTRE - origin))[:, None]
    known = (nearest_there[:, 2] > _LOWEST_M) & (np.linalg.norm(nearest_there - CENTRE, axis=1) < RADIUS)
    places = places[known]
    return places[np.linspace(0, len(places) - 1, min(_PLACES, len(places))).astype(int)]


def clearance(radii: Array, origin: Array, rays: Array) -> tuple[Array, Array, Array]:
    """(N,) metres by which rays pass a head of radii (V,), less than nought within it.

    Then unit vectors (N, 3) from its middle to there, and how much farther than that the surface is along them (N,).
    origin (3,) metres, rays (N, 3) of length 1.
    """
    middle, half = rays @ (CENTRE - origin), np.full(len(rays), _AROUND_M)
    rows = np.arange(len(rays))
    over = place = far = np.zeros(0)
    for _ in range(_FINER):
        line = middle[:, None] + half[:, None] * np.linspace(-1, 1, _LOOKS)
        place = origin + rays[:, None] * line[..., None] - CENTRE
        far = np.linalg.norm(place, axis=-1)
        over = far - _reach(radii, (place / far[..., None]).reshape(-1, 3)).reshape(far.shape)
        least = over.argmin(1)
        middle, half = line[rows, least], 2 * half / (_LOOKS - 1)
        over, place, far = over[rows, least], place[rows, least], far[rows, least]
    slant = []
    for small in 1e-3 * np.eye(3):
        moved = np.linalg.norm(place + small, axis=1)
        slant.append((moved - _reach(radii, (place + small) / moved[:, None]) - over) / 1e-3)
    steep = np.linalg.norm(np.stack(slant, -1), axis=1).clip(1, 4)
    return over / steep, place / far[:, None], steep


def _reach(radii: Array, rays: Array) -> Array:
    """(N,) metres of radii (V,) along unit vectors (N, 3)."""
    corners, counts = about(rays)
    return (radii[corners] * counts).sum(1)


def _rays(photo: Seen, pose: Array, pixels: Array) -> tuple[Array, Array]:
    """Where a camera stands (3,) and unit vectors (N, 3) through pixels (N, 2)."""
    camera = camera_of(photo, pose)
    local = np.concatenate([(pixels - photo.centre_px) / camera.matrix[0, 0], np.ones((len(pixels), 1))], 1)
    rays = local @ camera.rotation
    return camera.centre, rays / np.linalg.norm(rays, axis=1, keepdims=True)
