"""The scene's settings: property groups made from the request's schema, and requests made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    IntVectorProperty,
    PointerProperty,
    StringProperty,
)

from ..inference.protocol import schema
from ..inference.protocol.errors import RequestError
from ..inference.protocol.requests import (
    BodyRequest,
    CalibrateRequest,
    CoachRequest,
    FaceRequest,
    HeadRequest,
    LiveRequest,
    MotionRequest,
    ReenactRequest,
)
from ..inference.protocol.retarget import RetargetSettings
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
    "everybody": BoolProperty(
        name="Everybody",
        description="Create an armature for each person of the capture, not for the first one alone",
        default=True,
    ),
    "cameras": BoolProperty(name="Cameras", description="Create the calibrated cameras", default=True),
    "footage": BoolProperty(name="Footage", description="Show the footage behind the cameras", default=True),
    "colours": BoolProperty(
        name="Confidence Colors",
        description="Color bones by confidence: red low, blue high, gray unseen",
        default=True,
    ),
}

# The options of retargeting, for the panel and the redo panel alike.
RETARGET: dict[str, Any] = {
    "take": StringProperty(name="Name", description="Name of the action; empty for the clip's"),
    "frame_start": APPLY["frame_start"],
    "rate": APPLY["rate"],
    "stash": BoolProperty(
        name="Stash Previous",
        description="Keep the action that the character had on a muted track of its NLA",
        default=True,
    ),
    "asset": BoolProperty(name="Mark as Asset", description="Show the new action in the Asset Browser"),
}


# The options of applying a head, for the panel and the redo panel alike.
HEAD: dict[str, Any] = {
    "take": StringProperty(name="Name", description="Name of collection, head and materials; empty for the photo's"),
    "body": BoolProperty(
        name="With Body", description="The body with this head, where the job made one", default=False
    ),
    "dense": BoolProperty(
        name="Dense Surface", description="Keep the neural surface, hair included, hidden beside the head", default=True
    ),
    "eyes": BoolProperty(name="Separate Eyes", description="Make each eye an object that turns about its middle"),
    "expression": BoolProperty(
        name="Expression of the Photo", description="Set the shape keys to what the face shows; else it is neutral"
    ),
    "pack": BoolProperty(name="Pack Textures", description="Keep the textures inside the .blend", default=True),
    "asset": BoolProperty(name="Mark as Asset", description="Show the head in the Asset Browser"),
}

# The options of applying a face, for the panel and the redo panel alike.
FACE: dict[str, Any] = {
    "take": StringProperty(name="Name", description="Name of the action; empty for the film's"),
    "frame_start": APPLY["frame_start"],
    "rate": APPLY["rate"],
    "raw": BoolProperty(name="Unsmoothed", description="Take each frame as it was fitted by itself"),
    "strength": FloatProperty(
        name="Strength", description="Of all weights: more exaggerates, as far as the keys' ranges go",
        default=1.0, min=0.0, max=4.0, soft_max=2.0,
    ),
    "head": EnumProperty(
        name="Head",
        description="How the head turns",
        items=(
            ("RELATIVE", "From the First Frame", "The head turns from how it is held where the face is first seen"),
            ("ABSOLUTE", "Against the Camera", "The head at rest looks into the camera"),
            ("NONE", "Not", "The head keeps what it does"),
        ),
    ),
    "eyes": EnumProperty(
        name="Eyes",
        description="What turns the eyes",
        items=(
            ("AUTO", "Shapes or Bones", "Shape keys where there are some for it, bones where there are none"),
            ("SHAPES", "Shapes", "Shape keys alone"),
            ("BONES", "Bones", "Bones alone"),
            ("BOTH", "Both", "Shape keys move the lids, bones the eyes"),
            ("NONE", "Nothing", "The eyes stay as they are"),
        ),
    ),
    "join": BoolProperty(
        name="With the Body",
        description="The new action holds the keys of the armature's action, too; that action itself stays as it is",
        default=True,
    ),
    "head_bone": StringProperty(name="Head Bone", description="Empty to find it by its name"),
    "eye_left": StringProperty(name="Left Eye Bone", description="Empty to find it by its name"),
    "eye_right": StringProperty(name="Right Eye Bone", description="Empty to find it by its name"),
}  # fmt: skip

SKELETONS = (
    ("anny", "Anny", "All 104 bones of the model"),
    ("rigify", "Rigify", "Rigify's own human, whose control rig is generated with one click"),
    ("game-engine", "Game Engine", "The names of Unreal's mannequin"),
    ("mixamo", "Mixamo", "The names of Mixamo's characters"),
)

# The options of applying a body, for the panel and the redo panel alike.
BODY: dict[str, Any] = {
    "take": StringProperty(name="Name", description="Name of collection, armature and body; empty for the clip's"),
    "skeleton": EnumProperty(
        name="Skeleton",
        description="Which bones the body hangs on",
        items=SKELETONS,
    ),
    "frame_start": APPLY["frame_start"],
    "rate": APPLY["rate"],
    "action": BoolProperty(name="Motion", description="Give the armature the captured motion", default=True),
    "expressions": BoolProperty(name="Expressions", description="52 shape keys of the face", default=True),
    "parameters": BoolProperty(
        name="Shape Parameters", description="A shape key for each parameter of the shape; measures need them",
        default=True,
    ),
    "cameras": APPLY["cameras"],
    "footage": APPLY["footage"],
}  # fmt: skip

# The options of putting frames to use, for the panel and the redo panel alike.
FRAMES: dict[str, Any] = {
    "take": StringProperty(name="Name", description="Name of what is made; empty for the source's"),
    "frame_start": IntProperty(
        name="Start Frame", description="Frame of the scene that shows the first one", default=1
    ),
    "match_rate": BoolProperty(
        name="Match Scene's Rate", description="Keep the driver's speed where the scene has another rate", default=True
    ),
    "plane": BoolProperty(name="Plane", description="Frames on a plane, cut out by their alpha", default=True),
    "strip": BoolProperty(name="Sequencer Strip", description="A strip in the video sequencer"),
    "sound": BoolProperty(name="Sound", description="The driver's sound beside the strip", default=True),
    "background": BoolProperty(name="Camera Background", description="A movie clip behind the scene's camera"),
    "compositor": BoolProperty(name="Compositor", description="Frames over what is rendered, as nodes"),
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
_SUGGESTED = {
    "height_m": 1.75, "focal_px": 1500.0, "fps": 30.0, "image_size": (1920, 1080), "camera_size": (1280, 720),
    "stop": 250, "scale": 1.0, "pupil_distance_mm": 63.0, "head_height_m": 0.23, "size": 256, "iterations": 125,
    "reference": 1,
}  # fmt: skip


def _property(item: schema.Property, **others: Any) -> Any:
    keywords = dict(item.keywords, description=item.keywords["description"].removesuffix("."), **others)
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


class UNDERSTUDY_PG_photo(bpy.types.PropertyGroup):
    """One photo of somebody: a file, or a picture of the .blend."""

    path: StringProperty(name="Photo", description="The photo's file", subtype="FILE_PATH", options=PATH_OPTIONS)
    image: PointerProperty(name="Image", description="A picture of the .blend", type=bpy.types.Image)
    face: IntProperty(
        name="Face", description="Which face, counted from the left; 0 for the only or largest one", min=0, max=64
    )


HeadOptions = type("HeadOptions", (), {"__doc__": "Mixin of everything that holds them.", "__annotations__": HEAD})


class UNDERSTUDY_PG_apply_head(HeadOptions, bpy.types.PropertyGroup):
    """How a finished head is applied."""


UNDERSTUDY_PG_head = type(
    "UNDERSTUDY_PG_head",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "What a head is asked for.",
        "__annotations__": {
            "photos": CollectionProperty(type=UNDERSTUDY_PG_photo),
            "active_photo": IntProperty(name="Photo", description="The photo whose settings are shown"),
            "apply": PointerProperty(type=UNDERSTUDY_PG_apply_head),
            **{item.name: _property(item) for item in schema.properties(HeadRequest)},
        },
    },
)

BodyOptions = type("BodyOptions", (), {"__doc__": "Mixin of everything that holds them.", "__annotations__": BODY})


FaceOptions = type("FaceOptions", (), {"__doc__": "Mixin of everything that holds them.", "__annotations__": FACE})


class UNDERSTUDY_PG_apply_face(FaceOptions, bpy.types.PropertyGroup):
    """How a captured face is applied."""


UNDERSTUDY_PG_face = type(
    "UNDERSTUDY_PG_face",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "What a face is asked for, and what it moves.",
        "__annotations__": {
            "rig": PointerProperty(
                name="Armature", description="Whose head and eyes turn; empty for that of the active mesh",
                type=bpy.types.Object, poll=lambda _, item: item.type == "ARMATURE",
            ),
            "apply": PointerProperty(type=UNDERSTUDY_PG_apply_face),
            **{item.name: _property(item) for item in schema.properties(FaceRequest)},
        },
    },
)  # fmt: skip


class UNDERSTUDY_PG_apply_body(BodyOptions, bpy.types.PropertyGroup):
    """How a finished body is applied."""


UNDERSTUDY_PG_body = type(
    "UNDERSTUDY_PG_body",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "What a body is asked for.",
        "__annotations__": {
            "from_capture": BoolProperty(
                name="From Last Capture",
                description="Take clip, keypoints and cameras of the capture that was finished last",
            ),
            "apply": PointerProperty(type=UNDERSTUDY_PG_apply_body),
            **{item.name: _property(item) for item in schema.properties(BodyRequest)},
        },
    },
)

UNDERSTUDY_PG_coach = type(
    "UNDERSTUDY_PG_coach",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "Whose motion is held against whose.",
        "__annotations__": {item.name: _property(item) for item in schema.properties(CoachRequest)},
    },
)

FramesOptions = type(
    "FramesOptions", (), {"__doc__": "Mixin of everything that holds them.", "__annotations__": FRAMES}
)


class UNDERSTUDY_PG_apply_frames(FramesOptions, bpy.types.PropertyGroup):
    """How finished frames are put to use."""


def _is_head(self: Any, item: bpy.types.Object) -> bool:  # noqa: ARG001
    return item.type == "MESH" and item.data.shape_keys is not None


def _keeps_poses(self: Any, item: bpy.types.Object) -> bool:  # noqa: ARG001
    return "understudy_poses" in item


UNDERSTUDY_PG_reenact = type(
    "UNDERSTUDY_PG_reenact",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "What frames are asked for.",
        "__annotations__": {
            "sources": CollectionProperty(type=UNDERSTUDY_PG_photo),
            "active_source": IntProperty(name="Source", description="The source whose settings are shown"),
            "by": EnumProperty(
                name="Driver",
                description="Who is followed",
                items=(
                    ("FILM", "Film", "A film, or a folder of numbered pictures"),
                    ("CAMERA", "Camera", "A camera, live, until it is stopped"),
                    ("HEAD", "Head", "A head of the scene: its shape keys and whatever moves it, rendered as pictures"),
                    ("POSES", "Kept Poses", "Poses kept from earlier drivers, as they are keyed"),
                ),
            ),
            "head": PointerProperty(
                name="Head", description="The head that drives; empty for the active or newest one",
                type=bpy.types.Object, poll=_is_head,
            ),
            "poses": PointerProperty(
                name="Poses", description="The object that keeps poses; empty for the active one",
                type=bpy.types.Object, poll=_keeps_poses,
            ),
            "apply": PointerProperty(type=UNDERSTUDY_PG_apply_frames),
            **{item.name: _property(item) for item in schema.properties(ReenactRequest)},
        },
    },
)  # fmt: skip

UNDERSTUDY_PG_live = type(
    "UNDERSTUDY_PG_live",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "What a live capture is asked for, and what it drives.",
        "__annotations__": {
            "rig": PointerProperty(
                name="Character",
                description="The armature that is driven; empty for a new one",
                type=bpy.types.Object,
                poll=lambda _, item: item.type == "ARMATURE",
            ),
            "keep_pose": BoolProperty(
                name="Keep Pose", description="Leave the character in its last pose when the capture is stopped"
            ),
            **{item.name: _property(item) for item in schema.properties(LiveRequest)},
        },
    },
)

_OVERRIDABLE = {"LIBRARY_OVERRIDABLE"}


def _tuned(self: Any, context: bpy.types.Context) -> None:  # noqa: ARG001
    """Let the character's last retargeting follow a slider at once."""
    from .landing import LANDINGS

    LANDINGS.follow(self.id_data)


def _mapped(self: Any, context: bpy.types.Context) -> None:  # noqa: ARG001
    """Give the other side its bone, too."""
    from .mapping import bone_changed

    bone_changed(self)


UNDERSTUDY_PG_tuning = type(
    "UNDERSTUDY_PG_tuning",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "How performances land on a character.",
        "__annotations__": {
            item.name: _property(item, update=_tuned, override=_OVERRIDABLE)
            for item in schema.properties(RetargetSettings)
        },
    },
)


class UNDERSTUDY_PG_bone(bpy.types.PropertyGroup):
    """One bone of one role; a role with a chain of bones has several, from the root outwards."""

    role: StringProperty(name="Role", description="What the bone does", override=_OVERRIDABLE)
    bone: StringProperty(
        name="Bone", description="The bone that does it; empty where the character has none",
        update=_mapped, override=_OVERRIDABLE,
    )  # fmt: skip


class UNDERSTUDY_PG_character(bpy.types.PropertyGroup):
    """What Understudy keeps with an armature: which bones do what, and its sliders."""

    bones: CollectionProperty(type=UNDERSTUDY_PG_bone, override={"LIBRARY_OVERRIDABLE", "USE_INSERTION"})
    active_bone: IntProperty(name="Bone", description="The bone of the mapping that buttons act on")
    mapping: StringProperty(name="Mapping", description="What the mapping is called", override=_OVERRIDABLE)
    controls: StringProperty(
        description="Inverse kinematics and switches, as in a mapping's file", override=_OVERRIDABLE
    )
    tuning: PointerProperty(type=UNDERSTUDY_PG_tuning, override=_OVERRIDABLE)


class UNDERSTUDY_PG_source(bpy.types.PropertyGroup):
    """A file or folder of clips."""

    path: StringProperty(
        name="Clip", description="A clip, or a folder of clips", subtype="FILE_PATH", options=PATH_OPTIONS
    )


def _is_armature(self: Any, item: bpy.types.Object) -> bool:  # noqa: ARG001
    return item.type == "ARMATURE"


RetargetOptions = type(
    "RetargetOptions", (), {"__doc__": "Mixin of everything that holds them.", "__annotations__": RETARGET}
)


class UNDERSTUDY_PG_retarget(RetargetOptions, bpy.types.PropertyGroup):
    """What is to land on which character."""

    rig: PointerProperty(
        name="Character", description="The armature that is to move; empty for the active one",
        type=bpy.types.Object, poll=_is_armature,
    )  # fmt: skip
    source: EnumProperty(
        name="Source",
        description="What it is to do",
        items=(
            ("CAPTURE", "Last Capture", "The capture that was finished last"),
            ("ARMATURE", "Armature", "Another armature of the scene, as it moves"),
            ("FILES", "Files", "Captures, BVH, FBX, glTF and SMPL files, and folders of them; an action for each clip"),
        ),
    )
    armature: PointerProperty(
        name="Armature", description="The armature whose motion is taken", type=bpy.types.Object, poll=_is_armature
    )
    files: CollectionProperty(type=UNDERSTUDY_PG_source)
    active_file: IntProperty(name="Clip", description="The clip or folder that buttons act on")
    mirror: BoolProperty(name="Mirror", description="Map the other side of the body at once", default=True)


ApplyOptions = type("ApplyOptions", (), {"__doc__": "Mixin of everything that holds them.", "__annotations__": APPLY})


class UNDERSTUDY_PG_apply(ApplyOptions, bpy.types.PropertyGroup):
    """How a finished capture is applied."""


class UNDERSTUDY_PG_camera(bpy.types.PropertyGroup):
    """One camera of a calibration, whole, and what a list shows of it."""

    name: StringProperty(name="Name", description="Clips with this name belong to this camera")
    header: StringProperty(description="The camera's numbers as JSON")
    size: IntVectorProperty(size=2)
    lens_mm: FloatProperty(description="Focal length on a sensor 36 mm wide")
    error_px: FloatProperty(description="Mean reprojection error; below zero where it is not known", default=-1.0)


class UNDERSTUDY_PG_finding(bpy.types.PropertyGroup):
    """Something that is wrong with a calibration."""

    camera: StringProperty(description="Which camera; empty for all of them")
    code: StringProperty(description="What kind of finding it is")
    severity: StringProperty(description="error, warning or note")
    text: StringProperty(description="What is wrong")
    change: StringProperty(description="What would put it right; empty where nothing can")


# What of the request a calibration's panel shows as it stands there; the rest is put together from the others.
CALIBRATE = ("height_m", "focal_px", "lenses", "start", "stop", "min_confidence")

UNDERSTUDY_PG_calibration = type(
    "UNDERSTUDY_PG_calibration",
    (bpy.types.PropertyGroup,),
    {
        "__doc__": "The scene's calibration, and how the next one is made.",
        "__annotations__": {
            "cameras": CollectionProperty(type=UNDERSTUDY_PG_camera),
            "active_camera": IntProperty(name="Camera", description="The camera that buttons act on"),
            "findings": CollectionProperty(type=UNDERSTUDY_PG_finding),
            "source": StringProperty(description="The file or job that the cameras come from"),
            "notes": StringProperty(description="What had to be assumed, a line each"),
            "is_checked": BoolProperty(description="Whether the findings are those of these cameras"),
            "method": EnumProperty(
                name="Calibrate From",
                description="What the clips show",
                items=(
                    ("PEOPLE", "People", "Somebody moves where all cameras see them; no board is needed"),
                    ("BOARD", "Board", "A printed board is shown to the cameras"),
                ),
            ),
            "scale": EnumProperty(
                name="Scale",
                description="What says how large everything is",
                items=(
                    ("HEIGHT", "Height", "The person's height"),
                    ("DISTANCE", "Distance", "A measured distance between two cameras"),
                ),
            ),
            "distance_from": StringProperty(name="From", description="Name of the first camera's clip"),
            "distance_to": StringProperty(name="To", description="Name of the second camera's clip"),
            "distance_m": FloatProperty(
                name="Distance (m)", description="Between their lenses", default=3.0, min=0.01, precision=3
            ),
            "board_kind": EnumProperty(
                name="Board",
                description="What is printed",
                items=(
                    ("charuco", "ChArUco", "A chessboard with markers in its white squares; may be partly hidden"),
                    ("chessboard", "Chessboard", "A plain chessboard; must be seen whole"),
                ),
            ),
            "board_columns": IntProperty(
                name="Columns", description="Squares of a ChArUco board, inner corners of a chessboard",
                default=5, min=2, max=100,
            ),
            "board_rows": IntProperty(
                name="Rows", description="Squares of a ChArUco board, inner corners of a chessboard",
                default=7, min=2, max=100,
            ),
            "board_square_m": FloatProperty(
                name="Square (m)", description="Measured side of a square", default=0.04, min=0.001, max=2.0,
                precision=4,
            ),
            "board_marker_m": FloatProperty(
                name="Marker (m)", description="Measured side of a marker", default=0.03, min=0.001, max=2.0,
                precision=4,
            ),
            "board_dictionary": EnumProperty(
                name="Dictionary",
                description="Which markers are printed",
                items=[
                    (f"DICT_{size}X{size}_{count}", f"{size}x{size}, {count}", f"{count} markers of {size} by {size}")
                    for size in (4, 5, 6, 7)
                    for count in (50, 100, 250, 1000)
                ],
            ),
            **{item.name: _property(item) for item in schema.properties(CalibrateRequest)
               if item.name.removeprefix("use_") in CALIBRATE},
        },
    },
)  # fmt: skip


class UNDERSTUDY_PG_reprojection(bpy.types.PropertyGroup):
    """How the reprojection overlay is drawn."""

    limit_px: FloatProperty(
        name="Red From", description="Errors of so many pixels and more are red", default=20.0, min=0.1, max=1000.0,
        subtype="PIXEL",
    )  # fmt: skip
    hands: BoolProperty(name="Hands and Face", description="Draw the keypoints of hands and face, too", default=True)


class UNDERSTUDY_PG_scene(bpy.types.PropertyGroup):
    """Everything Understudy keeps with a scene."""

    motion: PointerProperty(type=UNDERSTUDY_PG_motion)
    apply: PointerProperty(type=UNDERSTUDY_PG_apply)
    head: PointerProperty(type=UNDERSTUDY_PG_head)
    body: PointerProperty(type=UNDERSTUDY_PG_body)
    face: PointerProperty(type=UNDERSTUDY_PG_face)
    coach: PointerProperty(type=UNDERSTUDY_PG_coach)
    reenact: PointerProperty(type=UNDERSTUDY_PG_reenact)
    live: PointerProperty(type=UNDERSTUDY_PG_live)
    retarget: PointerProperty(type=UNDERSTUDY_PG_retarget)
    calibration: PointerProperty(type=UNDERSTUDY_PG_calibration)
    reprojection: PointerProperty(type=UNDERSTUDY_PG_reprojection)


CLASSES = (
    UNDERSTUDY_PG_view,
    UNDERSTUDY_PG_motion,
    UNDERSTUDY_PG_apply,
    UNDERSTUDY_PG_photo,
    UNDERSTUDY_PG_apply_head,
    UNDERSTUDY_PG_head,
    UNDERSTUDY_PG_apply_body,
    UNDERSTUDY_PG_body,
    UNDERSTUDY_PG_apply_face,
    UNDERSTUDY_PG_face,
    UNDERSTUDY_PG_coach,
    UNDERSTUDY_PG_apply_frames,
    UNDERSTUDY_PG_reenact,
    UNDERSTUDY_PG_live,
    UNDERSTUDY_PG_tuning,
    UNDERSTUDY_PG_bone,
    UNDERSTUDY_PG_character,
    UNDERSTUDY_PG_source,
    UNDERSTUDY_PG_retarget,
    UNDERSTUDY_PG_camera,
    UNDERSTUDY_PG_finding,
    UNDERSTUDY_PG_calibration,
    UNDERSTUDY_PG_reprojection,
    UNDERSTUDY_PG_scene,
)


def retarget_settings(tuning: Any) -> RetargetSettings:
    """Make the settings of a character's sliders."""
    return schema.from_properties(RetargetSettings, lambda name: getattr(tuning, name))


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


def calibrate_request(settings: Any, views: Any, **others: Any) -> CalibrateRequest:
    """Make the request of a scene's settings and of the capture's views.

    Raises:
        RequestError: a setting is missing or does not fit the others.
    """
    given: dict[str, Any] = {name: getattr(settings, name) for name in CALIBRATE}
    for name in ("height_m", "focal_px", "stop"):
        given[name] = schema.widen(given[name]) if getattr(settings, f"use_{name}") else None
    given["min_confidence"] = schema.widen(given["min_confidence"])
    if settings.method == "BOARD":
        given.update(board=board_text(settings), focal_px=None)
    if settings.method == "BOARD" or settings.scale != "HEIGHT":
        given["height_m"] = None
    if settings.method != "BOARD" and settings.scale == "DISTANCE":
        given["distance"] = (settings.distance_from, settings.distance_to, f"{settings.distance_m:.7g}")
    given.update(video=_paths(view.video for view in views), keypoints=_paths(view.keypoints for view in views))
    return schema.decode(CalibrateRequest, {**given, **others})


def head_request(settings: Any, photos: tuple[Path, ...]) -> HeadRequest:
    """Make the request of a scene's settings; `photos` are the files of the listed ones, in order.

    Raises:
        RequestError: a setting is missing or does not fit the others.
    """
    faces = tuple(photo.face for photo in settings.photos)
    return schema.from_properties(
        HeadRequest, lambda name: _value(settings, name), photo=photos, face=faces if any(faces) else ()
    )


def reenact_request(settings: Any, sources: tuple[Path, ...], **others: Any) -> ReenactRequest:
    """Make the request of a scene's settings.

    Args:
        sources: files of the listed ones, in order; `others` takes the place of settings, as the driver.

    Raises:
        RequestError: a setting is missing or does not fit the others.
    """
    faces = tuple(source.face for source in settings.sources)
    given = {"driver": None, "camera": "", "fps": None, **others}
    if settings.mode != "relative":
        given["reference"] = None
    return schema.from_properties(
        ReenactRequest, lambda name: _value(settings, name), source=sources, face=faces if any(faces) else (), **given
    )


def face_request(settings: Any) -> FaceRequest:
    """Make the request of a scene's settings.

    Raises:
        RequestError: a setting is missing or does not fit the others.
    """
    return schema.from_properties(FaceRequest, lambda name: _value(settings, name))


def body_request(settings: Any, **others: Any) -> BodyRequest:
    """Make the request of a scene's settings; `others` stand in place of what they say.

    Raises:
        RequestError: a setting is missing or does not fit the others.
    """
    return schema.from_properties(BodyRequest, lambda name: _value(settings, name), **others)


def coach_request(settings: Any) -> CoachRequest:
    """Make the request of a scene's settings.

    Raises:
        RequestError: somebody is missing.
    """
    return schema.from_properties(CoachRequest, lambda name: _value(settings, name))


def board_text(settings: Any) -> str:
    """Describe the board as the command line does: kind, columns and rows, sizes in metres, markers."""
    words = [settings.board_kind, f"{settings.board_columns}x{settings.board_rows}", f"{settings.board_square_m:.7g}"]
    if settings.board_kind == "charuco":
        words += [f"{settings.board_marker_m:.7g}", settings.board_dictionary]
    return ":".join(words)


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
