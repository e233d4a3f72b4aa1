"""Film the clips that ship with the repository: one rendered person, two calibrated cameras, exact truth.

    python -m inference.training.studio.demo --data DIR --out inference/demo

Avatar: VALID (MIT). Motion: MASS `dance` (Apache-2.0). See THIRD_PARTY.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ...core.artifacts import atomic_write
from ...core.cameras import Camera, CameraSet, project
from ...core.formats.calibration import write_calibration
from ...core.skeletons import OPENPOSE_137
from ...runtime.video import write_movie
from .avatars import SNU_NAMES, Z_UP_FROM_Y_UP, curl_fingers, load_avatar, load_motion, retarget, skin, true_keypoints
from .render import Room, Stage, look_at

AVATAR, MOTION, CLIP = "White_M_3_Casual", "motion_snu.npz", "MASS_dance"
FPS, STRIDE = 30.0, 2
SIZE = (540, 720)


def film(data: Path, out: Path) -> None:
    """Render both views and write clips, calibration and truth into `out`."""
    avatar = load_avatar(data / "avatars_valid" / f"{AVATAR}.npz")
    motion = load_motion(data / "motion" / MOTION, CLIP)
    turns, joints = retarget(avatar, motion, SNU_NAMES)
    turns, joints = turns[::STRIDE], joints[::STRIDE]
    beat = np.linspace(0, 3 * np.pi, len(turns))
    turns = curl_fingers(avatar, turns, 0.12 + 0.1 * np.stack([np.sin(beat), np.cos(beat)], axis=1))
    keypoints = true_keypoints(avatar, turns, joints) @ Z_UP_FROM_Y_UP.T
    ground = np.nanmin(keypoints[..., 2]) - 0.02
    keypoints[..., 2] -= ground
    stage = Stage(avatar.faces, avatar.uv, avatar.face_texture, avatar.textures)
    views = _cameras(keypoints)
    out.mkdir(parents=True, exist_ok=True)
    movies = [write_movie(out / f"{camera.name}.mp4", FPS, SIZE) for camera in views]
    opened = [movie.__enter__() for movie in movies]
    for turn, joint in zip(turns, joints, strict=True):
        vertices = skin(avatar, turn, joint) @ Z_UP_FROM_Y_UP.T
        stage.pose(vertices - [0.0, 0.0, ground])
        for camera, movie in zip(views, opened, strict=True):
            movie.write(stage.photograph(camera, Room(), supersample=2)[0])
    for movie in movies:
        movie.__exit__(None, None, None)
    write_calibration(out / "demo.toml", views)
    header = {
        "unit": "m", "frame": "world", "fps": FPS, "joints": list(OPENPOSE_137),
        "cameras": [camera.to_header() for camera in views], "avatar": AVATAR, "motion": CLIP,
    }  # fmt: skip
    pixels = np.stack([project(camera, keypoints) for camera in views])
    atomic_write(
        out / "truth.npz",
        lambda stream: np.savez_compressed(
            stream,
            header=np.array(json.dumps(header)),
            positions=keypoints.astype(np.float32),
            positions_px=pixels.astype(np.float32),
        ),
    )


def _cameras(keypoints: np.ndarray) -> CameraSet:
    centre = np.nanmean(keypoints[..., :2], axis=(0, 1))
    target = np.array([*centre, 0.88])
    cameras: list[Camera] = []
    for name, azimuth, distance, height in (("front", -1.35, 3.3, 1.25), ("side", -0.25, 3.5, 1.5)):
        eye = np.array([*(centre + distance * np.array([np.cos(azimuth), np.sin(azimuth)])), height])
        cameras.append(look_at(name, SIZE, 900.0, eye, target))
    return CameraSet(tuple(cameras))


def main() -> None:
    """Parse the command line and film."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("inference/demo"))
    args = parser.parse_args()
    film(args.data, args.out)


if __name__ == "__main__":
    main()
