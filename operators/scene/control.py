"""Free viewpoint: captured people as control frames, seen by any camera of the scene.

Keypoints hang on the bones of the armature that the capture became, so that they follow whatever is done to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ...inference.core.artifacts import BodyMotion, Keypoints3D
from ...inference.core.formats.pictures import encode_png
from ...inference.core.kinematics import forward
from ...inference.core.stickman import Style, control_frame
from ...inference.protocol.errors import InputError
from ...inference.protocol.files import atomic_write_bytes
from .cameras import camera_of
from .compat import curves_in
from .place import alone
from .take import units_per_m

Array = np.ndarray
_RENDER = (
    "resolution_x", "resolution_y", "resolution_percentage", "pixel_aspect_x", "pixel_aspect_y", "fps", "fps_base",
)  # fmt: skip
_LOOKS = 64  # moments in which it is found out what hangs on which bone
_STIFF_M = 0.1  # a point that moves more about every bone hangs on none


@dataclass(frozen=True)
class ControlOptions:
    """How control frames look, and which are made."""

    frames: tuple[int, int]
    style: Style = "openpose"
    hands: bool = True
    face: bool = True


@dataclass(frozen=True)
class Hanging:
    """Keypoints of one person on bones.

    offsets (T, J, 3) metres, in the frame of each point's bone, NaN where unknown; bone (J,) int, -1 for none.
    """

    names: Sequence[str]
    bone: Array
    offsets: Array

    def at(self, rig: bpy.types.Object, sample: float, unit: float) -> Array:
        """(J, 3) metres of the world, as an evaluated armature stands now."""
        row = int(np.clip(round(sample), 0, len(self.offsets) - 1))
        world = np.array(rig.matrix_world)
        bones = np.array([world @ np.array(rig.pose.bones[name].matrix) for name in self.names])
        placed = bones[self.bone]
        local = self.offsets[row] * unit
        points = np.einsum("jab,jb->ja", placed[:, :3, :3], local) + placed[:, :3, 3]
        return np.where((self.bone >= 0)[:, None], points, np.nan) / unit


def hang(motion: BodyMotion, points: Keypoints3D | None = None) -> Hanging:
    """Find for every keypoint the bone about which it moves least.

    Args:
        points: what was captured before the skeleton was fitted: it also knows what no bone carries, as the face.

    Raises:
        InputError: the capture kept no keypoints.
    """
    if motion.positions is None and points is None:
        raise InputError("This capture kept no keypoints.", "Capture it again with this version.")
    positions = _positions(motion, points)
    heads, turns = _bones(motion)
    looks = np.linspace(0, len(positions) - 1, min(_LOOKS, len(positions))).round().astype(int)
    bone, spread = np.full(positions.shape[1], -1), np.full(positions.shape[1], _STIFF_M)
    for index in range(heads.shape[1]):
        local = _into(positions[looks], heads[looks, index], turns[looks, index])
        known = np.isfinite(local).all(-1)
        seen = np.flatnonzero(known.any(0))
        if not len(seen):
            continue
        apart = np.linalg.norm(local[:, seen] - np.nanmedian(local[:, seen], 0), axis=-1)
        away = np.nanmean(apart, 0)
        better = away < spread[seen] - 1e-6
        bone[seen[better]], spread[seen[better]] = index, away[better]
    offsets = np.full(positions.shape, np.nan)
    for point, index in enumerate(bone):
        if index >= 0:
            offsets[:, point] = _into(positions[:, point : point + 1], heads[:, index], turns[:, index])[:, 0]
    return Hanging(list(motion.header["bones"]), bone, _filled(offsets))


def _positions(motion: BodyMotion, points: Keypoints3D | None) -> Array:
    """(T, J, 3): where the skeleton carries keypoints, else where they were captured, moved along with it."""
    if motion.positions is None:
        assert points is not None
        return points.positions
    fitted = np.array(motion.positions, float)
    if points is None or points.positions.shape != fitted.shape:
        return fitted
    both = np.isfinite(fitted).all(-1) & np.isfinite(points.positions).all(-1)
    moved = np.where(both[..., None], fitted - points.positions, 0.0).sum(1) / np.maximum(both.sum(1), 1)[:, None]
    return np.where(np.isfinite(fitted), fitted, points.positions + moved[:, None])


def _bones(motion: BodyMotion) -> tuple[Array, Array]:
    """(T, B, 3) heads and (T, B, 3, 3) turns of bones in the motion's frame."""
    matrices = forward(motion.rest, motion.parents, motion.rotations, motion.root)
    return matrices[..., :3, 3], matrices[..., :3, :3]


def _into(points: Array, heads: Array, turns: Array) -> Array:
    """(T, J, 3) points in the frames of bones at (T, 3) turned by (T, 3, 3)."""
    return np.einsum("tba,tjb->tja", turns, points - heads[:, None])


def _filled(offsets: Array) -> Array:
    """Let a point that is not known for a moment stay where it mostly is on its bone."""
    known = np.isfinite(offsets).all(-1)
    seen = known.any(0)
    usual = np.full(offsets.shape[1:], np.nan)
    usual[seen] = np.nanmedian(offsets[:, seen], 0)
    return np.where(known[..., None], offsets, usual)


def read_hanging(path: Path) -> Hanging:
    """Read what hangs on the bones of the armature that a capture became.

    Raises:
        InputError: its files are gone or damaged.
    """
    motion = BodyMotion.load(path)
    beside = path.with_name(path.name.replace("body_motion", "keypoints_3d"))
    return hang(motion, Keypoints3D.load(beside) if beside.is_file() and beside != path else None)


def write_control_frames(
    people: Sequence[tuple[bpy.types.Object, Hanging]], camera: bpy.types.Object, folder: Path, options: ControlOptions,
    scene: bpy.types.Scene, *, told: Callable[[int, int], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Write `control_0001.png` and so on, as large as the camera's picture; nothing of the scene changes.

    Args:
        told: hears how many of how many frames are done.

    Raises:
        InputError: there is nobody, or the camera is no pinhole.
        ResourceError: the disk is full.
    """
    if not people:
        raise InputError("There is nobody to draw.", "Apply a capture first.")
    first, last = options.frames
    files, unit = [], units_per_m(scene)
    with _stage(scene, [*(rig for rig, _ in people), camera]) as (stage, layer):
        for frame in range(first, last + 1):
            if told:
                told(frame - first, last - first + 1)
            stage.frame_set(frame)
            graph = layer.depsgraph
            seen = camera_of(camera.evaluated_get(graph), stage)
            points = [
                hanging.at(rig.evaluated_get(graph), _sample(rig, hanging, frame), unit) for rig, hanging in people
            ]
            picture = control_frame(np.stack(points), seen, style=options.style, hands=options.hands, face=options.face)
            files.append(folder / f"control_{frame:04d}.png")
            atomic_write_bytes(files[-1], encode_png(picture))
    return files


def _sample(rig: bpy.types.Object, hanging: Hanging, frame: float) -> float:
    """Which sample of the capture an armature shows, by the span of its keys in what plays it."""
    playing = _playing(rig, frame)
    if playing is None:
        return 0.0
    curves, frame = playing
    start, end = np.median([curve.range() for curve in curves], 0)  # a face's keys may go on after the body's
    return float(np.interp(frame, (start, max(end, start + 1e-3)), (0, len(hanging.offsets) - 1)))


def _playing(rig: bpy.types.Object, frame: float) -> tuple[list[bpy.types.FCurve], float] | None:
    """F-curves of a capture, among what plays an armature those of most bones, and the frame of them that is shown.

    Of the action's parts in the NLA, the one that plays now counts, or the nearest.
    """
    animation = rig.animation_data
    if animation is None:
        return None
    found = [(animation.action, frame, 0.0)] if animation.action and not animation.use_tweak_mode else []
    for strip in _heard(animation):
        away = max(strip.frame_start - frame, frame - strip.frame_end, 0.0)
        found.append((strip.action, _in_action(strip, frame), away))
    known = [(curves_in(action, rig), at, away) for action, at, away in found]
    curves, at, _ = min(known, key=lambda one: (-len(one[0]), one[2]), default=([], 0.0, 0.0))
    return (curves, at) if curves else None


def _heard(animation: bpy.types.AnimData) -> list[bpy.types.NlaStrip]:
    """Strips of actions that are played, those on top first."""
    if not animation.use_nla:
        return []
    solo = [track for track in animation.nla_tracks if track.is_solo]
    tracks = solo or [track for track in animation.nla_tracks if not track.mute]
    return [strip for track in reversed(tracks) for strip in track.strips if strip.action and not strip.mute]


def _in_action(strip: bpy.types.NlaStrip, frame: float) -> float:
    """Frame of its action that a strip shows at a frame of the scene."""
    first, last = strip.action_frame_start, strip.action_frame_end
    if strip.use_animated_time:
        return float(strip.strip_time)
    lasts = max((last - first) * strip.scale, 1e-3)
    along = (np.clip(frame, strip.frame_start, strip.frame_end) - strip.frame_start) / lasts
    along = along % 1.0 if along < strip.repeat else (strip.repeat % 1.0 or 1.0)
    return float(last - along * (last - first) if strip.use_reverse else first + along * (last - first))


@contextmanager
def _stage(
    scene: bpy.types.Scene, items: Sequence[bpy.types.Object]
) -> Iterator[tuple[bpy.types.Scene, bpy.types.ViewLayer]]:
    """A scene with these objects alone, whose frame may be changed; it has the size and the rate of the user's."""
    with alone(*items) as stage:
        for name in _RENDER:
            setattr(stage.render, name, getattr(scene.render, name))
        stage.unit_settings.system = scene.unit_settings.system
        stage.unit_settings.scale_length = scene.unit_settings.scale_length
        yield stage, stage.view_layers[0]
