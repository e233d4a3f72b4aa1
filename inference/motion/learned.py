"""The learned methods of triangulation: which views to believe (algebraic), and where joints must be.

The latter by how people stand (volumetric), or also by how they move (temporal), which sees some frames about each;
the others work on frames by themselves. All know how far they expect to be off. They were trained on people upright in
a world whose z points up and whose origin is near; the scene is brought there and back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from .. import nets
from ..core.rotations import between, matrix_from_quaternion, unit
from ..core.skeletons import BODY_25
from ..core.triangulation import intersect
from ..nets import joint_volume, motion_prior
from ..nets.joint_volume import JointVolume
from ..nets.motion_prior import MotionPrior
from ..nets.settle import JOINTS
from ..nets.view_trust import Views, ViewTrust
from ..protocol.errors import WeightsError
from ..runtime import weights
from .views import Located, Scene

Array = np.ndarray
Progress = Callable[[int, int], None]
_Network = Callable[[Views], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # points, errors, weights
_BATCH = 48  # frames at once
_SPAN, _LEAD = 24, 4  # frames at once where time tells, and those about them that are looked at, too
_UPRIGHT = np.cos(np.radians(40.0))
_NECK, _HIPS = BODY_25.index("Neck"), BODY_25.index("MidHip")


def algebraic(scene: Scene, *, height: float, progress: Progress | None = None, trust: Path | None = None) -> Located:
    """Weighted linear triangulation with learned confidences (Iskakov 2019, section 3.1, from geometry alone)."""
    believe = load_trust(trust or weights.locate("view-trust"))

    def run(views: Views) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = believe(views)
        return found.points, found.error, found.weights

    return _locate(scene, height, run, progress)


def volumetric(scene: Scene, *, height: float, progress: Progress | None = None, trust: Path | None = None) -> Located:
    """Place the body in a volume (Iskakov 2019, section 3.2, image-free), also what no camera sees; hands as above."""
    volume, believe = _volume(weights.locate("joint-volume")), load_trust(trust or weights.locate("view-trust"))
    body = volume.config.joints

    def run(views: Views) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        placed, trusted = joint_volume.place(volume, believe, views)
        points = torch.cat([placed.points, trusted.points[:, body:]], 1)
        return points, torch.cat([placed.error, trusted.error[:, body:]], 1), trusted.weights

    return _locate(scene, height, run, progress)


def temporal(scene: Scene, *, height: float, progress: Progress | None = None, trust: Path | None = None) -> Located:
    """Place the body by how people stand and move (`nets/motion_prior.py`); hands as the algebraic method does."""
    prior, believe = _prior(weights.locate("motion-prior")), load_trust(trust or weights.locate("view-trust"))

    def run(views: Views) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        placed, trusted = motion_prior.place(prior, believe, views, len(views.height))
        points = torch.cat([placed.points, trusted.points[:, JOINTS:]], 1)
        return points, torch.cat([placed.error, trusted.error[:, JOINTS:]], 1), trusted.weights

    return _locate(scene, height, run, progress, block=_SPAN, lead=_LEAD)


@lru_cache(maxsize=4)
def load_trust(path: Path) -> ViewTrust:
    """Load confidences of views, published or tuned."""
    net = nets.load(path)
    if not isinstance(net, ViewTrust):
        raise WeightsError(f"{path.name} does not say which views to believe.", "Give what `tune` has written.")
    return net


@lru_cache(maxsize=4)
def _volume(path: Path) -> JointVolume:
    net = nets.load(path)
    assert isinstance(net, JointVolume)
    return net


@lru_cache(maxsize=4)
def _prior(path: Path) -> MotionPrior:
    net = nets.load(path)
    assert isinstance(net, MotionPrior)
    return net


def _locate(
    scene: Scene, height: float, run: _Network, progress: Progress | None, *, block: int = _BATCH, lead: int = 0
) -> Located:
    """Run a network on blocks of frames, which also sees `lead` frames before and after each."""
    _, frames, joints = scene.weight.shape
    turn, middle = _upright(scene)
    points, error = np.full((frames, joints, 3), np.nan), np.full((frames, joints), np.nan)
    believed = np.zeros(scene.weight.shape, np.float32)
    for start in range(0, frames, block):
        rows, first = slice(start, start + block), max(start - lead, 0)
        views, seen = _views(scene.at(slice(first, start + block + lead)), turn, middle, height)
        kept = slice(start - first, start - first + block)
        with torch.inference_mode():
            found = [part[kept].double().numpy() for part in run(views)]
        seen = seen[:, kept]
        somebody = seen.any((0, 2))  # not a frame in which nobody sees anything
        points[rows] = np.where(somebody[:, None, None], found[0], np.nan)
        error[rows], believed[:, rows] = found[1], np.where(seen, found[2].swapaxes(0, 1), 0.0)
        if progress is not None:
            progress(min(start + block, frames), frames)
    error[~np.isfinite(points).all(-1)] = np.nan
    return Located(points @ turn + middle, error, believed)


def _views(scene: Scene, turn: Array, middle: Array, height: float) -> tuple[Views, Array]:
    """Some frames as the networks take them, upright and about the middle, and (N, T, J) what is seen."""
    rays, shape = scene.rays(), scene.weight.shape
    count, size, _ = shape
    directions = rays.directions.reshape(*shape, 2)
    seen = (rays.weight > 0).reshape(shape) & np.isfinite(directions).all(-1)
    directions, score = np.where(seen[..., None], directions, 0.0), np.where(seen, scene.confidence, 0.0)
    rotation = rays.rotation @ turn.T  # x_cam = R (turn^T x' + middle) + t
    translation = np.einsum("nij,j->ni", rays.rotation, middle) + rays.translation
    views = Views(
        _tensor(directions.swapaxes(0, 1)), _tensor(score.swapaxes(0, 1)),
        _tensor(rotation).expand(size, count, 3, 3), _tensor(translation).expand(size, count, 3),
        torch.full((size,), float(height)),
    )  # fmt: skip
    return views, seen


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _upright(scene: Scene) -> tuple[Array, Array]:
    """(3, 3) turn of the world that makes people stand along z, and (3,) where they are, metres in the world."""
    frames = np.unique(np.linspace(0, scene.frames - 1, 60).round().astype(int))
    sample = scene.body().at(frames)
    points = intersect(sample.rays()).reshape(len(frames), -1, 3)
    known = points[np.isfinite(points).all(-1)]
    middle = np.median(known, axis=0) if len(known) else np.zeros(3)
    trunk = points[:, _NECK] - points[:, _HIPS]
    trunk = trunk[np.isfinite(trunk).all(-1)]
    if not len(trunk):
        return np.eye(3), middle
    up = unit(np.median(unit(trunk), axis=0))
    if up[2] > _UPRIGHT:
        return np.eye(3), middle  # the world says so itself
    axis = int(np.argmax(np.abs(up)))
    up = np.eye(3)[axis] * np.sign(up[axis]) if abs(up[axis]) > _UPRIGHT else up
    return matrix_from_quaternion(between(up, np.array([0.0, 0.0, 1.0]))), middle
