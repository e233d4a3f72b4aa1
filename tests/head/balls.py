"""Painted balls for heads: what is guessed of them, and photos of them from known cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from inference.core.cameras import Camera, level_rotation, pinhole, project, rays
from inference.head.frame import CENTRE, to_sphere
from inference.head.guess import Guessed, closed
from inference.head.nearest import Places
from inference.head.prior import Span
from inference.head.seen import Seen
from inference.nets.head_shape import directions

SIZE = 400
FACE = CENTRE + np.random.default_rng(0).normal(size=(478, 3)) * [0.03, 0.015, 0.04] + [0.0, -0.08, -0.02]
SPAN = Span(torch.zeros(2), torch.eye(2), torch.from_numpy(to_sphere(FACE)).float(), torch.full((478, 3, 2), 0.01))


def modes() -> np.ndarray:
    """(V, 3) metres: larger all over, higher above, deeper behind; each by a centimetre."""
    rays = directions()
    return 0.01 * np.stack([np.ones(len(rays)), rays[:, 2].clip(0) ** 2, rays[:, 1].clip(0) ** 2], 1)


def radii(*errors: float) -> np.ndarray:
    """(V,) metres: a ball of 100 mm, changed by the modes."""
    return 0.1 + modes() @ np.array(errors)


def guessed(count: int = 1) -> Guessed:
    return Guessed(radii(0, 0, 0), FACE, (FACE,) * count, modes())


def camera_at(degrees: float, distance_m: float = 0.9) -> Camera:
    at = np.radians(degrees)
    eye = CENTRE + [distance_m * np.sin(at), -distance_m * np.cos(at), 0.04]
    rotation = level_rotation(CENTRE - eye)
    return replace(
        pinhole("p", (SIZE, SIZE), 1.9 / 0.9 * distance_m * SIZE), rotation=rotation, translation=-rotation @ eye
    )


def photo_of(reach: np.ndarray, degrees: float = 0.0, *, focal: bool = True, distance_m: float = 0.9) -> Seen:
    """A head that reaches so far (V,), and its face points, photographed from a side.

    As the detector has them, points lie too near together where the head is turned far.
    """
    camera = camera_at(degrees, distance_m)
    lines = rays(camera, np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(-1, 2))
    met = closed(reach).cast(np.broadcast_to(camera.centre, lines.shape), lines)
    depth = (FACE @ camera.rotation.T + camera.translation)[:, 2]
    points, near = project(camera, FACE), float(np.exp(-0.0045 * max(abs(degrees) - 40.0, 0.0)))
    return Seen(
        "p", painted(met), (met.face >= 0).reshape(SIZE, SIZE).astype(np.float32),
        points.mean(0) + near * (points - points.mean(0)),
        near * (depth - depth.mean()) * camera.matrix[0, 0] / depth.mean(),
        float(camera.matrix[0, 0]) if focal else None, camera.matrix[:2, 2], degrees,
    )  # fmt: skip


def painted(met: Places) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8: what rays have met, with spots of all sizes."""
    places = met.points - CENTRE
    rng = np.random.default_rng(2)
    waves = rng.normal(size=(3, 60)) * np.geomspace(6.0, 60.0, 60)
    spots = np.sin(places / np.linalg.norm(places, axis=1, keepdims=True) @ waves + rng.uniform(0, 6.28, 60)).mean(1)
    grey = np.where(met.face >= 0, 128 + 400 * spots, 0).clip(0, 255).astype(np.uint8)
    return np.repeat(grey.reshape(SIZE, SIZE, 1), 3, 2)
