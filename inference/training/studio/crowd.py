"""Film several clothed people who walk past each other, seen by a ring of calibrated cameras, with exact truth.

python -m inference.training.studio.crowd --data DIR --out DIR --people 3 --views 3
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...core.artifacts import atomic_write
from ...core.cameras import Camera, CameraSet, project
from ...core.formats.calibration import write_calibration
from ...core.skeletons import OPENPOSE_137
from ...runtime.video import write_movie
from .avatars import SNU_NAMES, Z_UP_FROM_Y_UP, Avatar, Motion, load_avatar, load_motion, retarget, skin, true_keypoints
from .render import Room, Stage, look_at

Array = np.ndarray
AVATARS = ("White_M_3_Casual", "Black_F_2_Busi", "Asian_M_2_Casual", "Hispanic_F_1_Casual", "MENA_M_1_Busi")
FPS, STRIDE, SIZE = 30.0, 2, (640, 480)


def film(
    data: Path, out: Path, *, people: int = 3, views: int = 3, frames: int = 90, seed: int = 0, alike: bool = False
) -> Path:
    """Render clips, `rig.toml` and `truth.npz`: positions (P, T, 137, 3) m, positions_px (N, P, T, 137, 2)."""
    rng = np.random.default_rng(seed)
    names = [AVATARS[0 if alike else i % len(AVATARS)] for i in range(people)]
    cast = [load_avatar(data / "avatars_valid" / f"{name}.npz") for name in names]
    motion = load_motion(data / "motion" / "motion_snu.npz", "MASS_walk")
    acts = [_cross(avatar, motion, frames, i, people, rng) for i, avatar in enumerate(cast)]
    truth = np.stack([points for _, points in acts])
    cameras = CameraSet(tuple(_camera(i, views) for i in range(views)))
    out.mkdir(parents=True, exist_ok=True)
    stage = _together(cast)
    movies = [write_movie(out / f"{camera.name}.mp4", FPS, SIZE) for camera in cameras]
    opened = [movie.__enter__() for movie in movies]
    for frame in range(frames):
        stage.pose(np.concatenate([place(frame) for place, _ in acts]))
        for camera, movie in zip(cameras, opened, strict=True):
            movie.write(stage.photograph(camera, Room(), supersample=1)[0])
    for movie in movies:
        movie.__exit__(None, None, None)
    write_calibration(out / "rig.toml", cameras)
    pixels = np.stack([project(camera, truth) for camera in cameras])
    header = {"fps": FPS, "joints": list(OPENPOSE_137), "avatars": names, "cameras": [c.to_header() for c in cameras]}
    atomic_write(
        out / "truth.npz",
        lambda stream: np.savez_compressed(
            stream, header=np.array(json.dumps(header)), positions=truth.astype(np.float32),
            positions_px=pixels.astype(np.float32),
        ),
    )  # fmt: skip
    return out


def _cross(  # noqa: PLR0917 - who, how, and where
    avatar: Avatar, motion: Motion, frames: int, number: int, people: int, rng: np.random.Generator
) -> tuple[Callable[[int], Array], Array]:
    """Walk through the middle from one side to the other: vertices of a frame, and keypoints (T, 137, 3) m."""
    turns, joints = (values[::STRIDE] for values in retarget(avatar, motion, SNU_NAMES))
    index = np.arange(frames) % len(turns)
    root = avatar.joints.index("Hips")
    in_place = joints.copy()
    in_place[..., [0, 2]] -= joints[:, root, None][..., [0, 2]]
    angle = 2 * np.pi * number / people + rng.uniform(-0.3, 0.3)
    way = np.array([np.cos(angle), np.sin(angle)])
    aside = rng.uniform(-0.35, 0.35) * np.array([-way[1], way[0]])
    along = np.linspace(-1.6, 1.6, frames) * rng.uniform(0.85, 1.0)
    path = along[:, None] * way + aside
    heading = _heading(joints[:, root])
    yaw = np.arctan2(way[1], way[0]) - heading
    c, s = np.cos(yaw), np.sin(yaw)
    spin = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    points = true_keypoints(avatar, turns[index], in_place[index]) @ Z_UP_FROM_Y_UP.T @ spin.T
    ground = np.nanmin(points[..., 2]) - 0.02
    shift = np.concatenate([path, np.full((frames, 1), -ground)], 1)

    def place(frame: int) -> Array:
        vertices = skin(avatar, turns[index[frame]], in_place[index[frame]])
        return vertices @ Z_UP_FROM_Y_UP.T @ spin.T + shift[frame]

    return place, points + shift[:, None]


def _heading(root: Array) -> float:
    """Direction in the floor's x, y of a walk whose root (T, 3) is y up."""
    x, y, _ = Z_UP_FROM_Y_UP @ (root[-1] - root[0])
    return float(np.arctan2(y, x))


def _together(cast: list[Avatar]) -> Stage:
    """Make one mesh of several people."""
    starts = np.cumsum([0, *(len(a.vertices) for a in cast)])
    textures = np.cumsum([0, *(len(a.textures) for a in cast)])
    return Stage(
        np.concatenate([a.faces + start for a, start in zip(cast, starts, strict=False)]),
        np.concatenate([a.uv for a in cast]),
        np.concatenate([a.face_texture + start for a, start in zip(cast, textures, strict=False)]),
        tuple(texture for a in cast for texture in a.textures),
    )


def _camera(number: int, count: int) -> Camera:
    angle = 2 * np.pi * number / max(count, 3) + 0.4
    eye = np.array([4.2 * np.cos(angle), 4.2 * np.sin(angle), 1.6])
    return look_at(f"cam{number + 1}", SIZE, 560.0, eye, np.array([0.0, 0.0, 0.9]))


def main() -> None:
    """Parse the command line and film."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    for name, usual in (("people", 3), ("views", 3), ("frames", 90), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--alike", action="store_true", help="everybody wears the same")
    film(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
