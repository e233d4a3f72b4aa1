"""The doors of triangulation: views and cameras are put in step, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import CameraSet, project
from ..core.skeletons import BODY
from ..core.triangulation import Rays
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .sides import exchange

Array = np.ndarray

_SIZE_TOLERANCE = 0.02  # of the image: padding of video codecs (1080 -> 1088), not another calibration
_FPS_TOLERANCE = 0.01
_LEAST_COMMON = 0.5  # of the longest view
_LEAST_FRAMES = 0.05  # of a view's frames that must show a person


@dataclass(frozen=True)
class Scene:
    """What N views saw, in step: positions (N, T, J, 2) px, NaN unseen; confidence and weight (N, T, J)."""

    cameras: CameraSet
    positions: Array
    confidence: Array
    weight: Array

    @property
    def frames(self) -> int:
        """T."""
        return self.weight.shape[1]

    def exchanged(self, sides: Array) -> Scene:
        """Apply an exchange of sides, (N, T, 2) as `agree_on_sides` gives it."""
        return self._each(lambda values: exchange(values, sides))

    def at(self, frames: Array | slice) -> Scene:
        """Take some of the frames."""
        return self._each(lambda values: values[:, frames])

    def body(self) -> Scene:
        """Take the 25 body joints."""
        return self._each(lambda values: values[:, :, BODY])

    def rays(self) -> Rays:
        """Give the rays of all T * J points in one row."""
        return Rays.of(tuple(self.cameras), self.positions, self.weight)

    def error_px(self, points: Array) -> Array:
        """Give (N, T, J, 2) px, what was seen minus the projection of (T, J, 3) points."""
        return self.positions - np.stack([project(camera, points) for camera in self.cameras])

    def _each(self, change: Callable[[Array], Array]) -> Scene:
        return Scene(self.cameras, change(self.positions), change(self.confidence), change(self.weight))


def assemble(views: Sequence[Keypoints2D], cameras: CameraSet, min_confidence: float) -> Scene:
    """Lay the views side by side and decide how much each point is listened to.

    The weight is the square of the score, as in a weighted DLT whose rows are multiplied by it, and fades quickly
    below `min_confidence` instead of ending there, so that no camera switches on and off. Positions far outside the
    image are not listened to.
    """
    positions = np.stack([np.asarray(view.positions, float) for view in views])
    confidence = np.clip(np.nan_to_num(np.stack([view.confidence for view in views]).astype(float)), 0.0, 1.0)
    size = np.array([view.image_size for view in views], float)[:, None, None]
    plausible = (np.abs(positions - size / 2) <= 1.5 * size).all(-1)  # at most one image beyond the border; not NaN
    confidence = np.where(plausible, confidence, 0.0)
    positions = np.where((confidence > 0)[..., None], positions, np.nan)
    faded = np.minimum(confidence / max(min_confidence, 1e-6), 1.0) ** 4
    return Scene(cameras, positions, confidence, confidence**2 * faded)


def match_cameras(views: Sequence[Keypoints2D], cameras: CameraSet) -> CameraSet:
    """Put cameras in the order of the views: by name where every view is called after a camera, else by order.

    Raises:
        InputError: fewer than two views, or numbers that differ.
    """
    if len(views) < 2:
        raise InputError(f"{len(views)} view cannot be triangulated; at least 2 are needed.")
    names = [str(view.header.get("view", "")) for view in views]
    known = {camera.name: camera for camera in cameras}
    if len(known) == len(cameras) and len(set(names)) == len(names) and all(name in known for name in names):
        return CameraSet(tuple(known[name] for name in names))
    if len(views) != len(cameras):
        raise InputError(
            f"There are {len(views)} views and {len(cameras)} cameras in the calibration.",
            f"Give one view for each camera, or name the clips after their cameras ({', '.join(cameras.names)}).",
        )
    return cameras


def check_image_sizes(views: Sequence[Keypoints2D], cameras: CameraSet, report: Reporter) -> None:
    """Compare images with the sizes the cameras were calibrated for; a difference as of codec padding only warns.

    Raises:
        InputError: they disagree; names both.
    """
    for view, camera in zip(views, cameras, strict=True):
        seen, calibrated = np.array(view.image_size, float), np.array(camera.size, float)
        if not calibrated.all() or (seen == calibrated).all():
            continue
        name = view.header.get("view") or camera.name
        text = f"{name} is {_size(view.image_size)}, but {camera.name} was calibrated at {_size(camera.size)}"
        if np.abs(seen / calibrated - 1.0).max() > _SIZE_TOLERANCE:
            raise InputError(
                f"{text}.", "Use clips of the calibrated size, uncropped and not turned, in the order of the cameras."
            )
        off = np.abs(seen - calibrated).max()
        report.warning("calibration", f"{text}: points near the border may be off by {off:.0f} px.")


def check_rotations(cameras: CameraSet) -> None:
    """Raise InputError where a camera is not a rigid, right-handed pose or has no focal length."""
    for camera in cameras:
        rotation = np.asarray(camera.rotation, float)
        numbers = [rotation.ravel(), np.ravel(camera.translation), np.ravel(camera.matrix), np.ravel(camera.distortion)]
        if not all(np.isfinite(n).all() for n in numbers):
            raise InputError(f"The calibration of {camera.name} holds numbers that are not finite.")
        determinant = np.linalg.det(rotation)
        if determinant < 0:
            raise InputError(
                f"The calibration of {camera.name} is mirrored: its rotation has determinant {determinant:.2f}, not 1.",
                "Export the calibration again in OpenCV's convention.",
            )
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-2:
            raise InputError(f"The rotation of {camera.name} is not a rotation (determinant {determinant:.2f}).")
        if min(camera.matrix[0, 0], camera.matrix[1, 1]) <= 0:
            raise InputError(f"The focal length of {camera.name} is {camera.matrix[0, 0]:.1f} px; it must be positive.")


def synchronise(views: Sequence[Keypoints2D], report: Reporter) -> list[Keypoints2D]:
    """Bring views to the same frames: cut to the shortest; where rates differ, take the nearest frames in time.

    Raises:
        InputError: less than half of the longest view is common to all.
    """
    rates = np.array([view.fps for view in views])
    views = list(views)
    if rates.max() > rates.min() * (1.0 + _FPS_TOLERANCE):
        named = ", ".join(f"{_name(view)} {view.fps:g}" for view in views)
        report.warning("sync", f"Frame rates differ ({named} fps): the nearest frames in time are taken.")
        views = _at_common_times(views)
    counts = [len(view.positions) for view in views]
    common = min(counts)
    if common < max(_LEAST_COMMON * max(counts), 1):
        shortest, longest = int(np.argmin(counts)), int(np.argmax(counts))
        raise InputError(
            f"{_name(views[shortest])} has {common} frames and {_name(views[longest])} {max(counts)}: not one take.",
            "Cut the clips so that they start and end together.",
        )
    if common < max(counts):
        named = ", ".join(f"{_name(view)} {count}" for view, count in zip(views, counts, strict=True))
        report.warning("sync", f"Frame counts differ ({named}): the first {common} frames are used.")
    return [_take(view, np.arange(common)) for view in views]


def check_people(views: Sequence[Keypoints2D], min_confidence: float, report: Reporter) -> None:
    """Warn of views that hardly ever show anybody (any four body joints).

    Raises:
        InputError: fewer than two views show a person.
    """
    shown = [int(((view.confidence[:, BODY] >= min_confidence).sum(1) >= 4).sum()) for view in views]
    blind = [count < max(1.0, _LEAST_FRAMES * len(view.positions)) for view, count in zip(views, shown, strict=True)]
    frames = len(views[0].positions)
    named = ", ".join(f"{_name(view)} in {count} of {frames} frames" for view, count in zip(views, shown, strict=True))
    if len(views) - sum(blind) < 2:
        raise InputError(
            f"At least 2 views must show the person: {named}.", "Check the clips, or lower the least confidence."
        )
    if any(blind):
        report.warning("input", f"Not every view shows the person: {named}.")


def _at_common_times(views: list[Keypoints2D]) -> list[Keypoints2D]:
    slowest = min(views, key=lambda view: view.fps)
    end = min(float(view.times[-1]) for view in views) + 0.5 / slowest.fps
    times = slowest.times[slowest.times <= end]
    out = []
    for view in views:
        after = np.clip(np.searchsorted(view.times, times), 1, max(len(view.times) - 1, 1))
        nearest = np.where(times - view.times[after - 1] <= view.times[after] - times, after - 1, after)
        out.append(replace(_take(view, nearest), times=times).with_header(fps=slowest.fps))
    return out


def _take(view: Keypoints2D, frames: Array) -> Keypoints2D:
    if len(frames) == len(view.positions):
        return view
    kept = {name: getattr(view, name)[frames] for name in ("positions", "confidence", "times")}
    return replace(view, **kept, world_m=None)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _name(view: Keypoints2D) -> str:
    return str(view.header.get("view") or view.header.get("source") or "a view")
