"""People left out, photographed, and how far a predicted head is from the true one (the protocol of H3DS)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from skimage.measure import marching_cubes

from ..core.cameras import Camera, unproject
from ..head.frame import CENTRE, from_sphere, similarity
from ..head.nearest import Meshed
from ..head.seen import Seen
from ..nets.neus import Field
from ..nets.neus_render import Grid
from ..sight.faces import Faces
from ..training import face_points, portraits
from ..training.studio.heads import Head
from ..training.studio.portrait import Light, Portrait
from ..training.studio.render import look_at

Array = np.ndarray
FACE_M = 0.095  # about the tip of the nose
# of the detector's points: middles of the eyes' corners right and left, tip and base of the nose, corners of the mouth
SIX = ((33, 133), (263, 362), (1,), (2,), (61,), (291,))
_SIDE = 720  # px of a photo
_ICP_STEPS, _ICP_POINTS = 20, 4000
_ON_SKIN_M = 0.0015


@dataclass(frozen=True)
class Person:
    """Somebody left out.

    surface (N, 3) metres in the frame of heads: what can be seen from outside, hair included; skin (N,) bool: what of
    it is skin; points (478, 3) metres: the detector's.
    """

    name: str
    head: Head
    surface: Array
    skin: Array
    points: Array

    @property
    def six(self) -> Array:
        """(6, 3) landmarks of the protocol."""
        return six(self.points)


class Predicted(NamedTuple):
    """A head: vertices (V, 3) metres, faces (F, 3), and the detector's points on it (478, 3)."""

    vertices: Array
    faces: Array
    points: Array


def six(points: Array) -> Array:
    """(6, 3) of the detector's points (478, 3)."""
    return np.stack([points[list(which)].mean(0) for which in SIX])


def meet(data: Path, name: str, mesh: object) -> Person:
    """Read a person, and see their surface from all sides; `mesh` is mediapipe's face mesh."""
    head = portraits.make(data, name)
    portrait, parts = Portrait(head), []
    light = Light(np.ones((4, 3)), np.array([0.0, -1.0, 0.0]), np.zeros(3))
    for view in range(24):
        up = 1 - 1.2 * (view + 0.5) / 24
        at, level = view * 2.39996, np.sqrt(1 - up * up)
        eye = CENTRE + 1.2 * np.array([level * np.sin(at), -level * np.cos(at), up])
        camera = look_at("view", (200, 200), 480.0, eye, CENTRE)
        depth = portrait.photograph(camera, light, supersample=1)[2]
        rows, columns = np.nonzero(depth)
        parts.append(unproject(camera, np.stack([columns, rows], -1), depth[rows, columns]))
    surface = np.concatenate(parts)
    keys = np.unique((surface / 0.002).round().astype(int), axis=0, return_index=True)[1]
    surface = surface[keys]
    skin = closest(surface, head.vertices, head.faces[head.skin])[1] < _ON_SKIN_M
    return Person(name, head, surface, skin, from_sphere(face_points.place(head, mesh)))


def photograph(person: Person, azimuth_deg: float, seed: int) -> tuple[Array, Array, Camera]:
    """A photo (H, W, 3) uint8 before a soft background, its true mask and its true camera."""
    rng = np.random.default_rng(seed)
    at = np.radians(azimuth_deg)
    eye = CENTRE + rng.uniform(0.7, 1.3) * np.array([np.sin(at), -np.cos(at), rng.uniform(-0.1, 0.15)])
    focal = 1.9 * _SIDE * float(np.linalg.norm(eye - CENTRE))
    camera = look_at("photo", (_SIDE, _SIDE), focal, eye, CENTRE + [0.0, 0.0, -0.01])
    image, mask, _ = Portrait(person.head).photograph(camera, Light.drawn(rng))
    ramp = np.linspace(0.8, 1.2, _SIDE)[:, None, None] * rng.uniform(60, 200, 3)
    mixed = mask[..., None] * image + (1 - mask[..., None]) * ramp
    return mixed.clip(0, 255).astype(np.uint8), mask.astype(np.float32), camera


def seen(faces: Faces, name: str, image: Array, mask: Array, focal_px: float | None) -> Seen:
    """What the detector says of a photo, with the mask given."""
    found = max(faces.find(image), key=lambda face: face.size_px)
    middle = (np.array([image.shape[1], image.shape[0]]) - 1) / 2
    return Seen(name, image, mask, found.landmarks, found.depth, focal_px, middle, found.yaw_deg)


@torch.no_grad()
def mesh_of(field: Field, points: Array, resolution: int = 160) -> Predicted:
    """The surface of a field, metres."""
    return mesh_of_values(Grid.refined(field, resolution).values[0, 0].numpy(), points)


def mesh_of_values(values: Array, points: Array) -> Predicted:
    """The surface of distances at the nodes of the cube (Z, Y, X), metres."""
    resolution = len(values)
    vertices, faces = marching_cubes(values.transpose(2, 1, 0), 0.0)[:2]
    sphere = vertices / (resolution - 1) * 2 - 1
    inside = np.linalg.norm(sphere, axis=1) < 0.97
    return Predicted(from_sphere(sphere), faces[inside[faces].all(1)], points)


class Score(NamedTuple):
    """Mean distances in millimetres, true to predicted: the skin of the face; all that is seen above the chin."""

    face: float
    head: float


def score(person: Person, predicted: Predicted) -> Score:
    """Align as H3DS does and measure: similarity by six landmarks, then by nearest points of the face."""
    scale, rotation, move = similarity(six(predicted.points), person.six)
    vertices = scale * predicted.vertices @ rotation.T + move
    nose = person.six[2]
    near = (np.linalg.norm(person.surface - nose, axis=1) < FACE_M) & person.skin
    face = person.surface[near]
    some = face[np.random.default_rng(0).permutation(len(face))[:_ICP_POINTS]]
    for _ in range(_ICP_STEPS):
        met = closest(some, vertices, predicted.faces)[0]
        scale, rotation, move = similarity(met, some)
        vertices = scale * vertices @ rotation.T + move
    distance = closest(person.surface, vertices, predicted.faces)[1] * 1e3
    above = person.surface[:, 2] > person.points[152, 2]  # the chin
    return Score(float(distance[near].mean()), float(distance[above].mean()))


def closest(points: Array, vertices: Array, faces: Array) -> tuple[Array, Array]:
    """Nearest places (N, 3) on a mesh, and how far they are (N,)."""
    met = Meshed(vertices, faces).nearest(points).points
    return met, np.linalg.norm(met - points, axis=1)
