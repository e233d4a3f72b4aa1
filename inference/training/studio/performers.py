"""People who perform for films of reenactment: faces of avatars and of the head model, mixed, dressed and with hair.

Everybody has the template's topology and its 52 shapes, so anybody can perform what anybody else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...head.template import PARTS, Template
from ...head.wrap import body_mesh
from .. import portraits
from . import heads
from .actors import wrap_head
from .heads import Head

Array = np.ndarray
TRAINED = range(3000, 3020)  # seeds of the head model
HELD_OUT = (*portraits.HELD_OUT, *(f"ict_{seed}" for seed in (*portraits.HELD_OUT_MODEL, 912, 913)))
_TEXELS = 512
_LOWEST = -0.24  # metres: where the shoulders are cut off
_CLOTH = 1  # the texture after the skin's


@dataclass(frozen=True)
class Cast:
    """Somebody in the template's topology: vertices (V, 3) m, keys (52, V, 3), body (B, 3), texture (H, W, 3) uint8."""

    name: str
    vertices: Array
    keys: Array
    body: Array
    texture: Array
    landmarks: Array

    def save(self, path: Path) -> None:
        """Write it."""
        np.savez(
            path, vertices=self.vertices.astype(np.float32), keys=self.keys.astype(np.float16),
            body=self.body.astype(np.float32), texture=self.texture, landmarks=self.landmarks,
        )  # fmt: skip


def load_cast(path: Path) -> Cast:
    """Read what `Cast.save` wrote."""
    with np.load(path, allow_pickle=False) as a:
        keys = a["keys"].astype(np.float32)
        return Cast(path.stem, a["vertices"], keys, a["body"], a["texture"], a["landmarks"])


def cast(data: Path, name: str, template: Template, finder: Any) -> Cast:
    """Lay the template over somebody; `finder` is mediapipe's face mesh."""
    person = (
        heads.make_ict(data, int(name[4:]), expression=0.0, hair=False).canonical()
        if name.startswith("ict_")
        else portraits.make(data, name)
    )
    one = wrap_head(template, person, finder)
    mesh, whole = one.mesh, body_mesh(one.mesh, template)
    texture = cv2.resize(one.texture[..., :3], (_TEXELS, _TEXELS), interpolation=cv2.INTER_AREA)
    body = whole.vertices[len(mesh.vertices) :]
    return Cast(name, mesh.vertices, mesh.shape_keys, body, texture, person.landmarks)


def training_names(data: Path) -> list[str]:
    """Whom to cast for training."""
    return [*(n for n in heads.valid_names(data) if n not in HELD_OUT), *(f"ict_{seed}" for seed in TRAINED)]


class Layout:
    """What everybody shares: triangles, texture places, how far each vertex follows the head, landmarks."""

    def __init__(self, template: Template) -> None:
        self.template = template
        points = np.concatenate([template.vertices, template.body_vertices])
        shoulders = (points[template.body_faces.clip(0)][..., 2] > _LOWEST).all(1)
        quads = np.concatenate([template.faces, template.body_faces[shoulders]])
        uv = np.concatenate([template.uv, template.body_uv[shoulders]])
        part = np.concatenate([template.face_part, np.full(int(shoulders.sum()), PARTS.index("body"))])
        four = quads[:, 3] >= 0
        corners = np.concatenate([quads[:, :3], quads[four][:, [0, 2, 3]]])
        places = np.concatenate([uv[:, :3], uv[four][:, [0, 2, 3]]])
        part = np.concatenate([part, part[four]])
        both = np.concatenate([corners.reshape(-1, 1), np.round(places.reshape(-1, 2) * 65535)], 1).astype(np.int64)
        used, faces = np.unique(both, axis=0, return_inverse=True)
        self.rows = used[:, 0]
        self.faces = faces.reshape(-1, 3).astype(np.int32)
        self.uv = used[:, 1:] / 65535.0 * [1, -1] + [0, 1]
        self.face_texture = np.where(part == PARTS.index("body"), _CLOTH, 0)

    @property
    def skin(self) -> Array:
        """Faces (T,) that are not clothes."""
        return self.face_texture == 0


@dataclass(frozen=True)
class Performer:
    """Somebody at rest, ready to be photographed: `head` with clothes and hair, vertices (W, 3).

    keys (52, V, 3) and neutral (V, 3) of the template's vertices; rows (W,): which of them a vertex of `head` is, those
    of body and hair beyond V; follow (W,): 1 where a vertex turns with the head, 0 at the shoulders; pivot (3,).
    """

    head: Head
    neutral: Array
    keys: Array
    rows: Array
    follow: Array
    pivot: Array

    def posed(self, weights: Array, turn: Array) -> Array:
        """(W, 3) vertices with weights (52,) and the head turned by (3, 3) about the neck."""
        some = np.flatnonzero(weights)
        moved = np.tensordot(weights[some].astype(np.float32), self.keys[some], 1)
        points = self.head.vertices.copy()
        mine = self.rows < len(moved)
        points[mine] += moved[self.rows[mine]]
        return self.turned(points, turn, self.follow)

    def turned(self, points: Array, turn: Array, follow: Array) -> Array:
        """Points (N, 3) that follow (N,) a turn (3, 3) of the head."""
        about = points - self.pivot
        return points + follow[:, None] * (about @ turn.T - about)

    def landmarks(self, template: Template, weights: Array, turn: Array) -> Array:
        """(478, 3) the detector's points."""
        some = np.flatnonzero(weights)
        moved = self.neutral + np.tensordot(weights[some].astype(np.float32), self.keys[some], 1)
        points = template.landmarks(moved)
        return self.turned(points, turn, np.ones(len(points)))


def perform(casts: list[Cast], layout: Layout, rng: np.random.Generator, *, mixed: bool = True) -> Performer:
    """Make somebody up: the shape of one with a share of others', a texture, clothes, and mostly hair.

    Not `mixed`: the shape of the first, and the texture of any.
    """
    base = casts[int(rng.integers(len(casts)))] if mixed else casts[0]
    neutral, body = base.vertices.astype(np.float64), base.body.astype(np.float64)
    if mixed:
        chosen = rng.choice(len(casts), 4, replace=False)
        share = rng.normal(size=4) * 0.4
        for k, index in zip(share - share.mean(), chosen, strict=True):
            neutral += k * casts[index].vertices
            body += k * casts[index].body
    everything = np.concatenate([neutral, body])
    points = everything[layout.rows]
    low = points[layout.rows < len(neutral)][:, 2].min()
    chin = base.landmarks[3, 2]
    follow = np.clip((points[:, 2] - low) / (chin - low - 0.005), 0, 1)
    follow = follow * follow * (3 - 2 * follow)
    follow[layout.rows >= len(neutral)] = 0.0
    head = Head(
        base.name, points, layout.faces, layout.uv, layout.face_texture,
        (_skin(casts, base, rng), _cloth(rng)), base.landmarks, layout.skin,
    )  # fmt: skip
    rows = layout.rows
    if rng.random() < 0.85:
        bare = len(points)
        head = heads.with_hair(head, rng)
        extra = len(head.vertices) - bare
        rows = np.concatenate([rows, np.full(extra, len(everything))])
        grown = np.clip((head.vertices[bare:, 2] - low) / (chin - low - 0.005), 0, 1)
        follow = np.concatenate([follow, grown * grown * (3 - 2 * grown)])
    return Performer(head, neutral, base.keys, rows, follow, np.array([0.0, 0.09, chin - 0.02]))


def _skin(casts: list[Cast], base: Cast, rng: np.random.Generator) -> Array:
    """(H, W, 4) uint8 of one or two people's skin in another tone; that of avatars, who have brows and lips."""
    painted = [one for one in casts if not one.name.startswith("ict_")] or [base]
    first, second = (painted[int(rng.integers(len(painted)))] for _ in range(2))
    if base in painted and rng.random() < 0.4:
        first = second = base
    share = rng.random() * (rng.random() < 0.5)
    color = (first.texture * (1 - share) + second.texture * share) / 255.0
    gain = np.exp(rng.normal() * 0.15 + rng.normal(size=3) * 0.05)
    color = np.clip(color * gain, 0, 1) ** np.exp(rng.normal() * 0.15)
    return _opaque(color)


def _cloth(rng: np.random.Generator) -> Array:
    """(H, W, 4) uint8 of a plain or striped cloth."""
    tone = rng.random(3) * rng.uniform(0.2, 1.0)
    stripes = np.sign(np.sin(np.arange(128)[:, None, None] * rng.uniform(0.1, 0.8))) * (rng.random() < 0.3)
    return _opaque(np.clip(tone + 0.1 * stripes + rng.normal(size=(128, 128, 1)) * 0.02, 0, 1))


def _opaque(color: Array) -> Array:
    return np.concatenate([color * 255, np.full((*color.shape[:2], 1), 255.0)], -1).astype(np.uint8)
