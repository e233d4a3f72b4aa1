"""Do two cameras see one person: how far the rays of two calibrated views pass each other, and where they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.artifacts import Crowd2D
from ..core.cameras import Camera, normalise
from ..core.skeletons import BODY, MIRROR_137

Array = np.ndarray
_MIRROR = np.asarray(MIRROR_137)[BODY]
_SURE = 0.3  # joints seen less surely tell nothing
_LEAST = 4  # joints that both see
_MISS_M = (0.012, 0.06)  # least and most by which rays of one person pass each other, half of the time
_WIDER, _LEAST_LOOKS = 1.3, 3
_APART_M = 0.3  # the same of two people
_BLOCK = 20_000  # pairs of bodies compared at once, to bound memory


@dataclass(frozen=True)
class Bodies:
    """Unit rays (R, 25, 3) of a view's rows in the world, NaN unseen, from the camera's centre `eye` (3,)."""

    rays: Array
    eye: Array

    @staticmethod
    def of(crowd: Crowd2D, camera: Camera) -> Bodies:
        """Turn what a view saw into rays."""
        flat = normalise(camera, np.asarray(crowd.positions[:, BODY], float))
        rays = np.concatenate([flat, np.ones((*flat.shape[:-1], 1))], -1) @ np.asarray(camera.rotation)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        rays[crowd.confidence[:, BODY] < _SURE] = np.nan
        return Bodies(rays, np.asarray(camera.centre, float))


@dataclass(frozen=True)
class Laid:
    """Looks at a view in order of time: the tick of each, its row, and who it belongs to, all (L,) int."""

    tick: Array
    row: Array
    owner: Array


@dataclass(frozen=True)
class Crossing:
    """Two owners in two views: how far rays typically pass (metres), in how many looks, and where they meet.

    start and end: first and last tick that both see, and the middle of the body there, (3,) metres.
    """

    one: int
    other: int
    miss_m: float
    looks: int
    start: tuple[int, Array]
    end: tuple[int, Array]

    def evidence(self, scale_m: float) -> float:
        """Nats for one person: misses are heavy-tailed (half Cauchy), of one person narrow, of two people wide."""
        narrow, wide = (np.log(s * (1.0 + (self.miss_m / s) ** 2)) for s in (scale_m, _APART_M))
        return float(wide - narrow)


def usual_miss(found: Sequence[Crossing]) -> float:
    """By how much rays of one person pass each other in this rig, metres: judged by the best partner of everybody."""
    best: dict[int, float] = {}
    for crossing in found:
        for one in (crossing.one, crossing.other) if crossing.looks >= _LEAST_LOOKS else ():
            best[one] = min(best.get(one, np.inf), crossing.miss_m)
    return float(np.clip(_WIDER * np.median(list(best.values())), *_MISS_M)) if best else _MISS_M[1]


def crossings(bodies: tuple[Bodies, Bodies], laid: tuple[Laid, Laid]) -> list[Crossing]:
    """Compare all owners of one view with all of another at the ticks that they share."""
    left, right = _pairs(laid[0].tick, laid[1].tick)
    miss, middle = np.full(len(left), np.nan), np.full((len(left), 3), np.nan)
    for start in range(0, len(left), _BLOCK):
        part = slice(start, start + _BLOCK)
        miss[part], middle[part] = _meet(*bodies, laid[0].row[left[part]], laid[1].row[right[part]])
    known = np.flatnonzero(np.isfinite(miss))
    one, other = laid[0].owner[left[known]], laid[1].owner[right[known]]
    order = np.lexsort((other, one))  # stable: in order of time within a pair
    out = []
    for rows in np.split(order, np.flatnonzero((np.diff(one[order]) != 0) | (np.diff(other[order]) != 0)) + 1):
        if len(rows):
            looks = known[rows]
            ends = [(int(laid[0].tick[left[look]]), middle[look]) for look in (looks[0], looks[-1])]
            typical = float(np.median(miss[looks]))
            out.append(Crossing(int(one[rows[0]]), int(other[rows[0]]), typical, len(rows), *ends))
    return out


def _pairs(a: Array, b: Array) -> tuple[Array, Array]:
    """Give all pairs of places in two sorted rows that hold the same number."""
    first, last = (np.searchsorted(b, a, side=side) for side in ("left", "right"))
    count = last - first
    left = np.repeat(np.arange(len(a)), count)
    return left, np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)


def _meet(a: Bodies, b: Bodies, rows_a: Array, rows_b: Array) -> tuple[Array, Array]:
    """Median over joints of the distance between rays of pairs of rows (L,) and of where they meet (L, 3), metres.

    NaN with fewer than four joints. Sides are taken as named in both views or as exchanged in one, whichever fits.
    """
    found = [_between(a.rays[rows_a], b.rays[rows_b][:, order], a.eye, b.eye) for order in (slice(None), _MIRROR)]
    miss = [_median(distance) for distance, _ in found]
    middle = [np.stack([_median(points[..., axis]) for axis in range(3)], -1) for _, points in found]
    exchanged = np.nan_to_num(miss[1], nan=np.inf) < np.nan_to_num(miss[0], nan=np.inf)
    return np.where(exchanged, miss[1], miss[0]), np.where(exchanged[:, None], middle[1], middle[0])


def _median(values: Array) -> Array:
    """Median of the finite values in each row of (L, J), NaN where there are fewer than four."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(ordered).sum(1)
    return np.where(count >= _LEAST, ordered[np.arange(len(ordered)), count // 2 - (count > 0)], np.nan)


def _between(u: Array, v: Array, eye_u: Array, eye_v: Array) -> tuple[Array, Array]:
    """Least distance (...,) of rays u and v, not of the lines behind their eyes, and the point half-way (..., 3)."""
    w, uv = eye_u - eye_v, (u * v).sum(-1)
    d, e = (u * w).sum(-1), (v * w).sum(-1)
    denominator = np.maximum(1.0 - uv**2, 1e-6)
    s, t = np.maximum((uv * e - d) / denominator, 0.0), np.maximum((e - uv * d) / denominator, 0.0)
    on_u, on_v = eye_u + s[..., None] * u, eye_v + t[..., None] * v
    return np.linalg.norm(on_u - on_v, axis=-1), 0.5 * (on_u + on_v)
