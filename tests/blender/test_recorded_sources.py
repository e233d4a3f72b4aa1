"""Recorded motions come out of BVH files as they went in, in whichever unit, with their roles found."""

from __future__ import annotations

import numpy as np
import pytest
from understudy.inference.core.artifacts import read_npz
from understudy.inference.core.rotations import matrix_from_quaternion
from understudy.operators.scene.source import import_source

Z_UP = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
FRAMES = slice(0, 240, 4)


def recorded(data, file):
    """Names, parents, offsets (J, 3) m, local rotations (T, J, 3, 3) and root (T, 3), y up, of the first clip."""
    arrays = read_npz(data / "motion" / f"motion_{file}.npz")
    quaternions = arrays["rot_xyzw_i16"][FRAMES].astype(float)[..., [3, 0, 1, 2]]
    names = [str(name) for name in arrays["joint_names"]]
    offsets = arrays["offsets"][int(arrays["clip_skeleton"][0])].astype(float)
    return names, arrays["parents"], offsets, matrix_from_quaternion(quaternions), arrays["root"][FRAMES].astype(float)


def write_bvh(path, names, parents, offsets, turns, root):
    """The hierarchy and, a row a frame, root positions and angles about z, x and y."""
    order, lines = [], ["HIERARCHY"]

    def write(joint, depth):
        children, indent = np.flatnonzero(parents == joint), "  " * depth
        numbers = " ".join(f"{value:.6f}" for value in offsets[joint])
        if not len(children) and (names[joint].endswith("_End") or names[joint] == "HeadTop"):
            lines.extend([f"{indent}End Site", f"{indent}{{", f"{indent}  OFFSET {numbers}", f"{indent}}}"])
            return
        order.append(joint)
        place = "6 Xposition Yposition Zposition" if depth == 0 else "3"
        lines.extend([f"{indent}{'ROOT' if depth == 0 else 'JOINT'} {names[joint]}", f"{indent}{{"])
        lines.extend([f"{indent}  OFFSET {numbers}", f"{indent}  CHANNELS {place} Zrotation Xrotation Yrotation"])
        for child in children:
            write(child, depth + 1)
        if not len(children):
            lines.extend([f"{indent}  End Site", f"{indent}  {{", f"{indent}    OFFSET 0 0.1 0", f"{indent}  }}"])
        lines.append(f"{indent}}}")

    write(0, 0)
    r = turns[:, order]
    angles = np.stack([np.arctan2(-r[..., 0, 1], r[..., 1, 1]), np.arcsin(np.clip(r[..., 2, 1], -1, 1)),
                       np.arctan2(-r[..., 2, 0], r[..., 2, 2])], axis=-1)  # fmt: skip
    rows = np.concatenate([root, np.degrees(angles).reshape(len(root), -1)], axis=1)
    lines += ["MOTION", f"Frames: {len(rows)}", "Frame Time: 0.0666667"]
    path.write_text("\n".join([*lines, *(" ".join(f"{value:.6f}" for value in row) for row in rows), ""]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Blender's reader leaves BVH files open
@pytest.mark.data
@pytest.mark.parametrize(
    ("file", "unit"), [("cmubvh", 0.056444), ("snu", 0.01), ("daz", 0.0254), ("fair", 0.01), ("asf", 1)]
)
def test_recorded_motion_in_any_unit(data_dir, tmp_path, file, unit):
    names, parents, offsets, turns, root = recorded(data_dir, file)
    world, heads = turns.copy(), np.repeat(root[:, None], len(names), axis=1)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            world[:, joint] = world[:, parent] @ turns[:, joint]
            heads[:, joint] = heads[:, parent] + world[:, parent] @ offsets[joint]
    write_bvh(tmp_path / "clip.bvh", names, parents, offsets / unit, turns, root / unit)
    found = import_source(tmp_path / "clip.bvh")
    rows = {name: found.rig.index[name] for name in names if name in found.rig.index}
    truth = heads[:, [names.index(name) for name in rows]] @ Z_UP.T
    off = found.heads[:, list(rows.values())] - truth
    assert np.abs(off - [0, 0, off[0, 0, 2]]).max() < 1e-3 and len(found.times) == len(root)
    assert found.fps == pytest.approx(15, abs=1e-3) and not found.mapping.missing(found.rig)
    shins = {
        "L": ("LeftLeg", "Character1_LeftLeg", "lShin", "ltibia"),
        "R": ("RightLeg", "Character1_RightLeg", "rShin", "rtibia"),
    }
    for side, words in shins.items():
        assert found.mapping.bones[f"shin.{side}"][0] in words, found.header["notes"]
