"""A performer's body in the scene: armature with its action, skinned mesh, shape keys; and its measures changed there.

Everything that changing needs stands in the .blend: joints that go with shape keys, and where a tape lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ...inference.core.artifacts import BodyMesh, BodyParameters
from ...inference.core.body import as_motion, at_rest, dense_weights, rest_frames
from ...inference.core.body_measures import FARTHEST, MEASURES, Adjustable, Ruler, adjustable_of, arms_of, reach, ruler
from ...inference.core.body_rigs import convert, convert_motion
from ...inference.core.timing import Rate
from ...inference.protocol.errors import InputError
from . import armature
from .armature import Placement
from .compat import registered_properties
from .mesh import add_shape_keys, mesh_of, shaded
from .take import TakeOptions, all_or_nothing, create_take, units_per_m

Array = np.ndarray
MEASURE = "measure_"  # custom properties of the body: what a tape says, and the user may change
_JOINTS, _LANDMARKS, _ARMS = "understudy_joints", "understudy_landmarks", "understudy_arms"
_SKIN, _EYES = (0.62, 0.40, 0.31, 1.0), (0.85, 0.85, 0.85, 1.0)
_EYE_BONES = ("eye.L", "eye.R")
_CHANGED_M = 0.0005


@dataclass(frozen=True)
class BodyOptions:
    """What the redo panel offers."""

    name: str
    skeleton: str = "anny"
    frame_start: int = 1
    rate: Rate = "SCENE"
    cameras: bool = True
    footage: bool = True
    expressions: bool = True
    parameters: bool = True
    action: bool = True


@dataclass(frozen=True)
class MadeBody:
    """Names of what was made: datablocks do not survive an undo."""

    collection: str
    body: str
    rig: str
    action: str = ""
    cameras: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def create_body(
    mesh: BodyMesh, parameters: BodyParameters | None, options: BodyOptions, scene: bpy.types.Scene
) -> MadeBody:
    """Put a body into the scene: all of it or nothing; without `parameters` it stands at rest.

    Selection, mode, frame, frame rate and every existing datablock stay as they are.
    """
    target = convert(mesh, options.skeleton)
    moving = None if parameters is None or not options.action else convert_motion(parameters, mesh, target)
    with all_or_nothing():
        if moving is None:
            collection = bpy.data.collections.new(options.name)
            scene.collection.children.link(collection)
            place = Placement(np.eye(4), units_per_m(scene))
            rig = armature.create_armature(as_motion(at_rest(target), target), options.name, collection, place)
            made = MadeBody(collection.name, "", rig.name)
        else:
            wanted = TakeOptions(
                options.name, options.frame_start, options.rate, cameras=options.cameras, footage=options.footage,
                colours=False,
            )  # fmt: skip
            take = create_take(as_motion(moving, target), wanted, scene)
            made = MadeBody(take.collection, "", take.rig, take.action, take.cameras, take.notes)
        rig = bpy.data.objects[made.rig]
        rig.show_in_front = False
        _mark_for_rigify(rig, target.header.get("rigify_types", {}))
        body = _add_skin(mesh, target, options, rig, scene)
        return MadeBody(made.collection, body.name, made.rig, made.action, made.cameras, made.notes)


def _add_skin(
    mesh: BodyMesh, target: BodyMesh, options: BodyOptions, rig: bpy.types.Object, scene: bpy.types.Scene
) -> bpy.types.Object:
    unit = units_per_m(scene)
    data = mesh_of(f"{options.name} Body", target.vertices * unit, target.faces)
    corners = target.faces >= 0
    data.uv_layers.new(name="UVMap").data.foreach_set("uv", np.ravel(target.uv[corners]).astype(np.float32))
    _add_materials(data, mesh, options.name)
    body = bpy.data.objects.new(data.name, data)
    rig.users_collection[0].objects.link(body)
    _add_weights(body, target)
    body.parent = rig
    modifier: Any = body.modifiers.new("Armature", "ARMATURE")
    modifier.object = rig
    if options.expressions:
        add_shape_keys(body, target.vertices * unit, target.shape_key_names, target.shape_keys * unit)
    if options.parameters:
        add_shape_keys(body, target.vertices * unit, target.parameter_names, target.parameter_keys * unit)
        _keep(body, target, mesh, unit)
    if "landmarks" in mesh.header:
        _say_measures(body, adjustable_of(mesh).ruler.measure(mesh.vertices))
    return body


def _add_materials(data: bpy.types.Mesh, mesh: BodyMesh, name: str) -> None:
    """Skin, and eyes where the body has bones for them: plain, for want of pictures."""
    bones = mesh.header["bones"]
    eyes = dense_weights(mesh)[:, [bones.index(bone) for bone in _EYE_BONES if bone in bones]].sum(1) > 0.5
    for word, colour, roughness in (("Skin", _SKIN, 0.5), ("Eyes", _EYES, 0.1)):
        material, _, shader = shaded(f"{name} {word}", roughness)
        shader.inputs["Base Color"].default_value = colour
        material.diffuse_color = colour
        data.materials.append(material)
        if not eyes.any():
            return
    data.polygons.foreach_set("material_index", eyes[mesh.faces[:, 0]].astype(np.int32))
    data.update()


def _add_weights(body: bpy.types.Object, mesh: BodyMesh) -> None:
    weights = dense_weights(mesh)
    for column, bone in enumerate(mesh.header["bones"]):
        group = body.vertex_groups.new(name=bone)
        for vertex in np.flatnonzero(weights[:, column] > 1e-5).tolist():
            group.add([vertex], float(weights[vertex, column]), "REPLACE")


def _mark_for_rigify(rig: bpy.types.Object, types: Mapping[str, str]) -> None:
    """Say what Rigify is to make of bones; chains of its own begin apart from their parents."""
    if not types:
        return

    def cut() -> None:
        for name in types:
            rig.data.edit_bones[name].use_connect = False

    armature.edit(rig, cut)
    for name, kind in types.items():
        registered_properties(rig.pose.bones[name])["rigify_type"] = kind  # Rigify need not be switched on yet
    for row, group in enumerate(rig.data.collections, 1):
        registered_properties(group)["rigify_ui_row"] = row


def _keep(body: bpy.types.Object, target: BodyMesh, mesh: BodyMesh, unit: float) -> None:
    """Keep with the mesh how bones follow its shape keys, and where it is measured."""
    data = body.data
    arrays = {
        "heads": target.heads, "tails": target.tails, "rolls": target.rolls, "key_heads": target.parameter_heads,
        "key_tails": target.parameter_tails,
    }  # fmt: skip
    joints: dict[str, Any] = {name: np.ravel(array).astype(float).tolist() for name, array in arrays.items()}
    joints |= {"bones": json.dumps(list(target.header["bones"])), "unit": unit,
               "keys": json.dumps([str(name) for name in target.parameter_names])}  # fmt: skip
    data[_JOINTS] = joints
    data[_LANDMARKS] = json.dumps(mesh.header.get("landmarks"))
    arms = data.attributes.new(_ARMS, "BOOLEAN", "POINT")
    arms.data.foreach_set("value", arms_of(mesh))


def _say_measures(body: bpy.types.Object, measures: Mapping[str, float]) -> None:
    for name in MEASURES:
        body[MEASURE + name] = round(float(measures[name]), 4)
        limits = {"min": 0.1, "max": 3.0, "subtype": "NONE", "precision": 3}
        body.id_properties_ui(MEASURE + name).update(description=f"{name.capitalize()} of the body, metres", **limits)


def is_adjustable(body: bpy.types.Object | None) -> bool:
    """Whether an object is a body whose measures can be changed."""
    return body is not None and body.type == "MESH" and _JOINTS in body.data


def shown_measures(body: bpy.types.Object) -> dict[str, float]:
    """What the body's properties say, metres."""
    return {name: float(body[MEASURE + name]) for name in MEASURES if MEASURE + name in body}


def measure_body(body: bpy.types.Object) -> dict[str, float]:
    """Measure a body as its shape keys stand; expressions do not count.

    Raises:
        InputError: it is no body of ours.
    """
    adjustable = _adjustable(body)
    return adjustable.ruler.measure(adjustable.shaped(_amounts(body, adjustable.names)))


def adjust_body(body: bpy.types.Object, wanted: Mapping[str, float]) -> dict[str, float]:
    """Give a body wanted measures, metres, by its shape keys, and its armature the joints that go with them.

    Returns:
        What it measures now.
    Raises:
        InputError: it is no body of ours, or cannot have these measures; then nothing was changed.
    """
    adjustable = _adjustable(body)
    amounts = reach(adjustable, wanted, _amounts(body, adjustable.names))
    blocks = body.data.shape_keys.key_blocks
    for name in adjustable.names:
        if name in blocks:
            blocks[name].slider_max = FARTHEST
            blocks[name].value = amounts.get(name, 0.0)
    fit_bones(body)
    found = adjustable.ruler.measure(adjustable.shaped(amounts))
    _say_measures(body, found)
    return found


def fit_bones(body: bpy.types.Object) -> None:
    """Put the bones of a body's armature where its shape keys have the joints; keys of poses stay what they are.

    Raises:
        InputError: it is no body of ours, or its armature has other bones by now.
    """
    rig, joints = body.find_armature(), _joints(body)
    names, keys = json.loads(joints["bones"]), json.loads(joints["keys"])
    if rig is None or any(name not in rig.data.bones for name in names):
        raise InputError(f"The armature of {body.name} has lost bones.", "Undo, or apply the body again.")
    amounts = np.array([_amounts(body, keys).get(name, 0.0) for name in keys])
    ends = []
    for part in ("heads", "tails"):
        rest = np.array(joints[part]).reshape(-1, 3)
        moves = np.array(joints[f"key_{part}"]).reshape(len(keys), -1, 3)
        ends.append((rest + np.tensordot(amounts, moves, 1)) * joints["unit"])
    frames = rest_frames(ends[0], ends[1], np.array(joints["rolls"]).reshape(-1, 3))
    lengths = np.linalg.norm(ends[1] - ends[0], axis=1)

    def change() -> None:
        bones = rig.data.edit_bones
        for name, frame, length in zip(names, frames, lengths, strict=True):
            bones[name].matrix = Matrix(frame.tolist())
            bones[name].length = float(length)

    armature.edit(rig, change)
    if body.data.shape_keys is not None and MEASURE + MEASURES[0] in body:
        _say_measures(body, measure_body(body))


def _joints(body: bpy.types.Object) -> Any:
    if not is_adjustable(body):
        raise InputError(f"{body.name} is no body with shape keys for its measures.", "Apply one first.")
    return body.data[_JOINTS]


def _adjustable(body: bpy.types.Object) -> Adjustable:
    """Read back from the .blend what `adjustable_of` says of the artifact.

    Raises:
        InputError: it is no body of ours, or has another topology by now.
    """
    data, joints = body.data, _joints(body)
    if body.mode == "EDIT":
        raise InputError(f"{body.name} is in Edit Mode.", "Leave it (Tab), then try again.")
    arms, keys = data.attributes.get(_ARMS), data.shape_keys
    if arms is None or keys is None:
        raise InputError(f"{body.name} has lost what it is measured by.", "Undo, or apply the body again.")
    is_arm, edges = np.zeros(len(data.vertices), bool), np.zeros(2 * len(data.edges), np.int32)
    arms.data.foreach_get("value", is_arm)
    data.edges.foreach_get("vertices", edges)
    names = tuple(name for name in json.loads(joints["keys"]) if name in keys.key_blocks)
    basis = _places(keys.reference_key)
    moves = np.array([_places(keys.key_blocks[name]) - basis for name in names]).reshape(len(names), *basis.shape)
    tape: Ruler = ruler(edges.reshape(-1, 2), is_arm, json.loads(data[_LANDMARKS]))
    return Adjustable(tape, basis / joints["unit"], names, moves / joints["unit"])


def _places(key: Any) -> Array:
    out = np.empty(3 * len(key.data), np.float32)
    key.data.foreach_get("co", out)
    return out.reshape(-1, 3)


def _amounts(body: bpy.types.Object, names: Any) -> dict[str, float]:
    blocks = body.data.shape_keys.key_blocks
    found = {name: float(blocks[name].value) for name in names if name in blocks and not blocks[name].mute}
    return {name: value for name, value in found.items() if value}


def changed_measures(body: bpy.types.Object) -> dict[str, float]:
    """Measures that the user has put in and that the body does not have yet.

    Raises:
        InputError: it is no body of ours.
    """
    now = measure_body(body)
    return {name: value for name, value in shown_measures(body).items() if abs(value - now[name]) > _CHANGED_M}
