"""Heads of known shape with hair, expressions and skin, to train and to measure heads on.

Sources: the VALID avatars' heads (textured, hair as cards with alpha) and the ICT face model (random identities; skin
and a shell of hair are painted on). Metres, z up, facing -y.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import trimesh
from PIL import Image

from ...head.frame import MEAN_LANDMARKS, similarity

Array = np.ndarray
Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # from y up, facing +z
CUTOFF = 0.4  # of alpha: a hair card is there or not
_SKIN_TONES = np.array(
    [[0.93, 0.76, 0.66], [0.84, 0.64, 0.52], [0.68, 0.47, 0.35], [0.45, 0.29, 0.21], [0.3, 0.19, 0.14]]
)
_HAIR_TONES = np.array(
    [[0.06, 0.05, 0.05], [0.16, 0.1, 0.07], [0.32, 0.2, 0.11], [0.6, 0.46, 0.28], [0.45, 0.44, 0.43]]
)
_HIDDEN = ("M_EyeBlend", "M_EyeOcclusion", "M_LacrimalFluid", "M_EyeLashes")
_TEXELS = 256  # of a painted texture's side


@dataclass(frozen=True)
class Head:
    """One head.

    vertices (V, 3) metres; faces (F, 3); uv (V, 2), v down; face_texture (F,) into textures, each (H, W, 4) uint8 RGBA;
    landmarks (6, 3) as `head.frame` names them; skin (F,) bool: what is neither hair nor inside the mouth and eyes.
    """

    name: str
    vertices: Array
    faces: Array
    uv: Array
    face_texture: Array
    textures: tuple[Array, ...]
    landmarks: Array
    skin: Array

    def moved(self, scale: float, rotation: Array, translation: Array) -> Head:
        """Apply x -> scale R x + t."""
        vertices, landmarks = (scale * points @ rotation.T + translation for points in (self.vertices, self.landmarks))
        return replace(self, vertices=vertices, landmarks=landmarks)

    def canonical(self) -> Head:
        """The same head in the frame of heads (`head.frame`), by its landmarks."""
        return self.moved(*similarity(self.landmarks, MEAN_LANDMARKS))

    def surface(self) -> trimesh.Trimesh:
        """The skin alone, for measuring."""
        return trimesh.Trimesh(self.vertices, self.faces[self.skin], process=False).process()

    def coarser(self, most: int, times: int) -> Head:
        """The same with textures whose shorter side is over `most` texels so many times smaller."""

        def smaller(texture: Array) -> Array:
            if min(texture.shape[:2]) <= most:
                return texture
            size = [max(side // times, 1) for side in texture.shape[1::-1]]
            return cv2.resize(texture, size, interpolation=cv2.INTER_AREA)

        return replace(self, textures=tuple(map(smaller, self.textures)))


def valid_names(data: Path) -> list[str]:
    """Names of the VALID heads, sorted."""
    return sorted(path.stem for path in (data / "heads_valid").glob("*.npz"))


def load_valid(data: Path, name: str, expression: dict[str, float] | None = None) -> Head:
    """Read a VALID head; `expression`: weights by the names of its shapes."""
    with np.load(data / "heads_valid" / f"{name}.npz", allow_pickle=False) as arrays:
        vertices = arrays["verts_10um_i16"] * 1e-5
        for shape, weight in (expression or {}).items():
            rows, delta = _moved(arrays, shape)
            np.add.at(vertices, rows, weight * delta)
        keys = sorted(item for item in arrays.files if item.endswith("_webp"))
        textures = [np.asarray(Image.open(io.BytesIO(arrays[key].tobytes())).convert("RGBA")) for key in keys]
        faces, face_texture = arrays["faces"].astype(np.int32), arrays["face_tex"].astype(np.int32)
        parts = {str(n): range(s, s + c) for n, s, c in zip(
            arrays["part_names"], arrays["part_start"], arrays["part_len"], strict=True)}  # fmt: skip
        eyes = np.stack([arrays["joint_lefteye"], arrays["joint_righteye"]])
        uv = arrays["uv_u16"] / 65535.0
    main = next(iter(parts.values()))
    hair = np.array([texture[..., 3].min() < 128 for texture in textures])
    skin = np.isin(faces[:, 0], main) & ~hair[face_texture]
    vertices, eyes = vertices @ Z_UP.T, eyes @ Z_UP.T
    head = Head(name, vertices, faces, uv, face_texture, tuple(textures), np.zeros((6, 3)), skin)
    return replace(head, landmarks=find_landmarks(head.surface(), eyes))


def load_valid_shape(data: Path, name: str, shape: str) -> Array:
    """(V, 3) metres, z up: what one of the avatar's own shapes moves."""
    with np.load(data / "heads_valid" / f"{name}.npz", allow_pickle=False) as arrays:
        out = np.zeros((len(arrays["verts_10um_i16"]), 3))
        np.add.at(out, *_moved(arrays, shape))
    return out @ Z_UP.T


def _moved(arrays: Mapping[str, Array], shape: str) -> tuple[Array, Array]:
    """Vertices (N,) that a shape of an avatar moves, and how far (N, 3) metres, y up."""
    names, ends = [str(item) for item in arrays["expr_names"]], np.cumsum(arrays["expr_count"])
    end = int(ends[names.index(shape)])
    rows = slice(end - int(arrays["expr_count"][names.index(shape)]), end)
    return arrays["expr_vert"][rows], arrays["expr_delta_10um_i16"][rows] * 1e-5


def find_landmarks(skin: trimesh.Trimesh, eyes: Array) -> Array:
    """(6, 3) landmarks of a skin that faces -y, from the middles of its eyes (2, 3), left first."""
    points, middle = skin.vertices, eyes.mean(0)
    apart = float(np.linalg.norm(eyes[0] - eyes[1]))
    up = points[:, 2] - middle[2]
    central = np.abs(points[:, 0] - middle[0]) < 0.15 * apart
    face = points[central & (up < 0) & (up > -1.1 * apart)]
    nose = face[np.argmin(face[:, 1])]
    below = points[central & (points[:, 2] < nose[2] - 0.95 * apart) & (points[:, 2] > nose[2] - 1.6 * apart)]
    chin = below[np.argmin(below[:, 1])]
    mouth = nose + 0.5 * (chin - nose)
    sides = []
    for sign in (1.0, -1.0):
        wanted = np.array([middle[0] + sign * 0.38 * apart, mouth[1] + 0.1 * apart, mouth[2]])
        sides.append(points[np.argmin(np.linalg.norm(points - wanted, axis=1))])
    return np.stack([eyes[0], eyes[1], nose, chin, *sides])


@dataclass(frozen=True)
class IctModel:
    """The linear head model: neutral (V, 3), identities (100, V, 3), expressions by name, all metres, z up."""

    neutral: Array
    identities: Array
    expressions: dict[str, Array]
    faces: Array
    uv: Array
    materials: tuple[str, ...]
    face_material: Array
    points: dict[str, Array]


@cache
def load_ict(data: Path) -> IctModel:
    """Read the model once."""
    with np.load(data / "heads" / "ict_facekit_linear.npz", allow_pickle=False) as arrays:
        quads, quad_uv = arrays["faces_quad"], arrays["faces_uv"]
        four = quads[:, 3] >= 0
        faces = np.concatenate([quads[:, :3], quads[four][:, [0, 2, 3]]])
        corner_uv = np.concatenate([quad_uv[:, :3], quad_uv[four][:, [0, 2, 3]]])
        uv = np.zeros((len(arrays["neutral_cm"]), 2))
        uv[faces.ravel()] = arrays["uv"][corner_uv.ravel()]  # a vertex on a seam takes one of its places
        material = np.concatenate([arrays["face_material"], arrays["face_material"][four]])
        indices = json.loads(str(arrays["vertex_indices_json"]))
        return IctModel(
            arrays["neutral_cm"] * 0.01 @ Z_UP.T,
            np.einsum("kvi,ji->kvj", arrays["identity_delta_cm"].astype(np.float32) * 0.01, Z_UP.astype(np.float32)),
            {
                str(name): delta.astype(np.float32) * 0.01 @ Z_UP.T.astype(np.float32)
                for name, delta in zip(arrays["expr_names"], arrays["expr_delta_cm"], strict=True)
            },
            faces.astype(np.int32), uv, tuple(str(name) for name in arrays["material_names"]), material,
            {name: np.asarray(value) for name, value in indices.items() if isinstance(value, list)},
        )  # fmt: skip


def smile(rng: np.random.Generator) -> dict[str, float]:
    """Weights of a smile's shapes: with closed lips or showing teeth, a little uneven."""
    wide, lifted = rng.uniform(0.3, 1.0), rng.uniform(0.0, 0.6)
    both = {"mouthSmile": wide, "mouthUpperUp": lifted, "cheekSquint": wide * rng.random(), "eyeSquint": 0.5 * wide}
    uneven = {f"{name}_{side}": value * rng.uniform(0.85, 1.0) for name, value in both.items() for side in "LR"}
    return uneven | {"jawOpen": rng.uniform(0.0, 0.25) * lifted / 0.6}


def make_ict(
    data: Path, seed: int, *, expression: float = 0.25, hair: bool = True, also: Mapping[str, float] | None = None
) -> Head:
    """Draw a person from the ICT model: shape, expression with `also` on top, skin, and mostly a shell of hair."""
    model, rng = load_ict(data), np.random.default_rng(seed)
    weights = rng.normal(size=100).clip(-2.2, 2.2)
    vertices = model.neutral + np.tensordot(weights, model.identities, 1)
    names = sorted(name for name in model.expressions if not name.startswith("Pupil"))
    for name in rng.choice(names, 6, replace=False):
        vertices = vertices + expression * rng.random() * model.expressions[name]
    for name, weight in (also or {}).items():
        vertices = vertices + weight * model.expressions[name]
    hidden = np.isin(model.face_material, [model.materials.index(name) for name in _HIDDEN if name in model.materials])
    faces, material = model.faces[~hidden], model.face_material[~hidden]
    used = [name for name in model.materials if name not in _HIDDEN]
    tone = _between(_SKIN_TONES, rng)
    skins = [name for name in used if name in ("M_Face", "M_BackHead")]
    balls = [name for name in used if "Sclera" in name or "Iris" in name]
    textures = {name: _painted(name, tone, rng) for name in used}
    skin_texture, eye_texture = textures[skins[0]], _eye_texture(rng)
    textures |= dict.fromkeys(skins, skin_texture) | dict.fromkeys(balls, eye_texture)
    face_texture = np.array([used.index(model.materials[m]) for m in material])
    eyes, uv = np.stack([find_eye(vertices, model, side) for side in "LR"]), model.uv.copy()
    rows = np.unique(faces[np.isin(face_texture, [used.index(name) for name in balls])])
    outward = vertices[rows] - np.where(vertices[rows, :1] > 0, eyes[0], eyes[1])
    uv[rows] = np.stack(
        [np.full(len(rows), 0.5), np.arccos(-outward[:, 1] / np.linalg.norm(outward, axis=1)) / np.pi], -1
    )
    skin = np.isin(face_texture, [used.index(name) for name in skins])
    pictures = tuple(textures[name] for name in used)
    head = Head(f"ict_{seed}", vertices, faces, uv, face_texture, pictures, np.zeros((6, 3)), skin)
    head = replace(head, landmarks=find_landmarks(head.surface(), eyes))
    return with_hair(head, rng) if hair and rng.random() < 0.85 else head


def find_eye(vertices: Array, model: IctModel, side: str) -> Array:
    """The middle of an eyeball: of all vertices of its materials on that side."""
    ball = [k for k, name in enumerate(model.materials) if "sclera" in name.lower() or "iris" in name.lower()]
    rows = np.unique(model.faces[np.isin(model.face_material, ball)])
    sign = 1.0 if side == "L" else -1.0
    rows = rows[sign * model.neutral[rows, 0] > 0]
    return (vertices[rows].max(0) + vertices[rows].min(0)) / 2


def _between(tones: Array, rng: np.random.Generator) -> Array:
    """(3,) a tone somewhere between two neighbours."""
    at = rng.uniform(0, len(tones) - 1)
    low = min(int(at), len(tones) - 2)
    return tones[low] + (at - low) * (tones[low + 1] - tones[low])


def _painted(material: str, skin: Array, rng: np.random.Generator) -> Array:
    """(H, W, 4) a plain colour with soft spots."""
    tone = {"M_Teeth": np.array([0.86, 0.84, 0.81]), "M_GumsTongue": np.array([0.55, 0.28, 0.27])}.get(material, skin)
    spots = rng.normal(size=(16, 16, 3)) * 0.012 + rng.normal(size=(16, 16, 1)) * 0.03
    size = (_TEXELS, _TEXELS)
    layers = [
        Image.fromarray(spots[..., k].astype(np.float32)).resize(size, Image.Resampling.BICUBIC) for k in range(3)
    ]
    return _opaque(tone + np.stack([np.asarray(layer) for layer in layers], -1) + rng.normal(size=(*size, 1)) * 0.012)


def _eye_texture(rng: np.random.Generator) -> Array:
    """(H, 1, 4) pupil, iris and white by the angle from where the eye looks, 0 to 180 degrees."""
    degrees = (np.arange(_TEXELS) + 0.5) / _TEXELS * 180.0
    iris = rng.uniform([0.12, 0.08, 0.04], [0.4, 0.42, 0.45])
    tones = np.where(degrees[:, None] < 11, 0.02, np.where(degrees[:, None] < 28, iris, [0.84, 0.82, 0.8]))
    return _opaque(tones[:, None])


def _opaque(colour: Array) -> Array:
    return np.concatenate([colour.clip(0, 1) * 255, np.full((*colour.shape[:2], 1), 255.0)], -1).astype(np.uint8)


def with_hair(head: Head, rng: np.random.Generator) -> Head:
    """Grow a closed shell over the scalp: thicker on top, with a hairline, sides and back of chosen lengths."""
    skin = head.surface()
    eyes, nose = head.landmarks[:2].mean(0), head.landmarks[2]
    apart = float(np.linalg.norm(head.landmarks[0] - head.landmarks[1]))
    points, normals = np.asarray(skin.vertices), np.asarray(skin.vertex_normals)
    seen = (points - eyes) / apart  # in eye distances
    back = seen[:, 1] - float(nose[1] - eyes[1]) / apart
    line = rng.uniform(0.75, 1.2) - 0.75 * np.clip(back - 0.9, 0, 1.3)
    line -= rng.uniform(0.0, 1.6) * np.clip(back - 1.8, 0, 1.0)
    line += 0.12 * np.sin(points @ rng.normal(size=(3, 5)) * 60 + rng.uniform(0, 6, 5)).mean(1)
    over = seen[:, 2] - line
    ear = (np.abs(seen[:, 0]) > 1.05) & (seen[:, 2] < 0.15) & (back < 2.0)
    waves = np.sin(points @ rng.normal(size=(3, 4)) * 90 + rng.uniform(0, 6, 4)).mean(1)
    thick = rng.uniform(0.06, 0.45) * (1 + 0.35 * waves) * apart
    grown = np.clip(over / 0.25, 0, 1) * thick * (1 + 0.5 * np.clip(seen[:, 2] - 1.5, 0, 1))
    grown[ear] = 0.0
    covered = grown > 0.004 * apart
    faces = np.asarray(skin.faces)
    faces = faces[covered[faces].any(1)]
    outer = points + normals * (grown[:, None] + 5e-4)
    tone = _HAIR_TONES[rng.integers(len(_HAIR_TONES))] * rng.uniform(0.8, 1.2)
    strands = rng.normal(size=(1, _TEXELS, 1)) * 0.04 + rng.normal(size=(_TEXELS, _TEXELS, 1)) * 0.015
    uv = np.stack([np.arctan2(seen[:, 0], seen[:, 1]) / (2 * np.pi) % 1.0, seen[:, 2] * 0.2 % 1.0], -1)
    return replace(
        head,
        vertices=np.concatenate([head.vertices, outer]),
        faces=np.concatenate([head.faces, faces + len(head.vertices)]).astype(np.int32),
        uv=np.concatenate([head.uv, uv]),
        face_texture=np.concatenate([head.face_texture, np.full(len(faces), len(head.textures))]),
        textures=(*head.textures, _opaque(tone + strands)),
        skin=np.concatenate([head.skin, np.zeros(len(faces), bool)]),
    )
