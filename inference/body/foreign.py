"""A user's own SMPL or SMPL-X file as the body: Loper et al. 2015, Pavlakos et al. 2019. Nothing of them is shipped.

Read are the arrays of the model's .npz alone, without pickle. Its shape is fitted to the joints of the person's own
body; its correctives of poses are left out, as rigs of other programs have none.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.artifacts import UNREADABLE, BodyMesh, BodyParameters, check_npz, first_line
from ..core.body import global_turns, local_turns
from ..core.rotations import between, matrix_from_quaternion
from ..protocol.errors import InputError

Array = np.ndarray
_NEEDED = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
_JOINTS = 22  # of the body; both models begin with them
NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
)  # fmt: skip
# The bone of anny that moves each joint; hands and face follow.
_SOURCES = (
    "root", "upperleg01.L", "upperleg01.R", "spine05", "lowerleg01.L", "lowerleg01.R", "spine03", "foot.L", "foot.R",
    "spine01", "toe2-1.L", "toe2-1.R", "neck01", "clavicle.L", "clavicle.R", "head", "upperarm01.L", "upperarm01.R",
    "lowerarm01.L", "lowerarm01.R", "wrist.L", "wrist.R",
)  # fmt: skip
# Limbs, whose rest directions differ between the models: joint, the joint it points at.
_LIMBS = {"left_shoulder": "left_elbow", "left_elbow": "left_wrist", "left_hip": "left_knee", "left_knee": "left_ankle",
          "right_shoulder": "right_elbow", "right_elbow": "right_wrist", "right_hip": "right_knee",
          "right_knee": "right_ankle"}  # fmt: skip
_HANDS = {"left_wrist": "left_elbow", "right_wrist": "right_elbow"}  # turn on as their forearms did
_FROM_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
_SHAPES, _PULL = 10, 0.004  # directions of shape that are fitted; metres for a whole standard deviation
_STEPS = 8
_MOST_WEIGHTS = 4


@dataclass(frozen=True)
class ForeignModel:
    """template (V, 3) and directions (V, 3, S) metres, x left, y back, z up; regressor (J, V); weights (V, J)."""

    name: str
    template: Array
    directions: Array
    regressor: Array
    weights: Array
    parents: Array
    faces: Array

    def shaped(self, betas: Array) -> tuple[Array, Array]:
        """Vertices (V, 3) and joints (J, 3) of a shape."""
        vertices = self.template + self.directions @ betas
        return vertices, self.regressor @ vertices

    def mesh_like(self, ours: BodyMesh) -> BodyMesh:
        """The model's body whose limbs are as long, and which is as tall, as ours."""
        vertices, joints = self.shaped(self._fitted(ours))
        floor = np.array([0.0, 0.0, vertices[:, 2].min()])
        vertices, joints = vertices - floor, joints - floor
        order = np.argsort(-self.weights, 1)[:, :_MOST_WEIGHTS]
        weight = np.take_along_axis(self.weights, order, 1)
        faces = np.concatenate([self.faces, np.full((len(self.faces), 1), -1)], 1).astype(np.int32)
        names = [*NAMES, *(f"joint{row}" for row in range(_JOINTS, len(joints)))]
        tails = _tails(joints, self.parents)
        none = np.zeros((0, len(joints), 3), np.float32)
        header = {"unit": "m", "frame": "body", "model": self.name, "bones": names, "shape": {}}
        return BodyMesh(
            header, vertices.astype(np.float32), faces, np.zeros((*faces.shape, 2), np.float32),
            order.astype(np.int32), (weight / weight.sum(1, keepdims=True)).astype(np.float32), self.parents, joints,
            tails, np.tile([1.0, 0.0, 0.0], (len(joints), 1)), np.zeros((0, len(vertices), 3), np.float32),
            np.zeros(0, "U1"), np.zeros((0, len(vertices), 3), np.float32), np.zeros(0, "U1"), none, none,
        )  # fmt: skip

    def _fitted(self, ours: BodyMesh) -> Array:
        """(S,) shape whose bones are as long as ours, and as tall (Gauss-Newton with a pull to the mean)."""
        index = {name: row for row, name in enumerate(ours.header["bones"])}
        heads = ours.heads[[index[name] for name in _SOURCES]]
        pairs = [(row, int(parent)) for row, parent in enumerate(self.parents[:_JOINTS]) if parent >= 0]
        child, parent = np.array(pairs).T
        ends = np.linalg.norm(heads[child] - heads[parent], axis=1)
        wanted = np.append(ends, np.ptp(ours.vertices[:, 2]))

        def lengths(betas: Array) -> Array:
            vertices, joints = self.shaped(betas)
            return np.append(np.linalg.norm(joints[child] - joints[parent], axis=1), np.ptp(vertices[:, 2]))

        betas, step = np.zeros(self.directions.shape[2]), 0.1
        for _ in range(_STEPS):
            now = lengths(betas)
            slope = np.stack([(lengths(betas + step * row) - now) / step for row in np.eye(len(betas))], 1)
            rows = np.concatenate([slope, _PULL * np.eye(len(betas))])
            left = np.concatenate([wanted - now, -_PULL * betas])
            betas = betas + np.linalg.lstsq(rows, left, rcond=None)[0]
        return betas


def read_model(path: Path) -> ForeignModel:
    """Read a user's model file.

    Raises:
        InputError: it is missing, no such model, or damaged.
    """
    hint = "Give SMPL_NEUTRAL.npz or SMPLX_NEUTRAL.npz, as its owners hand it out; .pkl files are never opened."
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        raise InputError(f"{path.name} is no .npz file of a body model.", hint)
    try:
        check_npz(path)
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _NEEDED if name not in archive.files]
            if missing:
                raise InputError(f"{path.name} lacks {', '.join(missing)}: it is no SMPL model.", hint)
            found = {name: np.asarray(archive[name]) for name in _NEEDED}
    except UNREADABLE as error:
        raise InputError(f"{path.name} cannot be read: {first_line(error)}", hint) from error
    _check(path.name, found)
    parents = found["kintree_table"][0].astype(np.int64)
    parents[0] = -1
    directions = np.einsum("ij,vjs->vis", _FROM_Y_UP, found["shapedirs"][..., :_SHAPES].astype(float))
    return ForeignModel(
        path.stem, found["v_template"].astype(float) @ _FROM_Y_UP.T, directions, found["J_regressor"].astype(float),
        found["weights"].astype(float), parents.astype(np.int32), found["f"].astype(np.int32),
    )  # fmt: skip


def _check(name: str, found: dict[str, Array]) -> None:
    vertices, joints = len(found["v_template"]), found["weights"].shape[-1]
    shapes = {
        "v_template": (vertices, 3), "weights": (vertices, joints), "J_regressor": (joints, vertices),
        "f": (len(found["f"]), 3), "kintree_table": (2, joints),
    }  # fmt: skip
    for entry, shape in shapes.items():
        if found[entry].shape != shape or found[entry].dtype.kind not in "fiu":
            raise InputError(f"{name}: {entry} has shape {found[entry].shape}, expected {shape}.")
    directions, parents = found["shapedirs"], found["kintree_table"][0].astype(np.int64)[1:]
    if directions.ndim != 3 or directions.shape[:2] != (vertices, 3) or not directions.shape[2]:
        raise InputError(f"{name}: shapedirs has shape {directions.shape}, expected ({vertices}, 3, shapes).")
    if joints < _JOINTS or not all(0 <= parent <= row for row, parent in enumerate(parents)):
        raise InputError(f"{name}: its {joints} joints do not hang on one root as those of SMPL do.")
    if found["f"].min() < 0 or found["f"].max() >= vertices:
        raise InputError(f"{name}: faces of vertices outside the {vertices} there are.")
    if not all(np.isfinite(found[entry]).all() for entry in ("v_template", "shapedirs", "J_regressor", "weights")):
        raise InputError(f"{name} holds values that are not finite.")


def _tails(joints: Array, parents: Array) -> Array:
    """(J, 3) ends of bones: the mean of their children, or a little farther the way they came."""
    out = np.empty_like(joints)
    for row, parent in enumerate(parents):
        children = np.flatnonzero(parents == row)
        on = joints[row] - joints[max(int(parent), 0)]
        out[row] = joints[children].mean(0) if len(children) else joints[row] + 0.5 * on
        if np.linalg.norm(out[row] - joints[row]) < 0.01:
            out[row] = joints[row] + (0.0, 0.0, 0.05)
    return out


def as_foreign(parameters: BodyParameters, ours: BodyMesh, theirs: BodyMesh) -> BodyParameters:
    """Give the motion of our body to a foreign one, whose limbs may point elsewhere at rest."""
    index = {name: row for row, name in enumerate(ours.header["bones"])}
    turns = global_turns(parameters.pose, ours.parents)[:, [index[name] for name in _SOURCES]]
    match = np.tile(np.eye(3), (_JOINTS, 1, 1))
    for row, name in enumerate(NAMES):
        if name in _LIMBS:
            end = NAMES.index(_LIMBS[name])
            wanted = ours.heads[index[_SOURCES[end]]] - ours.heads[index[_SOURCES[row]]]
            start = match[int(theirs.parents[row])]
            now = start @ (theirs.heads[end] - theirs.heads[row])
            match[row] = matrix_from_quaternion(between(now, wanted)) @ start
        elif name in _HANDS:
            match[row] = match[NAMES.index(_HANDS[name])]
    moved = turns @ match
    whole = np.empty((len(moved), len(theirs.parents), 3, 3))
    whole[:, :_JOINTS] = moved
    for row in range(_JOINTS, len(theirs.parents)):
        whole[:, row] = whole[:, int(theirs.parents[row])]
    hips = _hips(ours, ("upperleg01.L", "upperleg01.R")) - _hips(theirs, ("left_hip", "right_hip"))
    root = parameters.root + turns[:, 0] @ hips  # so that the hips of both are in the same place
    header = {**parameters.header, "bones": list(theirs.header["bones"]), "model": theirs.header["model"],
              "skeleton": "smpl"}  # fmt: skip
    return replace(parameters, header=header, pose=local_turns(whole, theirs.parents), root=root)


def _hips(mesh: BodyMesh, names: tuple[str, str]) -> Array:
    """(3,) the middle of the hips seen from the root, at rest."""
    rows = [mesh.header["bones"].index(name) for name in names]
    return mesh.heads[rows].mean(0) - mesh.heads[0]
