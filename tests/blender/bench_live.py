"""What a live frame costs in Blender: from the published pose to the character, on rigs of several kinds.

Prints one line of JSON: rows (stage, ms at 10 %, 50 % and 95 %, processor time ms).
"""

from __future__ import annotations

import json
import os
import sys
import time
import types
from pathlib import Path

import bpy
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
understudy = types.ModuleType("understudy")
understudy.__path__ = [str(ROOT)]
sys.modules["understudy"] = understudy
sys.path.insert(0, str(ROOT))

from understudy.inference.core.artifacts import BodyMotion  # noqa: E402
from understudy.inference.core.humanoid import make_skeleton  # noqa: E402
from understudy.inference.core.mapping.mapper import map_rig  # noqa: E402
from understudy.inference.core.rotations import quaternion_from_rotvec  # noqa: E402
from understudy.inference.core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS  # noqa: E402
from understudy.inference.protocol.retarget import RetargetSettings  # noqa: E402
from understudy.inference.protocol.stream import STAGES, LiveFrame  # noqa: E402
from understudy.operators.scene.armature import Placement, create_armature  # noqa: E402
from understudy.operators.scene.driver import Driver  # noqa: E402
from understudy.operators.scene.rig import read_character  # noqa: E402
from understudy.tests.blender.test_rigify_mapping import generated  # noqa: E402

from tests import rigs  # noqa: E402

FRAMES = 300
RIGS = ("understudy", "mixamo", "unreal5", "rigify_generated")


def armature(name: str) -> bpy.types.Object:
    """One of the test rigs in the scene; Rigify's generated one is made by Rigify itself."""
    if name == "rigify_generated":
        return generated()
    rig = rigs.load(name)
    count = len(rig.names)
    header = {"bones": list(rig.names), "lengths_m": rig.lengths.tolist(), "fps": 30.0}
    motion = BodyMotion(
        header, np.zeros((0, count, 4)), np.zeros((0, 3)), rig.rest, rig.parents, np.zeros((0, count)), np.zeros(0),
        np.zeros((0, 4)),
    )  # fmt: skip
    return create_armature(motion, name, bpy.context.scene.collection, Placement(np.eye(4)))


def frames() -> tuple[dict, list[LiveFrame]]:
    """A person of average size whose every joint swings."""
    skeleton, bones = make_skeleton(), len(HUMANOID_NAMES)
    head = {
        "generation": 1, "bones": list(HUMANOID_NAMES), "parents": list(HUMANOID_PARENTS),
        "rest": skeleton.rest.tolist(), "lengths": skeleton.lengths.tolist(),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    phase, axes = rng.uniform(0, 6.28, (bones, 1)), rng.normal(scale=0.2, size=(bones, 3))
    made = []
    for number in range(FRAMES):
        turns = quaternion_from_rotvec(axes * np.sin(0.1 * number + phase))
        made.append(LiveFrame(
            number + 1, 0, 0, 1, 0, turns.ravel().tolist(), skeleton.rest[0, :3, 3].tolist(), [1.0] * bones,
            [0.0] * 4, [0.0] * len(STAGES),
        ))  # fmt: skip
    return head, made


def measure(name: str, head: dict, made: list[LiveFrame]) -> list[list]:
    """Rows of the table for one rig."""
    rig = armature(name)
    driver = Driver.prepare(rig, map_rig(read_character(rig).rig).mapping)
    settings = RetargetSettings()
    costs: dict[str, list[tuple[float, float]]] = {"retarget and pose": [], "Blender's evaluation": []}
    for frame in made:
        for stage, work in (
            ("retarget and pose", lambda frame=frame: driver.drive(frame, head, settings)),
            ("Blender's evaluation", bpy.context.view_layer.update),
        ):
            start = time.perf_counter(), time.thread_time()
            work()
            costs[stage].append((time.perf_counter() - start[0], time.thread_time() - start[1]))
    rows = []
    for stage, taken in costs.items():
        wall, processor = 1e3 * np.array(taken[10:]).T
        title = f"{stage}: {name}, {len(rig.data.bones)} bones, Blender {bpy.app.version_string}"
        rows.append([title, *np.quantile(wall, (0.1, 0.5, 0.95)).tolist(), float(np.median(processor))])
    bpy.data.objects.remove(rig)
    return rows


def main() -> None:
    """Measure every rig."""
    bpy.ops.wm.read_homefile(use_empty=True)
    head, made = frames()
    rows = [row for name in RIGS for row in measure(name, head, made)]
    print("\n" + json.dumps({"rows": rows}), flush=True)
    os._exit(0)  # bpy's own exit hangs in some versions


if __name__ == "__main__":
    main()
