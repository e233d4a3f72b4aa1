"""Who is who in several views: pieces of tracks are grouped into people by correlation clustering.

A piece is a stretch of one track in one view within which nobody was near enough to be taken for somebody else. Pairs
of pieces speak for or against being one person: rays of two calibrated cameras that meet or pass each other, tracks
that went on, clothes. Two pieces of one view that share a moment are two people, whatever else speaks for them; with
that, groups are consistent over any number of views (no camera A = B, B = C, A != C). Groups are made greedily, the
strongest evidence first (Keuper et al. 2015, greedy additive edge contraction), and improved by moving single pieces.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import median_filter

from ..core.artifacts import Crowd2D
from ..core.cameras import CameraSet
from ..core.clustering import Weights, add, cluster
from ..core.skeletons import BODY
from .crossing import Bodies, Crossing, Laid, crossings, usual_miss

Array = np.ndarray

# Where tracks are cut.
_GAP_S = 0.3
_LONGEST_S = 2.0
_SHORTEST = 4  # rows
_MOMENT = 5  # ticks that two pieces of one person may share where a cut was made too early or too late
_CALM_S = 0.3  # shorter comings and goings are noise
_NEAR = 0.25  # of a body's size between two bodies: one may have been taken for the other

# Evidence, in nats, roughly.
_UNBROKEN = 4.0  # a track that is cut for its length alone
_BROKEN = 1.0  # a track that went on past somebody, or after a gap
_A_SECOND = 3.0  # how much a second of rays counts beside a single frame
_LOOKS_A_S = 10.0  # at which rays are compared
_PLACE_REACH_S = 0.5  # between pieces whose places are compared
_PLACE_M = 0.25  # between two places of one person, beside walking
_PLACE_NATS = 2.0
_USUAL = ((0.93, 0.05), (0.75, 0.1))  # similarity of clothes, mean and spread: of one person, of two
_ENOUGH, _LEAST_SPREAD = 2, 0.03
_CERTAIN = 1.2  # nats of rays from which clothes are learnt
_LOOK_MOST = (1.0, 2.0)  # for, against
_LOOK_REACH_S = 3.0  # between the end of a piece and the beginning of another whose clothes are compared

# Groups that never met, joined at last.
_WALK_M_S, _SLACK_M, _BODY_M = 2.5, 0.8, 1.9  # _BODY_M: corner to corner of a standing person, arms down
_JOINED = 0.5  # nats


@dataclass(frozen=True)
class Piece:
    """Rows of one track of one view, in order; `ticks` are their frames on the clock of all views."""

    view: int
    track: int
    rows: Array
    ticks: Array
    unbroken: bool  # the track went on before it, undisturbed

    @property
    def first(self) -> int:
        """The tick of the first row."""
        return int(self.ticks[0])

    @property
    def last(self) -> int:
        """The tick of the last row."""
        return int(self.ticks[-1])


@dataclass(frozen=True)
class _Shown:
    """What is known of all pieces: their looks, and for each how alike its two halves are; bodies' boxes by view."""

    pieces: Sequence[Piece]
    looks: Sequence[Array | None]
    halves: Sequence[float | None]
    boxes: Sequence[tuple[Array, Array]]
    rate: float

    @staticmethod
    def of(crowds: Sequence[Crowd2D], pieces: Sequence[Piece], rate: float) -> _Shown:
        looks = [_mean_look(crowds[p.view], p.rows) for p in pieces]
        halves = [_constancy(crowds[p.view], p.rows) for p in pieces]
        return _Shown(pieces, looks, halves, [_boxes(crowd) for crowd in crowds], rate)


def group(crowds: Sequence[Crowd2D], cameras: CameraSet | None) -> list[list[Piece]]:
    """Find the people that one or several views show.

    Args:
        cameras: of the views, in their order; without them, views are compared by clothes alone.
    Returns:
        For each person the pieces that show them; nobody is in two places of one view at a time.
    """
    rate, ticks = common_clock(crowds)
    pieces = [p for v, crowd in enumerate(crowds) for p in cut(crowd, v, ticks[v])]
    shown = _Shown.of(crowds, pieces, rate)
    bodies = [Bodies.of(crowd, camera) for crowd, camera in zip(crowds, cameras or (), strict=cameras is not None)]
    weights = _continuity(pieces)
    conflicts = _conflicts(weights, pieces)
    rays = _compare_rays(weights, pieces, bodies, rate) if len(bodies) > 1 else {}
    wardrobe = _compare_looks(weights, shown, rays)
    label = _join(cluster(weights, conflicts), shown, wardrobe)
    return [_without_doubles([pieces[i] for i in np.flatnonzero(label == k)]) for k in np.unique(label)]


def common_clock(crowds: Sequence[Crowd2D]) -> tuple[float, list[Array]]:
    """Give the least frame rate of the views, and for each the tick of every frame at that rate."""
    rate = min(crowd.fps for crowd in crowds)
    return rate, [np.round(np.asarray(crowd.times, float) * rate).astype(int) for crowd in crowds]


def cut(crowd: Crowd2D, view: int, ticks: Array) -> list[Piece]:
    """Cut the tracks of a view where they have gaps, where somebody is near, and every two seconds."""
    centre, size = _boxes(crowd)
    met = _encounters(crowd, centre, size)
    gap, longest = max(_GAP_S * crowd.fps, 1.0), max(round(_LONGEST_S * crowd.fps), 2)
    pieces = []
    for track in np.unique(crowd.track):
        rows = np.flatnonzero(crowd.track == track)
        frames = crowd.frame[rows]
        broken = np.flatnonzero(np.diff(frames) > gap) + 1
        broken = np.union1d(broken, np.searchsorted(frames, sorted(met.get(int(track), ()))))
        broken = _spaced(broken[(broken > 0) & (broken < len(rows))].astype(int), len(rows))
        for start, stop in zip([0, *broken], [*broken, len(rows)], strict=True):
            parts = np.array_split(np.arange(start, stop), max(1, round((stop - start) / longest)))
            for number, part in enumerate(parts):
                pieces.append(Piece(view, int(track), rows[part], ticks[frames[part]], unbroken=number > 0))
    return pieces


def _spaced(cuts: Array, end: int) -> list[int]:
    """Leave out cuts that would leave a piece of less than four rows."""
    out: list[int] = []
    for place in cuts.tolist():
        if place - (out[-1] if out else 0) >= _SHORTEST and end - place >= _SHORTEST:
            out.append(place)
    return out


def _boxes(crowd: Crowd2D) -> tuple[Array, Array]:
    """Give the middle (R, 2) and the size (R,) of every body, px."""
    body = np.where((crowd.confidence[:, BODY] > 0)[..., None], crowd.positions[:, BODY], np.nan).astype(float)
    low = np.where(np.isnan(body), np.inf, body).min(1)
    high = np.where(np.isnan(body), -np.inf, body).max(1)
    seen = np.isfinite(low).all(-1, keepdims=True)
    low, high = np.where(seen, low, 0.0), np.where(seen, high, 0.0)
    return 0.5 * (low + high), np.linalg.norm(high - low, axis=-1)


def _encounters(crowd: Crowd2D, centre: Array, size: Array) -> dict[int, set[int]]:
    """For each track, the frames at which somebody is nearest, or was lost or found again beside it."""
    met: dict[int, set[int]] = {}
    tracks = {int(t): np.flatnonzero(crowd.track == t) for t in np.unique(crowd.track)}
    names = list(tracks)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            for frame in _meetings(crowd, centre, size, tracks[one], tracks[other]):
                met.setdefault(one, set()).add(frame)
                met.setdefault(other, set()).add(frame)
    return met


def _meetings(crowd: Crowd2D, centre: Array, size: Array, a: Array, b: Array) -> list[int]:
    """Frames at which tracks of rows `a` and `b` come near, are nearest, and part.

    Somebody lost beside somebody else is taken to move evenly until they are found again.
    """
    first = max(crowd.frame[a[0]], crowd.frame[b[0]]) - 1
    last = min(crowd.frame[a[-1]], crowd.frame[b[-1]]) + 1
    frames = np.arange(max(first, 0), min(last, len(crowd.times) - 1) + 1)
    if not len(frames):
        return []
    at = [np.stack([np.interp(frames, crowd.frame[r], centre[r, axis]) for axis in (0, 1)], -1) for r in (a, b)]
    scale = np.maximum(np.interp(frames, crowd.frame[a], size[a]), np.interp(frames, crowd.frame[b], size[b]))
    away = np.linalg.norm(at[0] - at[1], axis=-1) / np.maximum(scale, 1e-9)
    calm = max(round(_CALM_S * crowd.fps), 1)
    away = median_filter(away, 2 * (calm // 2) + 1, mode="nearest")
    near = np.flatnonzero(away < _NEAR)
    runs = np.split(near, np.flatnonzero(np.diff(near) > calm) + 1) if len(near) else []
    return [
        int(frames[i]) for run in runs for i in (run[0], run[np.argmin(away[run])], min(run[-1] + 1, len(frames) - 1))
    ]


def _conflicts(weights: Weights, pieces: Sequence[Piece]) -> list[set[int]]:
    """For each piece, those of the same view that share more than a moment with it; moments speak against."""
    out: list[set[int]] = [set() for _ in pieces]
    for i, j in _overlapping(pieces):
        if pieces[i].view != pieces[j].view:
            continue
        shared = np.intersect1d(pieces[i].ticks, pieces[j].ticks).size
        if shared > min(_MOMENT, 0.25 * min(len(pieces[i].rows), len(pieces[j].rows))):
            out[i].add(j)
            out[j].add(i)
        elif shared:
            add(weights, i, j, -0.5 * shared)
    return out


def _without_doubles(pieces: Sequence[Piece]) -> list[Piece]:
    """Where two pieces of one person share a moment in a view, the longer one has it."""
    out: list[Piece] = []
    taken: dict[int, set[int]] = {}
    for piece in sorted(pieces, key=lambda p: -len(p.rows)):
        own = taken.setdefault(piece.view, set())
        free = np.array([tick not in own for tick in piece.ticks.tolist()])
        own.update(piece.ticks.tolist())
        if free.any():
            out.append(replace(piece, rows=piece.rows[free], ticks=piece.ticks[free]))
    return sorted(out, key=lambda p: (p.view, p.first))


def _overlapping(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Pairs of pieces whose spans of time overlap."""
    order = sorted(range(len(pieces)), key=lambda i: pieces[i].first)
    pairs, open_ = [], []
    for i in order:
        open_ = [j for j in open_ if pieces[j].last >= pieces[i].first]
        pairs += [(j, i) for j in open_]
        open_.append(i)
    return pairs


def _continuity(pieces: Sequence[Piece]) -> Weights:
    weights: Weights = [{} for _ in pieces]
    for i, (a, b) in enumerate(itertools.pairwise(pieces)):
        if (a.view, a.track) == (b.view, b.track):
            add(weights, i, i + 1, _UNBROKEN if b.unbroken else _BROKEN)
    return weights


def _mean_look(crowd: Crowd2D, rows: Array) -> Array | None:
    """Average the colours of a piece's clothes, (D,) square roots, NaN where a part is never seen."""
    if crowd.look is None:
        return None
    look = np.square(crowd.look[rows].astype(float))
    seen = np.isfinite(look)
    count = seen.sum(0)
    return np.sqrt(np.where(count > 0, np.where(seen, look, 0.0).sum(0) / np.maximum(count, 1), np.nan))


def similarity(a: Array | None, b: Array | None, parts: int = 2) -> float | None:
    """Bhattacharyya coefficient of two looks over the parts that both show; None where there is none."""
    if a is None or b is None:
        return None
    each = [float((x * y).sum()) for x, y in zip(np.split(a, parts), np.split(b, parts), strict=True)]
    each = [value for value in each if np.isfinite(value)]
    return sum(each) / len(each) if each else None


@dataclass(frozen=True)
class Wardrobe:
    """How alike one person's clothes look at two times, and those of two people: mean and spread of each."""

    same: tuple[float, float]
    other: tuple[float, float]

    @staticmethod
    def of(same: Sequence[float], other: Sequence[float]) -> Wardrobe:
        """Learn from what is certain; with too little of it, take what is usual."""
        alike = _spread(same, _USUAL[0])
        return Wardrobe(alike, _spread(other, (alike[0] - 0.18, _USUAL[1][1])))

    def evidence(self, alike: float | None) -> float:
        """Nats for two looks, so similar, being one person's; bounded, for clothes prove nothing."""
        if alike is None:
            return 0.0
        nats = [-0.5 * ((alike - mean) / spread) ** 2 - np.log(spread) for mean, spread in (self.same, self.other)]
        return float(np.clip(nats[0] - nats[1], -_LOOK_MOST[1], _LOOK_MOST[0])) if self.same[0] > self.other[0] else 0.0


def _spread(values: Sequence[float], usual: tuple[float, float]) -> tuple[float, float]:
    if len(values) < _ENOUGH:
        return usual
    middle = float(np.median(values))
    return middle, max(1.48 * float(np.median(np.abs(np.array(values) - middle))), _LEAST_SPREAD)


def _compare_looks(weights: Weights, shown: _Shown, rays: dict[tuple[int, int], float]) -> Wardrobe:
    """Compare clothes across views at the same time, and within a view just before and after."""
    pieces, looks = shown.pieces, shown.looks
    together = _overlapping(pieces)
    alike = {(i, j): similarity(looks[i], looks[j]) for i, j in together}
    within = {pair: value for pair, value in alike.items() if pieces[pair[0]].view == pieces[pair[1]].view}
    across = {pair: value for pair, value in alike.items() if pair not in within}
    wardrobe = Wardrobe.of(*([v for v in values if v is not None] for values in (shown.halves, within.values())))
    sure = [(value, rays.get(pair, 0.0)) for pair, value in across.items() if value is not None]
    abroad = Wardrobe.of([v for v, ray in sure if ray > _CERTAIN], [v for v, ray in sure if ray < -_CERTAIN])
    for (i, j), value in across.items():
        add(weights, i, j, abroad.evidence(value))
    for i, j in _soon_after(pieces, _LOOK_REACH_S * shown.rate):
        if not pieces[j].unbroken:
            add(weights, i, j, wardrobe.evidence(similarity(looks[i], looks[j])))
    return wardrobe


def _constancy(crowd: Crowd2D, rows: Array) -> float | None:
    """Compare the clothes in two halves of a piece."""
    if crowd.look is None or len(rows) < 2 * _SHORTEST:
        return None
    first, second = (_mean_look(crowd, half) for half in np.array_split(rows, 2))
    return similarity(first, second)


def _soon_after(pieces: Sequence[Piece], reach: float) -> Iterator[tuple[int, int]]:
    """Yield pairs of one view of which the second begins within `reach` ticks after the first has ended."""
    by_view: dict[int, list[int]] = {}
    for i in sorted(range(len(pieces)), key=lambda i: pieces[i].first):
        by_view.setdefault(pieces[i].view, []).append(i)
    for members in by_view.values():
        firsts = np.array([pieces[i].first for i in members])
        for i in members:
            low, high = np.searchsorted(firsts, [pieces[i].last, pieces[i].last + reach], side="right")
            yield from ((i, j) for j in members[low:high])


def _lay_out(pieces: Sequence[Piece], view: int, step: int) -> Laid:
    """Take every `step`th tick of a view's pieces, at least one of each."""
    own = [
        (i, p, (p.ticks % step == 0) | (np.arange(len(p.ticks)) == len(p.ticks) // 2))
        for i, p in enumerate(pieces)
        if p.view == view
    ]
    empty = np.zeros(0, int)
    tick = np.concatenate([empty, *(p.ticks[some] for _, p, some in own)])
    row = np.concatenate([empty, *(p.rows[some] for _, p, some in own)])
    owner = np.concatenate([empty, *(np.full(np.count_nonzero(some), i) for i, _, some in own)])
    order = np.argsort(tick, kind="stable")
    return Laid(tick[order], row[order], owner[order])


def _compare_rays(
    weights: Weights, pieces: Sequence[Piece], bodies: Sequence[Bodies], rate: float
) -> dict[tuple[int, int], float]:
    """Add what rays say of pairs of pieces at one time, and what places say of pairs one after the other.

    Returns:
        What the rays of each pair say, without regard to duration.
    """
    step = max(1, round(rate / _LOOKS_A_S))
    laid = [_lay_out(pieces, view, step) for view in range(len(bodies))]
    said: dict[tuple[int, int], float] = {}
    places: list[list[tuple[float, Crossing]]] = [[] for _ in pieces]
    views = itertools.combinations(range(len(bodies)), 2)
    found = [c for a, b in views for c in crossings((bodies[a], bodies[b]), (laid[a], laid[b]))]
    scale = usual_miss(found)
    for crossing in found:
        i, j, nats = crossing.one, crossing.other, crossing.evidence(scale)
        said[min(i, j), max(i, j)] = nats
        add(weights, i, j, nats * (1.0 + _A_SECOND * min(crossing.looks / _LOOKS_A_S, _LONGEST_S)) / 2.0)
        places[i].append((nats, crossing))
        places[j].append((nats, crossing))
    _compare_places(weights, [_ends(row) for row in places], rate)
    return said


_End = tuple[int, Array]  # a tick, and where somebody was then, (3,) metres


def _ends(places: Sequence[tuple[float, Crossing]]) -> tuple[_End, _End] | None:
    """Take where a piece begins and ends from the crossing that is believed most."""
    sure = [(nats * min(c.looks, 5), n) for n, (nats, c) in enumerate(places) if nats > _CERTAIN]
    if not sure:
        return None
    best = places[max(sure)[1]][1]
    return best.start, best.end


def _compare_places(weights: Weights, ends: Sequence[tuple[_End, _End] | None], rate: float) -> None:
    """Compare where one piece ends with where others begin a moment later, in any view."""
    known = [(i, *end) for i, end in enumerate(ends) if end is not None]
    known.sort(key=lambda row: row[1][0])
    begins = np.array([start[0] for _, start, _ in known])
    for i, _, (tick, place) in known:
        low, high = np.searchsorted(begins, [tick, tick + _PLACE_REACH_S * rate], side="right")
        for j, (then, there), _ in known[low:high]:
            away = float(np.linalg.norm(there - place)) / (_PLACE_M + _WALK_M_S * (then - tick) / rate)
            add(weights, i, j, float(np.clip(_PLACE_NATS * (1.0 - away**2), -_PLACE_NATS, _PLACE_NATS)))


def _join(label: Array, shown: _Shown, wardrobe: Wardrobe) -> Array:
    """Join groups of different times that look alike and could have walked from one to the other, the likest first."""
    label = label.copy()
    while True:
        groups = {int(k): np.flatnonzero(label == k) for k in np.unique(label)}
        looks = {k: _group_look(shown, members) for k, members in groups.items()}
        spans = {
            k: (min(shown.pieces[i].first for i in m), max(shown.pieces[i].last for i in m)) for k, m in groups.items()
        }
        best = (_JOINED, -1, -1)
        for one, other in itertools.permutations(groups, 2):
            gap_s = (spans[other][0] - spans[one][1]) / shown.rate
            if gap_s * shown.rate > -_MOMENT:
                worth = wardrobe.evidence(similarity(looks[one], looks[other]))
                best = max(best, (worth + _walk_evidence(shown, groups[one], groups[other], gap_s), one, other))
        if best[1] < 0:
            return label
        label[label == best[2]] = best[1]


def _group_look(shown: _Shown, members: Array) -> Array | None:
    given = [(look, len(shown.pieces[i].rows)) for i in members if (look := shown.looks[i]) is not None]
    if not given:
        return None
    squared = np.square(np.stack([look for look, _ in given]))
    weight = np.where(np.isfinite(squared), np.array([n for _, n in given], float)[:, None], 0.0)
    total = weight.sum(0)
    return np.sqrt(np.where(total > 0, (weight * np.nan_to_num(squared)).sum(0) / np.maximum(total, 1e-9), np.nan))


def _walk_evidence(shown: _Shown, before: Array, after: Array, gap_s: float) -> float:
    """Nats for somebody last seen in `before` being first seen in `after`: near in place, soon in time."""
    one, other = [shown.pieces[i] for i in before], [shown.pieces[i] for i in after]
    worth = []
    for view in {p.view for p in one} & {p.view for p in other}:
        row = max((p for p in one if p.view == view), key=lambda p: p.last).rows[-1]
        then = min((p for p in other if p.view == view), key=lambda p: p.first).rows[0]
        centre, size = shown.boxes[view]
        away = float(np.linalg.norm(centre[row] - centre[then])) / max(size[row], size[then], 1e-9) * _BODY_M
        worth.append(1.0 - away / (_SLACK_M + _WALK_M_S * gap_s))
    if not worth:
        return 0.0
    nearest = max(worth)
    return -9.0 if nearest < 0 else 1.5 * nearest * float(np.exp(-gap_s / 4.0))
