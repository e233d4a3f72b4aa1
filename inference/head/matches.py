"""Which pixels of two photos show the same place of a face, and what that says of its shape and of their cameras.

Both photos are laid out along the surface as it is believed to be, on a chart about the nose. Where it is wrong they
are shifted against each other, and dense optical flow says by how much (DIS: Kroeger et al., ECCV 2016). The lines of
sight through two such pixels should cross, and cross on the surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import KDTree

from ..core.cameras import Camera, project, rays
from ..nets.head_shape import chart, directions
from .frame import CENTRE
from .guess import FACE_M, closed
from .nearest import Meshed
from .outlines import along, steepness
from .seen import Seen

Array = np.ndarray
_SIDE, _EDGE_DEG = 256, 62.0  # cells of the chart, and how far about the nose it reaches
_EVERY = 4  # one cell of so many, each way, is looked at
_FACING, _HIDDEN_M = 0.25, 0.003  # cosine of the least slant at which places are seen; what is farther off is hidden
_CONTRAST = 6.0  # cells over which brightness is evened: photos are lit differently
_FINE_M = 0.0008  # between pixels: finer ones show no more on a chart
_PLAIN, _DARK = 0.7, 2.0  # contrast in grey levels: where nothing is to be seen; below which it is not evened
_GREY, _SPREAD = 128, 40.0  # mean and contrast of what is compared
_BACK, _FARTHEST = 0.7, 8.0  # cells by which there and back again may differ; the longest way
_OVERLAP, _FEWEST, _SHARE = 800, 100, 0.3  # cells that both photos show; matches, and their share, that say something
_LEAST_DEG, _BEST_DEG, _PAIRS = 8.0, 55.0, 12  # between photos: as much less or more than what is best; pairs
_OFF_M, _GRAIN_M, _AROUND = 0.001, 0.004, 64  # what crosses so far off counts half; how means are taken, of how many
_BESIDE = np.ones((5, 5), np.uint8)  # cells so near to what one photo does not show are left out


class Match(NamedTuple):
    """Photos by their numbers, and pixels (N, 2) of each that show the same places.

    coarse: how many times as far apart pixels are there as where no more would be seen, at least 1.
    """

    first: int
    second: int
    pixels: Array
    others: Array
    coarse: float


class Crossing(NamedTuple):
    """Where lines of sight meet.

    gap (N,) metres between both lines; over (N,) metres by which they meet outside the surface; towards (N, 3): unit
    vectors from the head's middle to there; steep (N,): how much farther the surface is along them; sine (N,) of the
    angle between the lines.
    """

    gap: Array
    over: Array
    towards: Array
    steep: Array
    sine: Array


class _Sheet(NamedTuple):
    """A photo laid out: what is compared (S, S) uint8, what of it is seen (S, S), and from which pixels (S, S, 2).

    pixel_m: how far apart these are on the face.
    """

    shown: Array
    seen: Array
    pixels: Array
    pixel_m: float


def matches(
    photos: Sequence[Seen], cameras: Sequence[Camera], radii: Array, heard: Callable[[], None] = lambda: None
) -> list[Match]:
    """What pairs of photos have in common of the face of a head of radii (V,) metres; heard: see `settle.settle`."""
    pairs = _pairs(cameras)
    if not pairs:
        return []
    towards = chart(_SIDE, _EDGE_DEG)
    places = (CENTRE + towards * along(radii, towards)[:, None]).reshape(_SIDE, _SIDE, 3)
    face = np.linalg.norm(places - places[_SIDE // 2, _SIDE // 2], axis=-1) < FACE_M
    head = closed(radii)
    sheets = [_laid_out(photo, camera, places, head) for photo, camera in zip(photos, cameras, strict=True)]
    found = []
    for a, b in pairs:
        heard()
        found += [_match(sheets, a, b, face), _match(sheets, b, a, face)]
    return [match for match in found if match is not None]


def alone(cameras: Sequence[Camera], found: Sequence[Match]) -> list[int]:
    """Photos of which others have nothing in common with them, though they see the face from near enough."""
    near = {photo for pair in _pairs(cameras) for photo in pair}
    return sorted(near - {photo for match in found for photo in (match.first, match.second)})


def crossing(match: Match, camera: Camera, other: Camera, radii: Array, steep: Array | None = None) -> Crossing:
    """How lines of sight from two cameras cross above a head of radii (V,) metres; steep (N,): as for `clearance`."""
    one, two, between = rays(camera, match.pixels), rays(other, match.others), other.centre - camera.centre
    cosine = (one * two).sum(1)
    apart = np.maximum(1 - cosine**2, 1e-9)
    first = camera.centre + one * ((one @ between - cosine * (two @ between)) / apart)[:, None]
    second = other.centre + two * ((cosine * (one @ between) - two @ between) / apart)[:, None]
    across = np.cross(one, two) / np.sqrt(apart)[:, None]
    place = (first + second) / 2 - CENTRE
    far = np.linalg.norm(place, axis=1)
    towards = place / far[:, None]
    steep = steepness(radii, place) if steep is None else steep
    gap, over = ((second - first) * across).sum(1), (far - along(radii, towards)) / steep
    return Crossing(gap, over, towards, steep, np.sqrt(apart))


def beyond(found: Sequence[Crossing], coarse: Sequence[float], radii: Array) -> Array:
    """(V,) metres by which lines of sight cross outside a head of radii (V,) metres: their mean about each direction.

    They are so many that nothing about the shape is assumed; where hardly any cross, it is next to nought. coarse: of
    each match.
    """
    gap, over, towards, steep, sine = (np.concatenate(column) for column in zip(*found, strict=True))
    size = np.repeat(coarse, [len(each.gap) for each in found])
    off = (np.square(over * sine) + np.square(gap)) / np.square(size * _OFF_M)
    sure = np.square(sine / size) / (1 + off) / steep
    places = towards * along(radii, towards)[:, None]
    away, near = KDTree(places).query(directions() * radii[:, None], k=min(_AROUND, len(places)))
    weight = sure[near] * np.exp(-0.5 * np.square(away / _GRAIN_M))
    return (weight * (over * steep)[near]).sum(1) / (weight.sum(1) + 1)


def _pairs(cameras: Sequence[Camera]) -> list[tuple[int, int]]:
    """Photos that see the face from different sides but not from opposite ones."""
    ways = [(camera.centre - CENTRE) / np.linalg.norm(camera.centre - CENTRE) for camera in cameras]
    pairs = list(combinations(range(len(ways)), 2))
    angles = [float(np.degrees(np.arccos(np.clip(ways[a] @ ways[b], -1, 1)))) for a, b in pairs]
    best = sorted((abs(angle - _BEST_DEG), pair) for angle, pair in zip(angles, pairs, strict=True))
    return [pair for off, pair in best[:_PAIRS] if off < _BEST_DEG - _LEAST_DEG]


def _laid_out(photo: Seen, camera: Camera, places: Array, head: Meshed) -> _Sheet:
    normals = np.cross(np.gradient(places, axis=1), -np.gradient(places, axis=0))
    lines = places - camera.centre
    far = np.linalg.norm(lines, axis=-1)
    slant = -(normals * lines).sum(-1) / (np.linalg.norm(normals, axis=-1) * far)
    flat = (lines / far[..., None]).reshape(-1, 3)
    met = head.cast(np.broadcast_to(camera.centre, flat.shape), flat)
    open_to = ((met.face >= 0) & (np.abs(met.depth - far.ravel()) < _HIDDEN_M)).reshape(far.shape)
    pixels = project(camera, places)
    height, width = photo.mask.shape
    inside = ((pixels > 1) & (pixels < [width - 2, height - 2])).all(-1)
    at = np.nan_to_num(pixels).astype(np.float32)
    grey = cv2.cvtColor(photo.image, cv2.COLOR_RGB2GRAY)
    own = cv2.remap(photo.mask.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR) > 0.9
    seen = (slant > _FACING) & open_to & inside & own
    if seen.sum() < _OVERLAP:
        return _Sheet(np.zeros((_SIDE, _SIDE), np.uint8), np.zeros((_SIDE, _SIDE), bool), at, np.inf)
    pixels_m, cell = (
        float(np.median(np.linalg.norm(np.diff(each, axis=1), axis=-1)[seen[:, 1:]])) for each in (places, at)
    )
    if cell > 1.5:
        grey = cv2.GaussianBlur(grey, (0, 0), 0.4 * cell)
    shown, contrast = _evened(cv2.remap(grey, at[..., 0], at[..., 1], cv2.INTER_LINEAR), seen)
    return _Sheet(shown, seen & (contrast > _PLAIN), at, pixels_m / cell)


def _evened(grey: Array, seen: Array) -> tuple[Array, Array]:
    """(S, S) uint8 of one mean and one contrast everywhere, and the contrast that was there, in grey levels."""

    def mean(values: Array) -> Array:
        return cv2.GaussianBlur(values, (0, 0), _CONTRAST)

    share = seen.astype(np.float32)
    all_of = mean(share) + 1e-3
    off = (grey.astype(np.float32) - mean(grey * share) / all_of) * share
    contrast = np.sqrt(mean(off * off) / all_of)
    return np.clip(_GREY + _SPREAD * off / np.hypot(contrast, _DARK), 0, 255).astype(np.uint8), contrast


def _match(sheets: list[_Sheet], first: int, second: int, face: Array) -> Match | None:
    one, two = sheets[first], sheets[second]
    both = one.seen & two.seen & face
    if both.sum() < _OVERLAP:
        return None
    there, back = _flow(one.shown, two.shown), _flow(two.shown, one.shown)
    at = there + np.stack(np.meshgrid(*[np.arange(_SIDE, dtype=np.float32)] * 2), -1)
    again = np.linalg.norm(there + cv2.remap(back, at[..., 0], at[..., 1], cv2.INTER_LINEAR), axis=-1)
    seen = cv2.remap(two.seen.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR) > 0.99
    known = seen & (again < _BACK) & (np.linalg.norm(there, axis=-1) < _FARTHEST)
    known &= cv2.erode(both.astype(np.uint8), _BESIDE) > 0
    kept = np.zeros_like(known)
    some = slice(_EVERY // 2, None, _EVERY)
    kept[some, some] = known[some, some]
    if kept.sum() < max(_FEWEST, _SHARE * both.sum() / _EVERY**2):
        return None
    coarse = max(one.pixel_m, two.pixel_m, _FINE_M) / _FINE_M
    others = cv2.remap(two.pixels, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    return Match(first, second, one.pixels[kept].astype(float), others[kept].astype(float), coarse)


def _flow(one: Array, two: Array) -> Array:
    """(S, S, 2) cells by which what `one` shows is elsewhere in `two`."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return flow.calc(one, two, np.zeros((*one.shape, 2), np.float32))
