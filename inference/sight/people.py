"""Several people: films -> everybody in each view -> one set of views for each person.

    films -> detect_people -> Crowd2D for each view -> associate -> for each person, Keypoints2D for each view

A view holds whatever its tracker saw; who is who is decided once, over all views (`grouping`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import Crowd2D, Keypoints2D
from ..core.cameras import CameraSet
from ..core.skeletons import BODY, MIN_FRAMES, MIN_JOINTS, OPENPOSE_137
from ..protocol.errors import InputError
from ..protocol.events import Reporter, SilentReporter
from ..runtime.video import probe, read_frames
from .detect import DetectSettings, ahead, check_length
from .grouping import Piece, group

Array = np.ndarray
_BRIEF_S = 0.2  # a track shorter than this is a mistake
_PASSING = 0.1  # of the frames of whoever is seen most: somebody seen less was only passing by


@dataclass(frozen=True)
class Person:
    """Somebody in all views: `views` in the order of the cameras, NaN where not seen; `frames` seen in each."""

    views: tuple[Keypoints2D, ...]
    frames: tuple[int, ...]

    @property
    def seen_by(self) -> tuple[str, ...]:
        """Names of the views that see them."""
        return tuple(str(v.header["view"]) for v, n in zip(self.views, self.frames, strict=True) if n >= MIN_FRAMES)


def detect_people(video: Path, settings: DetectSettings, report: Reporter, *, view: str = "") -> Crowd2D:
    """Find everybody's keypoints in every frame of a film; `settings.person`, `unswap` and `mask` do not count.

    Raises:
        InputError: the film cannot be read, or nobody is in it.
        Cancelled: somebody asked to stop.
    """
    info = probe(video)
    total = max(0, (info.frames if settings.stop is None else min(info.frames, settings.stop)) - settings.start)
    rows, times = [], []
    for frame, (time_s, seen) in enumerate(_watch(video, info.fps, settings)):
        times.append(time_s)
        rows += [(number, frame, r) for number, r in seen]
        report.progress("detect", len(times), max(total, len(times)))
    check_length(info, settings, len(times), report)
    counts = np.bincount([number for number, _, _ in rows], minlength=1)
    rows = [row for row in rows if counts[row[0]] >= max(_BRIEF_S * info.fps, 3)]
    if not rows:
        raise InputError(
            f"Nobody is seen in any of the {len(times)} frames of {video.name}.",
            "Film people whole, in good light, and larger than a fifth of the picture's height.",
        )
    rows.sort(key=lambda row: row[:2])
    header = {
        "unit": "px", "frame": "image", "fps": info.fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(info.size), "source": str(video), "view": view or video.stem,
    }  # fmt: skip
    return Crowd2D(
        header,
        frame=np.array([frame for _, frame, _ in rows]),
        track=np.array([number for number, _, _ in rows]),
        positions=np.stack([r.landmarks.positions for _, _, r in rows]).astype(np.float32),
        confidence=np.stack([r.landmarks.confidence for _, _, r in rows]).astype(np.float32),
        times=np.array(times),
        look=np.stack([r.look for _, _, r in rows]).astype(np.float32),
    )


def detect_one(video: Path, settings: DetectSettings, report: Reporter, *, view: str = "") -> Keypoints2D:
    """Find the keypoints of one of several people: whom `settings.person` means, or who is seen most."""
    crowd = detect_people(video, settings, report, view=view)
    chosen = (settings.person,) if settings.person else ()
    person = associate([crowd], None, SilentReporter(), people=1, chosen=chosen)[0]
    return (unswapped(person) if settings.unswap else person).views[0]


def _watch(video: Path, fps: float, settings: DetectSettings) -> Iterator[tuple[float, list[tuple[int, Any]]]]:
    from .blaze_crowd import Finder, Reader
    from .track import Crowd

    with Finder() as finder, Reader(hands=settings.hands, face=settings.face) as reader:
        crowd = Crowd(finder, reader, fps)
        for _, time_s, rgb in ahead(read_frames(video, start=settings.start, stop=settings.stop)):
            yield time_s, crowd.see(rgb)


def associate(
    crowds: Sequence[Crowd2D], cameras: CameraSet | None, report: Reporter, *, people: int = 0,
    chosen: Sequence[tuple[float, ...]] = (),
) -> list[Person]:  # fmt: skip
    """Find who is who over all views, whoever is seen most first.

    Args:
        cameras: of the views, in their order; without them, clothes alone tell who is who in several views.
        people: how many to keep; 0: everybody but those who only pass by.
        chosen: for each view a click or a box on its first frame; whoever it means comes first.
    Raises:
        InputError: nobody is seen long enough.
    """
    report.progress("associate", 0, 1)
    groups = [_rows_by_view(pieces, len(crowds)) for pieces in group(crowds, cameras)]
    seen = np.array([[len(rows) for rows in views] for views in groups])
    report.progress("associate", 1, 1)
    if not len(seen) or seen.max() < MIN_FRAMES:
        most = int(seen.max()) if len(seen) else 0
        raise InputError(f"{most} frames show a person; at least {MIN_FRAMES} are needed.", "Take a longer clip.")
    order = sorted(range(len(groups)), key=lambda k: (not _is_meant(crowds, groups[k], chosen), -seen[k].sum()))
    least = max(_PASSING * seen.sum(1).max(), MIN_FRAMES)
    kept = [k for k in order if seen[k].sum() >= least]
    _tell(report, kept, [k for k in order if k not in kept], seen, people)
    kept = kept[: people or None]
    return [Person(tuple(_view(c, r) for c, r in zip(crowds, groups[k], strict=True)), tuple(seen[k])) for k in kept]


def _rows_by_view(pieces: Sequence[Piece], views: int) -> list[Array]:
    return [np.concatenate([np.zeros(0, int), *(p.rows for p in pieces if p.view == v)]) for v in range(views)]


def _tell(report: Reporter, kept: list[int], passing: list[int], seen: Array, people: int) -> None:
    if people > len(kept):
        report.warning("people", f"{people} people were asked for; {len(kept)} {_are(len(kept))} seen long enough.")
    if people and len(kept) > people:
        left = len(kept) - people
        report.warning("people", f"{len(kept)} people are seen; {left} {_are(left)} left out, as asked.")
    if brief := [int(seen[k].sum()) for k in passing if seen[k].sum() >= MIN_FRAMES]:
        frames = ", ".join(map(str, brief))
        report.warning("people", f"Somebody seen only briefly ({frames} frames in all views) is left out.")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _view(crowd: Crowd2D, rows: Array) -> Keypoints2D:
    """Lay one person's rows out over all frames of a view."""
    frames, joints = len(crowd.times), crowd.positions.shape[1]
    positions, confidence = np.full((frames, joints, 2), np.nan), np.zeros((frames, joints))
    positions[crowd.frame[rows]], confidence[crowd.frame[rows]] = crowd.positions[rows], crowd.confidence[rows]
    header = {name: value for name, value in crowd.header.items() if name not in ("fingerprint", "stage_warnings")}
    return Keypoints2D(header, positions, confidence, np.asarray(crowd.times, float))


def _is_meant(crowds: Sequence[Crowd2D], views: Sequence[Array], chosen: Sequence[tuple[float, ...]]) -> bool:
    """Tell whether most clicks and boxes mean this person: nearest to them when anybody is first seen."""
    votes = 0
    for crowd, rows, where in zip(crowds, views, chosen, strict=bool(chosen)):
        target = np.reshape(np.asarray(where, float), (-1, 2)).mean(0)
        first = np.flatnonzero(crowd.frame == crowd.frame.min())
        body = np.where((crowd.confidence[first][:, BODY] > 0.2)[..., None], crowd.positions[first][:, BODY], np.nan)
        away = np.linalg.norm(0.5 * (np.nanmin(body, 1) + np.nanmax(body, 1)) - target, axis=-1)
        votes += bool(np.isin(first[np.nanargmin(away)], rows))
    return votes > len(chosen) / 2


def unswapped(person: Person) -> Person:
    """Find and undo exchanges of left and right in each view."""
    from .swap import unswap

    views = []
    for view in person.views:
        if (view.confidence[:, BODY] > 0).sum(1).max() < MIN_JOINTS:
            views.append(view.with_header(swapped_frames=0))
            continue
        positions, confidence, swapped = unswap(view.positions, view.confidence)
        changed = replace(view, positions=positions, confidence=confidence)
        views.append(changed.with_header(swapped_frames=int(np.count_nonzero(swapped))))
    return replace(person, views=tuple(views))
