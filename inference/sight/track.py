"""Everybody in a film, followed from frame to frame, also past each other.

Each person's region is read where they are expected. Regions that have come to show one and the same body are one body,
and it belongs to whom place and clothes say; the other is taken to be hidden and expected further along their way. So
somebody crossed by somebody else is not lost to the one in front. Somebody lost for long becomes a new track; who is
who again is decided later, over all views (`grouping`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..core.skeletons import BODY
from .blaze import Landmarks
from .blaze_crowd import Finder, Reader, Region
from .grouping import similarity
from .looks import look_at

Array = np.ndarray
_FIND_S = 0.15  # between two looks for people whom nobody follows yet
_FIND_LOST_S = 0.06  # the same while somebody is lost
_WINDOWS, _PART = 2, 0.75  # parts of the picture searched at once; their size over the picture's shorter side
_LOST_S = 1.5  # after which somebody unseen is given up
_TRY_S = 0.5  # for which they are looked for in every frame, later in every third
_COAST_S = 0.6  # for which they are expected to keep moving as before
_SURE = 0.6  # sureness of somebody new who is not furniture
_MOST = 12  # people who are followed at once
_SAME = 0.55  # similarity of keypoints of two readings of one body
_SPREAD = 0.07  # of a body's size: by which readings of one body differ
_REACH, _REACH_A_S = 0.2, 1.0  # of a body's size: how far from where they are expected somebody may be, and each second
_KNOWN = 5  # frames after which somebody's clothes are known
_ALIKE = 0.9  # similarity of clothes that counts for nothing
_CLOTHES, _CLOTHES_LOST = 4.0, 8.0  # cost of a full unit less, for somebody just seen, and for somebody lost
_CHANGED = 0.8  # similarity below which clothes are not learnt
_DEAREST = 1.6


@dataclass(frozen=True)
class Reading:
    """One body in one picture: landmarks, where to look next, the clothes, and who was looked for there."""

    landmarks: Landmarks
    region: Region
    look: Array
    sought: frozenset[int] = frozenset()  # numbers of tracks; empty: found by the detector

    @property
    def sureness(self) -> float:
        """Mean of the third of the body that is seen best: a picture may end at the belt."""
        return float(np.sort(self.landmarks.confidence[BODY])[-8:].mean())


@dataclass
class Track:
    """One person as this view follows them."""

    number: int
    reading: Reading
    frame: int  # last seen
    hits: int = 1
    velocity: Array = field(default_factory=lambda: np.zeros(2))  # px a frame
    look: Array | None = None  # running mean of squares

    def expected_shift(self, frame: int, fps: float) -> Array:
        """(2,) px by which the person will have moved since they were last seen."""
        return self.velocity * min(frame - self.frame, max(_COAST_S * fps, 1.0))

    def take(self, reading: Reading, frame: int) -> None:
        """Be seen again."""
        moved = (reading.region.centre - self.reading.region.centre) / (frame - self.frame)
        self.velocity = moved if self.hits == 1 else 0.6 * self.velocity + 0.4 * moved
        self.reading, self.frame, self.hits = reading, frame, self.hits + 1
        squared = np.square(reading.look)
        if self.look is None:
            self.look = squared
        if self.hits > _KNOWN and (similarity(np.sqrt(self.look), reading.look) or 0.0) < _CHANGED:
            return  # somebody else's clothes, in part
        self.look = np.where(np.isnan(self.look), squared, self.look)
        self.look += max(1.0 / self.hits, 0.05) * np.where(np.isnan(squared), 0.0, squared - self.look)


class Crowd:
    """Follows everybody; give it one picture after the other."""

    def __init__(self, finder: Finder, reader: Reader, fps: float) -> None:
        self._finder, self._reader, self._fps = finder, reader, fps
        self._frame = -1
        self._found_at = -1000
        self._window = 0  # the next part of the picture that is searched
        self._next_number = 0
        self.tracks: list[Track] = []

    def see(self, rgb: Array) -> list[tuple[int, Reading]]:
        """Give the number and the reading of everybody in the next picture (H, W, 3) uint8 RGB."""
        self._frame += 1
        self.tracks = [t for t in self.tracks if self._frame - t.frame <= _LOST_S * self._fps]
        readings = [r for track in self.tracks if self._is_due(track) and (r := self._seek(rgb, track))]
        lost = not self.tracks or any(self._frame - t.frame > 1 for t in self.tracks)
        if self._frame - self._found_at >= max(round((_FIND_LOST_S if lost else _FIND_S) * self._fps), 1):
            self._found_at = self._frame
            readings += self._find(rgb, readings)
        bodies = distinct(readings)
        chosen = assign(self.tracks, bodies, self._frame, self._fps)
        for track, body in chosen:
            track.take(bodies[body], self._frame)
        taken = {body for _, body in chosen}
        self._begin([body for i, body in enumerate(bodies) if i not in taken])
        return [(track.number, track.reading) for track in self.tracks if track.frame == self._frame]

    def _is_due(self, track: Track) -> bool:
        missed = self._frame - track.frame
        return missed <= _TRY_S * self._fps or missed % 3 == 0

    def _seek(self, rgb: Array, track: Track) -> Reading | None:
        region = track.reading.region.moved(track.expected_shift(self._frame, self._fps))
        return self._read(rgb, region, frozenset([track.number]))

    def _find(self, rgb: Array, readings: list[Reading]) -> list[Reading]:
        """Read everybody that the detector finds where nobody was read."""
        everywhere = windows(rgb.shape[1], rgb.shape[0])
        out: list[Reading] = []
        for _ in range(min(_WINDOWS, len(everywhere))):
            x0, y0, x1, y1 = everywhere[self._window % len(everywhere)]
            self._window += 1
            for found, _ in self._finder.find(np.ascontiguousarray(rgb[y0:y1, x0:x1])):
                region = found.moved(np.array([x0, y0]))
                if not any(_is_at(r.region, region) for r in [*readings, *out]):
                    out += [r] if (r := self._read(rgb, region, frozenset())) else []
        return out

    def _read(self, rgb: Array, region: Region, sought: frozenset[int]) -> Reading | None:
        found = self._reader.read(rgb, region)
        if found is None:
            return None
        landmarks, after = found
        return Reading(landmarks, after, look_at(rgb, landmarks.positions, landmarks.confidence), sought)

    def _begin(self, bodies: list[Reading]) -> None:
        """Follow somebody new, whom the detector has found and who is not part of anybody known."""
        for body in bodies:
            if not body.sought and body.sureness >= _SURE and len(self.tracks) < _MOST:
                self.tracks.append(Track(self._next_number, body, self._frame, look=np.square(body.look)))
                self._next_number += 1


def windows(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """List where people are looked for, x0 y0 x1 y1 px: the whole picture, and parts in which people appear larger."""
    out = [(0, 0, width, height)]
    side = round(_PART * min(width, height))
    if width >= height:
        starts = np.linspace(0, width - side, max(2, round(2 * width / side) - 1)).round().astype(int)
        return out + [(int(x), 0, int(x) + side, height) for x in starts]
    starts = np.linspace(0, height - side, max(2, round(2 * height / side) - 1)).round().astype(int)
    return out + [(0, int(y), width, int(y) + side) for y in starts]


def alike(a: Reading, b: Reading) -> float:
    """Similarity of two readings in [0, 1], by the distance of their joints in sizes of the body (as COCO's OKS)."""
    both = (a.landmarks.confidence[BODY] > 0.2) & (b.landmarks.confidence[BODY] > 0.2)
    if both.sum() < 4:
        return 0.0
    apart = np.linalg.norm(a.landmarks.positions[BODY] - b.landmarks.positions[BODY], axis=-1)[both]
    scale = _SPREAD * min(a.region.side, b.region.side) / 1.5  # a region is wider than its body is high
    return float(np.exp(-0.5 * np.square(apart / scale)).mean())


def distinct(readings: list[Reading]) -> list[Reading]:
    """Merge readings of one body: the surest remains, and knows who else was looked for there."""
    out: list[Reading] = []
    for reading in sorted(readings, key=lambda r: -r.sureness):
        same = next((i for i, other in enumerate(out) if alike(reading, other) > _SAME), None)
        if same is None:
            out.append(reading)
        else:
            kept = out[same]
            out[same] = Reading(kept.landmarks, kept.region, kept.look, kept.sought | reading.sought)
    return out


def assign(tracks: list[Track], bodies: list[Reading], frame: int, fps: float) -> list[tuple[Track, int]]:
    """Give each body to at most one track, as place and clothes say, at the least total cost."""
    if not tracks or not bodies:
        return []
    cost = np.array([[_cost(track, body, frame, fps) for body in bodies] for track in tracks])
    rows, columns = linear_sum_assignment(np.minimum(cost, 2.0 * _DEAREST))
    return [(tracks[r], int(c)) for r, c in zip(rows, columns, strict=True) if cost[r, c] < _DEAREST]


def _cost(track: Track, body: Reading, frame: int, fps: float) -> float:
    side = track.reading.region.side
    if not 0.5 < body.region.side / side < 2.0:
        return 2.0 * _DEAREST
    before, after = track.reading.landmarks, body.landmarks
    both = (before.confidence[BODY] > 0.2) & (after.confidence[BODY] > 0.2)
    shift = track.expected_shift(frame, fps)
    if both.sum() >= 4:
        apart = np.linalg.norm(before.positions[BODY] + shift - after.positions[BODY], axis=-1)[both]
        away = float(np.median(apart))
    else:
        away = float(np.linalg.norm(track.reading.region.centre + shift - body.region.centre))
    reach = _REACH + _REACH_A_S * (frame - track.frame) / fps
    cost = away / (reach * side)
    same = similarity(None if track.look is None or track.hits < _KNOWN else np.sqrt(track.look), body.look)
    if same is not None:
        cost += (_CLOTHES if frame - track.frame <= 2 else _CLOTHES_LOST) * max(_ALIKE - same, 0.0)
    return cost - (0.1 if track.number in body.sought else 0.0)


def _is_at(one: Region, other: Region) -> bool:
    return bool(np.hypot(*(one.centre - other.centre)) < 0.2 * other.side and 0.6 < one.side / other.side < 1.6)
