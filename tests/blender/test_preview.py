"""The preview shows the bones where they are, without OpenGL, and leaves nothing in the file."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest
from understudy.inference.core.cameras import pinhole
from understudy.inference.protocol.errors import InputError
from understudy.operators.scene.preview import render_preview
from understudy.tests.blender import motions


def pixels(path: Path):
    image = bpy.data.images.load(str(path))
    width, height = image.size
    found = np.array(image.pixels[:]).reshape(height, width, -1)[::-1, :, :3]
    bpy.data.images.remove(image)
    return found


def test_the_bones_show_where_the_camera_sees_them_and_nothing_stays(apply, tmp_path, users_scene):
    camera = pinhole("c", (160, 120), 120.0)
    take, rig = apply(motions.body_motion(3, cameras=(camera,)))
    kinds = ("objects", "meshes", "materials", "images", "scenes", "worlds", "lights", "actions")
    before = {kind: getattr(bpy.data, kind).keys() for kind in kinds}
    path = render_preview(rig, tmp_path / "it's 絵.png", take.cameras, longest=160)
    picture = pixels(path)
    assert picture.shape == (120, 160, 3)
    drawn = np.abs(picture - picture[0, 0]).max(-1) > 0.05
    rows, columns = np.nonzero(drawn)
    # the hips stand at x = 0, 3.5 m away: in the middle
    assert drawn[45:75, 60:100].any() and 0.002 < drawn.mean() < 0.5, (rows.mean(), columns.mean())
    assert {kind: getattr(bpy.data, kind).keys() for kind in kinds} == before
    assert users_scene.state() == users_scene.before


def test_the_picture_is_of_the_middle_of_the_action_wherever_the_user_is(apply, tmp_path):
    take, rig = apply(motions.body_motion(24, cameras=(pinhole("c", (64, 48), 48.0),)))
    pictures = []
    for frame in (1, 15):
        bpy.context.scene.frame_set(frame)
        pictures.append(pixels(render_preview(rig, tmp_path / "p.png", take.cameras, longest=64)))
    assert np.abs(pictures[0] - pictures[1]).max() == 0


def test_a_preview_without_camera_is_refused(apply, motion, tmp_path):
    _, rig = apply(motion, cameras=False)
    with pytest.raises(InputError, match="camera"):
        render_preview(rig, tmp_path / "p.png")


def test_a_preview_is_png_or_mp4(apply, motion, tmp_path):
    take, rig = apply(motion)
    with pytest.raises(InputError, match=r"p\.gif"):
        render_preview(rig, tmp_path / "p.gif", take.cameras)
