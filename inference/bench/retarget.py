"""All figures of retargeting: what lands where, on which skeletons, and how fast.

python -m inference bench retarget [--data DIR] [--only identity random rigs tips feet speed blender] [--out FILE]

The performances are recorded motions (training/motions.py) on our own skeleton, with fingers that curl and wrists that
turn, which the recordings do not have. The rigs are those of tests/rigs.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..core.artifacts import BodyMotion
from ..core.mapping.mapper import map_rig
from ..core.retarget import Retargeter, feet
from ..core.retarget.body import Body
from ..core.rig import FINGERS, HUMANOID_MAPPING, SIDES, Mapping, Performance, Rig, RigMotion, performance_of
from ..core.rotations import matrix_from_quaternion, quaternion_from_rotvec, rotvec_from_matrix, unit
from ..protocol.errors import InputError
from ..protocol.retarget import RetargetSettings
from ..training import motions, surface
from .sections import run_sections
from .table import Table

Array = np.ndarray
ROOT = Path(__file__).resolve().parents[2]
POSE = RetargetSettings(lock_feet=0.0, floor=False)
CLIPS = {
    "walk": "cmubvh/test_walking_1", "dance": "daz/salsa_01", "cartwheel": "snu/MASS_cart", "backflip": "dm/backflip",
    "everyday": "asf/13_29", "kick": "dm/spinkick",
}  # fmt: skip
FRAMES, STEP = 300, 2  # of each clip, from 60 fps to 30
_BONE_OF_PART = {
    "pelvis": "hips", "spine_mid": "spine", "chest": "chest", "neck": "neck", "head": "head", "clavicle": "shoulder",
    "upperarm": "upper_arm", "forearm": "forearm", "hand": "hand", "thigh": "thigh", "shin": "shin", "foot": "foot",
    "toes": "toe",
}  # fmt: skip
_NEXT = {"upper_arm": "forearm", "forearm": "hand", "thigh": "shin", "shin": "foot"}


@cache
def made() -> ModuleType:
    """The test suite's rigs made from our own skeleton."""
    return _from_tests("made.py")


@cache
def skeletons() -> ModuleType:
    """The test suite's skeletons of named rigs."""
    return _from_tests("__init__.py")


def _from_tests(file: str) -> ModuleType:
    path = ROOT / "tests" / "rigs" / file
    spec = importlib.util.spec_from_file_location(f"understudy_rigs_{path.stem.strip('_')}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def demo_performances(data: Path) -> dict[str, Performance]:
    """Recorded motions on our own skeleton, by what is done in them."""
    return {name: _recorded(data, label) for name, label in CLIPS.items()}


def _recorded(data: Path, label: str) -> Performance:
    rig: Rig = made().humanoid()
    part_of = {bone: part for part, bone in _BONE_OF_PART.items()}
    rest_directions = np.tile([0.0, 0.0, 1.0], (len(surface.NAMES), 1))
    for index, name in enumerate(surface.NAMES):
        part, dot, side = name.partition(".")
        bone = _BONE_OF_PART.get(part, "spine") + dot + side
        rest_directions[index] = rig.rest[rig.index[bone], :3, 1]
    parts, root = (a[: STEP * FRAMES : STEP] for a in motions.read_clip(data, label, rest_directions))
    times = np.arange(len(parts)) * STEP / 60.0
    deltas = np.empty((len(parts), len(rig.names), 3, 3))
    for row, name in enumerate(rig.names):
        bone, dot, side = name.partition(".")
        rest = rig.rest[row, :3, :3]
        if bone in part_of:
            deltas[:, row] = parts[:, surface.PART[part_of[bone] + dot + side]]
            if bone == "hand":
                deltas[:, row] = deltas[:, row] @ _about(rest[:, 1], 0.6 * np.sin(2.0 * times + len(side)))
        else:
            curl = 0.35 + 0.35 * np.sin(3.0 * times + row)
            deltas[:, row] = deltas[:, rig.parents[row]] @ _about(rest[:, 0], curl)
    body = Body(rig, HUMANOID_MAPPING)
    heads = np.empty((len(parts), len(rig.names), 3))
    heads[:, 0] = root * (body.length("thigh.L") + body.length("shin.L"))
    for row, parent in enumerate(rig.parents):
        if parent >= 0:
            heads[:, row] = heads[:, parent] + deltas[:, parent] @ (rig.heads[row] - rig.heads[parent])
    soles = [rig.index[f"{part}.{side}"] for part in ("foot", "toe") for side in SIDES]
    heads[..., 2] -= np.quantile((heads[:, soles, 2] - rig.heads[soles, 2]).min(axis=1), 0.1)
    return Performance(rig, HUMANOID_MAPPING, deltas @ rig.rest[:, :3, :3], heads, times, name=label)


def _about(axis: Array, angle: Array) -> Array:
    return matrix_from_quaternion(quaternion_from_rotvec(angle[:, None] * axis))


def bench_identity(data: Path) -> list[Table]:
    """Onto the same skeleton."""
    table = Table(
        "Onto the same skeleton: largest difference of the pose",
        ("performance", "rotation (rad)", "joint (mm)", "frames"),
        note="Target: 1e-5 rad. Before feet are held, which changes a motion whose feet slide.",
    )
    golden = performance_of(BodyMotion.load(ROOT / "tests" / "golden" / "body_motion.npz"))
    random = made().random_performance(200, spread=1.0)
    for name, performance in {"golden": golden, "random": random, **demo_performances(data)}.items():
        motion = Retargeter(performance, performance.rig, performance.mapping).solve(POSE)
        turn = rotvec_from_matrix(np.swapaxes(motion.turns, -1, -2) @ performance.turns)
        far = np.linalg.norm(motion.heads - performance.heads, axis=-1).max()
        table.add(name, float(np.linalg.norm(turn, axis=-1).max()), 1000 * float(far), len(performance.times))
    return [table]


def bench_random(_: Path) -> list[Table]:
    """Onto copies with random axes, rest poses and lengths of bones."""
    table = Table(
        "Onto 200 random rigs: angle between a bone's direction and the performer's (degrees)",
        ("rest pose turned by up to (degrees)", "mean", "largest", "bones compared"),
        note="Lengths times 0.6 to 1.6, axes rolled or turned any way. Target: 0.5.",
    )
    for bend in (0.0, 20.0, 40.0, 80.0):
        errors = []
        for seed in range(50):
            performance, rig = made().random_performance(10, seed), made().random_rig(seed, bend)
            motion = Retargeter(performance, rig, HUMANOID_MAPPING).solve(POSE)
            pairs = [(row, p) for row, p in enumerate(rig.parents) if p >= 0 and _continues(rig, row)]
            rows, parents = (np.array(side) for side in zip(*pairs, strict=True))
            errors.append(_degrees(*(unit(h[:, rows] - h[:, parents]) for h in (motion.heads, performance.heads))))
        everything = np.concatenate(errors)
        table.add(bend, _shown(everything.mean()), _shown(everything.max()), everything.shape[1])
    return [table]


def _continues(rig: Rig, row: int) -> bool:
    """Whether a bone begins where its parent ends by its role: limbs, fingers, spine; not where limbs branch off."""
    part, above = rig.names[row].split(".")[0], rig.names[rig.parents[row]].split(".")[0]
    return _NEXT.get(above) == part or part == above or (above, part) in {("foot", "toe"), ("shoulder", "upper_arm")}


def bench_rigs(data: Path) -> list[Table]:
    """Onto every named rig."""
    performances = demo_performances(data)
    table = Table(
        "Onto named rigs, over all demo performances: mean angle to the performer's direction (degrees)",
        ("rig", "bones", "mapped", "arms and legs", "hands", "soles, turn", "soles, tilt", "solve, 300 frames (ms)"),
        note="Target: 1. Soles are compared with how they stand at rest, since ankles differ in height. No figure for "
        "hands without fingers, or whose fingers follow by Blender's constraints.",
    )
    for name in skeletons().names():
        rig = skeletons().load(name)
        try:
            mapping = map_rig(rig, deform=skeletons().deform(name), held=skeletons().held(name)).mapping
        except InputError as error:
            table.add(name, len(rig.names), error.message[:60], None, None, None, None, None)
            continue
        limbs, hands, turns, tilts, seconds = [], [], [], [], []
        for performance in performances.values():
            retargeter = Retargeter(performance, rig, mapping)
            start = time.process_time()
            motion = retargeter.solve(POSE)
            seconds.append((time.process_time() - start) * 300 / len(performance.times))
            ours, theirs = Body(rig, mapping), Body(performance.rig, performance.mapping)
            limbs.append(_limb_errors(ours, theirs, motion, performance))
            hands.append(_hand_errors(ours, theirs, motion, performance))
            turn, tilt = _sole_errors(ours, theirs, motion, performance)
            turns.append(turn)
            tilts.append(tilt)
        mapped = len(retargeter.keyed)
        means = [_mean(errors) for errors in (limbs, hands, turns, tilts)]
        table.add(name, len(rig.names), mapped, *means, 1000 * min(seconds))
    return [table]


def _mean(errors: list[Array]) -> float | None:
    everything = np.concatenate(errors)
    return _shown(everything.mean()) if len(everything) else None


def _shown(value: float) -> float:
    """A figure without the noise of double precision."""
    return round(float(value), 4)


def _degrees(a: Array, b: Array) -> Array:
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


def _limb_errors(ours: Body, theirs: Body, motion: RigMotion, performance: Performance) -> Array:
    """From joint to joint of arms and legs."""
    out = []
    for upper, lower in ((f"{a}.{side}", f"{b}.{side}") for side in SIDES for a, b in _NEXT.items()):
        if lower in ours.chains:
            there = _towards(theirs, performance.heads, upper, theirs.chains[lower][0])
            out.append(_degrees(_towards(ours, motion.heads, upper, ours.chains[lower][0]), there))
    return np.concatenate(out)


def _hand_errors(ours: Body, theirs: Body, motion: RigMotion, performance: Performance) -> Array:
    """From the wrist to the knuckles that both have."""
    out = [np.zeros(0)]
    for hand, finger in ((f"hand.{side}", f"{f}.{side}") for side in SIDES for f in FINGERS[1:]):
        if finger in ours.chains and ours.chains[hand][0] in list(ours.rig.ancestors(ours.chains[finger][0])):
            rows = [body.chains[finger][body.knuckles.get(finger, 0)] for body in (ours, theirs)]
            there = _towards(theirs, performance.heads, hand, rows[1])
            out.append(_degrees(_towards(ours, motion.heads, hand, rows[0]), there))
    return np.concatenate(out)


def _towards(body: Body, heads: Array, role: str, row: int) -> Array:
    """(T, 3) from a role's first joint towards a bone's."""
    return unit(heads[:, row] - heads[:, body.chains[role][0]])


def _sole_errors(ours: Body, theirs: Body, motion: RigMotion, performance: Performance) -> tuple[Array, Array]:
    """Where feet point, and how their soles are tilted, against how they stand at rest."""
    turns, tilts = [np.zeros(0)], [np.zeros(0)]
    for side in SIDES:
        foot = f"foot.{side}"
        if foot not in ours.chains:
            continue
        seen = []
        for body, moved in ((ours, motion), (theirs, performance)):
            row = body.chains[foot][0]
            since = moved.turns[:, row] @ body.rig.rest[row, :3, :3].T
            seen.append((since @ unit(body.direction(foot) * [1.0, 1.0, 0.0]), since @ [0.0, 0.0, 1.0]))
        turns.append(_degrees(seen[0][0], seen[1][0]))
        tilts.append(_degrees(seen[0][1], seen[1][1]))
    return np.concatenate(turns), np.concatenate(tilts)


def bench_tips(data: Path) -> list[Table]:
    """Fingertips and toes."""
    performances = demo_performances(data)
    table = Table(
        "Fingers and toes: distance to the performer's place (cm, scaled to the performer's size)",
        (
            "character", "reach", "fingers, mean", "fingers, 95 %", "within 1.5 cm", "out of reach",
            "toes, mean", "toes, 95 %", "within 1.5 cm", "out of reach",
        ),
        note="The last joint of the middle finger, and where the toes bend. Of one build at any size: in the world. Of "
        "another build: fingers from between the shoulders, toes from the pelvis; reach: arm_reach and leg_reach; out "
        "of reach: frames whose place is further away than the limb is long. Target: 1.5 cm where lengths allow.",
    )  # fmt: skip
    pose = made().a_pose(made().humanoid())
    same = {f"same build x {scale}, A-pose": made().rolled(made().scaled(pose, scale), 3) for scale in (0.5, 1.0, 2.5)}
    other = {kind: made().person(kind) for kind in ("adult", "child", "giant")}
    for name, rig in (same | other).items():
        for amount in (0.0,) if name in same else (0.0, 1.0):
            rows = [_tips(p, rig, amount, absolute=name in same) for p in performances.values()]
            cells: list[Any] = []
            for ends in ("fingers", "toes"):
                off, away = (np.concatenate([row[ends][i] for row in rows]) for i in range(2))
                cells += [*_mean_95(100 * off), f"{100 * np.mean(off[~away] < 0.015):.1f} %"]
                cells.append(f"{100 * away.mean():.1f} %" if amount else None)
            table.add(name, amount, *cells)
    return [table]


def _mean_95(values: Array) -> tuple[float, float]:
    return _shown(values.mean()), _shown(float(np.quantile(values, 0.95)))


def _tips(performance: Performance, rig: Rig, amount: float, *, absolute: bool) -> dict[str, tuple[Array, Array]]:
    """Distances of middle fingertips and toes, metres in the performer's size, and where they are out of reach."""
    retargeter = Retargeter(performance, rig, HUMANOID_MAPPING)
    motion = retargeter.solve(replace(POSE, arm_reach=amount, leg_reach=amount))
    found = {}
    for ends, first, second, end, tip in (
        ("fingers", "upper_arm", "forearm", "hand", "middle.03"),
        ("toes", "thigh", "shin", "foot", "toe"),
    ):
        off, away = [], []
        limb = rig.heads[[rig.index[f"{part}.L"] for part in (first, second, end)]]
        longest = 0.96 * np.linalg.norm(np.diff(limb, axis=0), axis=-1).sum()
        for side in SIDES:
            ours, theirs = (
                _from_middle(heads, rig, first, f"{tip}.{side}", absolute=absolute)
                for heads in (motion.heads, performance.heads * retargeter.ratio)
            )
            off.append(np.linalg.norm(ours - theirs, axis=-1) / retargeter.ratio)
            to_end = motion.heads[:, rig.index[f"{end}.{side}"]] - motion.heads[:, rig.index[f"{tip}.{side}"]]
            root = _from_middle(motion.heads, rig, first, f"{first}.{side}", absolute=absolute)
            away.append((np.linalg.norm(theirs + to_end - root, axis=-1) > longest) & (not absolute))
        found[ends] = np.concatenate(off), np.concatenate(away)
    return found


def _from_middle(heads: Array, rig: Rig, first: str, bone: str, *, absolute: bool) -> Array:
    """(T, 3) of a bone's head, seen from between both limbs' first joints unless `absolute`."""
    middle = (heads[:, rig.index[f"{first}.L"]] + heads[:, rig.index[f"{first}.R"]]) / 2
    return heads[:, rig.index[bone]] - (0.0 if absolute else middle)


def bench_feet(data: Path) -> list[Table]:
    """Feet on characters of other proportions."""
    table = Table(
        "Feet, not held and held: slide while standing, and depth in the floor (mm)",
        (
            "character", "performance", "frames", "slide, mean", "held", "slide, largest", "held",
            "depth, mean", "held", "depth, largest", "held", "knee", "held",
        ),
        note="Slide a frame at 30 fps. Target: 3 mm a frame and 5 mm. Knee: hip to ankle as a share of the leg.",
    )  # fmt: skip
    performances = demo_performances(data)
    for kind in ("adult", "child", "giant"):
        for name, performance in performances.items():
            retargeter = Retargeter(performance, made().person(kind), HUMANOID_MAPPING)
            motions_ = retargeter.unlocked(RetargetSettings()), retargeter.solve(RetargetSettings())
            before, after = (feet.measure(motion, retargeter.feet, retargeter.contacts) for motion in motions_)
            cells = []
            for measure, part in (("slide_mm", 0), ("slide_mm", 2), ("depth_mm", 0), ("depth_mm", 2)):
                cells += [_shown(getattr(moved, measure)[part]) for moved in (before, after)]
            table.add(kind, name, len(performance.times), *cells, before.knee, after.knee)
    return [table]


def bench_speed(data: Path) -> list[Table]:
    """A slider moved, and one frame of a live stream."""
    table = Table(
        "A slider moved: 500 frames solved again, and one frame at a time (ms of one core)",
        ("rig", "bones", "driven", "prepare once", "pose", "pose, feet", "one frame"),
        note="Keys are not written here. Target: 50 for a slider with keys.",
    )
    performance = demo_performances(data)["dance"]
    again = np.arange(500) % len(performance.times)
    turns, heads = performance.turns[again], performance.heads[again]
    performance = replace(performance, turns=turns, heads=heads, times=np.arange(500) / 30.0)
    for name in ("mixamo", "unreal5", "rigify_generated"):
        rig = skeletons().load(name)
        mapping: Mapping = map_rig(rig, deform=skeletons().deform(name), held=skeletons().held(name)).mapping
        prepare = _fastest(lambda _, r=rig, m=mapping: Retargeter(performance, r, m), 3)
        there = Retargeter(performance, rig, mapping)
        there.solve(RetargetSettings())
        pose = _fastest(lambda i, t=there: t.solve(replace(POSE, arm_spread=0.001 * i)))
        whole = _fastest(lambda i, t=there: t.solve(RetargetSettings(arm_spread=0.001 * i)))
        live = Retargeter.for_rig(performance.rig, performance.mapping, rig, mapping)
        frame = _fastest(lambda i, t=live: t.pose(performance.turns[i], performance.heads[i]), 50)
        table.add(name, len(rig.names), len(there.keyed), prepare, pose, whole, frame)
    return [table]


def _fastest(call: Callable[[int], Any], times: int = 10) -> float:
    """Milliseconds of processor time of the fastest call."""
    found = []
    for i in range(1, times + 1):
        start = time.process_time()
        call(i)
        found.append(time.process_time() - start)
    return 1000 * min(found)


def bench_blender(_: Path) -> list[Table]:
    """Keys in every Blender whose environment exists here."""
    tables = []
    for python in sorted(ROOT.glob(".venv*/bin/python")) + sorted(ROOT.glob(".venv*/Scripts/python.exe")):
        command = [python, ROOT / "tests" / "blender" / "bench_retarget.py"]  # prints one line of JSON
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
        lines = [text for text in done.stdout.splitlines() if text.startswith("{")]
        found = json.loads(lines[-1]) if lines else {"tables": []}
        for table in found["tables"]:
            title = f"Blender {found['blender']}: {table['title']}"
            tables.append(Table(title, table["columns"], table["rows"], table.get("note", "")))
    return tables


SECTIONS: dict[str, Callable[[Path], list[Table]]] = {
    "identity": bench_identity,
    "random": bench_random,
    "rigs": bench_rigs,
    "tips": bench_tips,
    "feet": bench_feet,
    "speed": bench_speed,
    "blender": bench_blender,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen sections and print their tables."""
    return run_sections("retarget", __doc__, SECTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
