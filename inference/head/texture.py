"""The texture of a head: photos where they see, their mirror image, and the colour field behind them, evenly lit.

Each texel knows its place on the head as photographed (`posed`). What a photo sees of it is found by casting rays
against the head itself; the field's colours are drawn to the photos' by a factor that is smooth over the mesh, so that
no border shows (a membrane, as in Perez 2003, on vertices instead of pixels).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from ..core.artifacts import HeadMesh, HeadSurface
from ..core.cameras import Camera, project
from ..nets.neus import Field
from ..protocol.events import Reporter, SilentReporter
from . import paint
from .extract import color_at
from .light import fit_light, relit, to_linear, to_srgb
from .nearest import Meshed, vertex_normals
from .seen import Seen
from .sheet import Sheet, bleed, fill, tangents, unroll
from .template import PARTS

Array = np.ndarray
_EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
_INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
_IRISES = (468, 473)
_DARKEST = 0.6  # of the hair that is seen: the least that is left of unseen hair
_EVEN = 0.75  # share of the light that is taken out
_FIELD_PX = 512  # of the sheet on which the field is asked for colours, which are smooth
_FAR = 0.015  # metres from the dense surface at which its colour no longer counts


@dataclass(frozen=True)
class _Texels:
    """Places (N, 3), normals (N, 3) and parts (N,) of texels on the head as photographed."""

    sheet: Sheet
    places: Array
    normals: Array
    part: Array

    def of(self, *names: str) -> Array:
        return np.isin(self.part, [PARTS.index(name) for name in names])


def texture(  # noqa: PLR0917 - everything that knows colours
    mesh: HeadMesh, surface: HeadSurface, field: Field | None, photos: list[Seen], cameras: list[Camera],
    size: int = 2048, report: Reporter | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Bake the texture and the normal map.

    Args:
        field: None takes the colours of `surface`.
        cameras: of the photos, in the frame of heads.
        report: told how much is done, and where a cancel takes effect.

    Returns:
        (H, W, 4) uint8 sRGB, and (H, W, 3) uint8 tangent space normals, green up (OpenGL's way).

    Raises:
        Cancelled: from `report`.
    """
    told = report or SilentReporter()

    def said(share: float) -> None:
        told.progress("texture", round(100 * share), 100)

    sheet = unroll(mesh, size)
    posed = (mesh.vertices if mesh.posed is None else mesh.posed).astype(np.float64)
    triangles = sheet.triangles
    normals = sheet.at(vertex_normals(posed, triangles))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    texels = _Texels(sheet, sheet.at(posed), normals, mesh.face_part[sheet.quad])
    dense, own = Meshed(surface.vertices, surface.faces), Meshed(posed, triangles)
    said(0.2)
    seen, weight, barred = _photographed(texels, own, photos, cameras)
    said(0.5)
    base, known = _base(mesh, texels, surface, dense, field, weight)
    cloth = np.maximum(_clothing(texels, seen, weight), _clothing(texels, base, known, bright=1.6))
    weight = weight * (1 - cloth)
    said(0.7)
    linear = _joined(mesh, texels, (seen, weight), (base, known * (1 - np.maximum(barred, cloth))))
    linear += cloth[:, None] * (_neck_tone(mesh, texels, linear, cloth) - linear)
    srgb = to_srgb(linear)
    srgb = _painted(mesh, texels, srgb, photos)
    picture = bleed(sheet.picture(srgb), sheet.covered)
    said(0.9)
    color = np.dstack([np.clip(picture, 0, 1) * 255 + 0.5, np.full((size, size), 255.0)]).astype(np.uint8)
    normal = _normal_map(texels, surface, dense, posed)
    said(1.0)
    return color, normal


def _photographed(
    texels: _Texels, own: Meshed, photos: list[Seen], cameras: list[Camera]
) -> tuple[Array, Array, Array]:
    """Linear colours (N, 3) evenly lit, weights (N,), and where eyes and teeth are in the way (N,)."""
    count = len(texels.part)
    total, weight, barred = np.zeros((count, 3)), np.zeros(count), np.zeros(count)
    left = np.ones(count)
    skin = texels.of("skin")
    for photo, camera in zip(photos, cameras, strict=True):
        color, trust, hidden = _one_photo(texels, own, photo, camera, skin)
        even = _evened(color, texels.normals, trust, camera)
        both = (trust > 0.3) & (weight > 0.3)
        if both.sum() > 500:  # the same exposure and white as the photos before
            before = total[both] / weight[both, None]
            even *= np.exp(np.median(np.log(before.clip(1e-3)) - np.log(even[both].clip(1e-3)), 0))
        share = trust**3 + 1e-9
        total += share[:, None] * even
        weight += share
        left *= 1 - trust
        barred = np.maximum(barred, hidden)
    return total / np.maximum(weight, 1e-12)[:, None], 1 - left, barred


def _one_photo(texels: _Texels, own: Meshed, photo: Seen, camera: Camera, skin: Array) -> tuple[Array, Array, Array]:
    """Linear colours (N, 3), trust (N,) in 0 to 1, and what eyes or the open mouth hide (N,)."""
    to_camera = camera.centre - texels.places
    away = np.linalg.norm(to_camera, axis=1, keepdims=True)
    to_camera /= away
    facing = (texels.normals * to_camera).sum(1)
    pixel = project(camera, texels.places)
    height, width = photo.image.shape[:2]
    inside = (pixel > 1).all(1) & (pixel[:, 0] < width - 2) & (pixel[:, 1] < height - 2)
    asked = np.flatnonzero(skin & inside & (facing > 0.1))
    start = texels.places[asked] + texels.normals[asked] * 0.0012
    free = own.cast(start, to_camera[asked], 3.0).face < 0
    visible = asked[free]
    at = pixel[visible]
    image = to_linear(photo.image.astype(np.float32) / 255).astype(np.float32)
    color = np.zeros((len(facing), 3))
    color[visible] = _looked_up(image, at).clip(0, 1)
    mask = cv2.GaussianBlur(photo.mask.astype(np.float32), (0, 0), max(1.0, width / 400))
    person = _looked_up(mask, at)
    holes = _looked_up(_holes(photo), at)
    slope = np.clip((facing[visible] - 0.18) / 0.4, 0, 1)
    trust = np.zeros(len(facing))
    trust[visible] = slope**2 * (3 - 2 * slope) * np.clip((person - 0.75) / 0.2, 0, 1) * (1 - holes)
    hidden = np.zeros(len(facing))
    hidden[visible] = holes
    picture = texels.sheet.picture(trust)[..., 0]
    radius = max(2, texels.sheet.size // 256)
    soft = cv2.GaussianBlur(cv2.erode(picture, np.ones((radius, radius))), (0, 0), radius)
    return color, np.minimum(trust, soft.reshape(-1)[texels.sheet.texel] * 1.15).clip(0, 1), hidden


def _looked_up(image: Array, pixel: Array) -> Array:
    """(N,) or (N, C) of a picture at pixels (N, 2)."""
    width = 4096  # pictures of coordinates may not be long
    places = np.zeros((-len(pixel) % width + len(pixel), 2), np.float32)
    places[: len(pixel)] = pixel
    grid = places.reshape(-1, width, 2)
    found = cv2.remap(image, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR)
    return found.reshape(len(places), *image.shape[2:])[: len(pixel)]


def _holes(photo: Seen) -> Array:
    """(H, W) 1 where the photo shows eyes or what is between the lips, with soft borders."""
    out = np.zeros(photo.image.shape[:2], np.float32)
    face = np.ptp(photo.landmarks[:468, 1])
    for ring in (*_EYES, _INNER_LIPS):
        corners = photo.landmarks[list(ring)]
        if ring is _INNER_LIPS and np.ptp(corners[:, 1]) < 0.02 * face:
            continue
        cv2.fillPoly(out, [np.round(corners * 8).astype(np.int32)], (1.0,), cv2.LINE_AA, 3)
    width = max(1, round(face / 50)) | 1  # lashes, too: they would be drawn out over closed lids
    return np.clip(cv2.GaussianBlur(cv2.dilate(out, np.ones((width, width))), (0, 0), width / 2) * 1.3, 0, 1)


def _clothing(texels: _Texels, seen: Array, weight: Array, *, bright: float = 1.0) -> Array:
    """(N,) where the neck is hidden: what is seen below the chin in another colour than the face's."""
    skin = texels.of("skin")
    trusted = skin & (weight > 0.9)
    if trusted.sum() < 1000:
        return np.zeros(len(weight))
    below = _below_chin(texels)
    log = np.log(seen.clip(2e-3))
    middle = np.median(log[trusted & _in_front(texels)], 0)
    off = log - middle
    tint = off - off.mean(1, keepdims=True)
    apart = np.sqrt((tint**2).sum(1) / 0.2**2 + (off.mean(1) / bright) ** 2)
    unlike = below * np.clip((apart - 1.0) / 0.4, 0, 1) * (weight > 0.02)
    radius = max(2, texels.sheet.size // 128)
    picture = cv2.dilate(texels.sheet.picture(unlike)[..., 0], np.ones((radius, radius)))
    return cv2.GaussianBlur(picture, (0, 0), radius / 2).reshape(-1)[texels.sheet.texel] * (below > 0)


def _in_front(texels: _Texels) -> Array:
    """(N,) bool: skin of the face, not of the neck."""
    skin = texels.of("skin")
    return skin & (texels.places[:, 1] < texels.places[skin, 1].min() + 0.06) & (_below_chin(texels) == 0)


def _below_chin(texels: _Texels) -> Array:
    """(N,) 0 on the head to 1 on the neck, by the height below the tip of the nose."""
    skin = texels.of("skin")
    nose = texels.places[skin][np.argmin(texels.places[skin, 1])]
    return skin * np.clip((nose[2] - 0.055 - texels.places[:, 2]) / 0.015, 0, 1)


def _neck_tone(mesh: HeadMesh, texels: _Texels, linear: Array, cloth: Array) -> Array:
    """(N, 3) linear colours of skin where clothes hide the neck: as the neck that is seen, else as the face."""
    bare = _below_chin(texels) * (cloth < 0.05)
    at, trust = _to_vertices(texels, linear, bare, len(mesh.vertices))
    front = np.median(linear[_in_front(texels)], 0)
    matrix = _laplacian(mesh) + sparse.diags(trust * 3 + 1e-4)
    return texels.sheet.at(splu(matrix.tocsc()).solve(trust[:, None] * 3 * at + 1e-4 * front))


def _evened(color: Array, normals: Array, trust: Array, camera: Camera) -> Array:
    """The photo's colours with most of the light's unevenness taken out."""
    rows = np.flatnonzero(trust > 0.5)
    if len(rows) < 1000:
        return color
    rows = rows[:: max(1, len(rows) // 30000)]
    log = np.log(color[rows].clip(1e-3))
    tint = log - log.mean(1, keepdims=True)
    middle = np.median(tint, 0)
    bright = log.mean(1)
    like = np.exp(-(((tint - middle) ** 2).sum(1) / 0.15**2)) * (bright > np.median(bright) - 1.2)
    light = fit_light(color[rows], normals[rows], like * trust[rows])
    front = np.array([0.0, -1.0, 0.0])
    towards = camera.centre / np.linalg.norm(camera.centre)
    return relit(color, normals, light, _EVEN, (front + towards) / np.linalg.norm(front + towards))


def _base(  # noqa: PLR0917 - all that the field's colours depend on
    mesh: HeadMesh, texels: _Texels, surface: HeadSurface, dense: Meshed, field: Field | None, weight: Array
) -> tuple[Array, Array]:
    """Linear colours (N, 3) of the field on skin, and how far it is known there (N,)."""
    skin = np.flatnonzero(texels.of("skin"))
    need = skin[weight[skin] < 0.98]
    color, known = np.zeros((len(texels.part), 3)), np.zeros(len(texels.part))
    places = dense.nearest(texels.places[skin], 0.08)
    color[skin] = to_linear(dense.at(places, surface.colors.astype(np.float64)) / 255)
    if field is not None and len(need):
        step = max(1, texels.sheet.size // _FIELD_PX)
        row, column = np.divmod(texels.sheet.texel[need], texels.sheet.size)
        chosen = (row % step == 0) & (column % step == 0)
        row, column, sparse_rows = row[chosen] // step, column[chosen] // step, need[chosen]
        at = dense.nearest(texels.places[sparse_rows], 0.08)
        normal = dense.at(at, surface.normals.astype(np.float64))
        length = np.linalg.norm(normal, axis=1)
        met = (at.face >= 0) & (length > 0)  # a neck may be farther from the dense surface than is looked
        found = to_linear(color_at(field, at.points[met], normal[met] / length[met, None]))
        side = -(-texels.sheet.size // step)
        picture, have = np.zeros((side, side, 3), np.float32), np.zeros((side, side), np.float32)
        picture[row[met], column[met]], have[row[met], column[met]] = found, 1
        large = cv2.resize(fill(picture, have), (texels.sheet.size,) * 2, interpolation=cv2.INTER_LINEAR)
        color[need] = large.reshape(-1, 3)[texels.sheet.texel[need]]
    far = np.linalg.norm(places.points - texels.places[skin], axis=1)
    known[skin] = (places.face >= 0) * np.clip(2 - far / (2 * _FAR), 0.05, 1)
    smooth, _ = _to_vertices(texels, color, known, len(mesh.vertices))
    share = np.clip((far - 0.003) / 0.006, 0, 1)[:, None]  # deep under hair, neighbours look at distant places
    color[skin] += share * (texels.sheet.at(smooth)[skin] - color[skin])
    for inner, reach in (("socket", 0.006), ("mouth", 0.004)):  # there the surface shows eyes and teeth
        rim = np.intersect1d(_vertices_of(mesh, "skin"), _vertices_of(mesh, inner))
        posed = mesh.vertices if mesh.posed is None else mesh.posed
        near = KDTree(posed[rim]).query(texels.places[skin], distance_upper_bound=0.02)[0]
        known[skin] *= np.clip(near / reach - 1, 0.0, 1)
    return color, known


def _joined(mesh: HeadMesh, texels: _Texels, photo: tuple[Array, Array], base: tuple[Array, Array]) -> Array:
    """Linear colours (N, 3) of skin from photos, from their mirror image, then from the base drawn to both."""
    sheet = texels.sheet
    skin = texels.of("skin")
    seen, weight = photo
    picture, share = sheet.picture(seen), sheet.picture(weight * skin)[..., 0]
    other, other_share = picture[:, ::-1], share[:, ::-1] * sheet.picture(skin.astype(float))[..., 0]
    mirrored = other.reshape(-1, 3)[sheet.texel]
    mirrored_weight = other_share.reshape(-1)[sheet.texel] * 0.9 * (1 - weight)
    front = weight[:, None] * seen + mirrored_weight[:, None] * mirrored
    front_weight = weight + mirrored_weight
    front = front / np.maximum(front_weight, 1e-9)[:, None]
    color, known = base
    factor = _membrane(mesh, texels, color, front, np.where(skin & (known > 0), front_weight, 0))
    drawn = _lifted(texels, color * np.exp(factor), front, front_weight)
    total = front_weight[:, None] * front + ((1 - front_weight) * known)[:, None] * drawn
    sum_ = front_weight + (1 - front_weight) * known
    filled = fill(sheet.picture(total / np.maximum(sum_, 1e-9)[:, None]), sheet.picture(sum_ * skin)[..., 0])
    return filled.reshape(-1, 3)[sheet.texel]


def _lifted(texels: _Texels, drawn: Array, front: Array, weight: Array) -> Array:
    """(N, 3) colours whose hair is nowhere much darker than what photos show of it: its shadow is no colour."""
    skin = texels.of("skin")
    tip = texels.places[skin][np.argmin(texels.places[skin, 1])]
    above, behind = (texels.places[:, axis] - tip[axis] for axis in (2, 1))
    crown = skin * np.clip((above + 0.1) / 0.03, 0, 1) * np.clip((behind - 0.07) / 0.04, 0, 1)
    seen = (crown > 0.5) & (weight > 0.5)
    if seen.sum() < 200:
        return drawn
    hair = np.median(front[seen], 0)
    missing = np.clip(_DARKEST - drawn.mean(1) / max(hair.mean(), 1e-6), 0, 1) * crown
    return drawn + missing[:, None] * hair


def _to_vertices(texels: _Texels, values: Array, weights: Array, count: int) -> tuple[Array, Array]:
    """(V, C) weighted means of texels about each vertex, and the weights (V,) per texel."""
    corners = texels.sheet.triangles[texels.sheet.triangle]
    share = texels.sheet.weights * weights[:, None]
    total = np.bincount(corners.ravel(), share.ravel(), count)
    plain = np.bincount(corners.ravel(), texels.sheet.weights.ravel(), count)
    out = np.stack(
        [np.bincount(corners.ravel(), (share * values[:, k : k + 1]).ravel(), count) for k in range(values.shape[1])],
        -1,
    )
    return out / np.maximum(total, 1e-9)[:, None], total / np.maximum(plain, 1e-9)


def _laplacian(mesh: HeadMesh) -> sparse.csc_matrix:
    faces = mesh.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[faces[:, 3] >= 0][:, [2, 3]],
                            faces[faces[:, 3] >= 0][:, [3, 0]]])  # fmt: skip
    edges = np.unique(np.sort(edges, 1), axis=0)
    count = len(mesh.vertices)
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    graph = graph + graph.T
    return (sparse.diags(np.asarray(graph.sum(1)).ravel()) - graph).tocsc()


def _membrane(mesh: HeadMesh, texels: _Texels, base: Array, front: Array, weight: Array) -> Array:
    """(N, 3) logarithm of the factor that draws the base to the front, known where both are, smooth elsewhere."""
    ratio = np.log(front.clip(2e-3)) - np.log(base.clip(2e-3))
    at, trust = _to_vertices(texels, ratio.clip(-1.5, 1.5), weight, len(mesh.vertices))
    if trust.max() < 1e-3:
        return np.zeros_like(base)
    middle = np.average(at, axis=0, weights=trust)
    pull = 0.002
    matrix = _laplacian(mesh) + sparse.diags(trust * 3 + pull)
    spread = splu(matrix.tocsc()).solve(trust[:, None] * 3 * at + pull * middle)
    return texels.sheet.at(spread)


def _painted(mesh: HeadMesh, texels: _Texels, srgb: Array, photos: list[Seen]) -> Array:
    """Colours of eyes, teeth, tongue and what is behind lids and lips."""
    out = srgb.copy()
    vertices, sheet = mesh.vertices.astype(np.float64), texels.sheet
    skin = texels.of("skin").astype(float)
    at, trust = _to_vertices(texels, srgb, skin, len(vertices))
    matrix = _laplacian(mesh) + sparse.diags(trust * 5 + 1e-5)
    behind = sheet.at(splu(matrix.tocsc()).solve(trust[:, None] * 5 * at + 1e-5 * np.array([0.6, 0.4, 0.35])))
    socket = texels.of("socket")
    out[socket] = behind[socket] * [0.86, 0.68, 0.66]
    inner = texels.of("mouth")
    rim = np.intersect1d(_vertices_of(mesh, "skin"), _vertices_of(mesh, "mouth"))
    places = sheet.at(vertices)
    if inner.any() and len(rim):
        lips = at[rim].mean(0)
        depth = KDTree(vertices[rim]).query(places[inner])[0] / 0.035
        out[inner] = paint.mouth(depth.clip(0, 1), lips)
    tongue = texels.of("tongue")
    if tongue.any():
        back = places[tongue, 1]
        out[tongue] = paint.tongue((back - back.min()) / max(float(np.ptp(back)), 1e-6))
    _paint_balls(mesh, texels, out, places, photos)
    teeth = texels.of("teeth")
    row, column = np.divmod(sheet.texel, sheet.size)
    for half in _rows_of_teeth(texels, teeth):
        box = np.stack([column[half], -row[half]], -1).astype(float)
        box = (box - box.min(0)) / np.maximum(np.ptp(box, axis=0), 1)
        out[half] = paint.teeth(box)
    return out


def _rows_of_teeth(texels: _Texels, teeth: Array) -> list[Array]:
    """Texels of each row of teeth, told apart by where they lie on the sheet."""
    row = texels.sheet.texel // texels.sheet.size
    rows = np.unique(row[teeth])
    if not len(rows):
        return []
    gaps = np.flatnonzero(np.diff(rows) > 3)
    starts = [rows[0], *rows[gaps + 1]]
    ends = [*rows[gaps], rows[-1]]
    return [np.flatnonzero(teeth & (row >= a) & (row <= b)) for a, b in zip(starts, ends, strict=True)]


def _vertices_of(mesh: HeadMesh, part: str) -> Array:
    rows = np.unique(mesh.faces[mesh.face_part == PARTS.index(part)])
    return rows[rows >= 0]


def _paint_balls(mesh: HeadMesh, texels: _Texels, out: Array, places: Array, photos: list[Seen]) -> None:
    """Paint both eyeballs, in place."""
    iris = iris_color(photos)
    for part in ("eye.L", "eye.R"):
        rows = texels.of(part)
        if not rows.any():
            continue
        ball = mesh.vertices[_vertices_of(mesh, part)].astype(np.float64)
        centre, radius = (ball[0] + ball[-1]) / 2, np.linalg.norm(ball[0] - ball[-1]) / 2
        forward = (ball[0] - centre) / radius
        turn = _turn_between(forward, np.array([0.0, -1.0, 0.0]))
        directions = (places[rows] - centre) @ turn.T
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        out[rows] = paint.eyeball(directions, iris, float(np.arcsin(np.clip(0.0059 / radius, 0.2, 0.6))))


def _turn_between(start: Array, end: Array) -> Array:
    """(3, 3) the smallest rotation that takes a direction to another."""
    axis = np.cross(start, end)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + start @ end)


def iris_color(photos: list[Seen]) -> Array:
    """(3,) sRGB in 0 to 1 of the irises in the photos, a little lighter, as lids shade them; brown where unseen."""
    found = []
    for photo in photos:
        rows, columns = np.mgrid[: photo.image.shape[0], : photo.image.shape[1]]
        for first in _IRISES:
            marks = photo.landmarks[first : first + 5]
            if len(marks) < 5 or not np.isfinite(marks).all():
                continue
            radius = np.linalg.norm(marks[1:] - marks[0], axis=1).mean()
            right, down = columns - marks[0, 0], rows - marks[0, 1]
            away = np.hypot(right, down) / max(radius, 1e-6)
            ring = (away > 0.45) & (away < 0.85) & (np.abs(down) < 0.55 * radius)
            pixels = photo.image[ring].astype(float) / 255
            if len(pixels) >= 4:
                bright = pixels.mean(1)
                found.append(pixels[(bright <= np.quantile(bright, 0.7))].mean(0))
    if not found:
        return np.array([0.33, 0.22, 0.14])
    tone = to_srgb(to_linear(np.mean(found, 0)) * 1.5)
    return tone.clip(0.08, 0.75)


def _normal_map(texels: _Texels, surface: HeadSurface, dense: Meshed, posed: Array) -> Array:
    """(H, W, 3) uint8: the dense surface's normals in the clean mesh's tangent frames; flat where they part."""
    sheet = texels.sheet
    tangent, bitangent = tangents(sheet, posed, texels.normals)
    skin = np.flatnonzero(texels.of("skin"))
    places = dense.nearest(texels.places[skin], 0.01)
    normal = dense.at(places, surface.normals.astype(np.float64))
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    far = np.linalg.norm(places.points - texels.places[skin], axis=1)
    agree = (normal * texels.normals[skin]).sum(1)
    share = (places.face >= 0) * np.clip(2 - far / 0.001, 0, 1) * np.clip((agree - 0.6) / 0.25, 0, 1)
    share = np.minimum(share, _soft(sheet, skin, share))
    mixed = texels.normals.copy()
    mixed[skin] += share[:, None] * (normal - mixed[skin])
    mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
    local = np.stack([(mixed * axis).sum(1) for axis in (tangent, bitangent, texels.normals)], -1)
    picture = bleed(sheet.picture(local * 0.5 + 0.5), sheet.covered)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def _soft(sheet: Sheet, rows: Array, share: Array) -> Array:
    values = np.zeros(len(sheet.texel))
    values[rows] = share
    radius = max(2, sheet.size // 256)
    picture = cv2.erode(sheet.picture(values)[..., 0], np.ones((radius, radius)))
    return cv2.GaussianBlur(picture, (0, 0), radius).reshape(-1)[sheet.texel[rows]]
