"""Drawn over the footage while looking through a camera of a capture: what was seen, and what was made of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.app.handlers import persistent

from ..inference.protocol.errors import InputError, UnderstudyError
from .base import Guarded, sentence
from .motion import SOURCE
from .session import redraw

if TYPE_CHECKING:  # numpy comes with the first use
    from .scene.residuals import Marks, Residuals

LOG = logging.getLogger("understudy")
STEP, NAME = "understudy_step", "understudy_name"  # as in `scene/camera.py`, which needs numpy
_MARGIN, _LINE, _FONT = 12.0, 18.0, 12.0  # of the legend, before Blender's own scale
_REDO = 36.0  # what Blender's redo panel takes below it


class Overlay:
    """Whether it is drawn, and the captures it has read; nothing of it is saved."""

    def __init__(self) -> None:
        self.message = ""  # why it went away, where nobody asked for it
        self._handle: Any = None
        self._captures: dict[str, Residuals | None] = {}

    def open(self) -> None:
        """Begin with the registration."""
        bpy.app.handlers.load_pre.append(_before_load)

    def close(self) -> None:
        """End with the registration."""
        self.hide()
        if _before_load in bpy.app.handlers.load_pre:
            bpy.app.handlers.load_pre.remove(_before_load)

    @property
    def is_shown(self) -> bool:
        """Whether views through capture cameras show it."""
        return self._handle is not None

    def show(self) -> None:
        """Draw from the next redraw on."""
        self.message = ""
        if self._handle is None and not bpy.app.background:
            self._handle = bpy.types.SpaceView3D.draw_handler_add(self._draw, (), "WINDOW", "POST_PIXEL")

    def hide(self) -> None:
        """Draw no more, and forget what was read."""
        if self._handle is not None:
            bpy.types.SpaceView3D.draw_handler_remove(self._handle, "WINDOW")
            self._handle = None
        self._captures.clear()

    def capture_of(self, camera: bpy.types.Object | None) -> Residuals | None:
        """Give the capture that a camera belongs to; read once.

        Raises:
            UnderstudyError: its files are damaged or gone.
        """
        path = capture_path(camera)
        if path and path not in self._captures:
            self._captures[path] = None  # should reading fail, it is not tried again with every redraw
            from .scene.residuals import Residuals

            self._captures[path] = Residuals.load(Path(path).parent)
        return self._captures.get(path)

    def means_px(self, camera: bpy.types.Object | None) -> list[tuple[str, float]]:
        """Name and mean error of every camera of a capture that has been read; no work."""
        found = self._captures.get(capture_path(camera))
        return [] if found is None else list(found.mean_by_name.items())

    def _draw(self) -> None:
        try:
            _draw_view(self, bpy.context)
        except UnderstudyError as error:
            self._fail(sentence(error))
        except Exception as error:
            LOG.exception("bug in the reprojection overlay")
            self._fail(f"Unexpected {type(error).__name__}: {error}. The console holds the details.")

    def _fail(self, why: str) -> None:
        self.hide()
        self.message = why
        bpy.app.timers.register(redraw, first_interval=0.0)  # the panel, from outside of drawing


def capture_path(camera: bpy.types.Object | None) -> str:
    """Where the capture of a camera lies; nothing where it belongs to none."""
    if camera is None or camera.type != "CAMERA" or STEP not in camera.data:
        return ""
    return str(camera.data.get(SOURCE, ""))


def marks_of(overlay: Overlay, camera: bpy.types.Object, frame: float) -> Marks | None:
    """Compare, in the camera's pixels as its footage is shown; None where it belongs to no capture.

    Raises:
        UnderstudyError: its files are damaged or gone.
    """
    capture = overlay.capture_of(camera)
    if capture is None:
        return None
    _, first, pace = camera.data[STEP]
    return capture.at(view_of(capture, camera), (frame - first) * pace, straight=is_straight(camera.data))


def view_of(capture: Residuals, camera: bpy.types.Object) -> int:
    """Find which view of a capture a camera is: by the name that its calibration gave it, else by number.

    Raises:
        InputError: it is none of them.
    """
    names = [known.name for known in capture.cameras]
    name, number = camera.data.get(NAME, ""), int(camera.data[STEP][0])
    if names.count(name) == 1:
        return names.index(name)
    if not 0 <= number < len(names):
        raise InputError(f"{camera.name} is view {number + 1} of {len(names)}.", "Apply the capture again.")
    return number


def is_straight(data: bpy.types.Camera) -> bool:
    """Whether the footage behind a camera is shown without the distortion of its lens."""
    return any(
        shown.source == "MOVIE_CLIP" and shown.clip and shown.clip_user.use_render_undistorted
        for shown in data.background_images
    )


def _draw_view(overlay: Overlay, context: bpy.types.Context) -> None:
    space, view = context.space_data, context.region_data
    if view is None or view.view_perspective != "CAMERA" or not space.overlay.show_overlays:
        return
    camera = space.camera if space.use_local_camera else context.scene.camera
    scene = context.scene
    marks = marks_of(overlay, camera, scene.frame_current_final) if camera else None
    if marks is None:
        return
    import numpy as np

    from .scene.cameras import lens_of
    from .scene.residuals import Marks, draw_marks, to_region

    size = (context.region.width, context.region.height)
    looks = np.array(view.perspective_matrix) @ np.array(camera.matrix_world.normalized())
    lens = lens_of(camera.data, scene)
    settings, unit = scene.understudy.reprojection, context.preferences.system.ui_scale
    shown = Marks(
        to_region(marks.seen, lens, looks, size), to_region(marks.expected, lens, looks, size), marks.error_px
    )  # fmt: skip
    _draw_triangles(*draw_marks(shown if settings.hands else shown.of_body, settings.limit_px, unit))
    capture = overlay.capture_of(camera)
    if capture is not None:
        _draw_legend(context, camera, marks, float(capture.mean_px[view_of(capture, camera)]))


def _draw_triangles(corners: Any, colours: Any) -> None:
    import gpu
    from gpu_extras.batch import batch_for_shader

    if not len(corners):
        return
    shader = gpu.shader.from_builtin("FLAT_COLOR")
    batch = batch_for_shader(shader, "TRIS", {"pos": corners, "color": colours})
    gpu.state.blend_set("ALPHA")
    batch.draw(shader)
    gpu.state.blend_set("NONE")


def _draw_legend(context: bpy.types.Context, camera: bpy.types.Object, marks: Marks, clip_px: float) -> None:
    """Say what the marks mean and what the errors are, in the lower left corner."""
    import blf

    from .scene.residuals import draw_bar, draw_box

    scale, limit = context.preferences.system.ui_scale, context.scene.understudy.reprojection.limit_px
    rows = legend(camera.data.get(NAME) or camera.name, marks.mean_px, marks.count, clip_px)
    rows.append("+ seen   \u2022 from space, " + ("undistorted" if is_straight(camera.data) else "with distortion"))
    left, low, line = _MARGIN * scale, (_MARGIN + _REDO) * scale, _LINE * scale
    blf.size(0, _FONT * scale)
    width = max(blf.dimensions(0, row)[0] for row in rows)
    _draw_triangles(*draw_box((left, low), (width + line, line * (len(rows) + 1.9))))
    _draw_triangles(*draw_bar((left + line / 2, low + line * 0.95), (width, line * 0.4)))
    blf.color(0, 1.0, 1.0, 1.0, 1.0)
    for number, row in enumerate(reversed(rows)):
        _write(row, left + line / 2, low + line * (number + 1.85))
    end = f"{limit:g} px"
    _write("0", left + line / 2, low + line * 0.25)
    _write(end, left + line / 2 + width - blf.dimensions(0, end)[0], low + line * 0.25)


def legend(name: str, now_px: float, count: int, clip_px: float) -> list[str]:
    """What the legend says about a camera in words."""
    here = f"{now_px:.1f} px over {count} joints" if count else "nobody seen"
    return [name, f"This frame: {here}", f"All frames: {clip_px:.1f} px"]


def _write(text: str, x: float, y: float) -> None:
    import blf

    blf.position(0, x, y, 0)
    blf.draw(0, text)


@persistent
def _before_load(*_: Any) -> None:
    OVERLAY.hide()


OVERLAY = Overlay()


class UNDERSTUDY_OT_show_reprojection(Guarded):
    """Draw over the footage of capture cameras what was seen and what was made of it, with the error as color"""

    bl_idname = "understudy.show_reprojection"
    bl_label = "Show Reprojection"

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        if bpy.app.background:
            return "There is no window to draw in"
        return "" if OVERLAY.is_shown or capture_cameras(context.scene) else "Apply a capture with its cameras first"

    def work(self, context: bpy.types.Context) -> set[str]:
        """Switch it on or off."""
        if OVERLAY.is_shown:
            OVERLAY.hide()
        else:
            OVERLAY.capture_of(context.scene.camera or capture_cameras(context.scene)[0])
            OVERLAY.show()
        redraw()
        return {"FINISHED"}


def capture_cameras(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Cameras of the scene that belong to a capture."""
    return [item for item in scene.objects if item.type == "CAMERA" and capture_path(item)]


CLASSES = (UNDERSTUDY_OT_show_reprojection,)
