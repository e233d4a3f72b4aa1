"""Heads that act: rigs of 52 shapes with textures, to film faces whose weights are known.

Three kinds: the template laid over an avatar or over a person of the head model, with the template's own shapes
(`wrapped`), and two rigs that no part of this project made: the head model's own mesh and shapes (`foreign`), and the
avatars' (`avatar`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from ...core.artifacts import HeadMesh
from ...core.face_shapes import SHAPES
from ...head import paint
from ...head.frame import from_sphere
from ...head.nearest import Meshed
from ...head.sheet import Sheet, bleed, fill, unroll
from ...head.template import PARTS, Template
from ...head.wrap import wrap
from .. import portraits
from ..face_points import place
from ..head_template import skin_surface
from . import heads
from .heads import Head

Array = np.ndarray
_TEXELS = 1024  # of a baked texture's side
_REACH = 0.02  # metres
_SEAM = 0.1  # of the sheet, across one triangle
# The VALID avatars' own shapes; * is L or R, the avatar's sides.
_AVATARS = {
    "browDown": ("*browDown", "**browDown"), "browInnerUp": ("LbrowUp", "RbrowUp"), "browOuterUp": ("**browUp",),
    "cheekPuff": ("Lblow", "Rblow"), "eyeBlink": ("*eyeClose",), "eyeSquint": ("*squint",), "eyeWide": ("*eyeOpen",),
    "jawForward": ("JawFront",), "jawLeft": ("Ljaw",), "jawOpen": ("MouthOpen",), "jawRight": ("Rjaw",),
    "mouthDimple": ("*lipCorner",), "mouthFrown": ("*mouthSad",), "mouthLowerDown": ("*lipDown",),
    "mouthPucker": ("Kiss",), "mouthShrugLower": ("Chin",), "mouthSmile": ("*smileClose",), "mouthUpperUp": ("*lipUp",),
}  # fmt: skip


@dataclass(frozen=True)
class Actor:
    """A head and what moves it: `head` at rest, in the frame of heads; keys (52, V, 3) metres in order of `SHAPES`.

    moves (52,) bool: shapes that this head has; eyes (2, 3): middles of the left and right eye.
    """

    head: Head
    keys: Array
    moves: Array
    eyes: Array

    def posed(self, weights: Array) -> Head:
        """The head with weights (52,)."""
        some = np.flatnonzero(weights)
        return replace(self.head, vertices=self.head.vertices + np.tensordot(weights[some], self.keys[some], 1))

    def save(self, path: Path) -> None:
        """Write it, to be read by `load_actor`."""
        head = self.head
        textures = {f"texture{k}": texture for k, texture in enumerate(head.textures)}
        np.savez(
            path, name=np.array(head.name), vertices=head.vertices.astype(np.float32), faces=head.faces, uv=head.uv,
            face_texture=head.face_texture, landmarks=head.landmarks, skin=head.skin,
            keys=self.keys.astype(np.float16), moves=self.moves, eyes=self.eyes, **textures,
        )  # fmt: skip


def load_actor(path: Path) -> Actor:
    """Read what `Actor.save` wrote."""
    with np.load(path, allow_pickle=False) as a:
        count = sum(name.startswith("texture") for name in a.files)
        textures = tuple(a[f"texture{k}"] for k in range(count))
        head = Head(
            str(a["name"]), a["vertices"].astype(float), a["faces"], a["uv"], a["face_texture"], textures,
            a["landmarks"], a["skin"],
        )  # fmt: skip
        return Actor(head, a["keys"].astype(np.float32), a["moves"], a["eyes"])


def shaved(actor: Actor) -> Actor:
    """An actor of the template's rig without hair."""
    head = actor.head
    faces = head.faces[head.skin]
    count = int(faces.max()) + 1  # hair comes behind the skin
    bald = replace(
        head, vertices=head.vertices[:count], faces=faces, uv=head.uv[:count],
        face_texture=head.face_texture[head.skin], textures=head.textures[:1], skin=np.ones(len(faces), bool),
    )  # fmt: skip
    return replace(actor, head=bald, keys=actor.keys[:, :count])


def mixed(some: Sequence[Actor], shares: Array) -> Actor:
    """Somebody between or beyond bald actors of one rig, with the first's colours; shares (K,) sum to 1."""
    head = replace(
        some[0].head,
        vertices=sum(share * one.head.vertices for share, one in zip(shares, some, strict=True)),
        landmarks=sum(share * one.head.landmarks for share, one in zip(shares, some, strict=True)),
    )
    keys = sum(np.float32(share) * one.keys for share, one in zip(shares, some, strict=True))
    eyes = sum(share * one.eyes for share, one in zip(shares, some, strict=True))
    return Actor(head, np.asarray(keys), some[0].moves, np.asarray(eyes))


def with_hair(actor: Actor, rng: np.random.Generator) -> Actor:
    """A bald actor with a shell of hair (`heads.with_hair`)."""
    head = heads.with_hair(actor.head, rng)
    grown = np.zeros((len(SHAPES), len(head.vertices) - actor.keys.shape[1], 3), actor.keys.dtype)
    return replace(actor, head=head, keys=np.concatenate([actor.keys, grown], 1))


@dataclass(frozen=True)
class Wrapped:
    """A template on somebody: its mesh, and its sheet of texture (H, W, 4) uint8."""

    source: Head
    mesh: HeadMesh
    texture: Array


def wrap_head(template: Template, head: Head, finder: Any, seed: int = 0) -> Wrapped:
    """Lay the template over a head and bake the head's colours; `finder` is mediapipe's face mesh."""
    marks = from_sphere(place(head, finder))
    mesh = wrap(template, skin_surface(head), marks)
    return Wrapped(head, mesh, bake(mesh, head, np.random.default_rng(seed)))


def wrapped(one: Wrapped, template: Template, *, texture: Array | None = None, hair: bool = True) -> Actor:
    """An actor with the template's own shapes; `texture`: another person's."""
    mesh, source = one.mesh, one.source
    used, faces, uv = _by_corners(mesh)
    head = Head(
        source.name, mesh.vertices[used].astype(float), faces, uv, np.zeros(len(faces), int),
        (one.texture if texture is None else texture,), source.landmarks, np.ones(len(faces), bool),
    )  # fmt: skip
    order = [list(mesh.shape_key_names).index(name) for name in SHAPES]
    keys = mesh.shape_keys[order][:, used]
    if hair:
        head = _with_hair(head, source)
        keys = np.concatenate([keys, np.zeros((len(keys), len(head.vertices) - keys.shape[1], 3), keys.dtype)], 1)
    eyes = np.stack([template.eye(side, mesh.vertices)[0] for side in "LR"])
    return Actor(head, keys, np.ones(len(SHAPES), bool), eyes)


def foreign(data: Path, person: Head, one: Wrapped, texture: Array) -> Actor:
    """An actor of the head model with the model's own shapes.

    person: drawn by `heads.make_ict` without expression and hair, in the frame of heads; one: the template on that
    very person, by which a `texture` in the template's layout comes onto the model's.
    """
    return _own_rig(data, person, _textured(person, one, texture))


def akin(data: Path, person: Head, other: Actor, texture: Array) -> Actor:
    """The same where the template was not laid over the person: its mesh is that of `other`, a `foreign` actor.

    Places in the texture are the other's, which is quick, and nearly right.
    """
    like = other.head
    textures = (*person.textures, texture, like.textures[-1])
    return _own_rig(data, person, replace(person, uv=like.uv, face_texture=like.face_texture, textures=textures))


def _own_rig(data: Path, person: Head, shown: Head) -> Actor:
    """An actor of the head model's shapes who looks as `shown`; person: as for `foreign`."""
    model = heads.load_ict(data)
    bare = heads.make_ict(data, int(person.name.removeprefix("ict_")), expression=0.0, hair=False)
    scale, rotation, _ = heads.similarity(bare.landmarks, person.landmarks)
    keys, moves = np.zeros((len(SHAPES), len(person.vertices), 3), np.float32), np.zeros(len(SHAPES), bool)
    for index, name in enumerate(SHAPES):
        plain = name.removesuffix("Left").removesuffix("Right")
        sides = ["_L"] if name.endswith("Left") else ["_R"] if name.endswith("Right") else ["_L", "_R"]
        parts = [name] if name in model.expressions else [plain + side for side in sides]
        for part in parts:
            if part in model.expressions:
                keys[index] += scale * model.expressions[part] @ rotation.T.astype(np.float32)
                moves[index] = True
    balls = np.stack([heads.find_eye(person.vertices, model, side) for side in "LR"])
    return Actor(shown, keys, moves, balls)


def avatar(data: Path, name: str) -> Actor:
    """A VALID avatar with its own colours and shapes, as far as these are ones of ours; the eyes do not turn."""
    plain = heads.load_valid(data, name)
    head = portraits.make(data, name)
    scale, rotation, _ = heads.similarity(plain.landmarks, head.landmarks)
    keys, moves = np.zeros((len(SHAPES), len(head.vertices), 3), np.float32), np.zeros(len(SHAPES), bool)
    for index, shape in enumerate(SHAPES):
        bare = shape.removesuffix("Left").removesuffix("Right")
        for part in _AVATARS.get(shape, _AVATARS.get(bare, ())):
            own = part.replace("*", "L" if shape.endswith("Left") else "R")
            keys[index] += (scale * heads.load_valid_shape(data, name, own) @ rotation.T).astype(np.float32)
            moves[index] = True
    return Actor(head, keys, moves, head.landmarks[:2])


def _by_corners(mesh: HeadMesh) -> tuple[Array, Array, Array]:
    """Vertices (W,) to use, triangles (T, 3) of them and texture places (W, 2), v down: seams have vertices twice."""
    four = mesh.faces[:, 3] >= 0
    corners = np.concatenate([mesh.faces[:, :3], mesh.faces[four][:, [0, 2, 3]]])
    uv = np.concatenate([mesh.uv[:, :3], mesh.uv[four][:, [0, 2, 3]]])
    both = np.concatenate([corners.reshape(-1, 1), np.round(uv.reshape(-1, 2) * 65535)], 1).astype(np.int64)
    rows, faces = np.unique(both, axis=0, return_inverse=True)
    return rows[:, 0], faces.reshape(-1, 3).astype(np.int32), rows[:, 1:] / 65535.0 * [1, -1] + [0, 1]


def _with_hair(head: Head, source: Head) -> Head:
    """Add what of an avatar is neither skin nor inside it: hair, brows and lashes that stand out."""
    cards = [k for k, texture in enumerate(source.textures) if texture[..., 3].min() < 128]
    chosen = np.isin(source.face_texture, cards) if cards else ~source.skin & (source.face_texture >= 0)
    if not cards:
        chosen = source.face_texture == len(source.textures) - 1 if source.name.startswith("ict") else chosen & False
    if not chosen.any():
        return head
    faces = source.faces[chosen]
    rows, local = np.unique(faces, return_inverse=True)
    return replace(
        head,
        vertices=np.concatenate([head.vertices, source.vertices[rows]]),
        faces=np.concatenate([head.faces, local.reshape(-1, 3).astype(np.int32) + len(head.vertices)]),
        uv=np.concatenate([head.uv, source.uv[rows]]),
        face_texture=np.concatenate([head.face_texture, source.face_texture[chosen] + 1]),
        textures=(*head.textures, *source.textures),
        skin=np.concatenate([head.skin, np.zeros(len(faces), bool)]),
    )


def bake(mesh: HeadMesh, head: Head, rng: np.random.Generator) -> Array:
    """(H, W, 4) uint8 the colours of a head on the template's sheet; eyes, teeth and mouth are painted."""
    sheet = unroll(mesh, _TEXELS)
    part, places = mesh.face_part[sheet.quad], sheet.at(mesh.vertices.astype(float))
    skin = Meshed(head.vertices, head.faces[head.skin])
    found = skin.nearest(places, _REACH)
    colors = sample(head, np.flatnonzero(head.skin), found)
    on_skin = (part == PARTS.index("skin")) & (found.face >= 0)
    picture = sheet.picture(colors)
    weight = sheet.picture(on_skin.astype(float))[..., 0]
    out = sheet.picture(np.zeros((len(places), 3)))
    out.reshape(-1, 3)[sheet.texel] = fill(picture, weight).reshape(-1, 3)[sheet.texel]
    out.reshape(-1, 3)[sheet.texel[on_skin]] = colors[on_skin]
    _paint_inside(mesh, sheet, places, out.reshape(-1, 3), rng)
    out = bleed(out, sheet.covered)
    alpha = np.full((*out.shape[:2], 1), 255.0)
    return np.concatenate([out.clip(0, 1) * 255, alpha], -1).astype(np.uint8)


def sample(head: Head, faces: Array, places: Any) -> Array:
    """(N, 3) in 0 to 1: colours of a head at places on a mesh that is made of its `faces`."""
    face = faces[places.face.clip(0)]
    uv = np.einsum("nk,nkc->nc", places.weights, head.uv[head.faces[face]])
    out = np.zeros((len(uv), 3))
    for k, texture in enumerate(head.textures):
        rows = np.flatnonzero(head.face_texture[face] == k)
        at = uv[rows] % 1.0 * [texture.shape[1], texture.shape[0]] - 0.5
        out[rows] = _looked_up(texture, at)
    return out


def _looked_up(texture: Array, at: Array) -> Array:
    """(N, 3) in 0 to 1 of a texture at places (N, 2) px, between texels."""
    low = np.floor(at).astype(int)
    part, size = at - low, np.array(texture.shape[1::-1]) - 1
    total = np.zeros((len(at), 3))
    for right in (0, 1):
        for down in (0, 1):
            column, row = np.clip(low + [right, down], 0, size).T
            share = np.abs(1 - right - part[:, 0]) * np.abs(1 - down - part[:, 1])
            total += share[:, None] * texture[row, column, :3]
    return total / 255.0


def _paint_inside(mesh: HeadMesh, sheet: Sheet, places: Array, out: Array, rng: np.random.Generator) -> None:
    """Paint eyes, teeth, tongue and mouth into a flat picture (H * W, 3), in place."""
    part, texel = mesh.face_part[sheet.quad], sheet.texel
    vertices = mesh.vertices.astype(float)
    skin, inner = (_rows(mesh, name) for name in ("skin", "mouth"))
    rim = vertices[np.intersect1d(skin, inner)]
    lips = np.median(out[texel[part == PARTS.index("mouth")]], 0)
    for name in ("mouth", "tongue", "socket"):
        rows = np.flatnonzero(part == PARTS.index(name))
        if name == "mouth":
            out[texel[rows]] = paint.mouth((KDTree(rim).query(places[rows])[0] / 0.035).clip(0, 1), lips)
        elif name == "tongue" and len(rows):
            back = places[rows, 1]
            out[texel[rows]] = paint.tongue((back - back.min()) / max(float(np.ptp(back)), 1e-6))
        else:
            out[texel[rows]] *= [0.86, 0.68, 0.66]
    iris = rng.uniform([0.15, 0.1, 0.06], [0.45, 0.42, 0.45])
    for name in ("eye.L", "eye.R"):
        rows = np.flatnonzero(part == PARTS.index(name))
        ball = vertices[_rows(mesh, name)]
        centre, radius = (ball[0] + ball[-1]) / 2, float(np.linalg.norm(ball[0] - ball[-1]) / 2)
        direction = places[rows] - centre
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        out[texel[rows]] = paint.eyeball(direction, iris, float(np.arcsin(np.clip(0.0059 / radius, 0.2, 0.6))))
    rows = np.flatnonzero(part == PARTS.index("teeth"))
    row = texel[rows] // sheet.size
    levels = np.unique(row)
    for band in np.split(levels, np.flatnonzero(np.diff(levels) > 3) + 1):
        some = rows[np.isin(row, band)]
        box = np.stack([texel[some] % sheet.size, -(texel[some] // sheet.size)], -1).astype(float)
        out[texel[some]] = paint.teeth((box - box.min(0)) / np.maximum(np.ptp(box, axis=0), 1))


def _rows(mesh: HeadMesh, part: str) -> Array:
    rows = np.unique(mesh.faces[mesh.face_part == PARTS.index(part)])
    return rows[rows >= 0]


def _textured(person: Head, one: Wrapped, texture: Array) -> Head:
    """A person of the head model whose skin shows a texture in the template's layout, by the nearest places on it.

    Triangles across a seam of the layout are plain.
    """
    used, triangles, uv = _by_corners(one.mesh)
    triangles = triangles[np.isin(used[triangles[:, 0]], _rows(one.mesh, "skin"))]
    mesh = Meshed(one.mesh.vertices[used], triangles)
    rows = np.unique(person.faces[person.skin])
    places = person.uv.copy()
    places[rows] = mesh.at(mesh.nearest(person.vertices[rows], 1.0), uv)
    across = np.ptp(places[person.faces], axis=1).max(1) > _SEAM
    plain = np.full((4, 4, 4), 255, np.uint8)
    plain[..., :3] = np.median(texture[texture.shape[0] // 3 : texture.shape[0] // 2, ..., :3], (0, 1))
    count = len(person.textures)
    face_texture = np.where(person.skin, np.where(across, count + 1, count), person.face_texture)
    return replace(person, uv=places, face_texture=face_texture, textures=(*person.textures, texture, plain))
