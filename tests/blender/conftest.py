"""What the add-on's tests share."""

from __future__ import annotations

import sys

import bpy
import pytest
from understudy.operators.scene.take import TakeOptions, create_take
from understudy.tests.blender import motions


@pytest.fixture(autouse=True)
def empty_file():
    """A new, empty file for every test; it keeps what is registered."""
    bpy.ops.wm.read_homefile(use_empty=True)


@pytest.fixture
def addon(monkeypatch, worker_python, tmp_path):
    """The add-on, registered for one test, its jobs in the test's own folder."""
    from understudy.blender_addon import register, unregister
    from understudy.operators import environment, session

    monkeypatch.setenv(environment.VARIABLE, worker_python)
    monkeypatch.setattr(session, "output_folder", lambda: tmp_path / "jobs")
    register()
    yield session.SESSION
    unregister()


@pytest.fixture
def motion():
    """A second of every bone turning, seen by a camera."""
    return motions.body_motion(24)


@pytest.fixture
def apply():
    """Put a motion into the scene and give its take and rig."""

    def create(motion, **options):
        take = create_take(motion, TakeOptions(**{"name": "Take", **options}), bpy.context.scene)
        return take, bpy.data.objects[take.rig]

    return create


@pytest.fixture
def users_scene():
    """A scene with everything a user would mind losing, and a way to compare it."""
    return UsersScene()


class UsersScene:
    """A rig in pose mode with an action, in Euler angles, at a frame and a rate of its own."""

    def __init__(self) -> None:
        scene = bpy.context.scene
        data = bpy.data.armatures.new("Theirs")
        self.rig = bpy.data.objects.new("Theirs", data)
        scene.collection.objects.link(self.rig)
        bpy.context.view_layer.objects.active = self.rig
        self.rig.select_set(True)
        bpy.ops.object.mode_set(mode="EDIT")
        data.edit_bones.new("bone").tail = (0, 0, 1)
        bpy.ops.object.mode_set(mode="POSE")
        self.rig.pose.bones["bone"].rotation_mode = "XYZ"
        self.rig.pose.bones["bone"].keyframe_insert("rotation_euler", frame=3)
        scene.frame_set(17)
        scene.render.fps, scene.render.fps_base = 25, 1.0
        scene.render.resolution_x, scene.render.resolution_y = 1234, 567
        scene.frame_start, scene.frame_end = 5, 99
        self.before = self.state()

    def state(self) -> dict:
        """Everything that must stay."""
        scene, layer, context = bpy.context.scene, bpy.context.view_layer, bpy.context
        theirs = bpy.data.objects["Theirs"]
        animation = theirs.animation_data
        return {
            "mode": context.mode,
            "active": layer.objects.active.name,
            "selection": [item.name for item in layer.objects if item.select_get()],
            "scene": scene.name,
            "scenes": bpy.data.scenes.keys(),
            "frame": (scene.frame_current, scene.frame_subframe, scene.frame_start, scene.frame_end),
            "rate": (scene.render.fps, scene.render.fps_base),
            "resolution": (scene.render.resolution_x, scene.render.resolution_y),
            "camera": scene.camera,
            "rotation_mode": theirs.pose.bones["bone"].rotation_mode,
            "action": animation.action.name,
            "slot": getattr(animation, "action_slot_handle", 0),
            "keys": tuple(animation.action.frame_range),
        }


assert "torch" not in sys.modules, "nothing on Blender's side may import torch"
