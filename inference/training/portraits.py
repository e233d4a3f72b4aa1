"""Portraits of many heads with exact cameras, and samples of their distance fields: what heads are learnt from.

python -m inference.training.portraits --data DIR --out DIR [--people N] [--views V] [--size PX]

One file a scene, in the unit sphere of `head.frame`; a scene that is already there is not made again. Heads with hair
are no closed surfaces, so what is inside is what no camera could see: a place is outside where some view sees past it.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import minimum_filter
from scipy.spatial import KDTree

from ..core.cameras import Camera, unproject
from ..head.frame import CENTRE, RADIUS, to_sphere
from .script import LOG, Run, make_parser, work_as_job
from .studio import heads
from .studio.portrait import Light, Portrait
from .studio.render import look_at

Array = np.ndarray
HELD_OUT = ("AIAN_M_2", "Asian_F_3", "Black_M_2", "Hispanic_F_1", "MENA_M_1", "White_F_2")
HELD_OUT_MODEL = range(900, 912)  # seeds of the head model that are never trained on

_CARVERS, _CARVED_PX = 48, 256
_NEAR, _FAR = 24000, 8000


@dataclass(frozen=True)
class Scene:
    """One head in the unit sphere.

    images (V, H, W, 3) uint8 sRGB on black; masks (V, H, W) uint8; matrices (V, 3, 3) px; rotations (V, 3, 3) and
    translations (V, 3): x_cam = R x + t; points (S, 3), distances (S,): samples of the distance field, positive
    outside; normals (S, 3), 0 for samples that have none.
    """

    name: str
    images: Array
    masks: Array
    matrices: Array
    rotations: Array
    translations: Array
    points: Array
    distances: Array
    normals: Array


def names(data: Path, people: int) -> list[str]:
    """Scenes to train on: avatars, then people drawn from the head model."""
    avatars = [name for name in heads.valid_names(data) if name not in HELD_OUT]
    return [*avatars, *(f"ict_{seed}" for seed in range(max(people - len(avatars), 0)))]


def held_out() -> list[str]:
    """Scenes that are never trained on."""
    return [*HELD_OUT, *(f"ict_{seed}" for seed in HELD_OUT_MODEL)]


def make(data: Path, name: str) -> heads.Head:
    """The head of a scene, in the frame of heads, cut off at the sphere."""
    if name.startswith("ict_"):
        head = heads.make_ict(data, int(name[4:]))
    else:
        head = heads.load_valid(data, name)
    return cut_off(head.canonical())


def cut_off(head: heads.Head) -> heads.Head:
    """A head without what lies outside the sphere."""
    inside = np.linalg.norm(to_sphere(head.vertices), axis=1) < 0.97
    kept = inside[head.faces].all(1)
    return replace(head, faces=head.faces[kept], face_texture=head.face_texture[kept], skin=head.skin[kept])


def film(head: heads.Head, views: int, size: int, rng: np.random.Generator) -> Scene:
    """Photograph a head from a band of 270 degrees in front, and a few from behind; sample its distances."""
    portrait, light = Portrait(head), Light.drawn(rng)
    cameras, images, masks = [], [], []
    for view in range(views):
        around = (view + rng.uniform(-0.5, 0.5)) / views * 2 - 1
        azimuth = np.radians(135) * around if view % 8 else np.pi + rng.uniform(-0.8, 0.8)
        camera = _camera(azimuth, rng.uniform(-0.35, 0.5), rng.uniform(0.8, 1.8), size, rng)
        image, mask, _ = portrait.photograph(camera, light)
        cameras.append(camera)
        images.append(image)
        masks.append((mask * 255).astype(np.uint8))
    points, distances, normals = _sampled(portrait, rng)
    return Scene(
        head.name, np.stack(images), np.stack(masks), np.stack([camera.matrix for camera in cameras]),
        np.stack([camera.rotation for camera in cameras]),
        np.stack([(camera.translation + camera.rotation @ CENTRE) / RADIUS for camera in cameras]),
        points, distances, normals,
    )  # fmt: skip


def _camera(azimuth: float, elevation: float, distance: float, size: int, rng: np.random.Generator) -> Camera:
    """A camera that sees the whole sphere."""
    level = distance * np.cos(elevation)
    eye = CENTRE + [level * np.sin(azimuth), -level * np.cos(azimuth), distance * np.sin(elevation)]
    focal = 0.46 * size * np.sqrt(distance**2 - RADIUS**2) / RADIUS
    return look_at("view", (size, size), focal, eye, CENTRE + rng.normal(size=3) * 0.003)


def _sampled(portrait: Portrait, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Points (S, 3) in the sphere, distances (S,) and normals (S, 3) of the surface that can be seen."""
    plain, surface, facing = Light(np.ones((4, 3)), np.array([0.0, -1.0, 0.0]), np.zeros(3)), [], []
    depths: list[tuple[Camera, Array]] = []
    for view in range(_CARVERS):  # a spiral over all but what lies below, from where one sees into the open neck
        up = 1 - 1.3 * (view + 0.5) / _CARVERS
        camera = _camera(view * 2.39996, np.arcsin(up) * 0.98, 1.2, _CARVED_PX, rng)
        _, _, depth = portrait.photograph(camera, plain, supersample=1)
        depths.append((camera, depth))
        rows, columns = np.nonzero(depth)
        picked = rng.permutation(len(rows))[:12000]
        rows, columns = rows[picked], columns[picked]
        world = unproject(camera, np.stack([columns, rows], -1), depth[rows, columns])
        surface.append(to_sphere(world))
        facing.append(np.broadcast_to(to_sphere(camera.centre), world.shape))
    seen, eyes = np.concatenate(surface), np.concatenate(facing)
    tree = KDTree(seen)
    picked = rng.choice(len(seen), _NEAR)
    near = seen[picked] + rng.normal(size=(_NEAR, 3)) * np.where(rng.random(_NEAR) < 0.5, 0.01, 0.04)[:, None]
    far = rng.normal(size=(_FAR, 3))
    far *= rng.random((_FAR, 1)) ** (1 / 3) / np.linalg.norm(far, axis=1, keepdims=True)
    points = np.concatenate([near, far])
    distance, _ = tree.query(points)
    outside = np.zeros(len(points), bool)
    for camera, depth in depths:
        local = (points * RADIUS + CENTRE) @ camera.rotation.T + camera.translation
        pixel = (local[:, :2] / local[:, 2:]) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2]
        u, v = (np.clip(pixel.round().astype(int), 0, _CARVED_PX - 1)).T
        # the nearest of nine pixels, lest slopes and silhouettes be eaten away; another view sees them from the front
        there = minimum_filter(np.where(depth == 0, np.inf, depth), 3)[v, u]
        outside |= local[:, 2] < there - 1e-4
    signed = np.where(outside, distance, -distance)
    normals = np.zeros_like(points)
    _, around = tree.query(seen[picked], k=12)
    normals[:_NEAR] = _plane_normals(seen[around], eyes[picked] - seen[picked])
    return points.astype(np.float32), signed.astype(np.float32), normals.astype(np.float32)


def _plane_normals(groups: Array, towards: Array) -> Array:
    """(N, 3) normals of planes through groups (N, K, 3), to the side of `towards` (N, 3); 0 where they are no plane."""
    centred = groups - groups.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
    normal = vectors[..., 0]
    normal *= np.where((normal * towards).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    return normal * (values[:, :1] < 0.05 * values[:, 1:2])


def save(scene: Scene, path: Path) -> None:
    """Write a scene whole or not at all."""
    partial = path.with_suffix(".partial.npz")
    half = {name: getattr(scene, name).astype(np.float16) for name in ("points", "distances", "normals")}
    names_ = ("images", "masks", "matrices", "rotations", "translations")
    np.savez_compressed(partial, **{name: getattr(scene, name) for name in names_}, **half)
    os.replace(partial, path)


def load(path: Path) -> Scene:
    """Read a scene."""
    with np.load(path, allow_pickle=False) as arrays:
        return Scene(path.stem, **{name: arrays[name] for name in arrays.files})


def main() -> None:
    """Film the scenes that are missing."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--people", type=int, default=108)
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    everybody = [*held_out(), *names(options.data, options.people)]
    for index, name in enumerate(run.each("film", everybody)):
        path = options.out / f"{name}.npz"
        if not path.exists():
            rng = np.random.default_rng(index)
            save(film(make(options.data, name), options.views, options.size, rng), path)
            LOG.info("%s", name)


if __name__ == "__main__":
    main()
