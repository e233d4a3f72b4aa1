"""The lifter on people it was never trained on: five frames against one, perfect and spoilt keypoints, and its speed.

The people left out are named in `training.motions`: `val` chose between models, `test` decided nothing.
Bodies are of a seed of their own. Each sequence is 24 frames at 30 a second before a camera at rest; the focal length
is not told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .. import nets
from ..core.metrics import pa_mpjpe, second_difference
from ..core.skeletons import COCO_17_IN_BODY_25, OPENPOSE_137
from ..nets.lifter import Lifter, fuse
from ..sight import lift as stage
from ..training import captures, motions, surface
from .table import Table

Array = np.ndarray
FRAMES, FPS = 24, 30.0
JOINTS: list[int] = list(COCO_17_IN_BODY_25)
EVERYDAY = ("asf/02", "mb/", "fair/wave", "fair/zombie")
ONE_FRAME = Path(__file__).with_name("lifter_w1.safetensors")
_BODY_SEED = 1001
_PERFECT = captures.Errors(**dict.fromkeys(captures.Errors.__dataclass_fields__, 0.0))


class Clips(NamedTuple):
    """S sequences: rays (S, T, 137, 2), valid (S, T, 137), truth (S, T, 137, 3) camera frame."""

    rays: Array
    valid: Array
    truth: Array


def tables(data: Path) -> list[Table]:
    """All figures of the lifter."""
    columns = ("people", "keypoints", "window", "body", "body PA", "hands", "face", "second difference", "of the truth")
    table = Table(
        "Lifter, people left out (mm; body: 17 joints about the mid-hip, hands about the wrist, face about the nose)",
        columns,
        note="Target: body at most 40 with perfect keypoints and 60 with 2 % noise (of each part's box) and 15 % "
        "missing; five frames better than one, their second difference (mm a frame squared, at 30 a second) smaller.",
    )
    rivals = {5: stage.load_net(), 1: load_one_frame()}
    for people in ("everyday", "acrobatics and dance"):
        perfect = sequences(data, everyday=people == "everyday")
        for keypoints, clips in (("perfect", perfect), ("noisy", spoilt(perfect))):
            for window, net in rivals.items():
                table.add(people, keypoints, window, *evaluate(net, clips).values())
    return [table, speed()]


def load_one_frame() -> Lifter:
    """The rival with a window of one frame, fused for inference."""
    net = nets.load(ONE_FRAME)
    assert isinstance(net, Lifter)
    return fuse(net)


def sequences(data: Path, *, everyday: bool, count: int = 200, splits: Sequence[str] = ("val", "test")) -> Clips:
    """Film people left out of training, seen whole and perfectly."""
    bodies = surface.build_bodies(40, np.random.default_rng(_BODY_SEED), ict=data / "heads" / "ict_facekit_linear.npz")
    parts = []
    for split in splits:
        clips = motions.load(data, split, bodies.rest_directions)
        wanted = np.array([name.startswith(EVERYDAY) == everyday for name in clips.names])[clips.clip]
        clips = clips.select(wanted)
        clips.weights[:] = 1.0
        bank = captures.bank(clips, bodies, np.random.default_rng(0), hand_frames=1000)
        generator = torch.Generator().manual_seed(7)
        people = captures.sample_people(bank, count // len(splits), FRAMES, generator, augment=False)
        filmed = captures.film(people, generator, _PERFECT, focal_known=0.0, hard=False, fill=(0.3, 0.8))
        parts.append((filmed.rays.numpy(), filmed.valid.numpy(), filmed.camera.numpy()))
    return Clips(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def spoilt(clips: Clips, *, noise: float = 0.02, missing: float = 0.15, seed: int = 3) -> Clips:
    """Add independent Gaussian noise, a share of the diagonal of each part's box, and lose points."""
    rng = np.random.default_rng(seed)
    rays = clips.rays.copy()
    for part in (slice(0, 25), slice(25, 95), slice(95, 116), slice(116, 137)):
        size = np.linalg.norm(np.ptp(clips.rays[:, :, part], axis=2), axis=-1)[..., None, None]
        rays[:, :, part] += (rng.normal(size=rays[:, :, part].shape) * noise * size).astype(np.float32)
    return Clips(rays, clips.valid & (rng.random(clips.valid.shape) >= missing), clips.truth)


def lifted(net: Lifter, clips: Clips, *, flip: bool = True) -> tuple[Array, Array]:
    """Poses (S, T, 137, 3) about the mid-hip and expected errors (S, T, 137), by the shipped stage."""
    regressor = stage.Regressor(net, flip=flip, focal_known=False)
    steps, frames = stage.window_steps(FPS, regressor.window), np.arange(clips.rays.shape[1])
    found = [regressor(*stage.gather(r, v, frames, steps)) for r, v in zip(clips.rays, clips.valid, strict=True)]
    poses, errors = (np.stack(arrays) for arrays in zip(*found, strict=True))
    return poses.astype(float), errors


def evaluate(net: Lifter, clips: Clips, *, flip: bool = True) -> dict[str, float]:
    """Figures in millimetres, in the order of the table's columns."""
    poses, _ = lifted(net, clips, flip=flip)
    truth = (clips.truth - clips.truth[:, :, 8:9]).astype(float)

    def error(part: slice | list[int], root: int) -> float:
        a, b = (x[:, :, part] - x[:, :, root : root + 1] for x in (poses, truth))
        return 1000 * float(np.linalg.norm(a - b, axis=-1).mean())

    hands = 0.5 * (error(slice(95, 116), 7) + error(slice(116, 137), 4))
    flat = poses[:, :, JOINTS].reshape(-1, 17, 3), truth[:, :, JOINTS].reshape(-1, 17, 3)
    return {
        "body": error(JOINTS, 8),
        "body_pa": 1000 * pa_mpjpe(*flat),
        "hands": hands,
        "face": error(slice(25, 95), 0),
        "second_difference": 1000 * float(np.mean([second_difference(p[:, JOINTS]) for p in poses])),
        "true_second_difference": 1000 * float(np.mean([second_difference(p[:, JOINTS]) for p in truth])),
    }


def speed(*, frames: int = 400) -> Table:
    """Milliseconds a frame of the stream, from pixels to metres, 137 keypoints, one thread."""
    table = Table(
        "Lifter, one frame at a time, 137 keypoints, one CPU thread (ms)",
        ("mirror image averaged in", "median", "fastest tenth"),
        note="From pixels to metres, everything included. Target: at most 1.5.",
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for flip in (False, True):
            table.add("yes" if flip else "no", *measure_speed(flip=flip, frames=frames))
    finally:
        torch.set_num_threads(threads)
    return table


def measure_speed(*, flip: bool, frames: int) -> tuple[float, float]:
    """Median and first decile of the milliseconds that one frame takes."""
    rng = np.random.default_rng(0)
    positions = rng.uniform((400.0, 100.0), (1500.0, 1000.0), size=(frames, len(OPENPOSE_137), 2))
    stream = stage.StreamingLifter((1920, 1080), FPS, stage.LiftSettings(flip=flip))
    confidence, taken = np.ones(len(OPENPOSE_137)), []
    for index in range(frames):
        start = time.perf_counter()
        stream.push(positions[index], confidence, index / FPS)
        taken.append(1000 * (time.perf_counter() - start))
    settled = taken[frames // 10 :]
    return float(np.median(settled)), float(np.quantile(settled, 0.1))
