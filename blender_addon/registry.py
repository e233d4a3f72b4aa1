"""What is registered, in order; a failure stops and takes back what was done."""

from __future__ import annotations

import contextlib

import bpy

from ..operators import (
    batch,
    body,
    calibration,
    coaching,
    control,
    face,
    head,
    jobs,
    live,
    mapping_tools,
    mesh_route,
    motion,
    pick,
    poses,
    reenact,
    reprojection,
    retarget,
    settings,
    setup,
)
from ..operators.landing import LANDINGS
from ..operators.live import LIVE
from ..operators.mapping import RECOGNISER
from ..operators.reprojection import OVERLAY
from ..operators.session import SESSION
from ..operators.thumbnails import THUMBNAILS
from . import commands, menus, preferences, ui

CLASSES = (
    preferences.UNDERSTUDY_AP_preferences,
    *settings.CLASSES,
    *motion.CLASSES,
    *pick.CLASSES,
    *calibration.CLASSES,
    *reprojection.CLASSES,
    *mapping_tools.CLASSES,
    *retarget.CLASSES,
    *live.CLASSES,
    *head.CLASSES,
    *face.CLASSES,
    *reenact.CLASSES,
    *mesh_route.CLASSES,
    *poses.CLASSES,
    *control.CLASSES,
    *body.CLASSES,
    *coaching.CLASSES,
    *jobs.CLASSES,
    *setup.CLASSES,
    *batch.CLASSES,
    *(cls for group in ui.GROUPS for cls in group.CLASSES),
)


# What else begins with the registration, and how it ends.
PARTS = (
    (preferences.begin, preferences.end),
    (menus.add, menus.remove),
    (commands.add, commands.remove),
    (SESSION.open, SESSION.close),
    (LIVE.open, LIVE.close),
    (THUMBNAILS.open, THUMBNAILS.close),
    (OVERLAY.open, OVERLAY.close),
    (LANDINGS.open, LANDINGS.close),
    (RECOGNISER.forget, RECOGNISER.forget),
)


def register() -> None:
    """Register everything, or nothing and raise."""
    with contextlib.ExitStack() as undo:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            undo.callback(bpy.utils.unregister_class, cls)
        bpy.types.Scene.understudy = bpy.props.PointerProperty(type=settings.UNDERSTUDY_PG_scene)
        undo.callback(delattr, bpy.types.Scene, "understudy")
        bpy.types.Object.understudy = bpy.props.PointerProperty(
            type=settings.UNDERSTUDY_PG_character, override={"LIBRARY_OVERRIDABLE"}
        )
        undo.callback(delattr, bpy.types.Object, "understudy")
        for begin, end in PARTS:
            begin()
            undo.callback(end)
        undo.pop_all()


def unregister() -> None:
    """Undo `register`, last things first; the worker ends here."""
    for _, end in reversed(PARTS):
        end()
    del bpy.types.Object.understudy
    del bpy.types.Scene.understudy
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
