"""The scene's settings: property groups made from the request's schema, and requests made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    IntProperty,
    IntVectorProperty,
    PointerProperty,
    StringProperty,
)

from ..inference.protocol import schema
from ..inference.protocol.errors import RequestError
from ..inference.protocol.requests import MotionRequest
from .scene.compat import PATH_OPTIONS

RATES = (
    ("SCENE", "Match Scene", "Resample onto whole frames at the scene's rate; the speed is kept"),
    (
        "CLIP",
        "Keep Clip's Times",
        "Keep every sample, on subframes where the rates differ; the speed is kept",
    ),
    (
        "FRAMES",
        "Frame by Frame",
        "One frame of the clip on each frame of the scene, at the scene's speed",
    ),
)

# The options of applying a capture, for the panel and the redo panel alike.
APPLY: dict[str, Any] = {
    "take": StringProperty(name="Name", description="Name of collection, armature and action; empty for the clip's"),
    "frame_start": IntProperty(name="Start Frame", description="Frame of the clip's first sample", default=1),
    "rate": EnumProperty(name="Frame Rate", description="How the clip's times become frames", items=RATES),
    "raw": BoolProperty(name="Unsmoothed", description="Take the motion as it was before smoothing"),
    "cameras": BoolProperty(name="Cameras", description="Create the calibrated cameras", default=True),
    "footage": BoolProperty(name="Footage", description="Show the footage behind the cameras", default=True),
    "colours": BoolProperty(
        name="Confidence Colors",
        description="Color bones by confidence: red low, blue high, gray unseen",
        default=True,
    ),
}


class UNDERSTUDY_PG_view(bpy.types.PropertyGroup):
    """One view of the capture: a clip, its keypoints, and who is followed in it."""

    video: StringProperty(name="Clip", description="The film of this view", subtype="FILE_PATH", options=PATH_OPTIONS)
    keypoints: StringProperty(
        name="Keypoints",
        description="File or folder of 2D keypoints in place of detection",
        subtype="FILE_PATH",
        options=PATH_OPTIONS,
    )
    follow: EnumProperty(
        name="Follow",
        description="Who is followed where several people are in view",
        items=(
            ("ANYONE", "Anyone", "The clearest person"),
            ("POINT", "Point", "The person at a point of the first frame"),
            ("BOX", "Box", "The person in a box of the first frame"),
        ),
    )
    point: IntVectorProperty(name="Point", description="X and Y in pixels from the top left", size=2, min=0)
    box: IntVectorProperty(
        name="Box", description="Left, top, right, bottom in pixels from the top left", size=4, min=0
    )


# What a number that may be absent shows when it is switched on.
_SUGGESTED = {"height_m": 1.75, "focal_px": 1500.0, "fps": 30.0, "image_size": (1920, 1080), "stop": 250}


def _property(item: schema.Property) -> Any:
    keywords = dict(item.keywords, description=item.keywords["description"].removesuffix("."))
    if item.name in _SUGGESTED:
        keywords["default"] = _SUGGESTED[item.name]
    if keywords.get("subtype") == "FILE_PATH":
        keywords["options"] = PATH_OPTIONS
    return getattr(bpy.props, item.kind)(**keywords)


UNDERSTUDY_PG_motion = type(
    "UNDERSTUDY_PG_motion",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "What a capture of motion is asked for.",
        "__annotations__": {
            "views": CollectionProperty(type=UNDERSTUDY_PG_view),
            "active_view": IntProperty(name="View", description="The view whose settings are shown"),
            **{item.name: _property(item) for item in schema.properties(MotionRequest)},
        },
    },
)

ApplyOptions = type("ApplyOptions", (), {"__doc__": "Mixin of everything that holds them.", "__annotations__": APPLY})


class UNDERSTUDY_PG_apply(ApplyOptions, bpy.types.PropertyGroup):
    """How a finished capture is applied."""


class UNDERSTUDY_PG_scene(bpy.types.PropertyGroup):
    """Everything Understudy keeps with a scene."""

    motion: PointerProperty(type=UNDERSTUDY_PG_motion)
    apply: PointerProperty(type=UNDERSTUDY_PG_apply)


CLASSES = (UNDERSTUDY_PG_view, UNDERSTUDY_PG_motion, UNDERSTUDY_PG_apply, UNDERSTUDY_PG_scene)


def motion_request(settings: Any) -> MotionRequest:
    """Make the request of a scene's settings.

    Raises:
        RequestError: a setting is missing or does not fit the others.
    """
    views = list(settings.views)
    return schema.from_properties(
        MotionRequest,
        lambda name: _value(settings, name),
        video=_paths(view.video for view in views),
        keypoints=_paths(view.keypoints for view in views),
        person=_people(views),
    )


def _value(settings: Any, name: str) -> Any:
    value = getattr(settings, name)
    return bpy.path.abspath(value) if isinstance(value, str) and value.startswith("//") else value


def _paths(texts: Any) -> tuple[Path, ...]:
    return tuple(Path(bpy.path.abspath(text)) for text in texts if text)


def _people(views: list[Any]) -> tuple[tuple[float, ...], ...]:
    where = [tuple(map(float, {"POINT": v.point, "BOX": v.box}.get(v.follow, ()))) for v in views]
    chosen = [place for place in where if place]
    if chosen and len(chosen) != len(views):
        raise RequestError(
            f"chosen in {len(chosen)} of {len(views)} views",
            "Choose one in every view or in none.",
            field="person",
        )
    return tuple(chosen)
