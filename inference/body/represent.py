"""What a network reads of a person: a square crop about them, level with the camera, as mask and joints.

The crop belongs to a camera of its own that looks at the person (so that nobody is seen askew at a picture's edge).
View frames are level with a camera: x right, y forward, z up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import Camera, normalise, project
from ..nets.gc_body import KEYPOINTS

Array = np.ndarray
Masks = Callable[[int], Array | None]
VIEW_FROM_CAMERA = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
_MARGIN = 1.2  # of the crop's side over that of the person
_LEAST = 4  # joints that say where somebody is
_FINE = 4  # pixels of a mask that are read for one of the crop, each way
_APART = 4  # pixels of a crop, from ray to ray that is sent through the lens


@dataclass(frozen=True)
class View:
    """One camera's sight of the person: keypoints, and the mask (H, W) of a sample, where it has one."""

    keypoints: Keypoints2D
    masks: Masks
    camera: Camera


@dataclass(frozen=True)
class Crops:
    """T crops of one view.

    turn (T, 3, 3), shift (T, 3): from the frame in which a body is fitted to the view frame of a crop's camera;
    half (T,): half a crop's side at distance one; joints (T, K, 2) in [-1, 1] and confidence (T, K), 0
    where not seen; masks (T, S, S) float32 and masked (T,), whether there was one; framed (T, S, S), what of a crop is
    in the picture. A crop that nobody is in has confidence 0 throughout.
    """

    turn: Array
    shift: Array
    half: Array
    joints: Array
    confidence: Array
    masks: Array
    masked: Array
    framed: Array

    def __getitem__(self, at: Array) -> Crops:
        return Crops(*(getattr(self, name)[at] for name in self.__dataclass_fields__))

    @property
    def seen(self) -> Array:
        """(T,) whether somebody is there."""
        return (self.confidence > 0).sum(1) >= _LEAST


def crop(view: View, side: int, min_confidence: float, level: Array) -> Crops:
    """Cut the person out of every frame of a view.

    `level` (3, 3) takes the frame of the camera's rotation and translation to the one in which a body is fitted.
    """
    index = list(KEYPOINTS)
    points = view.keypoints.positions[:, index]
    sure = np.where(np.isfinite(points).all(-1), view.keypoints.confidence[:, index], 0.0)
    sure = np.where(sure >= min_confidence, sure, 0.0)
    rays = normalise(view.camera, np.nan_to_num(points))
    rays = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], -1) @ VIEW_FROM_CAMERA.T
    view_from_level = VIEW_FROM_CAMERA @ view.camera.rotation @ level.T
    count = len(points)
    out = Crops(
        np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), np.ones(count), np.zeros((count, len(index), 2)), sure,
        np.zeros((count, side, side), np.float32), np.zeros(count, bool),
        np.ones((count, side, side), bool),
    )  # fmt: skip
    for at in range(count):
        known = sure[at] > 0
        if known.sum() < _LEAST:
            out.confidence[at] = 0.0
            out.turn[at], out.shift[at] = view_from_level, VIEW_FROM_CAMERA @ view.camera.translation
            continue
        look = _looking_at(rays[at, known])
        turned = rays[at] @ look.T
        plane = np.stack([turned[:, 0], -turned[:, 2]], -1) / np.maximum(turned[:, 1:2], 1e-3)
        low, high = plane[known].min(0), plane[known].max(0)
        out.half[at] = max(_MARGIN * (high - low).max() / 2, 1e-3)
        out.joints[at] = np.where(known[:, None], plane / out.half[at], 0.0)
        out.turn[at] = look @ view_from_level
        out.shift[at] = look @ VIEW_FROM_CAMERA @ view.camera.translation
        mask = view.masks(at)
        if mask is not None:
            out.masks[at], out.framed[at] = _cut(mask, view, look, out.half[at], side)
            out.masked[at] = out.masks[at].any()
    return out


def _looking_at(rays: Array) -> Array:
    """(3, 3) view frame turned about z, then x, until it looks at the middle of rays (N, 3); twice, for the middle."""
    turn = np.eye(3)
    for _ in range(2):
        turned = rays @ turn.T
        plane = turned[:, [0, 2]] / np.maximum(turned[:, 1:2], 1e-3)
        x, z = (plane.min(0) + plane.max(0)) / 2
        forward = np.array([x, 1.0, z]) @ turn
        forward /= np.linalg.norm(forward)
        right = np.array([forward[1], -forward[0], 0.0]) / np.hypot(forward[0], forward[1])
        turn = np.stack([right, forward, np.cross(right, forward)])
    return turn


def _cut(mask: Array, view: View, look: Array, half: float, side: int) -> tuple[Array, Array]:
    """(S, S) share of each pixel of a crop that the mask covers, and whether (S, S) the picture shows it."""
    (height, width), camera, size = mask.shape, view.camera, view.keypoints.image_size
    nodes = side // _APART + 1
    at = np.linspace(-half, half, nodes)
    x, y = np.meshgrid(at, at)
    rays = np.stack([x, np.ones_like(x), -y], -1).reshape(-1, 3) @ look @ VIEW_FROM_CAMERA
    ahead = rays[:, 2] > 1e-3
    alone = Camera("crop", camera.size, camera.matrix, camera.distortion, fisheye=camera.fisheye)
    pixel = np.where(ahead[:, None], project(alone, np.where(ahead[:, None], rays, [0, 0, 1.0])), -1e4)
    pixel = (pixel + 0.5) * [width / size[0], height / size[1]] - 0.5
    grid = _between(pixel.reshape(nodes, nodes, 2).astype(np.float32), side * _FINE)
    plane = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    read = cv2.remap(plane, grid, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
    share = cv2.resize(read.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    if ((pixel > -0.5) & (pixel < [width - 0.5, height - 0.5])).all():
        return share, np.ones((side, side), bool)
    framed = ((grid > -0.5) & (grid < [width - 0.5, height - 0.5])).all(-1)
    return share, cv2.resize(framed.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) > 0.5


def _between(nodes: Array, count: int) -> Array:
    """Values at `count` x `count` middles of pixels, between those at the nodes (M, M, 2) from edge to edge."""
    at = ((np.arange(count, dtype=np.float32) + 0.5) * (len(nodes) - 1) / count)[None].repeat(count, 0)
    return cv2.remap(nodes, at, at.T.copy(), cv2.INTER_LINEAR)
