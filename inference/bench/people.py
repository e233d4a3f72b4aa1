"""Figures of several people: made-up crowds whose truth is known, and how well they are told apart.

python -m inference bench people
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..core.artifacts import Crowd2D
from ..core.cameras import Camera, CameraSet, look_at_rotation, pinhole, project
from ..core.skeletons import BODY_25, OPENPOSE_137
from ..motion.grouping import Piece, group

Array = np.ndarray
FPS = 30.0
SIZE = (1280, 720)
_ROOM_M = 0.5  # that people keep between them
# A standing person, metres: x to the left, y forward, z up; origin between the feet.
_STANDING = {
    "Nose": (0, 0.11, 1.60), "Neck": (0, 0, 1.45), "RShoulder": (-0.18, 0, 1.43), "RElbow": (-0.22, 0, 1.14),
    "RWrist": (-0.24, 0.05, 0.89), "LShoulder": (0.18, 0, 1.43), "LElbow": (0.22, 0, 1.14), "LWrist": (0.24, 0.05, 0.89),
    "MidHip": (0, 0, 0.93), "RHip": (-0.1, 0, 0.93), "RKnee": (-0.1, 0.02, 0.5), "RAnkle": (-0.1, 0, 0.08),
    "LHip": (0.1, 0, 0.93), "LKnee": (0.1, 0.02, 0.5), "LAnkle": (0.1, 0, 0.08), "REye": (-0.03, 0.1, 1.64),
    "LEye": (0.03, 0.1, 1.64), "REar": (-0.07, 0.02, 1.62), "LEar": (0.07, 0.02, 1.62), "LBigToe": (0.12, 0.18, 0.02),
    "LSmallToe": (0.16, 0.14, 0.02), "LHeel": (0.1, -0.05, 0.03), "RBigToe": (-0.12, 0.18, 0.02),
    "RSmallToe": (-0.16, 0.14, 0.02), "RHeel": (-0.1, -0.05, 0.03),
}  # fmt: skip
_BODY = np.array([_STANDING[name] for name in BODY_25], float)
_SWING = np.array([
    {"Wrist": 0.9, "Elbow": 0.4, "Knee": -0.45, "Ankle": -0.9, "Heel": -0.9, "BigToe": -0.9, "SmallToe": -0.9}.get(
        name[1:], 0.0) * (1 if name[0] == "L" else -1)
    for name in BODY_25
])  # fmt: skip


@dataclass(frozen=True)
class CrowdNoise:
    """What an imagined detector and tracker do wrong."""

    pixels: float = 4.0
    missing: float = 0.1  # of joints
    absent: float = 0.05  # of bodies in a frame
    hidden: float = 0.18  # of a body's size: somebody that near behind another is not seen
    mistaken: float = 0.3  # of encounters after which a tracker has taken one for the other
    sides: float = 0.1  # of bodies in a frame whose left and right are exchanged
    looks: float = 0.05  # how much colours differ from frame to frame; with `uniform`, everybody wears the same
    uniform: bool = False
    calibration_px: float = 3.0


@dataclass(frozen=True)
class Scene:
    """A made-up crowd: cameras, what each view's tracker made of it, and who each row really is."""

    cameras: CameraSet
    crowds: list[Crowd2D]
    who: list[Array]  # for each view (R,)
    points: Array = field(repr=False)  # (P, T, 25, 3) m


def make_scene(
    rng: np.random.Generator, *, people: int = 3, views: int = 3, frames: int = 240, noise: CrowdNoise | None = None
) -> Scene:
    """Let people walk criss-cross through the middle of a random rig."""
    noise = noise or CrowdNoise()
    points = np.stack([_walk(rng, path) for path in _paths(rng, people, frames)])
    cameras = CameraSet(tuple(_camera(rng, f"cam{v + 1}", v, views) for v in range(views)))
    clothes = rng.dirichlet(np.full(8, 0.4), (1 if noise.uniform else people, 2))
    clothes = np.broadcast_to(clothes, (people, 2, 8))
    made = [_watch(rng, camera, points, clothes, noise) for camera in cameras]
    return Scene(cameras, [crowd for crowd, _ in made], [who for _, who in made], points)


def _paths(rng: np.random.Generator, people: int, frames: int) -> Array:
    """(P, T, 2) of people who walk between random places within two metres of the middle, round each other."""
    speed = rng.uniform(0.6, 1.4, people) / FPS
    at, goal = (rng.uniform(-2, 2, (people, 2)) for _ in range(2))
    out = []
    for _ in range(frames):
        reached = np.linalg.norm(goal - at, axis=-1) < 0.3
        goal[reached] = rng.uniform(-2, 2, (int(reached.sum()), 2))
        step = goal - at
        step /= np.linalg.norm(step, axis=-1, keepdims=True)
        apart = at[:, None] - at[None]
        distance = np.linalg.norm(apart, axis=-1) + 10.0 * np.eye(people)
        push = np.clip(_ROOM_M - distance, 0.0, None)[..., None] * apart / np.maximum(distance, 1e-6)[..., None]
        aside = np.stack([-step[:, 1], step[:, 0]], -1)
        crowded = (distance < 1.5 * _ROOM_M).any(1)[:, None]
        at = at + speed[:, None] * (step + crowded * aside) + 0.3 * push.sum(1)
        out.append(at)
    return np.stack(out, 1)


def _walk(rng: np.random.Generator, path: Array) -> Array:
    """(T, 25, 3) of somebody who walks along (T, 2) metres."""
    frames = len(path)
    heading = np.gradient(path, axis=0)
    kernel = np.ones(9) / 9
    heading = np.stack([np.convolve(np.pad(h, 4, mode="edge"), kernel, "valid") for h in heading.T], -1)
    heading /= np.linalg.norm(heading, axis=-1, keepdims=True) + 1e-9
    phase = 2 * np.pi * (rng.uniform() + np.arange(frames) / FPS * rng.uniform(0.8, 1.1))
    body = np.broadcast_to(_BODY * rng.uniform(0.88, 1.1), (frames, 25, 3)).copy()
    body[..., 1] += 0.3 * np.sin(phase)[:, None] * _SWING
    left = np.stack([-heading[:, 1], heading[:, 0]], -1)
    flat = body[..., :1] * left[:, None] + body[..., 1:2] * heading[:, None]
    return np.concatenate([flat + path[:, None], body[..., 2:]], -1)


def _camera(rng: np.random.Generator, name: str, number: int, count: int) -> Camera:
    angle = 2 * np.pi * number / max(count, 3) + rng.uniform(-0.3, 0.3)
    eye = np.array([*(rng.uniform(4.5, 7.0) * np.array([np.cos(angle), np.sin(angle)])), rng.uniform(1.0, 2.6)])
    forward = np.array([*rng.uniform(-0.4, 0.4, 2), 0.95]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    start = pinhole(name, SIZE, rng.uniform(750, 1000))
    return Camera(name, SIZE, start.matrix, rotation=rotation, translation=-rotation @ eye)


def _watch(
    rng: np.random.Generator, camera: Camera, points: Array, clothes: Array, noise: CrowdNoise
) -> tuple[Crowd2D, Array]:
    """See the crowd as a tracker does: rows in order of track and frame, and who they are."""
    people, frames = points.shape[:2]
    turn = look_at_rotation(np.array([*rng.normal(0, noise.calibration_px / 900, 2), 1.0]))  # the camera has moved
    moved = Camera(camera.name, camera.size, camera.matrix, camera.distortion, turn @ camera.rotation,
                   turn @ camera.translation)  # fmt: skip
    pixels = project(moved, points)  # (P, T, 25, 2)
    depth = (points @ moved.rotation.T + moved.translation)[:, :, 8, 2]
    size = np.nanmax(pixels, 2) - np.nanmin(pixels, 2)
    size = np.linalg.norm(size, axis=-1)
    away = np.linalg.norm(pixels[:, None, :, 8] - pixels[None, :, :, 8], axis=-1)  # (P, P, T)
    behind = (depth[:, None] > depth[None]) & (away < noise.hidden * size[:, None])
    inside = ((pixels[..., 8, :] > 0) & (pixels[..., 8, :] < SIZE)).all(-1)
    seen = inside & ~behind.any(1) & (rng.uniform(size=(people, frames)) > noise.absent)
    track = _tracker(rng, away < 0.2 * size[:, None], noise.mistaken)  # (P, T) the number that each person has
    who, frame = np.nonzero(seen)
    order = np.lexsort((frame, track[who, frame]))
    who, frame = who[order], frame[order]
    found = np.full((len(who), 137, 2), np.nan)
    body = pixels[who, frame] + noise.pixels * rng.standard_t(3, (len(who), 25, 2))
    swapped = rng.uniform(size=len(who)) < noise.sides
    mirror = [BODY_25.index({"L": "R", "R": "L"}.get(n[0], n[0]) + n[1:]) if n[1:] in
              {m[1:] for m in BODY_25 if m[0] == "L"} and n[0] in "LR" else i for i, n in enumerate(BODY_25)]  # fmt: skip
    body[swapped] = body[swapped][:, mirror]
    found[:, :25] = body
    confidence = np.zeros((len(who), 137))
    confidence[:, :25] = np.where(rng.uniform(size=(len(who), 25)) < noise.missing, 0.0, 0.8)
    found[confidence == 0] = np.nan
    light = rng.dirichlet(np.full(8, 2.0), 2)
    look = 0.8 * clothes[who] + 0.2 * light + noise.looks * rng.uniform(size=(len(who), 2, 8))
    look = np.sqrt(look / look.sum(-1, keepdims=True)).reshape(len(who), 16)
    header = {
        "unit": "px", "frame": "image", "fps": FPS, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(SIZE), "source": "", "view": camera.name,
    }  # fmt: skip
    return Crowd2D(header, frame, track[who, frame], found, confidence, np.arange(frames) / FPS, look), who


def _tracker(rng: np.random.Generator, near: Array, mistaken: float) -> Array:
    """(P, T) number that a tracker gives each person, who exchanges some of those that met (P, P, T)."""
    people, frames = near.shape[1:]
    number, out = np.arange(people), np.empty((people, frames), int)
    for t in range(frames):
        for a in range(people):
            for b in range(a + 1, people):
                parted = t > 0 and near[a, b, t - 1] and not near[a, b, t]
                if parted and rng.uniform() < mistaken:
                    number[[a, b]] = number[[b, a]]
        out[:, t] = number
    return out


def identity_scores(true: Array, found: Array, stream: Array, frame: Array) -> dict[str, float]:
    """Score identities (Ristani et al. 2016): IDF1, and how often a person of a stream is given another number.

    Args:
        true, found: (R,) who somebody is, and was said to be; -1 in `found`: left out. stream, frame: (R,) of each row.
    """
    names, numbers = np.unique(true), np.unique(found[found >= 0])
    table = np.array([[np.count_nonzero((true == a) & (found == b)) for b in numbers] for a in names])
    hits = table[linear_sum_assignment(-table)].sum() if table.size else 0
    switches = 0
    for s in np.unique(stream):
        for a in names:
            rows = np.flatnonzero((stream == s) & (true == a) & (found >= 0))
            given = found[rows[np.argsort(frame[rows], kind="stable")]]
            switches += int(np.count_nonzero(np.diff(given)))
    return {"idf1": float(2 * hits / max(len(true) + np.count_nonzero(found >= 0), 1)), "switches": float(switches)}


def judge(scene: Scene, people: Sequence[Sequence[Piece]]) -> dict[str, float]:
    """Identity scores over all views: a person found is to be the same one in every view and at every time."""
    label = [np.full(len(crowd.frame), -1) for crowd in scene.crowds]
    for number, pieces in enumerate(people):
        for piece in pieces:
            label[piece.view][piece.rows] = number
    stream = np.repeat(np.arange(len(label)), [len(rows) for rows in label])
    frame = np.concatenate([crowd.frame for crowd in scene.crowds])
    return identity_scores(np.concatenate(scene.who), np.concatenate(label), stream, frame)


def _cases() -> Iterator[tuple[str, dict[str, Any]]]:
    for views in (1, 2, 4):
        for people in (2, 4):
            yield f"{views} views, {people} people", {"views": views, "people": people}
    yield "2 views, 3 people, all dressed alike", {"views": 2, "people": 3, "noise": CrowdNoise(uniform=True)}
    yield "4 views, 5 people, all dressed alike", {"views": 4, "people": 5, "noise": CrowdNoise(uniform=True)}


def measure(scenes: int = 20) -> dict[str, dict[str, float]]:
    """Measure every case; means over scenes, beside what the trackers of single views had made of them."""
    rows = {}
    for name, options in _cases():
        scores = []
        for seed in range(scenes):
            scene = make_scene(np.random.default_rng(seed), **options)
            start = time.perf_counter()
            found = group(scene.crowds, scene.cameras if len(scene.crowds) > 1 else None)
            spent = time.perf_counter() - start
            single = [
                identity_scores(w, c.track, np.zeros(len(w)), c.frame)
                for w, c in zip(scene.who, scene.crowds, strict=True)
            ]
            scores.append(
                {
                    **judge(scene, found),
                    "people": len(found),
                    "seconds": spent,
                    "tracker_idf1": np.mean([s["idf1"] for s in single]),
                    "tracker_switches": np.sum([s["switches"] for s in single]),
                }
            )
        rows[name] = {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
    return rows
