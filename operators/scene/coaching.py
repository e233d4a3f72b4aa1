"""A trainee and a trainer in the scene: two bodies in one place, the trainee's coloured by how joints differ.

Colours are materials, one a joint, whose keys tell the difference of each frame; a mark swells at every joint as the
difference does, which also viewers show that know nothing of moving colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ...inference.core.artifacts import BodyMesh, BodyMotion, BodyParameters, Coaching
from ...inference.core.body import dense_weights
from ...inference.core.timing import Rate, Timing, place, sample_values
from . import armature
from .action import Channel, write_action
from .armature import Placement
from .body import BodyOptions, MadeBody, create_body
from .mesh import mesh_of, shaded
from .take import all_or_nothing, scene_fps, units_per_m

Array = np.ndarray
# From good to bad, linear light: pale, yellow, red, dark (ColorBrewer YlOrRd), told apart in grey, too.
_STOPS = np.array([[1.0, 1.0, 0.78], [0.99, 0.69, 0.18], [0.97, 0.08, 0.02], [0.22, 0.0, 0.02]])
_TRAINER, _PLAIN = (0.10, 0.32, 0.65, 1.0), (0.75, 0.72, 0.68, 1.0)
_SEE_THROUGH = 0.35
_MARK_M, _NONE = 0.09, 0.002  # radius of a mark at the worst, and its scale where nothing differs
_RINGS, _SIDES = 8, 12


@dataclass(frozen=True)
class CoachingOptions:
    """What the redo panel offers; beside: metres between trainee and trainer, 0 for one in the other."""

    name: str
    frame_start: int = 1
    rate: Rate = "SCENE"
    beside: float = 0.0
    marks: bool = True


@dataclass(frozen=True)
class MadeCoaching:
    """Names of what was made: datablocks do not survive an undo."""

    collection: str
    trainee: str
    trainer: str
    rigs: tuple[str, ...]
    marks: str = ""


def create_coaching(
    mesh: BodyMesh, trainee: BodyParameters, coaching: Coaching, options: CoachingOptions, scene: bpy.types.Scene
) -> MadeCoaching:
    """Put both into the scene: all of it or nothing."""
    timing = place(coaching.times, scene_fps=scene_fps(scene), start=options.frame_start, rate=options.rate)
    plain = BodyOptions(
        options.name, frame_start=options.frame_start, rate=options.rate, cameras=False, expressions=False,
        parameters=False,
    )  # fmt: skip
    with all_or_nothing():
        own = create_body(mesh, trainee, plain, scene)
        ghost = create_body(mesh, _trainer(trainee, coaching), replace(plain, name=f"{options.name} Trainer"), scene)
        collection = bpy.data.collections[own.collection]
        _gather(ghost, collection)
        bpy.data.objects[ghost.rig].location.x = options.beside * units_per_m(scene)
        _see_through(bpy.data.objects[ghost.body])
        _colour(bpy.data.objects[own.body], mesh, coaching, timing)
        marks = _add_marks(coaching, options, collection, timing, scene) if options.marks else ""
        rigs = (own.rig, ghost.rig, *([bpy.data.objects[marks].parent.name] if marks else []))
        return MadeCoaching(collection.name, own.body, ghost.body, rigs, marks)


def _trainer(trainee: BodyParameters, coaching: Coaching) -> BodyParameters:
    """The trainer's motion on the trainee's body, in the frame of the floor."""
    header = {**trainee.header, "frame": "floor", "floor_from_frame": coaching.header["floor_from_frame"],
              "cameras": [], "sources": []}  # fmt: skip
    return replace(
        trainee, header=header, pose=coaching.pose, root=coaching.root, confidence=coaching.confidence,
        times=coaching.times, camera=None, silhouette_iou=None,
    )  # fmt: skip


def _gather(made: MadeBody, collection: bpy.types.Collection) -> None:
    """Move a body's objects into another collection."""
    for name in (made.rig, made.body):
        item = bpy.data.objects[name]
        for old in item.users_collection:
            old.objects.unlink(item)
        collection.objects.link(item)
    bpy.data.collections.remove(bpy.data.collections[made.collection])


def _see_through(body: bpy.types.Object) -> None:
    material, _, shader = shaded(f"{body.name} Trainer", 0.6)
    shader.inputs["Base Color"].default_value = _TRAINER
    shader.inputs["Alpha"].default_value = _SEE_THROUGH
    material.diffuse_color = (*_TRAINER[:3], _SEE_THROUGH)
    if hasattr(material, "surface_render_method"):
        material.surface_render_method = "BLENDED"
    _dress(body, [material], np.zeros(len(body.data.polygons), np.int32))


def _dress(body: bpy.types.Object, materials: list[bpy.types.Material], places: Array) -> None:
    """Give a body other materials; those that nobody else uses go."""
    before = [slot for slot in body.data.materials if slot is not None]
    body.data.materials.clear()
    for material in materials:
        body.data.materials.append(material)
    body.data.polygons.foreach_set("material_index", places.astype(np.int32))
    body.data.update()
    for material in before:
        if not material.users:
            bpy.data.materials.remove(material)


def _colour(body: bpy.types.Object, mesh: BodyMesh, coaching: Coaching, timing: Timing) -> None:
    """A material for every joint, keyed with the colour of its difference; what is no joint's stays plain."""
    bones, weights = mesh.header["bones"], dense_weights(mesh)
    shares = np.stack(
        [weights[:, [bones.index(bone) for bone in own if bone in bones]].sum(1)
         for own in coaching.header["joint_bones"]], 1,
    )  # fmt: skip
    of_faces = shares[mesh.faces.clip(0)].mean(1)
    joint = np.where(of_faces.max(1) > 0.3, of_faces.argmax(1) + 1, 0)
    colours = colour_of(share_of(coaching))
    base, _, shader = shaded(f"{body.name} Plain", 0.5)
    shader.inputs["Base Color"].default_value = _PLAIN
    base.diffuse_color = _PLAIN
    materials = [base]
    for column, name in enumerate(coaching.header["joints"]):
        material, tree, shader = shaded(f"{body.name} {name}", 0.5)
        mean = (*colours[:, column].mean(0).tolist(), 1.0)
        shader.inputs["Base Color"].default_value = mean
        material.diffuse_color = mean
        values = np.concatenate([colours[:, column], np.ones((len(colours), 1))], 1)
        path = f'nodes["{bpy.utils.escape_identifier(shader.name)}"].inputs[0].default_value'
        write_action(tree, f"{body.name} {name}", timing.frames, [Channel(path, sample_values(values, timing))])
        materials.append(material)
    _dress(body, materials, joint)
    degrees = [Channel(f'["{name}"]', sample_values(coaching.difference[:, column], timing), "Differences")
               for column, name in enumerate(coaching.header["joints"])]  # fmt: skip
    for column, name in enumerate(coaching.header["joints"]):
        body[name] = float(coaching.difference[0, column])
        body.id_properties_ui(name).update(description="Degrees between the trainee and the trainer", min=0.0)
    write_action(body, f"{body.name} Differences", timing.frames, degrees)


def share_of(coaching: Coaching) -> Array:
    """(T, J) in [0, 1]: 0 within the tolerance, 1 at the worst."""
    low, high = float(coaching.header["tolerance_deg"]), float(coaching.header["worst_deg"])
    return np.clip((coaching.difference - low) / max(high - low, 1e-6), 0.0, 1.0)


def colour_of(share: Array) -> Array:
    """(..., 3) linear colours of shares."""
    places = np.linspace(0, 1, len(_STOPS))
    return np.stack([np.interp(share, places, _STOPS[:, channel]) for channel in range(3)], -1)


def _add_marks(
    coaching: Coaching, options: CoachingOptions, collection: bpy.types.Collection, timing: Timing,
    scene: bpy.types.Scene,
) -> str:  # fmt: skip
    """A ball at every joint, on a bone of its own that moves with the joint and swells with the difference."""
    unit, names = units_per_m(scene), [str(name) for name in coaching.header["joints"]]
    rig = _mark_bones(coaching, f"{options.name} Marks", collection, unit)
    channels = []
    for column, name in enumerate(names):
        path = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        size = np.maximum(share_of(coaching)[:, column], _NONE)[:, None].repeat(3, 1)
        channels += [
            Channel(f"{path}.location", sample_values(coaching.places[:, column], timing) * unit, name),
            Channel(f"{path}.scale", sample_values(size, timing), name),
        ]
    write_action(rig, rig.name, timing.frames, channels)
    ball, faces = _ball()
    count = len(ball)
    vertices = np.tile(ball * _MARK_M * unit, (len(names), 1))
    sides = np.concatenate([np.where(faces < 0, -1, faces + count * k) for k in range(len(names))])
    data = mesh_of(f"{options.name} Differences", vertices, sides)
    material, _, shader = shaded(f"{options.name} Marks", 0.4)
    shader.inputs["Base Color"].default_value = (*_STOPS[2].tolist(), 1.0)
    material.diffuse_color = (*_STOPS[2].tolist(), 1.0)
    data.materials.append(material)
    marks = bpy.data.objects.new(data.name, data)
    collection.objects.link(marks)
    for column, name in enumerate(names):
        marks.vertex_groups.new(name=name).add(list(range(column * count, (column + 1) * count)), 1.0, "REPLACE")
    marks.parent = rig
    modifier: Any = marks.modifiers.new("Armature", "ARMATURE")
    modifier.object = rig
    return marks.name


def _mark_bones(coaching: Coaching, name: str, collection: bpy.types.Collection, unit: float) -> bpy.types.Object:
    """An armature with a bone for every joint, all of them at the origin with the axes of the scene."""
    names = [str(joint) for joint in coaching.header["joints"]]
    header = {"unit": "m", "frame": "floor", "fps": coaching.fps, "skeleton": "marks", "bones": names,
              "lengths_m": [0.05] * len(names)}  # fmt: skip
    still = np.tile([1.0, 0.0, 0.0, 0.0], (1, len(names), 1))
    motion = BodyMotion(
        header, still, np.zeros((1, 3)), np.tile(np.eye(4), (len(names), 1, 1)), np.full(len(names), -1),
        np.ones((1, len(names))), np.zeros(1), np.zeros((1, 4)),
    )  # fmt: skip
    rig = armature.create_armature(motion, name, collection, Placement(np.eye(4), unit))
    rig.show_in_front, rig.data.display_type = False, "STICK"
    return rig


def _ball() -> tuple[Array, Array]:
    """Vertices (V, 3) of a unit ball and its faces (F, 4), triangles with a last -1 at the poles."""
    tilt = np.pi * np.arange(1, _RINGS) / _RINGS
    turn = 2 * np.pi * np.arange(_SIDES) / _SIDES
    rings = np.stack([np.outer(np.sin(tilt), np.cos(turn)), np.outer(np.sin(tilt), np.sin(turn)),
                      np.outer(np.cos(tilt), np.ones(_SIDES))], -1).reshape(-1, 3)  # fmt: skip
    at = 1 + np.arange((_RINGS - 1) * _SIDES).reshape(_RINGS - 1, _SIDES)
    after, last = np.roll(at, -1, 1), 1 + at.size
    quads = np.stack([at[:-1], at[1:], after[1:], after[:-1]], -1).reshape(-1, 4)
    none = np.full(_SIDES, -1)
    top = np.stack([np.zeros(_SIDES, int), at[0], after[0], none], -1)
    foot = np.stack([np.full(_SIDES, last), after[-1], at[-1], none], -1)
    return np.concatenate([[[0, 0, 1.0]], rings, [[0, 0, -1.0]]]), np.concatenate([top, quads, foot])
