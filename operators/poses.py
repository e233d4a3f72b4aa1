"""Kept poses: those of a driver as sliders that are keyed, and what is keyed as a driver."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import IntProperty, StringProperty

from ..inference.protocol.errors import InputError
from .base import Guarded, file_name
from .environment import output_folder
from .scene.compat import PATH_OPTIONS
from .session import SESSION

DRIVER = "driver.npz"  # beside what is said of frames
_POSES = "understudy_poses"  # as in `scene/poses.py`, which needs numpy


def find_poses(context: bpy.types.Context, name: str = "") -> bpy.types.Object | None:
    """Look up an object that keeps poses: the named one, the panel's, the active one, or the newest."""
    if name:
        item = bpy.data.objects.get(name)
        return item if item is not None and _POSES in item else None
    for item in (context.scene.understudy.reenact.poses, context.active_object):
        if item is not None and _POSES in item:
            return item
    return next((item for item in reversed(context.scene.objects) if _POSES in item), None)


def write_keyed_poses(item: bpy.types.Object | None, scene: bpy.types.Scene, frames: tuple[int, int]) -> Path:
    """Write what kept poses do over some frames as descriptors that can drive.

    Raises:
        InputError: nothing is kept.
    """
    from .scene.poses import keyed_descriptors

    if item is None:
        raise InputError("There is no object that keeps poses.", "Keep some from a driver first.")
    found = keyed_descriptors(item, range(frames[0], frames[1] + 1), scene)
    path = output_folder() / "drivers" / f"{file_name(item.name)}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path)
    return path


class UNDERSTUDY_OT_keep_pose(Guarded):
    """Keep the driver's pose on this frame as a slider, and key it here; between keys, poses are slerped"""

    bl_idname = "understudy.keep_pose"
    bl_label = "Keep Pose"
    bl_options = {"REGISTER", "UNDO"}

    take: StringProperty(name="Name", description="Name of the slider", default="Pose", options={"SKIP_SAVE"})
    number: IntProperty(
        name="Driver's Frame", description="Number of the frame; -1 for the one that the scene shows now", default=-1,
        min=-1, options={"SKIP_SAVE"},
    )  # fmt: skip
    filepath: StringProperty(
        name="Driver", description="A driver.npz; empty for that of the last frames", subtype="FILE_PATH",
        options={"SKIP_SAVE", *PATH_OPTIONS},
    )  # fmt: skip

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if SESSION.last_frames else "Make frames first: a pose is kept from their driver"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Add the slider to the object that keeps poses, or to a new one, and key it."""
        scene = context.scene
        number = self.number
        if number < 0:
            number = scene.frame_current - scene.understudy.reenact.apply.frame_start
        item, name = keep_pose(driver_file(self.filepath), context, number, relative=self.number < 0, name=self.take)
        self.report({"INFO"}, f"{item}: {name} is keyed on frame {scene.frame_current}")
        return {"FINISHED"}


def driver_file(text: str) -> Path:
    """Find the driver's descriptors beside the last frames, or where a path says.

    Raises:
        InputError: there are none.
    """
    if text:
        path = Path(bpy.path.abspath(text))
        found = [file for file in (path, path / "artifacts" / DRIVER) if file.is_file()]
        if found:
            return found[0]
        raise InputError(f"{path} holds no {DRIVER}.", "Choose one, or the folder of a finished job.")
    last = SESSION.last_frames
    if last is None:
        raise InputError("No frames are finished yet.", "Make some first, or choose a driver.npz.")
    return last.with_name(DRIVER)


def keep_pose(
    path: Path, context: bpy.types.Context, number: int, *, relative: bool = False, name: str = ""
) -> tuple[str, str]:
    """Keep a driver's pose and key it on the present frame; gives the names of the object and of the slider.

    Args:
        number: of the driver's frame, or with `relative` how many of the scene's frames after its first.

    Raises:
        InputError: the driver has no such frame.
    """
    import numpy as np

    from ..inference.core.artifacts import PoseDescriptors
    from .scene.poses import add_pose, create_poses, key_pose
    from .scene.reenact import driver_pace

    kept = PoseDescriptors.load(path)
    if relative:
        pace = driver_pace(kept.fps, context.scene, match_rate=context.scene.understudy.reenact.apply.match_rate)
        number = int(kept.frames[0]) + round(number * pace)
    if number not in kept.frames:
        raise InputError(
            f"The driver has frames {kept.frames[0]}-{kept.frames[-1]}, not {number}.", "Choose one of these."
        )
    network = str(kept.header["network"])
    item = find_poses(context) or create_poses("Poses", network, context.scene)
    slider = add_pose(item, name, kept.descriptors[int(np.searchsorted(kept.frames, number))], network)
    key_pose(item, slider, context.scene.frame_current)
    return item.name, slider


class UNDERSTUDY_OT_key_pose(Guarded):
    """Key a kept pose fully on this frame, and all others not at all"""

    bl_idname = "understudy.key_pose"
    bl_label = "Key Pose"
    bl_options = {"REGISTER", "UNDO"}

    pose: StringProperty(name="Pose", description="Name of the slider", options={"SKIP_SAVE"})

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "" if find_poses(context) else "There is no object that keeps poses"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Set keys."""
        from .scene.poses import key_pose, pose_names

        item = find_poses(context)
        if self.pose not in pose_names(item):
            raise InputError(f"There is no pose {self.pose!r}.", f"Kept are {', '.join(pose_names(item)) or 'none'}.")
        key_pose(item, self.pose, context.scene.frame_current)
        return {"FINISHED"}


CLASSES = (
    UNDERSTUDY_OT_keep_pose,
    UNDERSTUDY_OT_key_pose,
)
