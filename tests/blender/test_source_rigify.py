"""A generated Rigify rig that its IK controls move is read by the bones that deform the skin."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from understudy.operators.scene import evaluate
from understudy.operators.scene.action import Channel, write_action
from understudy.operators.scene.source import read_performance
from understudy.tests.blender.test_rigify_mapping import generated

MOVED = {"hand_ik.L": 0.15, "foot_ik.R": 0.1, "torso": 0.1}
FRAMES = np.arange(1.0, 42.0, 8.0)


@pytest.mark.slow
def test_a_rigify_rig_is_read_by_its_deforming_bones():
    rig, rng = generated(), np.random.default_rng(0)
    paths = {f'pose.bones["{name}"].location': reach for name, reach in MOVED.items()}
    found = [Channel(path, reach * rng.normal(size=(len(FRAMES), 3))) for path, reach in paths.items()]
    write_action(rig, "Moves", FRAMES, found)
    assert not evaluate.is_plain(rig, None)
    found = read_performance(rig)
    assert len(found.times) == 41 and not found.mapping.missing(found.rig)
    for role, bone in (("hand.L", "DEF-hand.L"), ("foot.R", "DEF-foot.R")):
        assert found.mapping.bones[role] == (bone,)
    scene = bpy.context.scene
    for index in (0, 13, 40):
        scene.frame_set(1 + index)
        for role in ("hand.L", "foot.R", "hips", "head"):
            row = found.mapping.chain(role, found.rig)[0]
            seen = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones[found.rig.names[row]]
            assert np.abs(np.array(rig.matrix_world @ seen.head) - found.heads[index, row]).max() < 1e-5
            assert (
                np.abs(np.array((rig.matrix_world @ seen.matrix).to_3x3()) - found.turns[index, row]).max() < 2e-3
            )  # it stretches
    assert 0.05 < np.ptp(found.heads[:, found.mapping.chain("hand.L", found.rig)[0]], axis=0).max() < 2.0
