"""Figures of several people: made-up crowds whose truth is known, and how well they are told apart.

python -m inference bench people
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..core.artifacts import Crowd2D, read_npz
from ..core.cameras import Camera, CameraSet, level_rotation, look_at_rotation, pinhole, project
from ..core.formats.calibration import read_calibration
from ..core.skeletons import BODY_25, MIRROR_137, OPENPOSE_137
from ..motion.triangulate import TriangulateSettings, triangulate
from ..protocol.events import SilentReporter
from ..runtime.video import read_frames, write_movie
from ..sight.detect import DetectSettings
from ..sight.grouping import Piece, group
from ..sight.people import associate, detect_people
from .table import Table, write

Array = np.ndarray
DEMO = Path(__file__).resolve().parents[1] / "demo" / "front.mp4"
FPS = 30.0
SIZE = (1280, 720)
_LIMBS = slice(1, 15)  # of BODY_25: what the rig marks as the detector does
_ROOM_M = 0.5  # that people keep between them
# A standing person, metres: x to the left, y forward, z up; origin between the feet.
_STANDING = {
    "Nose": (0, 0.11, 1.60), "Neck": (0, 0, 1.45), "RShoulder": (-0.18, 0, 1.43), "RElbow": (-0.22, 0, 1.14),
    "RWrist": (-0.24, 0.05, 0.89), "LShoulder": (0.18, 0, 1.43), "LElbow": (0.22, 0, 1.14),
    "LWrist": (0.24, 0.05, 0.89), "MidHip": (0, 0, 0.93),
    "RHip": (-0.1, 0, 0.93), "RKnee": (-0.1, 0.02, 0.5), "RAnkle": (-0.1, 0, 0.08),
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
    rotation = level_rotation(np.array([*rng.uniform(-0.4, 0.4, 2), 0.95]) - eye)
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
    mirror = np.asarray(MIRROR_137)[:25]
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
    for views, people in ((1, 2), (1, 4), (2, 2), (2, 4), (3, 3), (4, 5)):
        yield f"{views} views, {people} people" if views > 1 else f"1 view, {people} people", {
            "views": views, "people": people,
        }  # fmt: skip
    for views, people in ((3, 2), (4, 4)):
        noise = CrowdNoise(uniform=True)
        yield f"{views} views, {people} people in the same clothes", {"views": views, "people": people, "noise": noise}


def bench_grouping(scenes: int) -> Table:
    """Tell made-up people apart, beside what the trackers of single views had made of them."""
    table = Table(
        f"Who is who ({scenes} made-up scenes of 8 s a row)",
        ("scene", "IDF1 of the trackers, a view", "IDF1 over all views", "people found", "s a scene"),
        note="Trackers exchange two people in 30 % of the times they pass each other; IDF1 as Ristani et al. 2016: "
        "1 is everybody one number in all views and at all times.",
    )
    for name, options in _cases():
        found = [_one_scene(np.random.default_rng(seed), options) for seed in range(scenes)]
        table.add(name, *(float(np.mean([row[i] for row in found])) for i in range(4)))
    return table


def _one_scene(rng: np.random.Generator, options: dict[str, Any]) -> tuple[float, float, float, float]:
    scene = make_scene(rng, **options)
    pairs = zip(scene.who, scene.crowds, strict=True)
    single = [identity_scores(who, crowd.track, np.zeros(len(who)), crowd.frame)["idf1"] for who, crowd in pairs]
    start = time.perf_counter()
    people = group(scene.crowds, scene.cameras if len(scene.crowds) > 1 else None)
    spent = time.perf_counter() - start
    seen = [sum(len(piece.rows) for piece in pieces) for pieces in people]
    many = sum(count > 0.1 * max(seen) for count in seen)
    return float(np.mean(single)), judge(scene, people)["idf1"], float(many), spent


def bench_cost(frames: int = 40) -> Table:
    """Time the detector on the demo's person, once, twice and three times side by side."""
    table = Table("What people cost (ms a frame of one view)", ("people", "body", "with hands and face"))
    pictures = [rgb for _, _, rgb in read_frames(DEMO, stop=frames)]
    for people in (1, 2, 3):
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "side_by_side.mp4"
            with write_movie(clip, FPS, (people * pictures[0].shape[1], pictures[0].shape[0])) as movie:
                for picture in pictures:
                    movie.write(np.hstack([picture] * people))
            table.add(people, *(_milliseconds(clip, whole, len(pictures)) for whole in (False, True)))
    return table


def _milliseconds(clip: Path, whole: bool, frames: int) -> float:  # noqa: FBT001
    settings = DetectSettings(hands=whole, face=whole)
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        detect_people(clip, settings, SilentReporter())
        spent.append(time.perf_counter() - start)
    return 1000 * min(spent) / frames


def bench_film(folder: Path) -> Table:
    """Track, associate and triangulate people filmed by `training.studio.crowd`."""
    cameras, truth = read_calibration(folder / "rig.toml"), read_npz(folder / "truth.npz")
    crowds = [detect_people(folder / f"{c.name}.mp4", DetectSettings(hands=False, face=False), SilentReporter())
              for c in cameras]  # fmt: skip
    who = [_who(crowd, pixels) for crowd, pixels in zip(crowds, truth["positions_px"], strict=True)]
    scene = Scene(cameras, crowds, who, truth["positions"])
    table = Table(
        f"Filmed people: {folder.name}",
        ("person", "views that see them, frames each", "median error, mm", "IDF1 of all"),
    )
    score = judge(scene, group(crowds, cameras))["idf1"]
    for number, person in enumerate(associate(crowds, cameras, SilentReporter()), 1):
        found = triangulate(person.views, cameras, TriangulateSettings(), SilentReporter()).positions[:, _LIMBS]
        away = np.linalg.norm(found - truth["positions"][:, : len(found)][:, :, _LIMBS], axis=-1)
        error = float(np.nanmedian(away, axis=(1, 2)).min())
        table.add(number, ", ".join(map(str, person.frames)), 1000 * error, score)
    return table


def _who(crowd: Crowd2D, pixels: Array) -> Array:
    """(R,) whom of (P, T, 137, 2) each row shows."""
    away = np.linalg.norm(pixels[:, crowd.frame][:, :, _LIMBS] - crowd.positions[None, :, _LIMBS], axis=-1)
    return np.nanmedian(away, axis=-1).argmin(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m inference bench people", description=__doc__)
    parser.add_argument("--scenes", type=int, default=20, help="made-up scenes a row (default 20)")
    parser.add_argument("--films", type=Path, nargs="*", default=[], help="folders made by training.studio.crowd")
    parser.add_argument("--out", type=Path, help="also write FILE.json and FILE.md")
    args = parser.parse_args(arguments)
    write([bench_grouping(args.scenes), bench_cost(), *(bench_film(folder) for folder in args.films)], args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
