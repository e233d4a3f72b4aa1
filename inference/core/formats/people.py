"""Who is who: link people over frames by where they are, and choose one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...protocol.errors import InputError
from ..skeletons import BODY

Array = np.ndarray
MAX_GAP = 30  # frames that a person may be out of sight
_FAR = 1.0  # of the person's own size: a jump further than this is somebody else


@dataclass(frozen=True)
class Person:
    """One person in one frame: positions (137, 2) px, NaN unseen; confidence (137,); track where the file has one."""

    positions: Array
    confidence: Array
    track: str | None = None


@dataclass
class _Track:
    frames: dict[int, Person] = field(default_factory=dict)
    score: float = 0.0

    @property
    def last(self) -> int:
        return max(self.frames)

    def add(self, frame: int, person: Person) -> None:
        self.frames[frame] = person
        self.score += float(person.confidence[BODY].sum())


def follow(frames: Sequence[Sequence[Person]], person: Sequence[float] | None = None) -> tuple[Array, Array]:
    """Positions (T, 137, 2), NaN unseen, and confidence (T, 137) of one person.

    Args:
        person: a point x, y or a box x0, y0, x1, y1 px, on the first frame that shows anybody.
    Raises:
        InputError: `person` points at nobody.
    """
    tracks = _link(frames)
    positions, confidence = np.full((len(frames), 137, 2), np.nan), np.zeros((len(frames), 137))
    if tracks:
        chosen = max(tracks, key=lambda track: track.score) if person is None else _pointed_at(tracks, person)
        for frame, seen in chosen.frames.items():
            positions[frame], confidence[frame] = seen.positions, seen.confidence
    return positions, confidence


def _link(frames: Sequence[Sequence[Person]]) -> list[_Track]:
    tracks: list[_Track] = []
    for index, people in enumerate(frames):
        shown = [p for p in people if (p.confidence[BODY] > 0).any()]
        live = [track for track in tracks if index - track.last <= MAX_GAP]
        pairs = sorted(
            (_distance(track, index, p), t, n) for t, track in enumerate(live) for n, p in enumerate(shown)
        )  # fmt: skip
        used_tracks: set[int] = set()
        used_people: set[int] = set()
        for distance, t, n in pairs:
            if distance > 1.0 or t in used_tracks or n in used_people:
                continue
            live[t].add(index, shown[n])
            used_tracks.add(t)
            used_people.add(n)
        for n, p in enumerate(shown):
            if n not in used_people:
                track = _Track()
                track.add(index, p)
                tracks.append(track)
    return tracks


def _distance(track: _Track, frame: int, person: Person) -> float:
    """0 the same place, 1 too far; the file's own track numbers overrule places."""
    before = track.frames[track.last]
    if before.track is not None and person.track is not None:
        return 0.0 if before.track == person.track else 2.0
    both = (before.confidence[BODY] > 0) & (person.confidence[BODY] > 0)
    a, b = before.positions[BODY], person.positions[BODY]
    if both.any():
        apart = float(np.median(np.linalg.norm(a[both] - b[both], axis=-1)))
    else:
        apart = float(np.linalg.norm(np.nanmean(a, axis=0) - np.nanmean(b, axis=0)))
    size = max(_extent(before), _extent(person), 1e-9)
    return apart / (size * _FAR * (1.0 + 0.1 * (frame - track.last - 1)))


def _extent(person: Person) -> float:
    points = person.positions[BODY][person.confidence[BODY] > 0]
    return float(np.linalg.norm(points.max(axis=0) - points.min(axis=0))) if len(points) else 0.0


def _pointed_at(tracks: Sequence[_Track], where: Sequence[float]) -> _Track:
    first = min(min(track.frames) for track in tracks)
    present = [track for track in tracks if first in track.frames]
    target = (
        np.array([where[0], where[1]]) if len(where) == 2 else np.array([where[0] + where[2], where[1] + where[3]]) / 2
    )
    boxes = []
    for track in present:
        points = track.frames[first].positions[BODY]
        low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
        outside = np.maximum(np.maximum(low - target, target - high), 0.0)
        boxes.append((float(np.linalg.norm(outside)), float(np.linalg.norm((low + high) / 2 - target))))
    best = min(range(len(present)), key=lambda i: boxes[i])
    if boxes[best][0] > _extent(present[best].frames[first]):
        raise InputError(
            f"Nobody stands at ({target[0]:.0f}, {target[1]:.0f}) px on frame {first}; the nearest of "
            f"{len(present)} people is {boxes[best][0]:.0f} px away."
        )
    return present[best]
