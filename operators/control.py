"""Control frames: captured people drawn for image generators, seen by any camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, StringProperty

from ..inference.protocol.errors import InputError
from .base import Guarded, Told
from .environment import output_folder
from .motion import SOURCE
from .scene.compat import PATH_OPTIONS


class UNDERSTUDY_OT_control_frames(Guarded):
    """Draw captured people as control frames for image generators, seen by the scene's camera"""

    bl_idname = "understudy.control_frames"
    bl_label = "Control Frames"

    directory: StringProperty(name="Folder", description="Where pictures go", subtype="DIR_PATH", options=PATH_OPTIONS)
    camera: StringProperty(name="Camera", description="Empty for the scene's", options={"SKIP_SAVE"})
    style: EnumProperty(
        name="Style",
        description="What is drawn",
        items=(
            ("openpose", "OpenPose", "18 points of the body in OpenPose's colors, hands and face"),
            ("stickman", "Stickman", "All points of the body, feet included, hands and face"),
        ),
    )
    hands: BoolProperty(name="Hands", description="Draw the fingers", default=True)
    face: BoolProperty(name="Face", description="Draw the face", default=True)

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        if not captured_rigs(context.scene):
            return "There is no captured person; apply a capture first"
        return "" if context.scene.camera else "The scene has no camera"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for a folder."""
        self.directory = self.directory or str(output_folder() / "control")
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Write the pictures of the scene's frames."""
        scene = context.scene
        folder = Path(bpy.path.abspath(self.directory or str(output_folder() / "control")))
        files = write_control(
            scene, folder, (scene.frame_start, scene.frame_end), camera=self.camera, style=self.style,
            hands=self.hands, face=self.face,
        )  # fmt: skip
        self.report({"INFO"}, f"Wrote {len(files)} frames to {folder}")
        return {"FINISHED"}


def captured_rigs(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Armatures that captures became: the selected ones, or all."""
    rigs = [item for item in scene.objects if item.type == "ARMATURE" and SOURCE in item]
    return [item for item in rigs if item.select_get()] or rigs


def write_control(
    scene: bpy.types.Scene, folder: Path, frames: tuple[int, int], *, camera: str = "", **look: Any
) -> list[Path]:
    """Write control frames of all captured people; `look` is of `scene.control.ControlOptions`.

    Raises:
        InputError: there is nobody or no camera, or a capture's files are gone.
    """
    from .scene.control import ControlOptions, read_hanging, write_control_frames

    item = scene.objects.get(camera) if camera else scene.camera
    if item is None or item.type != "CAMERA":
        raise InputError(f"There is no camera {camera}.".replace(" .", "."), "Add one, or name another.")
    people = [(rig, read_hanging(Path(str(rig[SOURCE])))) for rig in captured_rigs(scene)]
    with Told(frames[1] - frames[0] + 1) as told:
        return write_control_frames(people, item, folder, ControlOptions(frames, **look), scene, told=told)


CLASSES = (UNDERSTUDY_OT_control_frames,)
