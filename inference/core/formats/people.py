"""Who is who: everybody that a file shows, linked over frames by where they are, and one of them chosen.

The order in which a file lists people is not identity; where a file numbers them itself, its numbers overrule places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...protocol.errors import InputError
from ..skeletons import BODY
from .layouts import Layout

Array = np.ndarray
_CROWD = 16  # the surest people of a frame; nobody follows one of more
_REACH = 0.6  # how far somebody may move between two frames, in sizes of their body
_REACH_A_S = 2.0  # the same, for each second they have not been seen
_REACH_MOST = 3.0
_PATIENCE_S = 1.0  # after which somebody unseen is another track, to be joined if it fits


@dataclass(frozen=True)
class Sightings:
    """Everybody a file shows: a row for each person in each frame.

    frame (N,) int, 0 is the clip's first; points (N, P, 3) x, y, score, all 0 where a point is missing;
    number (N,) int is the file's own for each person, -1 where it has none.
    """

    layout: Layout
    frame: Array
    points: Array
    number: Array
    frames: int
    first_frame: int = 0  # what the file calls frame 0
    image_size: tuple[int, int] | None = None
    fps: float | None = None


@dataclass
class _Track:
    """Rows that show one person, in order of time."""

    rows: list[int] = field(default_factory=list)
    score: float = 0.0

    def add(self, row: int, score: float) -> None:
        self.rows.append(row)
        self.score += score


@dataclass(frozen=True)
class _Crowd:
    """Bodies (N, 25, 2) px, NaN unseen, with what is asked of them again and again."""

    frame: Array
    body: Array
    score: Array  # (N,) sum over the body
    number: Array
    low: Array  # (N, 2) corners of the box around the body
    high: Array
    centre: Array
    size: Array  # (N,) from corner to corner
    rate: float

    @staticmethod
    def of(seen: Sightings, positions: Array, confidence: Array, rate: float) -> _Crowd:
        body = positions[:, BODY]
        low = np.where(np.isnan(body), np.inf, body).min(axis=1)
        high = np.where(np.isnan(body), -np.inf, body).max(axis=1)
        low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)  # no body: never asked
        score, size = confidence[:, BODY].sum(axis=1), np.linalg.norm(high - low, axis=-1)
        return _Crowd(seen.frame, body, score, seen.number, low, high, (low + high) / 2, size, rate)

    def apart(self, before: Array, after: Array) -> Array:
        """(B, A) how far rows `after` are from rows `before`: above 1, it is somebody else."""
        a, b = self.body[before][:, None], self.body[after][None]
        distance = np.linalg.norm(a - b, axis=-1)
        common = np.isfinite(distance)
        mean = np.where(common, distance, 0.0).sum(axis=-1) / np.maximum(common.sum(axis=-1), 1)
        centres = np.linalg.norm(self.centre[before][:, None] - self.centre[after], axis=-1)
        mean = np.where(common.any(axis=-1), mean, centres)
        gap_s = (np.abs(self.frame[after][None] - self.frame[before][:, None]) - 1) / self.rate
        reach = np.minimum(_REACH + _REACH_A_S * gap_s, _REACH_MOST)
        cost = mean / np.maximum(reach * np.maximum(self.size[before][:, None], self.size[after]), 1e-9)
        known = (self.number[before][:, None] >= 0) & (self.number[after][None] >= 0)
        same = self.number[before][:, None] == self.number[after][None]
        return np.where(known, np.where(same, 0.0, 2.0), cost)


def follow(
    seen: Sightings, positions: Array, confidence: Array, *, rate: float, person: Sequence[float] | None, start: int = 0
) -> Array:
    """Rows (T,) of one person, -1 in frames that do not show them.

    Args:
        positions, confidence: (N, 137, 2) px and (N, 137) of the rows of `seen`.
        person: a click x, y or a box x0, y0, x1, y1 px on the first frame from `start` on that shows anybody; without
            one, the person seen longest and surest is followed.
    Raises:
        InputError: `person` points at nobody.
    """
    crowd = _Crowd.of(seen, positions, confidence, rate)
    rows = np.full(seen.frames, -1)
    shown = np.flatnonzero(crowd.score > 0)
    if not len(shown):
        return rows
    tracks = _link(crowd, shown)
    chosen = max(tracks, key=lambda track: track.score) if person is None else _pointed_at(crowd, tracks, person, start)
    alone = len(np.unique(crowd.frame[shown])) == len(shown)
    chain = shown if alone else _joined(crowd, tracks, chosen)
    rows[crowd.frame[chain]] = chain
    return rows


def follow_everybody(seen: Sightings, positions: Array, confidence: Array, *, rate: float) -> Array:
    """Number (N,) of the track that each row belongs to, -1 where it shows no body; arguments as in `follow`."""
    crowd, track = _Crowd.of(seen, positions, confidence, rate), np.full(len(seen.frame), -1)
    shown = np.flatnonzero(crowd.score > 0)
    for number, one in enumerate(_link(crowd, shown) if len(shown) else ()):
        track[one.rows] = number
    return track


def _link(crowd: _Crowd, shown: Array) -> list[_Track]:
    """Greedily continue tracks from frame to frame, nearest first."""
    tracks: list[_Track] = []
    live: list[_Track] = []
    order = shown[np.lexsort((-crowd.score[shown], crowd.frame[shown]))]
    for everybody in np.split(order, np.flatnonzero(np.diff(crowd.frame[order])) + 1):
        now, people = int(crowd.frame[everybody[0]]), everybody[:_CROWD]
        live = [t for t in live if now - crowd.frame[t.rows[-1]] <= max(_PATIENCE_S * crowd.rate, 1)]
        taken = _pairs(crowd.apart(np.array([t.rows[-1] for t in live], int), people)) if live else {}
        for column, row in enumerate(people):
            if column not in taken:
                tracks.append(_Track())
                live.append(tracks[-1])
            track = live[taken[column]] if column in taken else tracks[-1]
            track.add(int(row), float(crowd.score[row]))
    return tracks


def _pairs(cost: Array) -> dict[int, int]:
    """Column -> row of a (B, A) table of costs, cheapest first, each once, none above 1."""
    taken: dict[int, int] = {}
    for flat in np.argsort(cost, axis=None, kind="stable"):
        row, column = divmod(int(flat), cost.shape[1])
        if cost[row, column] > 1.0:
            break
        if column not in taken and row not in taken.values():
            taken[column] = row
    return taken


def _joined(crowd: _Crowd, tracks: Sequence[_Track], chosen: _Track) -> Array:
    """Rows of the chosen track and of those that take it up where it was lost, nearest first, in order of time."""
    rows, rest = np.array(chosen.rows), [track for track in tracks if track is not chosen]
    while rest:
        starts, ends = np.array([t.rows[0] for t in rest]), np.array([t.rows[-1] for t in rest])
        after = np.searchsorted(crowd.frame[rows], crowd.frame[starts])  # the place of each track among the rows
        fits_between = after == np.searchsorted(crowd.frame[rows], crowd.frame[ends], side="right")
        cost = np.where(fits_between, 0.0, np.inf)
        for place in np.unique(after[fits_between]):
            here = np.flatnonzero(fits_between & (after == place))
            if place > 0:
                cost[here] = np.maximum(cost[here], crowd.apart(rows[[place - 1]], starts[here])[0])
            if place < len(rows):
                cost[here] = np.maximum(cost[here], crowd.apart(ends[here], rows[[place]])[:, 0])
        best = int(np.argmin(cost))
        if cost[best] > 1.0:
            break
        rows = np.insert(rows, after[best], rest.pop(best).rows)
        rest = [track for track, kept in zip(rest, np.delete(fits_between, best), strict=True) if kept]
    return rows


def _pointed_at(crowd: _Crowd, tracks: Sequence[_Track], where: Sequence[float], start: int) -> _Track:
    """Take the track whose body, on the first frame with anybody, is nearest to a click or the middle of a box."""
    owner = {row: track for track in tracks for row in track.rows}
    rows = np.array([row for row in owner if crowd.frame[row] >= start], int)
    if not len(rows):
        raise InputError(f"No frame from {start} on shows anybody who could be chosen.")
    first = crowd.frame[rows].min()
    rows = rows[crowd.frame[rows] == first]
    target = np.reshape(np.asarray(where, float), (-1, 2)).mean(axis=0)
    low, high = crowd.low[rows], crowd.high[rows]
    outside = np.linalg.norm(np.maximum(np.maximum(low - target, target - high), 0.0), axis=-1)
    best = np.lexsort((np.linalg.norm((low + high) / 2 - target, axis=-1), outside))[0]
    if outside[best] > 0.25 * crowd.size[rows[best]]:
        raise InputError(
            f"Nobody is at ({target[0]:.0f}, {target[1]:.0f}) px on frame {first}; the nearest of {len(rows)} people "
            f"is {outside[best]:.0f} px away.",
            "Point at a person on the first frame that shows one.",
        )
    return owner[int(rows[best])]
