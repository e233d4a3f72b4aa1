"""Point at the person who is followed, on the first frame of the active view."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol.errors import InputError
from .base import Guarded
from .scene.compat import turns_left

_DRAG_PX = 6  # a shorter way between press and release is a click


class UNDERSTUDY_OT_pick_person(Guarded):
    """Show the first frame: click on the person, or drag a box around them"""

    bl_idname = "understudy.pick_person"
    bl_label = "Pick Person"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        motion = context.scene.understudy.motion
        if motion.active_view >= len(motion.views):
            return "Add a clip first"
        if not motion.views[motion.active_view].video:
            return "Choose the clip of this view first"
        return "Picking needs a window" if bpy.app.background else ""

    def work(self, context: bpy.types.Context) -> set[str]:
        """Open a window with the frame and let the user point in it."""
        motion = context.scene.understudy.motion
        path = Path(bpy.path.abspath(motion.views[motion.active_view].video))
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        image = bpy.data.images.load(str(path), check_existing=True)
        if not all(image.size):
            raise InputError(f"{path.name} is not a film that Blender can show.")
        with context.temp_override(**_open_image(context, image, motion.start)):
            bpy.ops.understudy.pick_in_image("INVOKE_DEFAULT")
        return {"FINISHED"}


def _open_image(context: bpy.types.Context, image: bpy.types.Image, frame: int) -> dict[str, Any]:
    """Give window, area and region of a new image editor."""
    bpy.ops.wm.window_new()
    window = context.window_manager.windows[-1]
    area = window.screen.areas[0]
    area.type = "IMAGE_EDITOR"
    space = area.spaces.active
    space.image = image
    space.image_user.frame_duration, space.image_user.frame_start = 1, 1
    space.image_user.frame_offset = frame
    region = next(region for region in area.regions if region.type == "WINDOW")
    return {"window": window, "screen": window.screen, "area": area, "region": region}


class UNDERSTUDY_OT_pick_in_image(bpy.types.Operator):
    """Take a click or a box in the image editor"""

    bl_idname = "understudy.pick_in_image"
    bl_label = "Pick in Image"
    bl_options = {"INTERNAL", "UNDO"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Begin to listen in this window."""
        self._pressed: tuple[int, int] | None = None
        self._at = (event.mouse_region_x, event.mouse_region_y)
        self._fitted = False
        self._drawing = bpy.types.SpaceImageEditor.draw_handler_add(self._draw, (), "WINDOW", "POST_PIXEL")
        context.window_manager.modal_handler_add(self)
        context.area.header_text_set("Click on the person, or drag a box around them. Esc: leave it as it is")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Follow the mouse until a point or a box is there."""
        if not self._fitted:  # a new editor has no size before it is drawn
            self._fitted = bpy.ops.image.view_all(fit_view=True) == {"FINISHED"}
        self._at = (event.mouse_region_x, event.mouse_region_y)
        if event.type in ("ESC", "RIGHTMOUSE"):
            return self._leave(context, {"CANCELLED"})
        if event.type == "LEFTMOUSE" and event.value == "PRESS":
            self._pressed = self._at
        elif event.type == "LEFTMOUSE" and event.value == "RELEASE" and self._pressed:
            if self._choose(context, self._pressed, self._at):
                return self._leave(context, {"FINISHED"})
            self._pressed = None
        elif event.type == "MOUSEMOVE":
            context.area.tag_redraw()
        elif not event.type.startswith("LEFT"):
            return {"PASS_THROUGH"}  # zoom and pan
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Stop drawing where the window was closed."""
        if self._drawing:
            bpy.types.SpaceImageEditor.draw_handler_remove(self._drawing, "WINDOW")
        self._drawing = None

    def _choose(self, context: bpy.types.Context, press: tuple[int, int], release: tuple[int, int]) -> bool:
        """Set point or box of the active view; tell whether it lies in the image."""
        motion = context.scene.understudy.motion
        view, image = motion.views[motion.active_view], context.space_data.image
        to_view, turns = context.region.view2d.region_to_view, turns_left(Path(bpy.path.abspath(image.filepath)))
        corners = [to_pixel(to_view(*corner), image.size, turns) for corner in (press, release)]
        if max(abs(press[0] - release[0]), abs(press[1] - release[1])) < _DRAG_PX:
            is_inside = all(0.0 <= part <= 1.0 for part in to_view(*release))
            if is_inside:
                view.follow, view.point = "POINT", corners[1]
            return is_inside
        (x0, y0), (x1, y1) = corners
        if x0 == x1 or y0 == y1:  # beside the image
            return False
        view.follow, view.box = "BOX", (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        return True

    def _leave(self, context: bpy.types.Context, result: set[str]) -> set[str]:
        self.cancel(context)
        context.area.header_text_set(None)
        bpy.app.timers.register(functools.partial(_close, context.window))  # not under the operator's own feet
        return result

    def _draw(self) -> None:
        if self._pressed is None:
            return
        import gpu
        from gpu_extras.batch import batch_for_shader

        (x0, y0), (x1, y1) = self._pressed, self._at
        shader = gpu.shader.from_builtin("UNIFORM_COLOR")
        shader.uniform_float("color", (1.0, 0.6, 0.1, 1.0))
        batch_for_shader(shader, "LINE_LOOP", {"pos": [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]}).draw(shader)


def _close(window: bpy.types.Window) -> None:
    if window in list(bpy.context.window_manager.windows):
        with bpy.context.temp_override(window=window):
            bpy.ops.wm.window_close()


def to_pixel(place: tuple[float, float], size: tuple[int, int], turns: int = 0) -> tuple[int, int]:
    """Turn a place (0 to 1 from the bottom left) into a pixel inside the image, from the top left.

    turns: quarter turns, counter-clockwise, that are still to be made of what is shown.
    """
    for _ in range(turns):
        place, size = (1.0 - place[1], place[0]), (size[1], size[0])
    width, height = size
    x, y = place[0] * width - 0.5, (1.0 - place[1]) * height - 0.5
    return min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)


CLASSES = (UNDERSTUDY_OT_pick_person, UNDERSTUDY_OT_pick_in_image)
