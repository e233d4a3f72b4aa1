"""One face followed through a film: 478 points a frame, each read in the square around the last ones.

Where several faces are seen, the one that was chosen, or the most prominent, is followed; it is taken up again near
where it was lost, or anywhere once it has been away for long, but for where others were all the while.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..protocol.errors import InputError, RequestError
from ..protocol.events import Reporter, SilentReporter
from .faces import WIDER, Box, Faces, Square, square_of

Array = np.ndarray
_SURE = 0.5  # presence from which on a face is there
_MOVED = 0.15  # of the square's side: read again where the square has moved further
_NEAR = 1.0  # sizes of the face within which a lost face is taken up again
_PATIENCE_S = 1.0  # after which it may be anywhere
_CHOOSING_S = 2.0  # in which a chosen face must appear
_LOOK_S = 0.1  # between two looks for a lost face
_OTHERS_S = 1.0  # between two looks at where other faces are
_RIVAL = 0.5  # of the followed face's size
_ONE_FACE = 0.4  # of the smaller of two boxes, from which on they show one face
_JITTER = ((0.04, 1.05), (-0.04, 0.96))  # further readings: turned by radians, side times


@dataclass(frozen=True)
class Sighting:
    """A face in one picture: points (478, 3) x, y px and depth px behind the face's middle; presence in [0, 1]."""

    points: Array
    presence: float


@dataclass
class FaceTracker:
    """Follows one face, picture after picture.

    number: which face, counted from the left in the first picture that shows so many; 0 for the most prominent;
    readings: how often each picture is read, more is steadier and slower.
    """

    faces: Faces
    fps: float
    number: int = 0
    readings: int = 1
    report: Reporter = field(default_factory=SilentReporter)
    frame: int = field(default=-1, init=False)
    square: Square | None = field(default=None, init=False)
    missed: int = field(default=0, init=False)
    started: bool = field(default=False, init=False)
    others: list[Box] = field(default_factory=list, init=False)

    def see(self, rgb: Array) -> Sighting | None:
        """Give the face in the next picture (H, W, 3) uint8; None where it is not seen.

        Raises:
            InputError: the chosen face does not appear.
        """
        self.frame += 1
        is_lost = self.square is None or self.missed > 0
        if is_lost:
            wait = max(round(_LOOK_S * self.fps), 1)
            if self.missed % wait and self.started:
                self.missed += 1
                return None
            self.square = self._look(rgb) or self.square
        elif self.others and self.frame % max(round(_OTHERS_S * self.fps), 1) == 0:
            self._free(_apart(self.faces.boxes(rgb)))
        seen = self._read(rgb, self.square) if self.square is not None else None
        if seen is None and not is_lost and (square := self._look(rgb)) is not None:  # it moved far since the last one
            seen = self._read(rgb, square)
        if seen is None:
            self.missed += 1
            return None
        self.started, self.missed = True, 0
        self.square = square_of(seen.points)
        return seen

    def _read(self, rgb: Array, square: Square) -> Sighting | None:
        first = self.faces.read_square(rgb, square)
        if first is None or first[1] < _SURE:
            return None
        settled = square_of(first[0])
        if (
            np.hypot(settled[0] - square[0], settled[1] - square[1]) > _MOVED * settled[2]
            or not 0.85 < (settled[2] / square[2]) < 1.0 / 0.85
        ):
            first = self.faces.read_square(rgb, settled) or first
            settled = square_of(first[0])
        points = [first[0]]
        x, y, side, angle = settled
        for turned, grown in _JITTER[: self.readings - 1]:
            more = self.faces.read_square(rgb, (x, y, side * grown, angle + turned))
            points += [more[0]] if more is not None and more[1] >= _SURE else []
        return Sighting(np.mean(points, 0), first[1])

    def _look(self, rgb: Array) -> Square | None:
        """Find the face anew."""
        boxes = _apart(self.faces.boxes(rgb))
        if self.started:
            return self._again([box for box in self._free(boxes) if self._may_be(box)])
        if self.number:
            return self._chosen(boxes)
        if not boxes:
            return None
        best = max(boxes, key=_size)
        self.others = [box for box in boxes if box is not best]
        rivals = sum(_size(box) > _RIVAL * _size(best) for box in boxes)
        if rivals > 1:
            where = "; ".join(f"{k + 1}: x {box[0]:.0f} to {box[2]:.0f}" for k, box in enumerate(_from_left(boxes)))
            self.report.warning("several-faces", f"{rivals} faces are in view ({where}, px); the largest is followed.")
        return _around(best)

    def _chosen(self, boxes: list[Box]) -> Square | None:
        """Give the face that was asked for.

        Raises:
            InputError: it does not appear within the first seconds.
        """
        if len(boxes) >= self.number:
            boxes = _from_left(boxes)
            best = boxes.pop(self.number - 1)
            self.others = boxes
            return _around(best)
        if self.frame > _CHOOSING_S * self.fps:
            seen = (
                f"face {self.number} is asked for, and at most {len(boxes)} were seen in the first {self.frame} frames"
            )
            raise RequestError(seen, "Faces are counted from the left.", field="face")
        return None

    def _free(self, boxes: list[Box]) -> list[Box]:
        """Leave out boxes of those who were beside the face; note where they are now."""
        place = self._place()
        held, free = [], []
        for box in boxes:
            near = min((_away(box, _middle(other)) / _size(other) for other in self.others), default=np.inf)
            ours = np.inf if place is None else _away(box, place[:2]) / place[2]
            (held if near < min(_NEAR, ours) else free).append(box)
        gone = [other for other in self.others if all(_away(box, _middle(other)) > _size(other) for box in held)]
        self.others = [*held, *gone]
        return free

    def _again(self, boxes: list[Box]) -> Square | None:
        """Take up a face that was lost: of several the nearest."""
        place = self._place()
        if not boxes or place is None:
            return _around(boxes[0]) if boxes else None
        best = min(boxes, key=lambda box: _away(box, place[:2]))
        if self.missed > _PATIENCE_S * self.fps and (self.others or len(boxes) > 1) and not self._is_near(best):
            text = f"A face that was lost {self.missed / self.fps:.1f} s before is taken up in frame {self.frame}"
            self.report.warning("other-face", f"{text}, {_away(best, place[:2]):.0f} px away: it may be another one.")
        return _around(best)

    def _may_be(self, box: Box) -> bool:
        return self.missed > _PATIENCE_S * self.fps or self._is_near(box)

    def _is_near(self, box: Box) -> bool:
        if self.square is None:
            return True
        x, y, side, _ = self.square
        reach = side / WIDER * (_NEAR + self.missed / self.fps)
        return _away(box, (x, y)) < reach and 0.5 < _size(box) * WIDER / side < 2.0

    def _place(self) -> tuple[float, float, float] | None:
        """Middle x, y and size px of the face where it was seen last."""
        return None if self.square is None else (*self.square[:2], self.square[2] / WIDER)


def track(pictures: Iterable[tuple[int, float, Array]], tracker: FaceTracker) -> tuple[Array, Array, Array]:
    """Follow a face through a film: times (T,) s, points (T, 478, 3) NaN where not seen, presence (T,).

    Raises:
        InputError: the film has no picture.
    """
    times, points, presence = [], [], []
    for _, time_s, rgb in pictures:
        seen = tracker.see(rgb)
        times.append(time_s)
        points.append(np.full((478, 3), np.nan) if seen is None else seen.points)
        presence.append(0.0 if seen is None else seen.presence)
    if not times:
        raise InputError("There is no picture to look for a face in.")
    return np.array(times), np.array(points), np.array(presence)


def _around(box: Box) -> Square:
    x0, y0, x1, y1 = box
    return 0.5 * (x0 + x1), 0.5 * (y0 + y1), WIDER * max(x1 - x0, y1 - y0), 0.0


def _middle(box: Box) -> tuple[float, float]:
    return 0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3])


def _away(box: Box, place: tuple[float, float]) -> float:
    x, y = _middle(box)
    return float(np.hypot(x - place[0], y - place[1]))


def _size(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _apart(boxes: list[Box]) -> list[Box]:
    """The surest box of each face: two detectors may give two of one face, of which one holds much of the other."""
    kept: list[Box] = []
    for box in boxes:
        if all(_shared(box, other) < _ONE_FACE for other in kept):
            kept.append(box)
    return kept


def _shared(a: Box, b: Box) -> float:
    """Divide the intersection of two boxes by the smaller one."""
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    return both / max(min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)), 1e-9)


def _from_left(boxes: list[Box]) -> list[Box]:
    return sorted(boxes, key=lambda box: box[0] + box[2])
