"""What is registered, in order; a failure stops and takes back what was done."""

from __future__ import annotations

import bpy

from ..operators import jobs, motion, pick, settings
from ..operators.session import SESSION
from . import commands, menus, preferences
from .ui import jobs as jobs_panels
from .ui import motion as motion_panels

CLASSES = (
    preferences.UNDERSTUDY_AP_preferences,
    *settings.CLASSES,
    *motion.CLASSES,
    *pick.CLASSES,
    *jobs.CLASSES,
    *motion_panels.CLASSES,
    *jobs_panels.CLASSES,
)


def register() -> None:
    """Register everything, or nothing and raise."""
    done = []
    try:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            done.append(cls)
    except Exception:
        _unregister_classes(done)
        raise
    bpy.types.Scene.understudy = bpy.props.PointerProperty(type=settings.UNDERSTUDY_PG_scene)
    preferences.begin()
    menus.add()
    commands.add()
    SESSION.open()


def unregister() -> None:
    """Undo `register`, last things first; the worker ends here."""
    SESSION.close()
    commands.remove()
    menus.remove()
    preferences.end()
    del bpy.types.Scene.understudy
    _unregister_classes(CLASSES)


def _unregister_classes(classes: list[type] | tuple[type, ...]) -> None:
    for cls in reversed(classes):
        bpy.utils.unregister_class(cls)
