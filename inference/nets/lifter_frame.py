"""What `Lifter.forward` does, for one window, with all but the layers in numpy.

A frame of a live stream is a batch of one, on which torch spends its time on the way to each of 200 small operations.
`Lifter.forward` is the plain twin, and the oracle of the test.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..core.skeletons import BODY, FACE, LEFT_HAND, RIGHT_HAND
from .lifter import FACE_NOSE, LAST, LWRIST, MIDHIP, MIRROR_25, NECK, NOSE, OFFSET, RWRIST, Lifter

Array = np.ndarray
_MIRROR = np.array([-1.0, 1.0], np.float32)
_SIDE = np.array([-1.0, 1.0, 1.0], np.float32)


class _Part(NamedTuple):
    """As `lifter.Part`, arrays."""

    inputs: Array
    place: Array
    seen: Array


class _Window(NamedTuple):
    """As `lifter.Features`, of one window: turn (3, 3), and the scale."""

    body: _Part
    hands: _Part
    face: _Part
    turn: Array
    scale: float


class FrameLifter:
    """A fused network's layers, and its statistics as arrays; lifts one window of 137 points."""

    def __init__(self, net: Lifter) -> None:
        self.net = net
        buffers = {name: buffer.numpy() for name, buffer in net.named_buffers()}
        parts = ("body", "hand", "face")
        self._standards = {part: (buffers[f"{part}_in_mean"], 1.0 / buffers[f"{part}_in_std"]) for part in parts}
        self._scales = {part: tuple(buffers[f"{part}_{n}"] for n in ("out_mean", "out_std", "size")) for part in parts}
        self._cues = buffers["cues_mean"], buffers["cues_std"]
        self._steps = net.config.window

    def __call__(self, rays: Array, valid: Array, focal_known: float) -> tuple[Array, Array]:
        """(1, 137, 3) metres about the mid-hip and (1, 137) expected errors of (T, 137, 2) float32 rays."""
        window = self._prepare(rays, valid, focal_known)
        with torch.inference_mode():
            body, error = self._body(window.body, window.scale)
            both = np.concatenate([body, body[:, MIRROR_25] * _SIDE])
            (left, right), (left_error, right_error) = self._part_of(self.net.hand, "hand", window.hands, both)
            (face,), (face_error,) = self._part_of(self.net.face, "face", window.face, body)
        body = body[0]
        points = [body, body[NOSE] + face, body[LWRIST] + left, body[RWRIST] + right * _SIDE]
        errors = np.concatenate([error[0], face_error, left_error, right_error])
        return (np.concatenate(points) @ window.turn)[None], errors[None]

    def _body(self, part: _Part, scale: float) -> tuple[Array, Array]:
        inputs = torch.from_numpy(part.inputs)
        hidden, raw = self.net.body.hidden_and_out(inputs)
        if self.net.mixer is not None:
            raw = raw + self.net.mixer(inputs, hidden)
        out, place, seen = raw.numpy(), part.place[:, -1], part.seen[:, -1]
        if self._steps > 1:
            votes = out[:, -25 * self._steps :].reshape(1, self._steps, 25, 1).copy()
            votes[:, -1] += LAST
            weight = np.exp(np.clip(votes, -8.0, 8.0)) * part.seen
            place = (weight * part.place).sum(1) / np.maximum(weight.sum(1), 1e-6)
            seen = 0.5 * (seen + part.seen.max(1))
        points, error = self._points(out, place, seen, "body", scale)
        return points - points[:, MIDHIP, None], error

    def _part_of(self, layers: nn.Module, name: str, part: _Part, body: Array) -> tuple[Array, Array]:
        mean, std, _ = self._scales["body"]
        known = ((body - mean) / std).reshape(len(body), -1)
        out = layers(torch.from_numpy(np.concatenate([part.inputs, known], 1))).numpy()
        return self._points(out, part.place[:, -1], part.seen[:, -1], name, 0.0)

    def _points(self, out: Array, place: Array, seen: Array, name: str, scale: float) -> tuple[Array, Array]:
        (mean, std, size), count = self._scales[name], place.shape[1]
        raw = out[:, : 3 * count].reshape(-1, count, 3) * std
        depth = raw[..., 2:] + mean[:, 2:]
        reach = (size * np.exp(np.clip(out[:, 4 * count : 4 * count + 1], -3.0, 3.0)))[:, None] + scale * depth
        points = np.concatenate([place * reach + raw[..., :2] * (1.0 - (1.0 - OFFSET) * seen), depth], -1)
        return points, np.exp(np.clip(out[:, 3 * count : 4 * count], -7.0, 2.0))

    def _prepare(self, rays: Array, valid: Array, focal_known: float) -> _Window:
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
        return _Window(
            self._part("body", body, valid[None, :, BODY], ((cues - self._cues[0]) / self._cues[1])[None]),
            self._part("hand", *_about(hands, hands_seen, 0, wrists, wrists_seen, scale)),
            self._part("face", *_about(face, face_seen, FACE_NOSE, nose, nose_seen, scale)),
            turn,
            scale,
        )

    def _part(self, name: str, points: Array, valid: Array, cues: Array) -> _Part:
        mean, gain = self._standards[name]
        mask = valid[..., None].astype(np.float32)
        inputs = np.clip((points - mean) * gain, -5.0, 5.0) * mask
        count = len(points)
        flat = np.concatenate([inputs.reshape(count, -1), mask.reshape(count, -1), cues], 1)
        return _Part(flat, points * mask, mask)


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
