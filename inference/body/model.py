"""The parametric body: `anny` (Romain Bregier et al., "Human Mesh Modeling for Anny Body", ECCV 2026), shape by shape.

Its 104 bones, quads, texture places and 52 expressions are its own; it stands on its soles at the origin, x to the
person's left, y backwards, z up. Turns are relative to this rest pose (see `core.body`), not to anny's reference pose.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..core.artifacts import BodyMesh
from ..core.body import local_turns
from ..core.body_measures import ruler_of
from ..core.rotations import unit
from ..nets.gc_body import PARTS
from ..protocol.errors import InputError

Array = np.ndarray
ADULT = {"age": 0.67}  # a young adult; 0 is a baby, 1/3 a child, 1 an old person
_YOUNGEST, _OLDEST = 1 / 3, 1.0  # of the shape key; shapes may be younger
_RACES = ("african", "asian", "caucasian")
# Local changes that become shape keys of a body, beside all phenotypes and everything that is called a measure.
_CHANGES = (
    "torso-scale-vert-incr", "torso-vshape-incr", "torso-muscle-pectoral-incr", "stomach-tone-incr",
    "stomach-pregnant-incr", "buttocks-volume-incr", "hip-scale-horiz-incr", "upperlegs-height-incr",
    "lowerlegs-height-incr", "head-fat-incr", "head-age-incr",
)  # fmt: skip
_TOES = tuple(f"toe{number}-1" for number in range(1, 6))
_ALONG_LEAF = 0.5  # weight from which a vertex counts for how long a last bone is
_ROOT_TAIL_M = 0.1


class BodyModel:
    """Shapes to bodies. Shape parameters are named; those that are not given have their defaults."""

    def __init__(self) -> None:
        from anny import Anny

        model = Anny(
            rig="anny", topology="anny-quads", local_changes="all", facial_actions="all", phenotypes="all",
            skinning_method="lbs",
        )  # fmt: skip
        self._model: Any = model.to(torch.float32)
        self.bones = tuple(self._model.bone_labels)
        self.parents = np.array(self._model.bone_parents, np.int32)
        self.phenotypes = tuple(self._model.phenotype_labels)
        self.changes = tuple(self._model.local_change_labels)
        self.expressions = tuple(self._model.facial_action_labels)
        self._index = self._model.vertex_bone_indices.numpy().astype(np.int32)
        self._weight = self._model.vertex_bone_weights.numpy()
        self._along = self._followers()

    @property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Range of each shape parameter."""
        low = {name: -1 / 3 if name == "age" else 0.0 for name in self.phenotypes}
        return {**{name: (low[name], 1.0) for name in self.phenotypes}, **dict.fromkeys(self.changes, (-1.0, 1.0))}

    def complete(self, shape: Mapping[str, float]) -> dict[str, float]:
        """Give every phenotype and the local changes that are named, within their limits.

        Raises:
            InputError: there is no parameter of a name.
        """
        limits = self.limits
        unknown = [name for name in shape if name not in limits]
        if unknown:
            raise InputError(f"There is no shape parameter {unknown[0]!r} among the {len(limits)} of anny.")
        whole = {**dict.fromkeys(self.phenotypes, 0.5), **ADULT, **shape}
        return {name: float(np.clip(value, *limits[name])) for name, value in whole.items()}

    def rest(self, shapes: Sequence[Mapping[str, float]]) -> dict[str, Array]:
        """Bodies of N shapes on the floor, metres: vertices (N, V, 3), heads and tails (N, B, 3), axes (N, B, 3, 3)."""
        with torch.no_grad():
            found = self._model.get_rest_model(torch.from_numpy(self._coefficients(shapes)))
        vertices, poses = found["rest_vertices"].numpy(), found["rest_bone_poses"].numpy()
        heads, axes = found["rest_bone_heads"].numpy(), poses[..., :3, :3]
        floor = vertices[..., 2].min(1)[:, None] * np.array([0.0, 0.0, 1.0], np.float32)
        vertices, heads = vertices - floor[:, None], heads - floor[:, None]
        tails = np.stack([self._tails(*one) for one in zip(vertices, heads, axes, strict=True)])
        return {"vertices": vertices, "heads": heads, "tails": tails, "axes": axes}

    def _coefficients(self, shapes: Sequence[Mapping[str, float]]) -> Array:
        """(N, K) weights of the blend shapes."""
        whole = [self.complete(shape) for shape in shapes]
        phenotypes = torch.tensor([[shape[name] for name in self.phenotypes] for shape in whole])
        changes = torch.tensor([[shape.get(name, 0.0) for name in self.changes] for shape in whole])
        with torch.no_grad():
            inputs = self._model.get_tensor_inputs(None, phenotypes, changes, None)
            return self._model._get_phenotype_blendshape_coefficients(*inputs[1:]).numpy()

    def mesh(self, shape: Mapping[str, float], *, keys: bool = True) -> BodyMesh:
        """Give the body of a shape; with `keys` also what expressions and shape parameters do to it.

        Raises:
            InputError: there is no parameter of a name.
        """
        shape = self.complete(shape)
        body = {name: rows[0] for name, rows in self.rest([shape]).items()}
        model = self._model
        uv = model.texture_coordinates.numpy()[model.face_texture_coordinate_indices.numpy()]
        empty = np.zeros((0, *body["vertices"].shape), np.float32), np.zeros(0, "U1")
        expressions = (self._expressions(), np.array(self.expressions)) if keys else empty
        header = {"unit": "m", "frame": "body", "model": "anny", "bones": list(self.bones), "shape": shape,
                  "landmarks": self._landmarks}  # fmt: skip
        made = BodyMesh(
            header, body["vertices"], model.faces.numpy().astype(np.int32), uv.astype(np.float32), self._index,
            self._weight, self.parents, body["heads"], body["tails"], body["axes"][..., 0], *expressions,
            **self._parameter_keys(shape, body, keys=keys),
        )  # fmt: skip
        return made.with_header(measures_m=ruler_of(made).measure(made.vertices))

    def _parameter_keys(self, shape: Mapping[str, float], body: Mapping[str, Array], *, keys: bool) -> dict[str, Array]:
        ends = self._key_shapes(shape) if keys else {}
        first, *rest = self._coefficients([shape, *ends.values()])
        moved = {"vertices": self._model.blendshapes.numpy(), "heads": self._model.bone_heads_blendshapes.numpy()}
        found: dict[str, list[Array]] = {"vertices": [], "heads": [], "tails": []}
        for coefficients in rest:
            change = coefficients - first
            used = np.flatnonzero(np.abs(change) > 1e-7)
            new = {name: body[name] + np.tensordot(change[used], by[used], 1) for name, by in moved.items()}
            floor = np.array([0.0, 0.0, new["vertices"][:, 2].min()])
            new = {name: value - floor for name, value in new.items()}
            new["tails"] = self._tails(new["vertices"], new["heads"], body["axes"])
            for name, rows in found.items():
                rows.append(new[name] - body[name])
        out: dict[str, Array] = {"parameter_names": np.array(list(ends), "U64")}
        for entry, field in (("vertices", "keys"), ("heads", "heads"), ("tails", "tails")):
            out[f"parameter_{field}"] = np.array(found[entry], np.float32).reshape(len(rest), *body[entry].shape)
        return out

    def _key_shapes(self, shape: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Name of each shape key, and the shape it leads to at full value."""
        out: dict[str, dict[str, float]] = {}
        for name in self.phenotypes:
            if name in _RACES:
                out[name] = {**shape, **dict.fromkeys(_RACES, 0.0), name: 1.0}
                continue
            low, high = (_YOUNGEST, _OLDEST) if name == "age" else (0.0, 1.0)
            out[f"{name}+"], out[f"{name}-"] = {**shape, name: high}, {**shape, name: low}
        changes = [name for name in self.changes if name in _CHANGES or name.startswith("measure-")]
        for name in changes:
            stem = name.removesuffix("-incr")
            out[f"{stem}+"], out[f"{stem}-"] = {**shape, name: 1.0}, {**shape, name: -1.0}
        return out

    def _expressions(self) -> Array:
        """(52, V, 3) what the facial actions do; they add up and do not depend on the shape."""
        start = len(self._model.blendshapes) - len(self.expressions) - 2 * len(self.changes)
        return self._model.blendshapes[start : start + len(self.expressions)].numpy()

    @functools.cached_property
    def _landmarks(self) -> dict[str, list[int]]:
        """Vertices at whose height girths are taken, and the crotch."""
        from anny.anthropometry import BASE_MESH_WAIST_VERTICES

        vertices = self.rest([{}])["vertices"][0]
        base = self._model.base_mesh_vertex_indices.tolist()
        middle = np.flatnonzero(np.abs(vertices[:, 0]) < 1e-3)
        return {
            "chest": self._most_moved("nipple-size-incr"),
            "waist": [base.index(vertex) for vertex in BASE_MESH_WAIST_VERTICES],
            "hips": self._most_moved("measure-hips-circ-incr"),
            "crotch": [int(middle[np.argmin(vertices[middle, 2])])],
        }

    def _most_moved(self, change: str) -> list[int]:
        """The vertex on each side that a local change moves farthest."""
        first, last = self.rest([{}, {change: 1.0}])["vertices"]
        moved = np.linalg.norm(last - first, axis=1)
        return [int(np.argmax(np.where(first[:, 0] * side > 0.01, moved, 0.0))) for side in (1, -1)]

    def _followers(self) -> dict[int, Array]:
        """Vertices that say how long a bone without children is."""
        leaves = set(range(len(self.bones))) - set(self.parents.tolist())
        heavy = self._weight > _ALONG_LEAF
        return {bone: np.flatnonzero((heavy & (self._index == bone)).any(1)) for bone in leaves}

    def _tails(self, vertices: Array, heads: Array, axes: Array) -> Array:
        """(B, 3) ends of bones: their one child or the mean of several, else as far as their skin reaches."""
        tails = np.empty_like(heads)
        for bone in range(len(heads)):
            along = axes[bone, :, 1]
            children = np.flatnonzero(self.parents == bone)
            if bone == 0:
                tails[bone] = heads[bone] + (0.0, 0.0, _ROOT_TAIL_M)
            elif self.bones[bone] == "head":  # its eyes are no continuation
                tails[bone] = heads[bone] + along * (vertices[:, 2].max() - heads[bone, 2])
            elif len(children):
                reach = (heads[children] - heads[bone]) @ along
                tails[bone] = heads[children[0]] if len(children) == 1 else heads[bone] + along * reach.mean()
            else:
                mine = self._along[bone]
                reach = ((vertices[mine] - heads[bone]) @ along).max(initial=0.0)
                tails[bone] = heads[bone] + along * max(float(reach), 0.005)
        return tails


@functools.lru_cache(maxsize=1)
def load_model() -> BodyModel:
    """Give the model, made once a process: up to a minute the first time on a computer, then a second."""
    return BodyModel()


def spread(parts: Array, bones: Sequence[str], parents: Array) -> Array:
    """Give local turns (T, B, 4) wxyz of bones from global turns (T, 22, 3, 3) of the rigid parts of `nets.gc_body`.

    A part's bone turns as the part does and all toes as the toes; a bone between two parts, as the second of an upper
    arm or a finger, follows the bone it hangs on.
    """
    rows = {bone: part for part, (_, _, bone) in enumerate(PARTS)}
    for side in (".L", ".R"):
        rows |= {f"{toe}{side}": rows[f"toe2-1{side}"] for toe in _TOES}
    turns = np.empty((len(parts), len(bones), 3, 3))
    for index, (bone, parent) in enumerate(zip(bones, parents, strict=True)):
        turns[:, index] = parts[:, rows[bone]] if bone in rows else turns[:, parent]
    return local_turns(turns, np.asarray(parents))


def rest_directions(mesh: BodyMesh) -> Array:
    """(22, 3) where the rigid parts of `nets.gc_body` point at rest."""
    index = {name: row for row, name in enumerate(mesh.header["bones"])}
    return unit(np.stack([mesh.tails[index[bone]] - mesh.heads[index[bone]] for _, _, bone in PARTS]))
