"""A motion becomes a new action of the user's character; what was there before is stashed, not touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import bpy
import numpy as np

from ...inference.core.retarget.reduce import needed_keys
from ...inference.core.rig import RigMotion
from ...inference.core.rotations import rotvec_from_matrix
from ...inference.core.timing import Timing
from ...inference.protocol.errors import InputError
from ...inference.protocol.retarget import RetargetSettings
from .action import fill
from .compat import Curves, action_slot, assign_action, curves_in
from .controls import Curve, curves_of, stretching
from .evaluate import evaluated
from .place import keep_place, read_place
from .rig import Character

Array = np.ndarray
_STASH = "[Action Stash]"  # the name Blender's own stash has


@dataclass
class BakeResult:
    """What was made, by name, and what `update` needs to make it again."""

    rig: str
    action: str
    character: Character
    timing: Timing
    notes: tuple[str, ...] = ()
    _keys: dict[str, Array] = field(default_factory=dict)  # frames of each property's keys
    _values: dict[str, Array] = field(default_factory=dict)

    def forget(self) -> None:
        """Let the next update write everything: undo or the user may have changed the action."""
        self._keys = {}


def bake(
    character: Character, motion: RigMotion, settings: RetargetSettings, timing: Timing, *,
    name: str, stash: bool = True, asset: bool = False,
) -> BakeResult:  # fmt: skip
    """Key a motion onto a character as a new action, all of it or nothing.

    The action that the character plays is stashed in its NLA. Only mapped bones and controls are keyed. Rotation
    modes, rest pose, constraints, scale and the values of properties stay as they are.

    Raises:
        InputError: the character is being edited in a way that allows no new action.
    """
    item = _find(character.name)
    animation = item.animation_data or item.animation_data_create()
    if animation.use_tweak_mode:
        hint = "Leave it (Tab in the NLA editor), then try again."
        raise InputError(f"{item.name} is in the NLA's tweak mode.", hint)
    curves, place = curves_of(item, character, motion, settings, timing), read_place(item)
    with _all_or_nothing(item):
        if stash and animation.action is not None:
            _stash(animation)
        elif animation.action is not None:
            animation.action.use_fake_user = True
        action = bpy.data.actions.new(name)
        result = BakeResult(item.name, action.name, character, timing, _notes(item, character, curves, settings))
        _write(result, Curves(item, action), curves, settings)
        action.use_frame_range = True
        action.frame_start, action.frame_end = float(timing.frames[0]), float(timing.frames[-1])
        keep_place(item, action, place, travels=motion.placement is not None)
        if asset:
            action.asset_mark()
    _show(item)
    return result


def update(result: BakeResult, motion: RigMotion, settings: RetargetSettings) -> None:
    """Rewrite the action of a bake for other settings; values that did not change are left alone."""
    item = _find(result.rig)
    action, place = bpy.data.actions[result.action], read_place(item)
    curves = curves_of(item, result.character, motion, settings, result.timing)
    result.notes = _notes(item, result.character, curves, settings)
    keys = {curve.path: _key_frames(curve, result.timing) for curve in curves}
    same = (
        not settings.reduce
        and keys.keys() == result._keys.keys()
        and all(
            len(frames) == len(result._keys[path]) and (frames == result._keys[path]).all()
            for path, frames in keys.items()
        )
    )
    if not same:
        owner = Curves(item, action)
        let_go = {curve.data_path for curve in owner} - keys.keys()
        for curve in list(owner):
            owner.remove(curve)
        _write(result, owner, curves, settings)
        _put_to_rest(item, let_go)
    else:
        _rewrite(result, item, action, curves)
    keep_place(item, action, place, travels=motion.placement is not None)
    _show(item)


def _put_to_rest(item: bpy.types.Object, paths: Iterable[str]) -> None:
    """Let bones stand at rest in channels that have no keys any more: they keep what was shown last."""
    for path in paths:
        owner, _, channel = path.rpartition(".")
        if owner and channel.isidentifier():  # neither the object itself nor a custom property
            bone = item.path_resolve(owner)
            setattr(bone, channel, bone.bl_rna.properties[channel].default_array)


def verify(
    character: Character, motion: RigMotion, frames: int = 5, *, timing: Timing | None = None
) -> dict[str, tuple[float, float]]:
    """Compare Blender's own evaluation of the mapped bones with where they were meant to be.

    Args:
        frames: how many, spread over the action; timing: of the bake, without it the action's first and last frame.
    Returns:
        By bone, the mean error in degrees and in millimetres.
    """
    item = _find(character.name)
    count = len(motion.times)
    if timing is None:
        first, last = item.animation_data.action.frame_range
        timing = Timing(np.linspace(first, last, count), np.arange(count, dtype=float), False)
    whole = np.flatnonzero(np.abs(timing.samples - np.round(timing.samples)) < 1e-6)
    chosen = whole[np.unique(np.linspace(0, len(whole) - 1, min(frames, len(whole))).round().astype(int))]
    samples = np.round(timing.samples[chosen]).astype(int)
    rig = character.rig
    rows = motion.keyed
    bones, _ = evaluated(item, timing.frames[chosen], [rig.names[row] for row in rows])
    world = character.world.copy()
    world[:3, 3] *= character.units_per_m
    seen = np.linalg.inv(world) @ bones
    turns = seen[..., :3, :3] / np.linalg.norm(seen[..., :3, :3], axis=-2, keepdims=True)
    miss = np.linalg.norm(
        rotvec_from_matrix(np.swapaxes(turns, -1, -2) @ motion.turns[samples][:, rows]), axis=-1
    )  # fmt: skip
    away = np.linalg.norm(seen[..., :3, 3] / character.units_per_m - motion.heads[samples][:, rows], axis=-1)
    degrees, millimetres = np.degrees(miss).mean(0), 1000 * away.mean(0)
    return {
        rig.names[row]: (float(angle), float(distance))
        for row, angle, distance in zip(rows, degrees, millimetres, strict=True)
    }


def _find(name: str) -> bpy.types.Object:
    item = bpy.data.objects.get(name)
    if item is None or item.type != "ARMATURE":
        raise InputError(f"The armature {name} is not there any more.", "Choose a character and start again.")
    return item


def _notes(
    item: bpy.types.Object, character: Character, curves: list[Curve], settings: RetargetSettings
) -> tuple[str, ...]:
    """What will not follow, or not quite."""
    notes = list(_unmovable(character, curves))
    moved = {curve.group for curve in curves if curve.path.endswith(".location")}
    stretched = stretching(item, moved) if settings.mode == "ik" else []
    if stretched:
        notes.append(
            f"{stretched[0]} and other bones have IK Stretch, so that elbows and knees stand a few degrees off: set it "
            "to 0 (Bone properties > Inverse Kinematics) to have them exact."
        )
    return tuple(notes)


def _unmovable(character: Character, curves: list[Curve]) -> Iterator[str]:
    """A sentence about each bone that is meant to move away from its parent and cannot."""
    for curve in curves:
        row = character.rig.index.get(curve.group, -1)
        if curve.path.endswith(".location") and row >= 0 and character.connected[row] and np.ptp(curve.values) > 0:
            yield f"{curve.group} is connected to its parent, so that it cannot move: disconnect it in Edit Mode."


def _key_frames(curve: Curve, timing: Timing) -> Array:
    """Frames of a curve's keys before any are taken away."""
    return timing.frames if len(curve.values) > 1 or len(timing.frames) == 1 else timing.frames[:1]


def _write(result: BakeResult, owner: Curves, curves: list[Curve], settings: RetargetSettings) -> None:
    kept = _thinned(curves, result.timing) if settings.reduce else {}
    result._keys, result._values = {}, {}
    for curve in curves:
        frames, values = _key_frames(curve, result.timing), curve.values
        if curve.group in kept and len(values) > 1:
            frames, values = frames[kept[curve.group]], values[kept[curve.group]]
        result._keys[curve.path], result._values[curve.path] = frames, values
        for index in range(values.shape[1]):
            fill(owner.new(curve.path, index, curve.group), frames, values[:, index])
    if kept:
        result._keys = {"": np.zeros(0)}  # fewer keys are chosen anew every time


def _thinned(curves: list[Curve], timing: Timing) -> dict[str, Array]:
    """Indices of the keys that each bone keeps."""
    tracks: dict[str, list] = {}
    for curve in curves:
        if curve.track is not None and len(curve.values) > 1:
            tracks.setdefault(curve.group, []).append(curve.track)
    return {group: needed_keys(timing.frames, some) for group, some in tracks.items()}


def _rewrite(result: BakeResult, item: bpy.types.Object, action: bpy.types.Action, curves: list[Curve]) -> None:
    there = {(curve.data_path, curve.array_index): curve for curve in curves_in(action, item)}
    for curve in curves:
        old = result._values[curve.path]
        frames = result._keys[curve.path]
        for index in range(curve.values.shape[1]):
            column = curve.values[:, index]
            if np.array_equal(column, old[:, index]) or (curve.path, index) not in there:
                continue
            points = np.empty((len(frames), 2), np.float32)
            points[:, 0], points[:, 1] = frames, column
            target = there[curve.path, index]
            target.keyframe_points.foreach_set("co", points.ravel())
            target.update()
        result._values[curve.path] = curve.values


def _stash(animation: bpy.types.AnimData) -> None:
    """Keep the present action in a muted NLA track, as Blender's own stash does."""
    action, slot = animation.action, action_slot(animation)
    track = animation.nla_tracks.new()
    track.name = _STASH
    strip = track.strips.new(action.name, int(np.floor(action.frame_range[0])), action)
    if slot is not None:
        strip.action_slot = slot
    track.mute = track.lock = True
    animation.action = None


@contextmanager
def _all_or_nothing(item: bpy.types.Object) -> Iterator[None]:
    animation = item.animation_data
    action, slot = animation.action, action_slot(animation)
    fake = action.use_fake_user if action is not None else False
    tracks, actions = len(animation.nla_tracks), set(bpy.data.actions.keys())
    try:
        yield
    except BaseException:
        assign_action(animation, action, slot)
        if action is not None:
            action.use_fake_user = fake
        for track in list(animation.nla_tracks)[tracks:]:
            animation.nla_tracks.remove(track)
        for name in set(bpy.data.actions.keys()) - actions:
            bpy.data.actions.remove(bpy.data.actions[name])
        raise


def _show(item: bpy.types.Object) -> None:
    """Let Blender play the present frame again."""
    item.update_tag(refresh={"TIME"})
