"""The template head laid over a dense surface: one person's head in a topology that can be animated.

First what is linear (`identity`), then a smooth field of displacements towards the nearest places of the surface,
stiff at first and softer later (Amberg 2007, optimal-step non-rigid ICP; displacements are smooth in the sense of the
squared Laplacian). Where the surface is hair, the scalp stays where people have one. Eyeballs stay balls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from ..core.artifacts import HeadMesh, HeadSurface
from ..protocol.events import Reporter, SilentReporter
from ..runtime.weights import locate
from .expressions import transfer
from .frame import similarity
from .identity import INWARD, Fit, fit_linear
from .nearest import Meshed, face_normals, vertex_normals
from .seams import Lining, close_pairs, push_out
from .template import PARTS, Template, read_template

Array = np.ndarray
FACE_REACH = 0.095  # metres from the tip of the nose
_NOSE = 4  # of mediapipe's points
_STIFFNESS = (30.0, 10.0, 4.0, 1.5, 0.6, 0.25, 0.12, 0.06, 0.03)
_ICP_ROUNDS = 3
_TURNED = 0.3  # cosine of the angle beyond which skin beside what has turned over is taken for folded, too


def load_template() -> Template:
    """Read the template that is shipped.

    Raises:
        WeightsError: it is missing or damaged.
    """
    return read_template(locate("head-template"))


@dataclass(frozen=True)
class _Graph:
    """Vertices of the one connected piece (skin, mouth and sockets), and its squared Laplacian."""

    rows: Array
    stiff: sparse.csc_matrix


def wrap(template: Template, surface: HeadSurface, landmarks: Array, report: Reporter | None = None) -> HeadMesh:
    """Lay the template over a surface.

    Args:
        landmarks: (478, 3) metres, frame of heads: mediapipe's points; NaN where unknown.
        report: told how much is done, and where a cancel takes effect.

    Raises:
        Cancelled: from `report`.
    """
    told = report or SilentReporter()

    def said(share: float) -> None:
        told.progress("wrap", round(100 * share), 100)

    dense = Meshed(surface.vertices, surface.faces)
    fit = fit_linear(template, landmarks, dense)
    said(0.2)
    moved = _settle(template, fit, surface, dense, landmarks, said)
    neutral = _neutral(template, fit, moved)
    said(0.8)
    keys = transfer(template, neutral, fit.scale * fit.turn)
    said(1.0)
    neck = fit.scale * fit.turn @ template.neck + fit.move
    header = {
        "unit": "m", "frame": "heads", "parts": list(PARTS), "neck": [float(x) for x in neck],
        "expression": {name: round(weight, 4) for name, weight in fit.weights.items()},
    }  # fmt: skip
    if "scale" in surface.header:
        header["scale"] = surface.header["scale"]
    return HeadMesh(
        header, neutral.astype(np.float32), template.faces.astype(np.int32), template.uv.astype(np.float32),
        template.face_part.astype(np.int32), keys.astype(np.float32), np.array(template.shape_key_names),
        template.neck_loop.astype(np.int32), moved.astype(np.float32),
    )  # fmt: skip


def posed(mesh: HeadMesh) -> Array:
    """(V, 3) the head with the expression of the photographs, as it lies on the dense surface."""
    return mesh.vertices if mesh.posed is None else mesh.posed


def _graph(template: Template) -> _Graph:
    chosen = np.isin(template.face_part, [PARTS.index(name) for name in ("skin", "mouth", "socket")])
    faces = template.faces[chosen]
    rows = np.unique(faces)
    local = np.searchsorted(rows, faces)
    edges = np.concatenate([local[:, [k, (k + 1) % 4]] for k in range(4)])
    edges = np.unique(np.sort(edges, 1), axis=0)
    length = np.linalg.norm(template.vertices[rows[edges[:, 0]]] - template.vertices[rows[edges[:, 1]]], axis=1)
    near = 0.003 / np.maximum(length, 5e-4)
    size = len(rows)
    weights = sparse.coo_matrix((near, (edges[:, 0], edges[:, 1])), (size, size))
    weights = weights + weights.T
    laplacian = sparse.diags(np.asarray(weights.sum(1)).ravel()) - weights
    return _Graph(rows, (laplacian.T @ laplacian).tocsc())


def _settle(  # noqa: PLR0917 - what the surface and the landmarks say
    template: Template, fit: Fit, surface: HeadSurface, dense: Meshed, landmarks: Array,
    said: Callable[[float], None],
) -> Array:  # fmt: skip
    """(V, 3) the posed template on the surface."""
    graph, start = _graph(template), fit.posed.astype(float)
    now, triangles = start.copy(), template.triangles
    skin = _skin_likeness(template, fit, surface, dense)
    marks = np.flatnonzero(np.isfinite(landmarks).all(1) & (np.arange(len(landmarks)) < 468))
    local = np.full(len(start), -1)
    local[graph.rows] = np.arange(len(graph.rows))
    pick = sparse.coo_matrix(
        (template.landmark_weights[marks].ravel(),
         (np.repeat(np.arange(len(marks)), 3), local[template.landmark_vertices[marks]].ravel())),
        (len(marks), len(graph.rows)),
    ).tocsr()  # fmt: skip
    doubted, near = np.zeros(len(start), bool), _neighbours(template)
    snapped = dense.nearest(landmarks[marks], 0.01)
    goal = np.where((snapped.face >= 0)[:, None], snapped.points, landmarks[marks])
    for index, stiffness in enumerate(_STIFFNESS):
        loose = 0.3 * min(1.0, stiffness) + 0.1
        for _ in range(_ICP_ROUNDS):
            weight, to, inward = _targets(now, triangles, graph.rows, dense, surface.normals)
            trust = template.trust[graph.rows]
            believed = trust * skin[graph.rows]
            floor = np.where(inward & (trust > 0.03), INWARD * np.minimum(1, 5 * trust), 0)
            weight *= np.maximum(believed, floor) * ~doubted[graph.rows]
            mark = sparse.diags(loose * (~doubted[template.landmark_vertices[marks]]).all(1))
            tied = sparse.diags(weight + 1e-4)
            matrix = stiffness * graph.stiff + tied + pick.T @ mark @ pick
            right = weight[:, None] * (to - start[graph.rows])
            right += pick.T @ mark @ (goal - pick @ start[graph.rows])
            now[graph.rows] = start[graph.rows] + splu(matrix.tocsc()).solve(right)
            doubted |= (near @ folded(start, now, triangles, doubted)) > 0
        said(0.2 + 0.6 * (index + 1) / len(_STIFFNESS))
    return _carry_parts(template, start, now)


def _neighbours(template: Template) -> sparse.csr_matrix:
    """(V, V) that is not 0 for vertices at most two edges apart."""
    size, triangles = len(template.vertices), template.triangles
    pairs = np.concatenate([triangles[:, [k, (k + 1) % 3]] for k in range(3)])
    beside = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (size, size))
    beside = (beside + beside.T + sparse.identity(size)).tocsr()
    return beside @ beside


def folded(start: Array, now: Array, triangles: Array, doubted: Array) -> Array:
    """(V,) whether a triangle at a vertex has turned over, or nearly so beside what is doubted (V,) already."""
    turned = (face_normals(start, triangles) * face_normals(now, triangles)).sum(1)
    over = np.zeros(len(start), bool)
    over[triangles[turned < np.where(doubted[triangles].any(1), _TURNED, 0.0)]] = True
    return over


def _targets(now: Array, triangles: Array, rows: Array, dense: Meshed, normals: Array) -> tuple[Array, Array, Array]:
    """Weights (R,) and places (R, 3) on the surface for vertices, and whether it lies inside of them.

    There is no weight where the surface is far or faces another way.
    """
    places = dense.nearest(now[rows], 0.02)
    own = vertex_normals(now, triangles)[rows]
    facing = (own * dense.at(places, normals)).sum(1)
    far = np.linalg.norm(places.points - now[rows], axis=1)
    weight = np.clip((facing - 0.3) / 0.4, 0, 1) * (places.face >= 0) / (1 + (far / 0.008) ** 4)
    return weight, places.points, ((places.points - now[rows]) * own).sum(1) < 0


def _skin_likeness(template: Template, fit: Fit, surface: HeadSurface, dense: Meshed) -> Array:
    """(V,) how much the surface near each vertex looks like the skin of the cheeks and the nose, 0 to 1."""
    import cv2

    colors = cv2.cvtColor(surface.colors[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    places = dense.nearest(fit.posed, 0.03)
    lab = dense.at(places, colors)
    marks = template.landmarks(fit.posed)[[50, 280, 101, 330, 4, 5, 195, 117, 346]]
    sample = dense.at(dense.nearest(marks, 0.03), colors)
    middle = np.median(sample, 0)
    spread = np.array([18.0, 9.0, 9.0])
    apart = np.linalg.norm((lab - middle) / spread, axis=1)
    like = np.clip(2.0 - apart, 0.03, 1.0)
    face = template.landmarks(fit.posed)
    central = np.linalg.norm((fit.posed - face[[_NOSE, 1]].mean(0)) * [1, 0.6, 0.8], axis=1) < 0.05
    like[central] = 1.0  # brows, eyes and lips have colours of their own
    return like * (places.face >= 0)


def _carry_parts(template: Template, start: Array, now: Array) -> Array:
    """Take eyeballs, teeth and tongue along: the first with the rims of their lids, the others with the mouth."""
    moved, offset = now.copy(), now - start
    for side, lids in (("eye.L", 1), ("eye.R", -1)):
        rim = np.intersect1d(template.vertices_of("skin"), template.vertices_of("socket"))
        rim = rim[np.sign(template.vertices[rim, 0]) == lids]
        moved[template.vertices_of(side)] += offset[rim].mean(0)
    mouth = template.vertices_of("mouth")
    moved = Lining(template).tuck(moved)
    scale, turn, move = similarity(start[mouth], now[mouth])
    inner = template.vertices_of("teeth", "tongue")
    moved[inner] = scale * start[inner] @ turn.T + move
    return _clear_eyes(template, moved)


def _clear_eyes(template: Template, vertices: Array) -> Array:
    """Push lids out of eyeballs."""
    for side in "LR":
        vertices = push_out(template, vertices, side, vertices)
    return vertices


def _neutral(template: Template, fit: Fit, moved: Array) -> Array:
    """(V, 3) the head without the expression, its lips closed."""
    rest = fit.neutral + (moved - fit.posed)
    balls = template.vertices_of("eye.L", "eye.R")
    rest[balls] = moved[balls]
    for _ in range(4):  # a vertex may be one of several pairs
        rest = close_pairs(template, rest, template.lips, "skin", "mouth")
    return _clear_eyes(template, Lining(template).tuck(rest))


def body_mesh(mesh: HeadMesh, template: Template | None = None) -> HeadMesh:
    """The whole parametric body with this head; the body follows the border of the neck and fades into itself."""
    template = template or load_template()
    head, loop = mesh.vertices.astype(float), template.neck_loop
    scale, turn, move = _about_neck(template, head)
    body = scale * template.body_vertices @ turn.T + move
    gap = head[loop] - (scale * template.vertices[loop] @ turn.T + move)
    distance = np.linalg.norm(body[:, None] - head[loop], axis=2)
    share = 1.0 / np.maximum(distance, 1e-4) ** 3
    fade = np.exp(-((distance.min(1) / 0.07) ** 2))[:, None]
    body = body + fade * (share / share.sum(1, keepdims=True)) @ gap
    keys = np.zeros((len(mesh.shape_keys), len(body), 3), np.float32)
    low = body[np.argmin(body[:, 2])]
    return replace(
        mesh,
        header={**mesh.header, "neck": [float(mesh.header["neck"][0]), float(mesh.header["neck"][1]), float(low[2])]},
        vertices=np.concatenate([mesh.vertices, body.astype(np.float32)]),
        faces=np.concatenate([mesh.faces, template.body_faces.astype(np.int32)]),
        uv=np.concatenate([mesh.uv, template.body_uv.astype(np.float32)]),
        face_part=np.concatenate([mesh.face_part, np.full(len(template.body_faces), PARTS.index("body"), np.int32)]),
        shape_keys=np.concatenate([mesh.shape_keys, keys], 1),
        neck_loop=None,
        posed=None if mesh.posed is None else np.concatenate([mesh.posed, body.astype(np.float32)]),
    )


def _about_neck(template: Template, head: Array) -> tuple[float, Array, Array]:
    """The similarity that takes the template onto a head by its neck, upright."""
    skin = template.vertices_of("skin")
    scale, _, _ = similarity(template.vertices[skin], head[skin])
    loop = template.neck_loop
    return scale, np.eye(3), head[loop].mean(0) - scale * template.vertices[loop].mean(0)
