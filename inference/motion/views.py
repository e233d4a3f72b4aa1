"""The doors of triangulation: views and cameras are put in step, or refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.cameras import CameraSet, project
from ..core.skeletons import BODY, MIN_FRAMES
from ..core.triangulation import Rays
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from .sides import exchange

Array = np.ndarray

_SIZE_TOLERANCE = 0.02  # of the image: padding of video codecs (1080 -> 1088), not another calibration
_FPS_TOLERANCE = 0.01
_UNEVEN = 0.3  # of a frame
_JUMP = 0.05  # of the image's diagonal, from frame to frame: another point was taken for this one
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

    def only(self, points: Array) -> Scene:
        """Take some of all T * J points, as the joints of a single frame."""
        return self._each(lambda values: values.reshape(len(values), -1, *values.shape[3:])[:, None, points])

    def body(self) -> Scene:
        """Take the 25 body joints."""
        return self.part(BODY)

    def part(self, joints: slice) -> Scene:
        """Take some of the joints."""
        return self._each(lambda values: values[:, :, joints])

    def rays(self) -> Rays:
        """Give the rays of all T * J points in one row."""
        return Rays.of(tuple(self.cameras), self.positions, self.weight)

    def error_px(self, points: Array) -> Array:
        """Give (N, T, J, 2) px, what was seen minus the projection of (T, J, 3) points."""
        return self.positions - np.stack([project(camera, points) for camera in self.cameras])

    def _each(self, change: Callable[[Array], Array]) -> Scene:
        return Scene(self.cameras, change(self.positions), change(self.confidence), change(self.weight))


@dataclass(frozen=True)
class Located:
    """What a method of triangulation found.

    points (T, J, 3) metres, NaN where nothing can be said; error (T, J) metres: 68 % lie nearer to the truth; believed
    (N, T, J): how far each view was listened to, 0 where it was not.
    """

    points: Array
    error: Array
    believed: Array

    def at(self, frames: slice) -> Located:
        """Some of the frames."""
        return Located(self.points[frames], self.error[frames], self.believed[:, frames])


def assemble(views: Sequence[Keypoints2D], cameras: CameraSet, min_confidence: float) -> Scene:
    """Lay the views side by side and decide how much each point is listened to.

    The weight is the square of the score, as in a weighted DLT whose rows are multiplied by it, and fades quickly
    below `min_confidence` instead of ending there, so that no camera switches on and off. Positions far outside the
    image are not listened to.
    """
    heard = [_heard(view, min_confidence) for view in views]
    return Scene(cameras, *(np.stack(parts) for parts in zip(*heard, strict=True)))


def _heard(view: Keypoints2D, min_confidence: float) -> tuple[Array, Array, Array]:
    """Positions, confidence and weight of one view, as precise as it was given."""
    positions, size = np.asarray(view.positions), np.array(view.image_size, float)
    confidence = np.clip(np.nan_to_num(view.confidence), 0.0, 1.0)
    plausible = (np.abs(positions - size / 2) <= 1.5 * size).all(-1)  # at most one image beyond the border; not NaN
    confidence = np.where(plausible, confidence, 0.0).astype(np.float32)
    positions = np.where((confidence > 0)[..., None], positions, np.nan)
    faded = np.minimum(confidence / max(min_confidence, 1e-6), 1.0) ** 4
    return positions, confidence, confidence**2 * faded


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
    """Bring views to the same moments.

    Clips that begin together at one rate are cut to the shortest. Where rates differ, a clip's own frames are uneven,
    or `sync.shifted` moved clips on the common clock, keypoints are taken between frames, at the frames of the slowest
    view. Such views say in their header which of their own seconds the first sample shows, and how many of them a
    second of the common clock has: `clip_start_s`, `clip_rate`.

    Raises:
        InputError: less than half of the longest view is common to all; for moved clips, less than 10 frames are.
    """
    rates = np.array([view.fps for view in views])
    views = list(views)
    moved = any("clock" in view.header for view in views)
    differ = bool(rates.max() > rates.min() * (1.0 + _FPS_TOLERANCE))
    if differ and not moved:
        named = ", ".join(f"{_name(view)} {view.fps:g}" for view in views)
        report.warning("sync", f"Frame rates differ ({named} fps): keypoints are taken between frames.")
    if moved or differ or _drift_apart(views):
        views = _at_common_times(views, moved=moved)
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


def _drift_apart(views: list[Keypoints2D]) -> bool:
    """Whether the same frames of clips of one rate were seen at different times: phones film at uneven rates."""
    common = min(len(view.times) for view in views)
    since = np.stack([np.asarray(view.times[:common], float) - view.times[0] for view in views])
    return bool(np.ptp(since, axis=0).max(initial=0.0) > _UNEVEN / min(view.fps for view in views))


def _at_common_times(views: list[Keypoints2D], *, moved: bool) -> list[Keypoints2D]:
    slowest = min(views, key=lambda view: view.fps)
    start = max(float(view.times[0]) for view in views) if moved else -np.inf
    end = min(float(view.times[-1]) for view in views) + (0.0 if moved else 0.5 / slowest.fps)
    times = slowest.times[(slowest.times >= start - 1e-6) & (slowest.times <= end + 1e-6)]
    if moved and len(times) < MIN_FRAMES:
        spans = ", ".join(f"{_name(view)} {view.times[0]:.2f} to {view.times[-1]:.2f} s" for view in views)
        raise InputError(
            f"Once in step, the clips have {len(times)} frames in common ({spans}); at least {MIN_FRAMES} are needed.",
            "Give clips of the same take, or take them as they are (sync off).",
        )
    return [_between_frames(view, times, slowest.fps) for view in views]


def _between_frames(view: Keypoints2D, times: Array, fps: float) -> Keypoints2D:
    """Take a view at `times` (K,): between frames where both see a point and it does not jump, else at the nearest."""
    own = np.asarray(view.times, float)
    after = np.clip(np.searchsorted(own, times), 1, max(len(own) - 1, 1)) if len(own) > 1 else np.zeros(len(times), int)
    before = np.maximum(after - 1, 0)
    span = np.maximum(own[after] - own[before], 1e-9)
    part = np.clip((times - own[before]) / span, 0.0, 1.0)
    positions, confidence = np.asarray(view.positions, float), np.asarray(view.confidence, float)
    low, high = positions[before], positions[after]
    smooth = np.linalg.norm(high - low, axis=-1) < _JUMP * np.hypot(*view.image_size)  # not NaN either
    smooth &= (span < 3.0 / view.fps)[:, None]
    between = low * (1.0 - part[:, None, None]) + high * part[:, None, None]
    nearest = np.where(part < 0.5, before, after)
    away = np.minimum(part, 1.0 - part)[:, None]  # a point half a frame from its moment is believed less
    around = confidence[before], confidence[after]
    clock = view.header.get("clock", [1.0, 0.0])
    taken = replace(
        view, positions=np.where(smooth[..., None], between, positions[nearest]), times=times, world_m=None,
        confidence=np.where(smooth, np.minimum(*around), confidence[nearest] * (1.0 - away)),
    )  # fmt: skip
    header = {name: value for name, value in taken.header.items() if name != "clock"}
    start = float((times[0] - clock[1]) / clock[0])
    return replace(taken, header={**header, "fps": fps, "clip_start_s": start, "clip_rate": 1.0 / clock[0]})


def _take(view: Keypoints2D, frames: Array) -> Keypoints2D:
    if len(frames) == len(view.positions):
        return view
    kept = {name: getattr(view, name)[frames] for name in ("positions", "confidence", "times")}
    return replace(view, **kept, world_m=None)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _name(view: Keypoints2D) -> str:
    return str(view.header.get("view") or view.header.get("source") or "a view")
