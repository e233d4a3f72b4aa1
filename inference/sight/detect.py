"""Film -> Keypoints2D: one person's body, hands and face in each frame.

The landmark graph follows whoever it found last and, having lost them, takes the first person it meets. So it is only
shown the neighbourhood of the person that is wanted: at first the one that was chosen, or the most prominent; later
the square in which the body was found the frame before, growing while nobody is in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.skeletons import BODY, MIN_FRAMES, MIN_JOINTS, OPENPOSE_137
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..runtime.video import VideoInfo, probe, read_frames
from .blaze import Holistic, Landmarks
from .blaze_crowd import Finder
from .swap import unswap

Array = np.ndarray
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 px
Square = tuple[float, float, float]  # x, y, side px

_MARGIN = 1.3  # of the square that is shown over the square in which the body was
_MARGIN_LOST = 2.0  # the same while the person is lost
_REACH = 0.3  # how far from where they are expected a person may be, in sides of their square
_REACH_A_S = 1.5  # the same, for each second they have not been seen
_COAST_S = 0.25  # how long somebody unseen is expected to keep moving as before
_LOOK_AROUND = 3  # frames between two looks at everybody while the person is lost
_PATIENCE_S = 1.0  # until another person may take the place of one nobody chose
_CHOOSING_S = 1.0  # within which a chosen person must be found
_SURE = 0.6  # sureness of somebody who is not furniture
_CROWD = 4  # people that are told apart
_WATCH_S = 0.2  # between two looks for others who come near
_NEAR, _SAME_PLACE = 0.9, 0.15  # of the square's side: others who may be taken for the person, and the person again


@dataclass(frozen=True)
class DetectSettings:
    """How to look at a film; `person` is a click (x, y) or a box (x0, y0, x1, y1) px on the first frame read."""

    min_confidence: float = 0.3
    hands: bool = True
    face: bool = True
    person: tuple[float, ...] | None = None
    unswap: bool = True
    mask: bool = False
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Sighting:
    """What one frame shows; `landmarks` is None where the person is not seen."""

    index: int
    time_s: float
    landmarks: Landmarks | None


class Crossed(Exception):
    """Somebody comes so near to the person who is followed that following one is not enough."""


def detect(
    video: Path,
    settings: DetectSettings,
    report: Reporter,
    *,
    view: str = "",
    keep_mask: Callable[[int, Array], None] | None = None,
) -> Keypoints2D:
    """Find a person's keypoints in every frame of a film.

    Where others come near, everybody is followed from the beginning, so that none is taken for another.

    Args:
        keep_mask: called with the frame's number and the person's mask (H, W) uint8 where `settings.mask` is set.
    Raises:
        InputError: the film cannot be read, or shows a person in fewer than 10 frames.
        Cancelled: somebody asked to stop.
    """
    info = probe(video)
    total = max(0, (info.frames if settings.stop is None else min(info.frames, settings.stop)) - settings.start)
    sightings: list[Sighting] = []
    try:
        for sighting in look(video, settings, report):
            if keep_mask and sighting.landmarks and sighting.landmarks.mask is not None:
                keep_mask(sighting.index, sighting.landmarks.mask)
            sightings.append(sighting)
            report.progress("detect", len(sightings), max(total, len(sightings)))
    except Crossed:
        from .people import detect_one

        found = detect_one(video, settings, report, view=view)
        _check_person(video, found.confidence[:, BODY], settings.min_confidence)
        return found
    check_length(info, settings, len(sightings), report)
    positions, confidence, world_m = _gather(sightings)
    _check_person(video, confidence[:, BODY], settings.min_confidence)
    swapped = np.zeros(len(positions), bool)
    if settings.unswap:
        positions, confidence, swapped = unswap(positions, confidence)
    header = {
        "unit": "px", "frame": "image", "fps": info.fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(info.size), "source": str(video), "view": view or video.stem,
        "swapped_frames": int(swapped.sum()),
    }  # fmt: skip
    times = np.array([sighting.time_s for sighting in sightings])
    return Keypoints2D(header, positions, confidence, times, world_m)


def look(video: Path, settings: DetectSettings, report: Reporter) -> Iterator[Sighting]:
    """Yield what each frame from `settings.start` to `settings.stop` shows.

    Raises:
        InputError: nobody is where `settings.person` points at.
        Crossed: somebody else comes near; not where masks are asked for.
    """
    with follow(probe(video).fps, settings, report, watch=not settings.mask) as see:
        for index, time_s, rgb in ahead(read_frames(video, start=settings.start, stop=settings.stop)):
            yield Sighting(index, time_s, see(rgb))


@contextlib.contextmanager
def follow(
    fps: float, settings: DetectSettings, report: Reporter, *, watch: bool = False
) -> Iterator[Callable[[Array], Landmarks | None]]:
    """Give a function that finds the person in the next picture (H, W, 3) uint8 RGB, which it may paint over.

    `fps`: how often that is called in a second. The function raises InputError where nobody is where
    `settings.person` points at, and with `watch` Crossed where somebody else comes near.
    """
    options = {"hands": settings.hands, "face": settings.face, "mask": settings.mask}
    with contextlib.ExitStack() as stack:
        graph = stack.enter_context(Holistic(**options))
        scout = stack.enter_context(Holistic(hands=False, face=False, tracking=False))
        guard = stack.enter_context(Finder()) if watch else None
        yield _Follower(graph, scout, fps, settings.person, report, guard).see


def find_people(scout: Holistic, rgb: Array) -> list[Landmarks]:
    """Give up to four people in a picture (H, W, 3) uint8, the most prominent first."""
    rgb, people = rgb.copy(), []
    while len(people) < _CROWD and (seen := scout.see(rgb)):
        x0, y0, x1, y1 = (max(round(v), 0) for v in _wider(_box(seen), 1.1))
        rgb[y0:y1, x0:x1] = 0
        if _sureness(seen) > _SURE and all(_shared(_box(seen), _box(p)) < 0.5 for p in people):
            people.append(seen)
        else:
            break
    return sorted(people, key=_prominence, reverse=True)


@dataclass
class _Follower:
    """Shows the graph the surroundings of one person, frame after frame."""

    graph: Holistic
    scout: Holistic
    fps: float
    choice: tuple[float, ...] | None
    report: Reporter
    guard: Finder | None = None  # looks out for others
    frame: int = field(default=-1, init=False)
    square: Square | None = field(default=None, init=False)  # where the person was last
    velocity: Array = field(default_factory=lambda: np.zeros(2), init=False)  # px a frame
    missed: int = field(default=0, init=False)  # frames since then

    def see(self, rgb: Array) -> Landmarks | None:
        """Give the person's landmarks in the next picture, which is blanked outside their surroundings."""
        self.frame += 1
        if self.square is not None:
            self._watch(rgb)
        if self.square is None:
            self.square = self._choose(rgb)
        elif self.missed and self.missed % _LOOK_AROUND == 0:
            self._look_around(rgb)
        if self.square is None:
            return None
        _blank_outside(rgb, self._expected(), _MARGIN_LOST if self.missed else _MARGIN)
        seen = self.graph.see(rgb)
        if seen is None or not self._is_near(seen.roi):
            self._miss(forget=seen is not None)
            return None
        moved = np.subtract(seen.roi[:2], self.square[:2]) / (self.missed + 1)
        self.velocity = 0.5 * (self.velocity + moved)
        self.square, self.missed = seen.roi, 0
        return seen

    def _watch(self, rgb: Array) -> None:
        """Raise Crossed where somebody else is near enough to be taken for the person."""
        assert self.square is not None
        if self.guard is None or self.frame % max(round(_WATCH_S * self.fps), 1):
            return
        x, y, side = self.square
        for region, _ in self.guard.find(rgb):
            away = float(np.hypot(region.x - x, region.y - y)) / side
            if _SAME_PLACE < away < _NEAR and 0.6 < region.side / side < 1.7 and not self.missed:
                raise Crossed

    def _miss(self, *, forget: bool) -> None:
        if forget:
            self.graph.forget()
        self.missed += 1
        if self.choice is None and self.missed > _PATIENCE_S * self.fps:
            self.square, self.missed = None, 0

    def _expected(self) -> Square:
        assert self.square is not None
        x, y = self.square[:2] + self.velocity * min(self.missed, _COAST_S * self.fps)
        return float(x), float(y), self.square[2]

    def _is_near(self, square: Square) -> bool:
        x, y, side = self._expected()
        reach = (_REACH + _REACH_A_S * self.missed / self.fps) * side
        return bool(np.hypot(square[0] - x, square[1] - y) < reach and 0.5 < square[2] / side < 2.0)

    def _look_around(self, rgb: Array) -> None:
        """Find the lost person again among everybody in the picture."""
        x, y, _ = self._expected()
        near = [person.roi for person in find_people(self.scout, rgb) if self._is_near(person.roi)]
        if near:
            self.square = min(near, key=lambda roi: np.hypot(roi[0] - x, roi[1] - y))
            self.velocity = np.zeros(2)
            self.graph.forget()

    def _choose(self, rgb: Array) -> Square | None:
        people = find_people(self.scout, rgb)
        if self.choice is None:
            if len(people) > 1:
                self.report.warning(
                    "several-people",
                    f"{len(people)} people are in view; the most prominent is followed. Click another to choose.",
                )
            return people[0].roi if people else None
        person = _chosen(self.choice, people) or self._closer_look(rgb, self.choice)
        if person is not None:
            self.missed = 0
            return person.roi
        self.missed += 1
        if self.missed > _CHOOSING_S * self.fps:
            where = ", ".join(f"{v:.0f}" for v in self.choice)
            raise InputError(
                f"Nobody was found at ({where}) in the first {self.missed} frames.",
                "Click on the middle of the body, or draw a box around the whole person.",
            )
        return None

    def _closer_look(self, rgb: Array, choice: tuple[float, ...]) -> Landmarks | None:
        """Look for somebody small or overlooked by showing nothing but the place that was pointed at."""
        for scale in (1.0, 2.0):
            closer = rgb.copy()
            _blank_outside(closer, _around(choice, rgb, scale), 1.0)
            seen = self.scout.see(closer)
            if seen and (person := _chosen(choice, [seen])):
                return person
        return None


def ahead(frames: Iterator[tuple[int, float, Array]]) -> Iterator[tuple[int, float, Array]]:
    """Decode the next frame in another thread while this one is looked at."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = pool.submit(next, frames, None)
            yield frame


def _box(person: Landmarks) -> Box:
    """Bound the body joints that are seen, px."""
    seen = person.confidence[BODY] > 0.3
    points = person.positions[BODY][seen if seen.sum() > 3 else np.isfinite(person.positions[BODY, 0])]
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def _sureness(person: Landmarks) -> float:
    """Average the third of the body that is seen best: a picture may end at the belt."""
    return float(np.sort(person.confidence[BODY])[-8:].mean())


def _prominence(person: Landmarks) -> float:
    x0, y0, x1, y1 = _box(person)
    return float(np.hypot(x1 - x0, y1 - y0) * _sureness(person))


def _wider(box: Box, scale: float) -> Box:
    x0, y0, x1, y1 = box
    dx, dy = 0.5 * (scale - 1) * (x1 - x0), 0.5 * (scale - 1) * (y1 - y0)
    return x0 - dx, y0 - dy, x1 + dx, y1 + dy


def _chosen(choice: tuple[float, ...], people: list[Landmarks]) -> Landmarks | None:
    """Give the person a click or a box means, None where it means nobody."""
    if len(choice) == 4:
        ranked = [(_overlap((choice[0], choice[1], choice[2], choice[3]), _wider(_box(p), 1.2)), p) for p in people]
        ranked = [pair for pair in ranked if pair[0] > 0.2]
    else:
        ranked = [(-_distance(choice, _wider(_box(p), 1.2)), p) for p in people]
        ranked = [pair for pair in ranked if pair[0] > -0.5]
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _both(a: Box, b: Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def _area(box: Box) -> float:
    return max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)


def _overlap(a: Box, b: Box) -> float:
    """Divide the intersection of two boxes by their union."""
    return _both(a, b) / (_area(a) + _area(b) - _both(a, b))


def _shared(a: Box, b: Box) -> float:
    """Divide the intersection of two boxes by the smaller one."""
    return _both(a, b) / min(_area(a), _area(b))


def _distance(point: tuple[float, ...], box: Box) -> float:
    """Measure how far from a box's middle a point lies: 0.5 is its edge; an ellipse, so that corners are far."""
    x, y = (point[0] - 0.5 * (box[0] + box[2])), (point[1] - 0.5 * (box[1] + box[3]))
    return float(np.hypot(x / max(box[2] - box[0], 1.0), y / max(box[3] - box[1], 1.0)))


def _around(choice: tuple[float, ...], rgb: Array, scale: float) -> Square:
    if len(choice) == 4:
        x0, y0, x1, y1 = choice
        return 0.5 * (x0 + x1), 0.5 * (y0 + y1), 1.2 * scale * max(x1 - x0, y1 - y0)
    return choice[0], choice[1], 0.3 * scale * max(rgb.shape[:2])


def _blank_outside(rgb: Array, square: Square, scale: float) -> None:
    """Paint a picture black, in place, outside a square (x, y, side) made larger by `scale`."""
    x, y, half = square[0], square[1], 0.5 * square[2] * scale
    x0, x1 = (int(np.clip(v, 0, rgb.shape[1])) for v in (x - half, x + half))
    y0, y1 = (int(np.clip(v, 0, rgb.shape[0])) for v in (y - half, y + half))
    rgb[:y0], rgb[y1:], rgb[y0:y1, :x0], rgb[y0:y1, x1:] = 0, 0, 0, 0


def _gather(sightings: list[Sighting]) -> tuple[Array, Array, Array]:
    count = len(sightings)
    positions, confidence = np.full((count, 137, 2), np.nan), np.zeros((count, 137))
    world_m = np.full((count, 137, 3), np.nan)
    for i, sighting in enumerate(sightings):
        if sighting.landmarks is not None:
            positions[i], confidence[i] = sighting.landmarks.positions, sighting.landmarks.confidence
            world_m[i] = sighting.landmarks.world_m
    return positions, confidence, world_m


def check_length(info: VideoInfo, settings: DetectSettings, count: int, report: Reporter) -> None:
    """Refuse a film without a frame to read; tell of one that breaks off or has pixels that are not square."""
    if not count:
        raise InputError(
            f"{info.path.name} has {info.frames} frames; none of them lies from frame {settings.start} on"
            f"{'' if settings.stop is None else f' and before {settings.stop}'}.",
            "Choose other start and stop frames.",
        )
    wanted = info.frames if settings.stop is None else min(info.frames, settings.stop)
    if settings.start + count < 0.98 * wanted:
        report.warning(
            "truncated", f"{info.path.name} breaks off after {settings.start + count} of {info.frames} frames."
        )
    if abs(info.pixel_aspect - 1.0) > 0.01:
        report.warning(
            "pixel-aspect",
            f"{info.path.name} has pixels {info.pixel_aspect:.3f} times as wide as high; square is assumed.",
        )


def _check_person(video: Path, confidence: Array, least: float) -> None:
    """Refuse a film that hardly shows anybody; `confidence` is (T, 25)."""
    frames, shown = len(confidence), int(((confidence >= least).sum(1) >= MIN_JOINTS).sum())
    if shown >= MIN_FRAMES:
        return
    hint = "Film one person whole, in good light, and larger than a fifth of the picture's height."
    if frames < MIN_FRAMES:
        hint = "Take a longer clip, or more frames of it."
    if not shown:
        raise InputError(f"Nobody is seen in any of the {frames} frames of {video.name}.", hint)
    raise InputError(f"{shown} of {frames} frames show a person; at least {MIN_FRAMES} are needed.", hint)
