"""Film random people doing random things, and write what the detector saw beside the truth.

    python -m inference.training.studio.detections --data DIR --out FILE.npz --sequences 800 --seed 1

Each sequence is one avatar, one stretch of motion, one camera. The result teaches a network the detector's own
errors: its bias at the hips, its confidence, its exchanges of left and right.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.artifacts import atomic_write
from ...core.cameras import Camera
from ...sight.blaze import Holistic
from ..script import Run, make_parser, work_as_job
from .avatars import RIGS, Z_UP_FROM_Y_UP, curl_fingers, load_avatar, load_motion, retarget, skin, true_keypoints
from .render import Room, Stage, look_at

Array = np.ndarray
FRAMES, FPS = 12, 30.0
SIZES = ((540, 720), (720, 540), (405, 720), (640, 640))


@dataclass(frozen=True)
class Sequence:
    """One filmed stretch: detections in pixels, truth in the camera frame."""

    positions_px: Array  # (T, 137, 2)
    confidence: Array  # (T, 137)
    world_m: Array  # (T, 137, 3) the detector's own guess
    truth_m: Array  # (T, 137, 3)
    camera: Camera
    clip: str
    avatar: str


def film_sequence(data: Path, avatar_path: Path, what: tuple[str, str], rng: np.random.Generator) -> Sequence | None:
    """Film one random stretch of a clip, `what` = (motion set, clip); None where the clip is too short."""
    rig, clip = what
    motion = load_motion(data / "motion" / f"{rig}.npz", clip)
    stride = int(rng.integers(2, 4))
    if len(motion.root) < FRAMES * stride:
        return None
    first = int(rng.integers(0, len(motion.root) - FRAMES * stride + 1))
    rows = slice(first, first + FRAMES * stride, stride)
    avatar = load_avatar(avatar_path)
    cut = type(motion)(
        motion.joints, motion.parents, motion.offsets, motion.rotations[rows], motion.root[rows], motion.fps / stride
    )
    turns, joints = retarget(avatar, cut, RIGS[rig])
    turns = curl_fingers(avatar, turns, np.tile(rng.uniform(0.0, 0.6, 2), (FRAMES, 1)))
    truth = true_keypoints(avatar, turns, joints) @ Z_UP_FROM_Y_UP.T
    ground = np.array([0.0, 0.0, float(np.nanmin(truth[..., 2])) - 0.02])
    truth = truth - ground
    camera = _random_camera(truth, rng)
    stage = Stage(avatar.faces, avatar.uv, avatar.face_texture, avatar.textures)
    images = []
    room = _random_room(rng)
    for turn, joint in zip(turns, joints, strict=True):
        stage.pose(skin(avatar, turn, joint) @ Z_UP_FROM_Y_UP.T - ground)
        images.append(_photo(stage.photograph(camera, room, supersample=1)[0], rng))
    positions, confidence, world = _detect(images)
    in_camera = truth @ camera.rotation.T + camera.translation
    return Sequence(positions, confidence, world, in_camera, camera, f"{rig}/{clip}", avatar_path.stem)


def _random_camera(points: Array, rng: np.random.Generator) -> Camera:
    size = SIZES[rng.integers(len(SIZES))]
    body = points[:, :25]
    low, high = np.nanmin(body, axis=(0, 1)), np.nanmax(body, axis=(0, 1))
    centre, extent = (low + high) / 2, float(np.linalg.norm(high - low))
    focal = max(size) * float(np.exp(rng.uniform(np.log(0.7), np.log(2.0))))
    fill = rng.uniform(0.45, 1.0)
    distance = max(1.3, focal * extent / (fill * size[1]))
    azimuth, pitch = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(-10, 35))
    offset = distance * np.array([np.cos(azimuth) * np.cos(pitch), np.sin(azimuth) * np.cos(pitch), np.sin(pitch)])
    eye = centre + offset
    eye[2] = max(eye[2], 0.15)
    target = centre + rng.normal(scale=0.12 * extent, size=3)
    return look_at("studio", size, focal, eye, target, roll_rad=np.radians(rng.normal(scale=4.0)))


def _random_room(rng: np.random.Generator) -> Room:
    def colour() -> tuple[float, float, float]:
        base = rng.uniform(0.08, 0.7)
        r, g, b = np.clip(base + rng.normal(scale=0.08, size=3), 0.02, 0.9)
        return float(r), float(g), float(b)

    light = (float(rng.normal()), float(rng.normal()), float(rng.uniform(0.6, 1.8)))
    return Room(light, float(rng.uniform(0.35, 0.75)), colour(), colour(), colour())


def _photo(image: Array, rng: np.random.Generator) -> Array:
    """Add the exposure and noise of a real camera."""
    noisy = image.astype(float) * rng.uniform(0.75, 1.15) + rng.normal(scale=4.0, size=image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _detect(images: list[Array]) -> tuple[Array, Array, Array]:
    """Positions (T, 137, 2) px, confidence (T, 137) and the detector's own metres (T, 137, 3)."""
    positions, confidence = np.full((len(images), 137, 2), np.nan), np.zeros((len(images), 137))
    world = np.full((len(images), 137, 3), np.nan)
    with Holistic() as graph:
        graph.see(images[0])  # the first frame finds, the following ones track
        for frame, image in enumerate(images):
            seen = graph.see(image)
            if seen is not None:
                positions[frame], confidence[frame], world[frame] = seen.positions, seen.confidence, seen.world_m
    return positions, confidence, world


def _write(out: Path, sequences: list[Sequence]) -> None:
    arrays = {
        "positions_px": np.stack([s.positions_px for s in sequences]).astype(np.float32),
        "confidence": np.stack([s.confidence for s in sequences]).astype(np.float32),
        "world_m": np.stack([s.world_m for s in sequences]).astype(np.float32),
        "truth_m": np.stack([s.truth_m for s in sequences]).astype(np.float32),
        "matrix": np.stack([s.camera.matrix for s in sequences]),
        "rotation": np.stack([s.camera.rotation for s in sequences]),
        "size": np.array([s.camera.size for s in sequences]),
        "clip": np.array([s.clip for s in sequences]),
        "avatar": np.array([s.avatar for s in sequences]),
    }
    atomic_write(out, lambda stream: np.savez(stream, **arrays))


def main() -> None:
    """Parse the command line and film; the file is rewritten every 50 sequences."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sequences", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    work_as_job(parser, _work)


def _work(args: argparse.Namespace, run: Run) -> None:
    rng = np.random.default_rng(args.seed)
    avatars = sorted((args.data / "avatars_valid").glob("*.npz"))
    clips: list[tuple[str, str]] = []
    for rig in RIGS:
        with np.load(args.data / "motion" / f"{rig}.npz", allow_pickle=False) as data:
            clips.extend((rig, str(name)) for name in data["clip_names"])
    sequences: list[Sequence] = []
    while run.goes_on(len(sequences), args.sequences, "film"):
        rig = list(RIGS)[rng.integers(len(RIGS))]  # rigs equally often: the sets differ much in size
        names = [clip for owner, clip in clips if owner == rig]
        clip, avatar = names[rng.integers(len(names))], avatars[rng.integers(len(avatars))]
        filmed = film_sequence(args.data, avatar, (rig, clip), rng)
        if filmed is not None:
            sequences.append(filmed)
        if filmed is not None and len(sequences) % 50 == 0:
            _write(args.out, sequences)
    _write(args.out, sequences)


if __name__ == "__main__":
    main()
