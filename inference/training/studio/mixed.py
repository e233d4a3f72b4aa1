"""People mixed of avatars, some with the shapes of the head model: as many as training wants, hair and skin included.

All avatars are one mesh with one layout of UVs, cut differently, so that vertices meet by their UVs. Names: `mix_N`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from . import heads
from .heads import Head

Array = np.ndarray
_EDGE_M = 0.02  # half width of where one mixture passes over into another
_NEAR = 4  # vertices of the skin that hair, eyes and teeth follow
_OTHER_SIDE = np.array([-1.0, 1.0, 1.0])
_WAVES, _WAVE_M, _COMBED_M = 6, 0.05, 0.006  # of a wig that is combed: how many, 1 / 2 pi of their length, how far


def make(data: Path, seed: int, names: tuple[str, ...]) -> Head:
    """Draw somebody mixed of avatars `names`, in the frame of heads.

    Half of them change from one mixture of three to another across a plane; half have a person of the head model's
    differences from its mean, as well.
    """
    rng = np.random.default_rng([17, seed])
    base = _read(data, names[rng.integers(len(names))])
    skin = np.unique(base.faces[base.skin])
    moved = _mixture(data, base, skin, names, rng)
    if rng.random() < 0.5:
        normal = rng.normal(size=3) * [1.0, 0.5, 1.0]
        across = (base.vertices[skin] - base.landmarks[2] - rng.normal(size=3) * 0.02) @ (
            normal / np.linalg.norm(normal)
        )
        share = 1 / (1 + np.exp(-across / _EDGE_M))[:, None]
        moved = share * moved + (1 - share) * _mixture(data, base, skin, names, rng)
    if rng.random() < 0.5:
        moved = moved + rng.uniform(0.4, 1.0) * _drawn(data, base.vertices[skin], rng)
    vertices = base.vertices.copy()
    vertices[skin] += moved
    others = np.setdiff1d(np.unique(base.faces), skin)
    if len(others):
        away, near = KDTree(base.vertices[skin]).query(base.vertices[others], k=_NEAR)
        weight = 1 / (away + 1e-4)
        vertices[others] += np.einsum("nk,nkc->nc", weight / weight.sum(1, keepdims=True), moved[near])
    marks = base.landmarks + moved[KDTree(base.vertices[skin]).query(base.landmarks, k=_NEAR)[1]].mean(1)
    return replace(base, name=f"mix_{seed}", vertices=vertices, landmarks=marks).canonical()


def shares(count: int, rng: np.random.Generator) -> Array:
    """(K,) that sum to 1, as do their squares: mixed people differ from each other as much as single ones do."""
    away = rng.normal(size=count)
    away -= away.mean()
    return 1 / count + away / np.linalg.norm(away) * np.sqrt(1 - 1 / count)


def wigs(data: Path, names: tuple[str, ...]) -> list[str]:
    """Those of the avatars who wear a wig: a mesh with a texture of its own."""
    return [name for name in names if len(_read(data, name).textures) > 1]


def wigged(data: Path, head: Head, wearer: str, rng: np.random.Generator) -> Head:
    """Somebody in the frame of heads with the wig of an avatar in place of their own: longer or shorter, in any tone.

    Vertices of the wig keep their places over the skin that they lay on, which is laid on the other skin. Half of the
    wigs are parted on the other side, and all are combed a little differently.
    """
    wig = _wig(data, wearer)
    if rng.random() < 0.5:
        wig = wig._replace(points=wig.points * _OTHER_SIDE, scalp=wig.scalp * _OTHER_SIDE, faces=wig.faces[:, ::-1])
    skin = head.vertices[np.unique(head.faces[head.skin])]
    moved = skin[KDTree(skin).query(wig.scalp, k=_NEAR)[1]].mean(1) - wig.scalp
    points = wig.points + np.einsum("nk,nkc->nc", wig.weights, moved[wig.near])
    hang = np.minimum(points[:, 2] - rng.uniform(-0.02, 0.06), 0)
    points[:, 2] += (rng.uniform(0.3, 1.2) - 1) * hang
    points[:, 0] *= rng.uniform(0.95, 1.08)
    points[:, 1] += rng.uniform(-0.004, 0.006)
    points += _combed(points, rng)
    kept = head.face_texture == 0 if head.name.startswith("mix_") else np.ones(len(head.faces), bool)
    tone = np.append(np.exp(rng.normal() * 0.5 + rng.normal(size=3) * 0.1), 1.0)
    return replace(
        head,
        vertices=np.concatenate([head.vertices, points]),
        faces=np.concatenate([head.faces[kept], wig.faces + len(head.vertices)]).astype(np.int32),
        uv=np.concatenate([head.uv, wig.uv]),
        face_texture=np.concatenate([head.face_texture[kept], np.full(len(wig.faces), len(head.textures))]),
        textures=(*head.textures, (wig.texture * tone).clip(0, 255).astype(np.uint8)),
        skin=np.concatenate([head.skin[kept], np.zeros(len(wig.faces), bool)]),
    )


def _combed(points: Array, rng: np.random.Generator) -> Array:
    """(N, 3) metres: a smooth change of hair, in waves as long as a hand is wide and longer."""
    waves = rng.normal(size=(_WAVES, 3)) / _WAVE_M
    sizes = rng.normal(size=(_WAVES, 3)) * _COMBED_M / np.sqrt(_WAVES)
    return np.cos(points @ waves.T + rng.uniform(0, 2 * np.pi, _WAVES)) @ sizes


class _Wig(NamedTuple):
    """points (N, 3) metres, faces, uv; the skin below (S, 3) and which of it points follow (N, K), by how much."""

    points: Array
    faces: Array
    uv: Array
    texture: Array
    scalp: Array
    near: Array
    weights: Array


@cache
def _wig(data: Path, wearer: str) -> _Wig:
    donor = _read(data, wearer)
    rows, corners = np.unique(donor.faces[donor.face_texture == 1], return_inverse=True)
    points, scalp = donor.vertices[rows], donor.vertices[np.unique(donor.faces[donor.skin])]
    away, near = (np.asarray(part) for part in KDTree(scalp).query(points, k=3 * _NEAR))
    weight = 1 / (away + 1e-2)
    texture = donor.textures[1][::2, ::2]
    return _Wig(points, corners.reshape(-1, 3), donor.uv[rows], texture, scalp, near,
                weight / weight.sum(1, keepdims=True))  # fmt: skip


@cache
def _read(data: Path, name: str) -> Head:
    return heads.load_valid(data, name).canonical()


@cache
def _tree(data: Path, name: str) -> tuple[KDTree, Array]:
    head = _read(data, name)
    skin = np.unique(head.faces[head.skin])
    return KDTree(head.uv[skin]), head.vertices[skin]


def _mixture(data: Path, base: Head, skin: Array, names: tuple[str, ...], rng: np.random.Generator) -> Array:
    """(S, 3) metres that vertices of the skin move to where three avatars' mean is."""
    total = -base.vertices[skin]
    for share, name in zip(shares(3, rng), rng.choice(names, 3, replace=False), strict=True):
        total = total + share * _met(data, base.name, str(name))
    return total


@cache
def _met(data: Path, base: str, name: str) -> Array:
    """(S, 3) metres: where another avatar has what an avatar's skin shows."""
    head, (tree, places) = _read(data, base), _tree(data, name)
    return places[tree.query(head.uv[np.unique(head.faces[head.skin])])[1]]


@cache
def _model(data: Path) -> tuple[KDTree, float, Array]:
    """The head model's mean in the frame of heads, its scale there, and its rotation."""
    model = heads.load_ict(data)
    eyes = np.stack([heads.find_eye(model.neutral, model, side) for side in "LR"])
    face = np.isin(
        model.face_material, [k for k, name in enumerate(model.materials) if name in ("M_Face", "M_BackHead")]
    )
    plain = heads.trimesh.Trimesh(model.neutral, model.faces[face], process=False).process()
    scale, rotation, move = heads.similarity(heads.find_landmarks(plain, eyes), heads.MEAN_LANDMARKS)
    return KDTree(scale * model.neutral @ rotation.T + move), scale, rotation


def _drawn(data: Path, points: Array, rng: np.random.Generator) -> Array:
    """(N, 3) metres by which somebody drawn from the head model differs from its mean, near points of a head."""
    tree, scale, rotation = _model(data)
    weights = rng.normal(size=100).clip(-2.2, 2.2).astype(np.float32)
    moved = scale * np.tensordot(weights, heads.load_ict(data).identities, 1) @ rotation.T
    away, near = tree.query(points, k=_NEAR)
    weight = 1 / (away + 1e-3)
    return np.einsum("nk,nkc->nc", weight / weight.sum(1, keepdims=True), moved[near])
