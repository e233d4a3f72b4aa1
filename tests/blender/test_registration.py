"""Registering leaves nothing behind, costs little, and fails loudly."""

from __future__ import annotations

import json
import subprocess
import sys

import bpy
import pytest
from understudy.blender_addon import commands, preferences, register, registry, unregister
from understudy.operators.environment import PACKAGE

PROBE = f"""
import json, os, sys, types
root = types.ModuleType("understudy"); root.__path__ = [{str(PACKAGE)!r}]
sys.modules["understudy"] = root
import bpy
before = set(sys.modules)
from understudy.blender_addon import register
register()
sys.stdout.write("\\n" + json.dumps(sorted(set(sys.modules) - before)) + "\\n")
sys.stdout.flush()
os._exit(0)
"""


def traces():
    """Everything of ours that Blender knows."""
    return {
        "classes": [
            cls.__name__ for cls in _subclasses() if cls.__name__.startswith("UNDERSTUDY") and cls.is_registered
        ],
        "scene": hasattr(bpy.types.Scene, "understudy"),
        "object": hasattr(bpy.types.Object, "understudy"),
        "handlers": [
            f.__module__
            for handlers in (bpy.app.handlers.load_pre, bpy.app.handlers.undo_post, bpy.app.handlers.redo_post)
            for f in handlers
            if f.__module__.startswith("understudy")
        ],
        "operators": [name for name in dir(bpy.ops.understudy) if not name.startswith("_")],
        "load_post": [f.__module__ for f in bpy.app.handlers.load_post if f.__module__.startswith("understudy")],
        "import": _entries(bpy.types.TOPBAR_MT_file_import),
        "export": _entries(bpy.types.TOPBAR_MT_file_export),
        "commands": len(commands._HANDLES),
    }


def _entries(menu):
    return [f.__module__ for f in menu._dyn_ui_initialize() if f.__module__.startswith("understudy")]


def _subclasses():
    bases = (bpy.types.Operator, bpy.types.Panel, bpy.types.PropertyGroup, bpy.types.UIList, bpy.types.FileHandler,
             bpy.types.AddonPreferences, bpy.types.Menu)  # fmt: skip
    return [cls for base in bases for cls in _below(base) if cls.__name__.startswith("UNDERSTUDY")]


def _below(base):
    return {cls for direct in base.__subclasses__() for cls in (direct, *_below(direct))}


def test_three_cycles_leave_nothing_behind():
    before = traces()
    assert not before["classes"] and not before["operators"] and not before["scene"]
    for _ in range(3):
        register()
        assert len(traces()["classes"]) == len(registry.CLASSES)
        assert traces()["commands"] == 1 and len(traces()["import"]) == 1
        unregister()
        assert traces() == before


def test_a_class_that_blender_refuses_stops_the_registration_and_takes_it_back(monkeypatch):
    broken = type("UNDERSTUDY_OT_broken", (bpy.types.Operator,), {"bl_idname": "not a name", "bl_label": "x"})
    monkeypatch.setattr(registry, "CLASSES", (*registry.CLASSES, broken))
    before = traces()
    with pytest.raises((ValueError, RuntimeError)):
        register()
    assert traces() == before


def test_a_part_that_does_not_begin_stops_the_registration_and_takes_it_back(monkeypatch):
    def refuse():
        raise RuntimeError("not today")

    monkeypatch.setattr(registry, "PARTS", (*registry.PARTS, (refuse, refuse)))
    before = traces()
    with pytest.raises(RuntimeError, match="not today"):
        register()
    assert traces() == before


def test_neither_numpy_nor_a_network_is_imported_by_registering():
    output = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    modules = json.loads(output.splitlines()[-1])
    heavy = {"torch", "mediapipe", "cv2", "av", "scipy", "matplotlib"}
    assert not {name.split(".")[0] for name in modules} & heavy
    ours = [name for name in modules if name.startswith("understudy.")]
    assert not [name for name in ours if ".core" in name or "numpy" in name], "numpy comes with the first use"
    late = (".batch.", ".setup.install", ".setup.recipe", "_command")
    assert not [name for name in ours if any(part in name for part in late)], "what only work needs comes with it"


def test_the_tab_can_be_renamed_and_panels_keep_their_order(addon, monkeypatch):
    monkeypatch.setattr(preferences, "preference", lambda name, default=None: "Mocap" if name == "tab" else default)
    preferences.rename_tab()
    panels = [bpy.types.UNDERSTUDY_PT_clips, bpy.types.UNDERSTUDY_PT_capture, bpy.types.UNDERSTUDY_PT_apply,
              bpy.types.UNDERSTUDY_PT_retarget]  # fmt: skip
    assert {panel.bl_category for panel in panels} == {"Mocap"}
    assert [panel.bl_order for panel in panels] == sorted(panel.bl_order for panel in panels)
    monkeypatch.undo()
    preferences.rename_tab()
    assert bpy.types.UNDERSTUDY_PT_clips.bl_category == "Understudy"


def test_tooltips_are_sentences_without_a_full_stop(addon):
    for name in dir(bpy.ops.understudy):
        rna = getattr(bpy.ops.understudy, name).get_rna_type()
        assert rna.description and not rna.description.endswith("."), name
        for item in rna.properties:
            assert not item.description.endswith("."), (name, item.identifier)
    settings = bpy.context.scene.understudy
    for group in (settings.motion, settings.apply, settings.live, settings.retarget):
        assert [p.identifier for p in group.bl_rna.properties if p.description.endswith(".")] == []


def test_every_setting_of_the_request_has_its_property(addon):
    from understudy.inference.protocol import schema
    from understudy.inference.protocol.requests import MotionRequest

    motion = bpy.context.scene.understudy.motion
    for item in schema.read(MotionRequest):
        assert None in item.shape or hasattr(motion, item.name), item.name
    assert motion.smoothing == 0.5 and motion.hands and not motion.use_height_m


def test_every_setting_of_retargeting_is_a_slider_of_each_character(addon):
    from understudy.inference.protocol.retarget import RetargetSettings
    from understudy.operators.settings import retarget_settings

    rig = bpy.data.objects.new("Hero", bpy.data.armatures.new("Hero"))
    assert retarget_settings(rig.understudy.tuning) == RetargetSettings()
    assert [p.identifier for p in rig.understudy.tuning.bl_rna.properties if p.description.endswith(".")] == []


def test_settings_survive_saving(addon, tmp_path):
    motion = bpy.context.scene.understudy.motion
    motion.views.add().video = "//clip.mp4"
    motion.smoothing = 0.25
    path = str(tmp_path / "a b.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=path)
    motion = bpy.context.scene.understudy.motion
    assert motion.smoothing == 0.25 and motion.views[0].video == "//clip.mp4"
