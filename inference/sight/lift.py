"""One camera to space: a window of 2D keypoints gives the pose of its last frame, and where it stands.

`lift` takes a clip; `StreamingLifter` takes one frame at a time and gives the same poses. They differ in the root's
depth alone, which a clip smooths with both past and future, and in the scale where a height is given, which a clip
measures over all of its frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .. import nets
from ..core.artifacts import Keypoints2D, Keypoints3D
from ..core.cameras import Camera, normalise, pinhole, project
from ..core.filters import whittaker
from ..core.skeletons import BODY, FACE, LEFT_HAND, MIRROR_137, OPENPOSE_137, RIGHT_HAND
from ..nets.lifter import Lifter, fuse
from ..nets.lifter_frame import FrameLifter
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..runtime import weights

Array = np.ndarray

ASSUMED_FOCAL = 1.0  # of the longer side of the image, where nobody knows: between a phone and a portrait lens
TRAINED_FPS = 30.0
_CHUNK = 256
_FAR = np.array([0.0, 0.0, 3.0])  # where somebody stands who was never measured, metres
_MIN_JOINTS = 4  # body joints that place a root
_PARTS = (FACE, LEFT_HAND, RIGHT_HAND)
_MIN_POINTS = 3  # of a hand or a face in the window, below which it counts as not there
# Share of joints within 100 mm of the truth, by expected error; fitted to subjects left out of training.
_WITHIN_M, _SHAPE, _RATE = 0.10, 2.0, 0.83
# Stature over shank + thigh + trunk + neck to nose; mean of 360 adult bodies of `anny` (they differ by 0.5 %).
_STATURE = 1.117


@dataclass(frozen=True)
class LiftSettings:
    """How one view is lifted. Without `focal_px` the focal length is assumed; `height_m` sets the scale."""

    min_confidence: float = 0.3
    focal_px: float | None = None
    height_m: float | None = None
    flip: bool = False  # also lift the mirror image and average: 1 % better, twice as slow


def lift(
    keypoints: Keypoints2D,
    settings: LiftSettings,
    report: Reporter,
    *,
    camera: Camera | None = None,
    net: Lifter | None = None,
) -> Keypoints3D:
    """Lift a clip seen by one camera.

    Positions of hands and face are NaN, with confidence 0, in frames whose window shows nothing of them. The header's
    `focal` tells whether the focal length was given or assumed.
    Raises:
        InputError: no frame shows a person.
        WeightsError: the network's weights are missing or damaged.
    """
    optics = Optics.choose(keypoints.image_size, settings, camera)
    valid = _seen(keypoints.positions, keypoints.confidence, keypoints.image_size, settings.min_confidence)
    if not valid[:, BODY].any():
        raise InputError(f"0 of {len(valid)} frames show a person; nothing can be lifted.", "Choose another clip.")
    rays = optics.rays(keypoints.positions, valid)
    regressor = Regressor(net or load_net(), flip=settings.flip, focal_known=optics.known)
    poses, errors = _regress_clip(regressor, rays, valid, keypoints.fps, report)
    roots, placed = place(Pull(poses, rays, valid, errors))
    roots = _fill(roots, placed)
    scale = _scale(poses, errors, settings.height_m)
    roots = _smooth_depth(Pull(poses, rays, valid, errors), roots, keypoints.fps) * scale
    absent = _absent(valid, keypoints.fps, regressor.window)
    positions = np.where(absent[..., None], np.nan, poses * scale + roots[:, None])
    confidence = np.where(absent, 0.0, confidence_of(errors)) * valid_window(valid, keypoints.fps, regressor.window)
    expected = np.where(absent, np.nan, expected_error_of(errors) * scale)
    return replace(
        _artifact(keypoints, optics, positions, confidence, valid), expected_error_m=expected.astype(np.float32)
    )


class StreamingLifter:
    """Lift frames as they come; the same poses as `lift`."""

    def __init__(
        self,
        size: tuple[int, int],
        fps: float,
        settings: LiftSettings | None = None,
        *,
        camera: Camera | None = None,
        net: Lifter | None = None,
    ) -> None:
        self.settings = settings or LiftSettings()
        self.size, self.fps = size, fps
        self.optics = Optics.choose(size, self.settings, camera)
        self.regressor = Regressor(net or load_net(), flip=self.settings.flip, focal_known=self.optics.known)
        self._steps = window_steps(fps, self.regressor.window)
        self._past: deque[tuple[Array, Array]] = deque(maxlen=int(np.ceil(self._steps[0])) + 1)
        self._root: Array | None = None
        self._time_s: float | None = None
        self._statures: deque[float] = deque(maxlen=300)

    def push(self, positions: Array, confidence: Array, time_s: float | None = None) -> tuple[Array, Array]:
        """Lift the next frame from (137, 2) pixels and (137,) confidences.

        Where the times tell that frames were dropped, they count as frames that show nobody.
        Returns:
            (137, 3) metres in the camera frame, NaN where a part is absent; (137,) confidence.
        """
        self._skip(time_s)
        valid = _seen(positions[None], confidence[None], self.size, self.settings.min_confidence)
        self._past.append((self.optics.rays(positions[None], valid)[0], valid[0]))
        rays, window = self._window()
        poses, errors = self.regressor(rays[None], window[None])
        scale = self._place(poses, errors)
        assert self._root is not None
        absent = _absent_parts(window[None])[0]
        lifted = np.where(absent[:, None], np.nan, (poses[0] + self._root) * scale)
        present = window[:, BODY].any()
        return lifted, np.where(absent, 0.0, confidence_of(errors[0])) * present

    def _skip(self, time_s: float | None) -> None:
        if time_s is not None and self._time_s is not None and self._past:
            dropped = round((time_s - self._time_s) * self.fps) - 1
            rays, valid = self._past[-1]
            for _ in range(min(dropped, self._past.maxlen or 0)):
                self._past.append((np.zeros_like(rays), np.zeros_like(valid)))
        self._time_s = time_s

    def _window(self) -> tuple[Array, Array]:
        rays, valid = (np.stack(a) for a in zip(*self._past, strict=True))
        return gather(rays, valid, np.array([len(rays) - 1]), self._steps, squeeze=True)

    def _place(self, poses: Array, errors: Array) -> float:
        """Move the root, its depth following over 0.15 s; the scale to apply."""
        rays, valid = self._past[-1]
        pull = Pull(poses, rays[None], valid[None], errors)
        root, placed = place(pull)
        if placed[0]:
            if self.settings.height_m is not None:
                self._statures.append(float(stature(poses)[0]))
            if self._root is not None:
                follow = 1.0 - np.exp(-1.0 / (0.15 * self.fps))
                depth = self._root[2] * (np.clip(root[0, 2] / self._root[2], 0.8, 1.25) ** follow)
                root = _at_depth(pull, np.array([depth]))
            self._root = root[0]
        elif self._root is None:
            self._root = _FAR
        if self.settings.height_m is None or not self._statures:
            return 1.0
        return self.settings.height_m / float(np.median(self._statures))


@dataclass(frozen=True)
class Optics:
    """The camera that rays are measured with; `known` says that its focal length is not a guess."""

    camera: Camera
    known: bool

    @staticmethod
    def choose(size: tuple[int, int], settings: LiftSettings, camera: Camera | None) -> Optics:
        """Take the calibrated camera, else the focal length of the settings, else assume one."""
        if camera is not None:
            return Optics(replace(camera, rotation=np.eye(3), translation=np.zeros(3)), True)
        focal = settings.focal_px or ASSUMED_FOCAL * max(size)
        return Optics(pinhole("camera", size, focal), settings.focal_px is not None)

    def rays(self, positions: Array, valid: Array) -> Array:
        """(T, J, 2) x / z and y / z of valid pixels, undistorted; zero elsewhere. float32."""
        pixels = np.where(valid[..., None], positions, 0.0)
        return np.where(valid[..., None], normalise(self.camera, pixels), 0.0).astype(np.float32)


class Regressor:
    """The network as a function of arrays, with the mirror image averaged in."""

    def __init__(self, net: Lifter, *, flip: bool, focal_known: bool) -> None:
        self.net, self.flip, self.window = net, flip, net.config.window
        self.device = net.cues_mean.device
        self.lift_frame = FrameLifter(net) if self.device.type == "cpu" and not flip else None
        self.known = float(focal_known)
        self.mirror = torch.tensor(MIRROR_137, device=self.device)
        self.sign = torch.tensor([-1.0, 1.0, 1.0], device=self.device)

    def __call__(self, rays: Array, valid: Array) -> tuple[Array, Array]:
        """(B, 137, 3) metres about the mid-hip and (B, 137) expected error of (B, T, 137, 2) rays."""
        if len(rays) == 1 and self.lift_frame is not None:
            return self.lift_frame(rays[0], valid[0], self.known)
        x, ok = torch.from_numpy(rays).to(self.device), torch.from_numpy(valid).to(self.device)
        with torch.inference_mode():
            if self.flip:
                x = torch.cat([x, x[:, :, self.mirror] * self.sign[:2]])
                ok = torch.cat([ok, ok[:, :, self.mirror]])
            points, error = self.net(x, ok, x.new_full((len(x),), self.known))
            if self.flip:
                count = len(rays)
                points = 0.5 * (points[:count] + points[count:, self.mirror] * self.sign)
                error = 0.5 * (error[:count] + error[count:, self.mirror])
        return points.cpu().numpy(), error.cpu().numpy()


def load_net(path: Path | None = None, *, device: str = "cpu") -> Lifter:
    """The published lifter, fused for inference on a device; kept for later calls."""
    return _load(path or weights.locate("lifter"), device)


@lru_cache(maxsize=4)
def _load(path: Path, device: str) -> Lifter:
    net = nets.load(path)
    assert isinstance(net, Lifter)
    return fuse(net.to(device))


def window_steps(fps: float, window: int) -> Array:
    """(T,) how many frames before the present the window's frames lie; the last is 0.

    The network was trained at about 30 frames a second: other rates take every n-th frame, or lie between frames.
    """
    ratio = fps / TRAINED_FPS
    stride = 1.0 if 0.6 <= ratio <= 1.5 else round(ratio) if ratio > 1.5 else ratio
    return np.arange(window - 1, -1, -1) * stride


def gather(rays: Array, valid: Array, frames: Array, steps: Array, *, squeeze: bool = False) -> tuple[Array, Array]:
    """Windows (B, T, J, 2) and (B, T, J) that end at `frames`; before the clip the first frame is repeated."""
    at = np.maximum(frames[:, None] - steps, 0.0)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(rays) - 1)
    part = (at - low).astype(np.float32)[..., None]
    if not part.any():
        out, ok = rays[low], valid[low]
    else:
        near = part < 1e-6
        ok = valid[low] & (valid[high] | near)
        out = np.where(ok[..., None], rays[low] * (1 - part[..., None]) + rays[high] * part[..., None], 0.0)
        out = out.astype(np.float32)
    return (out[0], ok[0]) if squeeze else (out, ok)


def _seen(positions: Array, confidence: Array, size: tuple[int, int], min_confidence: float) -> Array:
    """(T, J) bool: confident, finite, and inside the image (2 % of margin)."""
    limits = np.array(size, float)
    with np.errstate(invalid="ignore"):
        inside = np.all((positions >= -0.02 * limits) & (positions <= 1.02 * limits), axis=-1)
    return inside & (confidence >= min_confidence) & (confidence > 0)


def _regress_clip(regressor: Regressor, rays: Array, valid: Array, fps: float, report: Reporter) -> tuple[Array, Array]:
    steps, count = window_steps(fps, regressor.window), len(rays)
    poses, errors = (
        np.empty((count, len(OPENPOSE_137), 3), np.float32),
        np.empty((count, len(OPENPOSE_137)), np.float32),
    )
    for start in range(0, count, _CHUNK):
        frames = np.arange(start, min(start + _CHUNK, count))
        poses[frames], errors[frames] = regressor(*gather(rays, valid, frames, steps))
        report.progress("lift", int(frames[-1]) + 1, count)
    return poses, errors


class Pull(NamedTuple):
    """What holds roots in place: poses (B, 137, 3), rays (B, 137, 2) and validity of their frames, expected errors."""

    poses: Array
    rays: Array
    valid: Array
    errors: Array

    def body(self) -> tuple[Array, Array, Array]:
        """Poses, rays and weights (B, 25) of the body's joints."""
        weight = self.valid[:, BODY] / (self.errors[:, BODY] + 0.02) ** 2
        return self.poses[:, BODY].astype(float), self.rays[:, BODY].astype(float), weight


def place(pull: Pull) -> tuple[Array, Array]:
    """Find the roots (B, 3), metres, whose projected poses fit the rays, and (B,) whether enough joints told.

    Each joint gives two equations that are linear in the root t: (p + t)_xy - ray (p + t)_z = 0. Weights fall with
    expected error and, in a second pass, with the residual.
    """
    p, r, weight = pull.body()
    right = r * p[..., 2:] - p[..., :2]  # (B, J, 2)
    root = _solve_root(weight, r, right)
    residual = root[:, None, :2] - r * root[:, None, 2:] - right
    size = np.sqrt(np.sum(residual**2, axis=-1))
    root = _solve_root(weight / np.maximum(size / 0.03, 1.0), r, right)
    placed = pull.valid[:, BODY].sum(1) >= _MIN_JOINTS
    placed &= (root[:, 2] > 0.3) & (root[:, 2] < 100.0)
    return np.where(placed[:, None], root, _FAR), placed


def _solve_root(w: Array, r: Array, right: Array) -> Array:
    """Weighted normal equations of [1 0 -rx; 0 1 -ry] t = right, eliminating tx and ty."""
    total = np.maximum(w.sum(1), 1e-9)
    mean_r = (w[..., None] * r).sum(1) / total[:, None]
    mean_b = (w[..., None] * right).sum(1) / total[:, None]
    dr, db = r - mean_r[:, None], right - mean_b[:, None]
    # minimise sum w |dr z + db|^2 over the depth z
    depth = -(w[..., None] * dr * db).sum((1, 2)) / np.maximum((w[..., None] * dr**2).sum((1, 2)), 1e-12)
    return np.concatenate([mean_b + mean_r * depth[:, None], depth[:, None]], axis=1)


def _at_depth(pull: Pull, depth: Array) -> Array:
    """(B, 3) roots at the given (B,) depths that fit the rays best."""
    p, r, weight = pull.body()
    offset = r * (p[..., 2:] + depth[:, None, None]) - p[..., :2]
    across = (weight[..., None] * offset).sum(1) / np.maximum(weight.sum(1), 1e-9)[:, None]
    return np.concatenate([across, depth[:, None]], axis=1)


def _fill(roots: Array, placed: Array) -> Array:
    """Carry the root over frames that did not tell it, in straight lines."""
    if placed.all() or not placed.any():
        return roots
    known = np.flatnonzero(placed)
    return np.stack([np.interp(np.arange(len(roots)), known, roots[known, axis]) for axis in range(3)], axis=1)


def _smooth_depth(pull: Pull, roots: Array, fps: float) -> Array:
    """Smooth the logarithm of depth (most of what one camera gets wrong); the root keeps its image."""
    if len(roots) < 4:
        return roots
    log = np.log(roots[:, 2])
    enough = pull.valid[:, BODY].sum(1) >= _MIN_JOINTS
    weight = np.where(enough, 1.0, 1e-3)
    strength = float((2.0 * np.sin(np.pi * min(1.5 / fps, 0.5))) ** -4)  # halves waves of 1.5 Hz
    smooth = log
    for _ in range(3):
        smooth = whittaker(log[:, None, None], weight[:, None], strength, order=2)[:, 0, 0]
        off = np.abs(log - smooth)
        spread = np.median(off[enough]) * 1.48 + 1e-4
        weight = np.where(enough, 1.0, 1e-3) / np.maximum(off / (2.0 * spread), 1.0) ** 2
    depth = np.exp(smooth)
    moved = _at_depth(pull, depth)
    ray = roots[:, :2] / roots[:, 2:]
    return np.where(enough[:, None], moved, np.concatenate([ray * depth[:, None], depth[:, None]], axis=1))


def stature(poses: Array) -> Array:
    """(B,) standing height, metres, that the lengths of (B, 137, 3) poses speak for."""

    def length(a: int, b: int) -> Array:
        return np.linalg.norm(poses[:, a] - poses[:, b], axis=-1)

    legs = 0.5 * (length(9, 10) + length(12, 13) + length(10, 11) + length(13, 14))
    return _STATURE * (legs + length(8, 1) + length(1, 0))


def _scale(poses: Array, errors: Array, height_m: float | None) -> float:
    """What metres must be multiplied with for the person to have the given height."""
    if height_m is None:
        return 1.0
    sure = errors[:, BODY].mean(1)
    best = sure <= np.quantile(sure, 0.5)
    return height_m / float(np.median(stature(poses[best])))


def _absent(valid: Array, fps: float, window: int) -> Array:
    """(T, 137) parts of which the window of a frame shows nothing."""
    steps = window_steps(fps, window)
    out = np.empty(valid.shape, bool)
    blank = np.zeros((*valid.shape, 1), np.float32)
    for start in range(0, len(valid), _CHUNK):
        frames = np.arange(start, min(start + _CHUNK, len(valid)))
        out[frames] = _absent_parts(gather(blank, valid, frames, steps)[1])
    return out


def _absent_parts(windows: Array) -> Array:
    """(B, J) of (B, T, J) windows: hands and face with fewer than three points in the best frame."""
    out = np.zeros((len(windows), windows.shape[2]), bool)
    for part in _PARTS:
        out[:, part] = (windows[:, :, part].sum(2).max(1) < _MIN_POINTS)[:, None]
    return out


def valid_window(valid: Array, fps: float, window: int) -> Array:
    """(T, 1) whether the window of a frame shows anything of the body."""
    body = valid[:, BODY].any(1)[:, None]
    steps = window_steps(fps, window)
    blank = np.zeros((*body.shape, 1), np.float32)
    return gather(blank, body, np.arange(len(body)), steps)[1].any(1)


def confidence_of(error: Array) -> Array:
    """Probability in (0, 1) that a joint with this expected error, metres, lies within 100 mm of the truth."""
    return 1.0 - np.exp(-((_WITHIN_M / np.maximum(error, 1e-4)) ** _SHAPE) * _RATE)


def expected_error_of(error: Array) -> Array:
    """Metres below which 68 % of the true errors about the root lie, where the network expects this error."""
    return error * np.sqrt(-np.log(1.0 - 0.68) / _RATE)


def _artifact(keypoints: Keypoints2D, optics: Optics, positions: Array, confidence: Array, valid: Array) -> Keypoints3D:
    seen = np.where(valid[..., None], keypoints.positions, np.nan)
    error_px = np.linalg.norm(project(optics.camera, positions) - seen, axis=-1)
    header = {
        "unit": "m", "frame": "camera", "fps": keypoints.fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "cameras": [optics.camera.to_header()], "sources": [keypoints.header.get("source", "")],
        "focal": "given" if optics.known else "assumed", "focal_px": float(optics.camera.matrix[0, 0]),
    }  # fmt: skip
    return Keypoints3D(
        header=header,
        positions=positions.astype(np.float32),
        confidence=confidence.astype(np.float32),
        validity=valid & np.isfinite(positions[..., 0]),
        times=keypoints.times,
        error_px=error_px[None].astype(np.float32),
        views_used=valid[None],
    )
