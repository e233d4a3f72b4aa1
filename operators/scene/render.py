"""One frame of a file as a picture, the same whoever renders it."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import bpy

from ...inference.batch.tasks import RenderItem
from ...inference.protocol.errors import InputError, ResourceError
from .compat import eevee_name, set_movie_output

GL_ENGINES = ("BLENDER_EEVEE", "BLENDER_EEVEE_NEXT", "BLENDER_WORKBENCH")
PROBE_S = 180.0
# Without OpenGL Blender does not fail but ends: a process of its own finds out.
PROBE = """
import bpy, os
scene = bpy.context.scene
scene.render.engine = "BLENDER_WORKBENCH"
scene.render.resolution_x = scene.render.resolution_y = 16
scene.render.filepath = os.devnull
bpy.ops.render.render()
os._exit(0)
"""


def render_frame(wishes: RenderItem, path: Path) -> None:
    """Render one frame of the opened file into a PNG.

    Raises:
        InputError: there is no such camera.
        ResourceError: there is no OpenGL here and the engine needs it, or nothing was written.
    """
    scene = bpy.context.scene
    _choose_camera(scene, wishes.camera)
    _set_up(scene, wishes, path)
    if scene.render.engine in GL_ENGINES and not has_opengl():
        hint = "Install a driver (Debian: libegl1 libgl1-mesa-dri), or render with Cycles."
        raise ResourceError(f"{scene.render.engine} needs OpenGL, which does not work on this computer.", hint)
    scene.frame_set(wishes.frame)
    try:
        bpy.ops.render.render(write_still=True, scene=scene.name)
    except RuntimeError as error:
        raise ResourceError(f"Frame {wishes.frame} was not rendered: {str(error)[:400]}") from error
    if not path.is_file():
        raise ResourceError(f"Frame {wishes.frame} was not written to {path.parent}.")


def _choose_camera(scene: bpy.types.Scene, name: str) -> None:
    if name:
        camera = scene.objects.get(name)
        if camera is None or camera.type != "CAMERA":
            known = ", ".join(item.name for item in scene.objects if item.type == "CAMERA")
            raise InputError(f"There is no camera {name!r}.", f"Known are {known or 'none'}.")
        scene.camera = camera
    if scene.camera is None:
        raise InputError("The scene has no camera.", "Name one, or choose one in the file.")


def _set_up(scene: bpy.types.Scene, wishes: RenderItem, path: Path) -> None:
    render = scene.render
    engines = {"cycles": "CYCLES", "eevee": eevee_name(), "workbench": "BLENDER_WORKBENCH"}
    render.engine = engines.get(wishes.engine, render.engine)
    if wishes.size:
        render.resolution_x, render.resolution_y = wishes.size
        render.resolution_percentage = 100
    if wishes.threads:
        render.threads_mode, render.threads = "FIXED", wishes.threads
    set_movie_output(render.image_settings, movie=False)
    render.filepath, render.use_file_extension, render.use_overwrite = str(path), False, True
    render.use_persistent_data = True
    for name in dir(render):
        if name.startswith("use_stamp"):  # the hour and the host would be written into the picture's file
            setattr(render, name, False)
    if render.engine == "CYCLES":
        scene.cycles.seed, scene.cycles.use_animated_seed = wishes.seed + wishes.frame, False
        scene.cycles.samples = wishes.samples or scene.cycles.samples
    elif render.engine == eevee_name() and wishes.samples:
        scene.eevee.taa_render_samples = wishes.samples


@lru_cache(maxsize=1)
def has_opengl() -> bool:
    """Tell whether Workbench and EEVEE can render here."""
    binary = bpy.app.binary_path
    alone = [binary, "-b", "--factory-startup", "--python-expr", PROBE] if binary else [sys.executable, "-c", PROBE]
    try:
        return subprocess.run(alone, capture_output=True, timeout=PROBE_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
