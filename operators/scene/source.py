"""Performances from armatures in the scene and from files: what is to land on a character."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ...inference.core import upright
from ...inference.core.artifacts import BodyMotion
from ...inference.core.formats.smpl import read_smpl
from ...inference.core.mapping.mapper import map_rig
from ...inference.core.rig import CONTACT_ROLES, Performance, Rig, performance_of
from ...inference.core.rotations import nearest_rotation
from ...inference.protocol.errors import InputError, UnderstudyError
from . import evaluate
from .armature import CONFIDENCE, CONTACT
from .importers import IMPORTERS, Imported, imported
from .take import scene_fps, units_per_m

Array = np.ndarray
SUFFIXES = (".npz", *IMPORTERS)
_MIRRORED = "Apply its scale (Ctrl A), or use a file that is not mirrored."
_NO_SKIN = (
    "{} has no skin, and so does not say its rest pose: the pose it was saved in was taken, which may turn limbs about "
    "themselves. Save it with its skin, or in T-pose."
)
_MAX_FRAMES = 1_000_000
_MAX_POSES = 10_000_000  # of one bone in one frame: some gigabytes while they are read
_SPARSE = 500  # frames for each key, from which one key's time is not to be believed, in a clip of
_LONG = 20_000  # frames and more
_FEWEST_A_SECOND = 10.0  # keys of a recorded motion


@dataclass(frozen=True)
class Clips:
    """Performances of a file or folder, and a sentence for each file of it that was left out."""

    performances: tuple[Performance, ...]
    skipped: tuple[str, ...] = ()


def read_performance(
    rig: bpy.types.Object, *, action: bpy.types.Action | None = None, frames: Array | None = None
) -> Performance:
    """Read how an armature of the present scene moves; nothing of it changes.

    Args:
        action: one that it need not play; without, the armature is taken as it is, NLA strips and all.
        frames: (T,) scene frames, rising; without, every frame of the action, of the strips, or else of the scene.
    Returns:
        World, metres by the scene's units. Contacts and confidence are those that our captures key beside the pose.
    Raises:
        InputError: no armature, mirrored, or no humanoid; names the bone.
    """
    if rig.type != "ARMATURE":
        raise InputError(f"{rig.name} is not an armature.", "Choose an armature with an action.")
    scene = bpy.context.scene
    frames = _frames(rig, action, scene) if frames is None else np.asarray(frames, float)
    performance = _performance(rig, action, frames, fps=scene_fps(scene), unit=units_per_m(scene))
    performance = _mapped(performance, _deforming(rig))
    return replace(performance, **_annotations(rig, action, frames, performance))


def import_source(path: Path, *, fps: float | None = None) -> Performance:
    """Read the first performance of one file; see `import_clips`."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path.name} is a folder.", "Choose one of its files.")
    return import_clips(path, fps=fps).performances[0]


def import_clips(path: Path, *, fps: float | None = None) -> Clips:
    """Read all performances of a file (an FBX may hold several takes), or of the files in a folder, by name.

    Captures and SMPL `.npz`, BVH, FBX and glTF; the user's file stays as it is. Folders inside a folder are not read.
    What was guessed (units, axes, rates) is said in `header["notes"]` of a performance.

    Args:
        fps: frames a second of files that do not say it.
    Raises:
        InputError: nothing can be read; says what is wrong.
    """
    path = Path(path)
    if not path.is_dir():
        return Clips(tuple(_read_file(path, fps)))
    found, skipped = [], []
    for file in sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith(".")):
        if file.suffix.lower() not in SUFFIXES:
            skipped.append(f"{file.name}: none of {', '.join(SUFFIXES)}")
            continue
        try:
            found += _read_file(file, fps)
        except UnderstudyError as error:
            skipped.append(f"{file.name}: {error.message}")
    if not found:
        reasons = f" {skipped[0]}." if skipped else ""
        raise InputError(f"{path.name} holds no clip that can be read; {len(skipped)} files were looked at.{reasons}")
    return Clips(tuple(found), tuple(skipped))


def _read_file(path: Path, fps: float | None) -> list[Performance]:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return [_capture(path) if _is_ours(path) else read_smpl(path, fps=fps)]
    if suffix in (".pkl", ".pt", ".pth"):
        return [read_smpl(path)]  # refuses, and says how to convert it
    if suffix in (".c3d", ".trc"):
        hint = f"Fit a skeleton to them first: python -m inference motion --markers {path.name} --out JOB"
        raise InputError(f"{path.name} holds markers, not a skeleton.", hint)
    with imported(path) as file:
        found = list(_takes(path, file))
    if not found:
        raise InputError(f"{path.name} holds no animation of an armature's bones.")
    return found


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "header.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False  # the other reader says what is wrong with it


def _capture(path: Path) -> Performance:
    performance = performance_of(BodyMotion.load(path))
    inside = path.parent.name == "artifacts"  # of a job's folder, whose name says more
    return replace(performance, name=performance.name or (path.parents[1].name if inside else path.stem))


def _takes(path: Path, file: Imported) -> list[Performance]:
    takes, fps = list(file.takes()), scene_fps(file.scene)
    out = []
    for rig, action in takes:
        name = path.stem if len(takes) == 1 else f"{path.stem} {action.name}"
        performance = _performance(rig, action, _key_frames(rig, action, fps), fps=fps, unit=1.0)
        notes = [_NO_SKIN.format(path.name)] if path.suffix.lower() == ".fbx" and not file.has_skin else []
        performance = replace(
            performance, name=name, header={**performance.header, "source": path.name, "notes": notes}
        )
        performance = upright.settled(performance, said=path.suffix.lower() != ".bvh")
        out.append(_mapped(performance, _deforming(rig)))
    return out


def _frames(rig: bpy.types.Object, action: bpy.types.Action | None, scene: bpy.types.Scene) -> Array:
    """Whole frames of all that moves an armature."""
    animation = rig.animation_data
    played = action or (animation.action if animation else None)
    spans = [tuple(played.frame_range)] if played is not None else []
    if action is None and animation is not None and animation.use_nla:
        strips = [strip for track in animation.nla_tracks if not track.mute for strip in track.strips]
        spans += [(strip.frame_start, strip.frame_end) for strip in strips if not strip.mute]
    spans = spans or [(scene.frame_start, scene.frame_end)]
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    return _raster(float(np.floor(first)), float(np.ceil(last)), 1.0, rig)


def _key_frames(rig: bpy.types.Object, action: bpy.types.Action, fps: float) -> Array:
    """Frames of an imported action at the rate of its densest curve, so that its own samples are taken.

    Where keys are few or uneven, as an animator sets them, about 30 a second.
    """
    curves = [curve for group in evaluate.channels(rig, action).curves.values() for curve in group.values()]
    times = [evaluate.keys(curve)[:, 0] for curve in curves if len(curve.keyframe_points)]
    first, last = min(t[0] for t in times), max(t[-1] for t in times)
    dense = max(times, key=len)
    if last - first > max(_LONG, _SPARSE * len(dense)):
        text = f"{rig.name} has {len(dense)} keys at most over {last - first:,.0f} frames"
        raise InputError(f"{text}: the time of one is damaged.", "Export the motion again.")
    step = np.ptp(dense) / (len(dense) - 1) if len(dense) > 2 else 0.0
    if step > 0 and fps / step >= _FEWEST_A_SECOND and np.abs(np.diff(dense) - step).max() < 0.1 * step:
        return _raster(first, last, float(step), rig)
    return _raster(first, last, max(1.0, fps / 30.0), rig)


def _raster(first: float, last: float, step: float, rig: bpy.types.Object) -> Array:
    count, bones = int(np.floor((last - first) / step + 1e-3)) + 1, len(rig.data.bones)
    if count > min(_MAX_FRAMES, _MAX_POSES // max(bones, 1)):
        text = f"{rig.name} moves {bones} bones for {count:,} frames"
        raise InputError(f"{text}; at most {_MAX_FRAMES:,} frames and {_MAX_POSES:,} poses of a bone are read.")
    return first + step * np.arange(max(count, 1))


def _performance(
    rig: bpy.types.Object, action: bpy.types.Action | None, frames: Array, *, fps: float, unit: float
) -> Performance:
    bones, here = evaluate.world_matrices(rig, action, frames)
    skeleton = _rest_rig(rig, here[0], unit)
    mapping = map_rig(skeleton, deform=_deforming(rig), evaluated=True).mapping
    turns = bones[..., :3, :3]
    return Performance(
        upright.grounded(skeleton, mapping), mapping, _rotations(turns), bones[..., :3, 3] / unit,
        (frames - frames[0]) / fps, name=rig.name if action is None else action.name,
        header={"fps": fps if len(frames) < 2 else fps / float(np.mean(np.diff(frames))), "notes": []},
    )  # fmt: skip


def _mapped(performance: Performance, deform: Array) -> Performance:
    """Find the roles for good, on a rest pose that stands: who is left and right is told by it."""
    rig = upright.upright_rest(performance.rig, performance.mapping)
    match = map_rig(rig, deform=deform, evaluated=True)
    header = {**performance.header, "notes": [*match.notes, *performance.header["notes"]]}
    rig = upright.grounded(rig, match.mapping)
    return replace(performance, rig=rig, mapping=match.mapping, header=header)


def _deforming(rig: bpy.types.Object) -> Array:
    return np.array([bone.use_deform for bone in evaluate.bone_order(rig)])


def _rest_rig(rig: bpy.types.Object, here: Array, unit: float) -> Rig:
    """Bones at rest as the object's rotation and scale show them, in metres; its place is left out."""
    if np.linalg.det(here[:3, :3]) <= 0:
        raise InputError(f"{rig.name} is mirrored: its scale turns left into right.", _MIRRORED)
    rest, parents = evaluate.rest_matrices(rig)
    world = np.array(rest)
    world[:, :3, :3] = _rotations(here[:3, :3] @ rest[:, :3, :3])
    world[:, :3, 3] = rest[:, :3, 3] @ here[:3, :3].T / unit
    along = rest[:, :3, 1] @ here[:3, :3].T
    names = evaluate.bone_order(rig)
    lengths = np.array([bone.length for bone in names]) * np.linalg.norm(along, axis=-1) / unit
    inherit = np.array([bone.use_inherit_rotation for bone in names])
    return Rig(tuple(bone.name for bone in names), parents, world, lengths, inherit, name=rig.name)


def _rotations(matrices: Array) -> Array:
    """(..., 3, 3) orientations of matrices that may be scaled."""
    size = np.linalg.norm(matrices, axis=-2, keepdims=True)
    turns = matrices / np.maximum(size, 1e-12)
    gram = np.swapaxes(turns, -1, -2) @ turns - np.eye(3)
    sheared = np.abs(gram).max(axis=(-1, -2)) > 1e-5
    if sheared.any():
        turns[sheared] = nearest_rotation(turns[sheared])
    return turns


def _annotations(
    rig: bpy.types.Object, action: bpy.types.Action | None, frames: Array, performance: Performance
) -> dict[str, Any]:
    """Contacts and confidence where they are keyed beside the pose, as our captures key them."""
    playing = action or (rig.animation_data.action if rig.animation_data else None)
    found = evaluate.channels(rig, playing)

    def column(bone: str, name: str) -> Array | None:
        key = (bone, f'["{name}"]')
        return np.clip(found.sample(key, (0.0,), frames)[:, 0], 0.0, 1.0) if key in found.curves else None

    sure = [column(bone, CONFIDENCE) for bone in performance.rig.names]
    feet = [column(next(iter(performance.mapping.bones.get(role, ())), ""), CONTACT) for role in CONTACT_ROLES]
    out: dict[str, Any] = {}
    if all(values is not None for values in feet):
        out["contacts"] = np.stack([values for values in feet if values is not None], axis=1)
    if any(values is not None for values in sure):
        out["confidence"] = np.stack([np.ones(len(frames)) if v is None else v for v in sure], axis=1)
    return out
