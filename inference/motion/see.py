"""The first stage: every view is seen, by the detector or by reading files of keypoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.artifacts import Keypoints2D, Keypoints3D
from ..core.formats.keypoints2d import read_keypoints
from ..core.skeletons import FACE, LEFT_HAND, RIGHT_HAND
from ..core.stages import content_of
from ..protocol.errors import InputError
from ..protocol.events import Part
from ..protocol.requests import MotionRequest
from ..runtime.video import probe
from .job import Job

MAX_NAME = 60  # letters of a view's name: artifacts are called after it
_K = TypeVar("_K", Keypoints2D, Keypoints3D)
Span = tuple[int, int | None]  # of frames that are read: the first, and the one before which reading stops


def capture_views(job: Job) -> list[Keypoints2D]:
    """See every view: by the detector, or by reading keypoint files."""
    request = job.request
    sources = request.keypoints or request.video
    names, spans = view_names(request.video or request.keypoints), spans_of(request)
    views = []
    for index, source in enumerate(sources):
        person = request.person[index] if request.person else None
        name = "keypoints_2d" if len(sources) == 1 else f"keypoints_2d_{names[index]}"
        make = (_reader if request.keypoints else _detector)(job, index, names[index], spans[index], person)
        footage = str(request.video[index].resolve()) if request.video else ""
        inputs = [content_of(source), footage, names[index], person, seeing_settings(request, spans[index])]
        views.append(job.stage(Keypoints2D, name, "detect", inputs, make))
    return views


def seeing_settings(request: MotionRequest, span: Span) -> dict[str, Any]:
    """What decides how a view is seen."""
    names = ("min_confidence", "hands", "face", "unswap", "image_size", "fps")
    return {"start": span[0], "stop": span[1], **{name: getattr(request, name) for name in names}}


def spans_of(request: MotionRequest) -> list[Span]:
    """Give the frames of each clip that are read; `start` and `stop` count those of the slowest clip."""
    start, stop = request.start, request.stop
    if request.fps is not None or len(request.video) < 2 or (start == 0 and stop is None):
        return [(start, stop)] * len(request.keypoints or request.video)
    rates = np.array([probe(video).fps for video in request.video])
    return [
        (round(start * pace), None if stop is None else round(stop * pace)) for pace in (rates / rates.min()).tolist()
    ]


def _detector(
    job: Job, index: int, view: str, span: Span, person: tuple[float, ...] | None
) -> Callable[[], Keypoints2D]:
    def make() -> Keypoints2D:
        from ..sight.detect import DetectSettings, detect

        request = job.request
        settings = DetectSettings(
            min_confidence=request.min_confidence, hands=request.hands, face=request.face, person=person,
            unswap=request.unswap, start=span[0], stop=span[1],
        )  # fmt: skip
        found = detect(request.video[index].resolve(), settings, Part(job, index, len(request.video)), view=view)
        return _at_rate(found, request.fps)

    return make


def _reader(job: Job, index: int, view: str, span: Span, person: tuple[float, ...] | None) -> Callable[[], Keypoints2D]:
    def make() -> Keypoints2D:
        request = job.request
        found = _read_beside_footage(job, index, {"person": person, "view": view, "start": span[0]})
        found = trimmed(found, *span)
        found = _without(found, hands=not request.hands, face=not request.face)
        if not request.unswap:
            return found
        from ..sight.swap import unswap

        positions, confidence, swapped = unswap(found.positions, found.confidence)
        return replace(found, positions=positions, confidence=confidence).with_header(
            swapped_frames=int(np.count_nonzero(swapped))
        )

    return make


def _read_beside_footage(job: Job, index: int, options: dict[str, Any]) -> Keypoints2D:
    """Read keypoints; footage beside them says the image size and the rate where nobody else does."""
    request, source = job.request, job.request.keypoints[index]
    if not request.video:
        found = read_keypoints(source, image_size=request.image_size, fps=request.fps, **options)
        return found.with_header(source="")
    footage = probe(request.video[index])
    size, fps = request.image_size or footage.size, request.fps or footage.fps
    found = read_keypoints(source, image_size=size, fps=fps, **options)
    if len(found.times) != footage.frames:
        job.warning(
            "footage",
            f"{source.name} holds {len(found.times)} frames and {footage.path.name} {footage.frames}; "
            "the first frames are taken to be the same.",
        )
    return found.with_header(source=str(footage.path.resolve()))


def _without(keypoints: Keypoints2D, *, hands: bool, face: bool) -> Keypoints2D:
    """Leave out parts that nobody asked for."""
    positions, confidence = np.array(keypoints.positions, float), np.array(keypoints.confidence, float)
    for part in ([LEFT_HAND, RIGHT_HAND] if hands else []) + ([FACE] if face else []):
        positions[:, part], confidence[:, part] = np.nan, 0.0
    return replace(keypoints, positions=positions, confidence=confidence)


def view_names(sources: Sequence[Path]) -> list[str]:
    """Names of views after their files, each one only once."""
    names: list[str] = []
    for source in sources:
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(source).stem)[:MAX_NAME] or "view"
        name, number = stem, 2
        while name.casefold() in {known.casefold() for known in names}:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def _at_rate(keypoints: Keypoints2D, fps: float | None) -> Keypoints2D:
    """Take the clip to have been filmed at `fps`, whatever its file says (slow motion, wrong metadata)."""
    if fps is None:
        return keypoints
    times = np.arange(len(keypoints.positions)) / fps
    return replace(keypoints, times=times).with_header(fps=fps)


def trimmed(keypoints: _K, start: int, stop: int | None) -> _K:
    """Frames from `start` to before `stop`."""
    if start == 0 and stop is None:
        return keypoints
    total, rows = len(keypoints.positions), slice(start, stop)
    if not len(keypoints.positions[rows]):
        raise InputError(f"Frames {start} to {stop} were asked for; the keypoints hold {total} frames.")
    names = ("positions", "confidence", "times", "world_m", "validity")
    arrays = {name: getattr(keypoints, name, None) for name in names}
    return replace(keypoints, **{name: array[rows] for name, array in arrays.items() if array is not None})
