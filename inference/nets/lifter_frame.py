"""What `Lifter.prepare` does, for one window and in numpy, in half of its time.

A frame of a live stream is a batch of one, on which torch spends its time on the way to each of 150 small operations.
`Lifter.prepare` is the plain twin, and the oracle of the test.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ..core.skeletons import BODY, FACE, LEFT_HAND, RIGHT_HAND
from .lifter import FACE_NOSE, LWRIST, MIDHIP, NECK, NOSE, RWRIST, Features, Lifter, Part

Array = np.ndarray
_MIRROR = np.array([-1.0, 1.0], np.float32)


class Preparer:
    """A network's statistics as arrays; calling it gives the features of one window of 137 points."""

    def __init__(self, net: Lifter) -> None:
        buffers = {name: buffer.numpy() for name, buffer in net.named_buffers()}
        self._standards = {p: (buffers[f"{p}_in_mean"], 1.0 / buffers[f"{p}_in_std"]) for p in ("body", "hand", "face")}
        self._cues = buffers["cues_mean"], buffers["cues_std"]

    def __call__(self, rays: Array, valid: Array, focal_known: float) -> Features:
        """Normalise (T, 137, 2) float32 rays, of which (T, 137) are valid."""
        rays = np.where(valid[..., None], rays, np.float32(0.0))
        x, y = _origin(rays[:, BODY], valid[:, BODY])
        turn = look_at(x, y)
        seen = rays @ turn[:, :2].T + turn[:, 2]
        virtual = seen[..., :2] / np.maximum(seen[..., 2:], np.float32(0.05)) * valid[..., None]
        scale = max(float(_diagonal(virtual[None, :, BODY], valid[None, :, BODY])[0]), 0.01)
        cues = np.array([x, y, math.log(scale), focal_known], np.float32)
        body = virtual[None, :, BODY] / np.float32(scale)
        wrists = np.stack([virtual[:, LWRIST], virtual[:, RWRIST] * _MIRROR])
        hands = np.stack([virtual[:, LEFT_HAND], virtual[:, RIGHT_HAND] * _MIRROR])
        hands_seen = np.stack([valid[:, LEFT_HAND], valid[:, RIGHT_HAND]])
        wrists_seen = np.stack([valid[:, LWRIST], valid[:, RWRIST]])
        face, face_seen = virtual[None, :, FACE], valid[None, :, FACE]
        nose, nose_seen = virtual[None, :, NOSE], valid[None, :, NOSE]
        return Features(
            self._part("body", body, valid[None, :, BODY], ((cues - self._cues[0]) / self._cues[1])[None]),
            torch.from_numpy(turn)[None],
            torch.full((1, 1), scale),
            self._part("hand", *_about(hands, hands_seen, 0, wrists, wrists_seen, scale)),
            self._part("face", *_about(face, face_seen, FACE_NOSE, nose, nose_seen, scale)),
        )

    def _part(self, name: str, points: Array, valid: Array, cues: Array) -> Part:
        mean, gain = self._standards[name]
        mask = valid[..., None].astype(np.float32)
        inputs = np.clip((points - mean) * gain, -5.0, 5.0) * mask
        count = len(points)
        flat = np.concatenate([inputs.reshape(count, -1), mask.reshape(count, -1), cues], 1)
        return Part(*(torch.from_numpy(array) for array in (flat, points * mask, mask)))


def look_at(x: float, y: float) -> Array:
    """(3, 3) as `lifter.look_at`, of one image point."""
    z = 1.0 / math.sqrt(x * x + y * y + 1.0)
    x, y, s = x * z, y * z, 1.0 / (1.0 + z)
    return np.array([[1 - x * x * s, -x * y * s, -x], [-x * y * s, 1 - y * y * s, -y], [x, y, z]], np.float32)


def _origin(rays: Array, valid: Array) -> tuple[float, float]:
    for joint in (MIDHIP, NECK):
        frames = np.flatnonzero(valid[:, joint])
        if frames.size:
            x, y = rays[frames[-1], joint]
            return float(x), float(y)
    x, y = rays.sum((0, 1)) / max(int(valid.sum()), 1)
    return float(x), float(y)


def _diagonal(points: Array, valid: Array) -> Array:
    """(N,) largest diagonal over T of the boxes of valid points (N, T, K, 2)."""
    both = np.concatenate([points, -points], -1).transpose(2, 0, 1, 3)  # numpy is fast along the first axis
    high = np.where(valid.transpose(2, 0, 1)[..., None], both, np.float32(-np.inf)).max(0)
    return np.sqrt(np.square(np.maximum(high[..., :2] + high[..., 2:], np.float32(0.0))).sum(-1)).max(1)


def _about(  # noqa: PLR0917 (a private step, as in the twin)
    points: Array, ok: Array, own: int, joint: Array, joint_ok: Array, scale: float
) -> tuple[Array, Array, Array]:
    centre = np.where(ok[:, :, own, None], points[:, :, own], joint)
    if not (ok[:, :, own] | joint_ok).all():
        count = np.maximum(ok.sum(2), 1)[..., None].astype(np.float32)
        centre = np.where((ok[:, :, own] | joint_ok)[..., None], centre, points.sum(2) / count)
    size = _diagonal(points, ok)
    size = np.where(size > 0, np.maximum(size, 0.01 * scale), 0.1 * scale).astype(np.float32)
    return (points - centre[:, :, None]) / size[:, None, None, None], ok, np.log(size / np.float32(scale))[:, None]
