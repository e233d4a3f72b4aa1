"""Driver and frames side by side: a movie to look at, and a strip for the page."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from ..core.artifacts import PoseDescriptors
from ..core.formats.pictures import read_picture
from ..core.timing import uneven_s
from ..runtime.video import write_movie
from .crop import Crop
from .driver import open_driver
from .frames import Plan, over_grey
from .job import ReenactJob

Array = np.ndarray
NAME = "reenactment.mp4"
_SIDE = 256  # px of each picture
_STRIP, _STRIP_PX = 8, 120
_UNEVEN = 0.5  # of a frame


def make_movie(job: ReenactJob, plan: Plan, driven: PoseDescriptors) -> None:
    """Write `reenactment.mp4`: what drove on the left, where it is known, and what was made of it, at its times."""
    has_driver = _has_pictures(job, driven)
    width = 2 * _SIDE if has_driver else _SIDE
    with write_movie(job.artifacts / NAME, driven.fps, (width, _SIDE)) as movie:
        lasting = frames_each(driven.times, driven.fps).tolist()
        for place, pair in enumerate(_pairs(job, plan, driven, has_driver=has_driver)):
            job.progress("movie", place, len(plan.files))
            picture = np.concatenate([_fitted(image, _SIDE) for image in pair], 1)
            for _ in range(lasting[place]):
                movie.write(picture)
    job.artifact("movie", f"artifacts/{NAME}")


def frames_each(times: Array, fps: float) -> Array:
    """(T,) int for how many frames of an even movie each picture is shown until the next one's time: 1 in even films.

    0 where the next one falls on the same frame.
    """
    order = np.arange(len(times))
    is_even = (np.abs(np.diff(times) * fps - 1.0) < _UNEVEN).all() and not uneven_s(times, order, fps)
    starts = order if is_even else np.round((times - times[0]) * fps).astype(int)
    return np.diff(starts, append=starts[-1] + 1)


def strip(job: ReenactJob, plan: Plan, driven: PoseDescriptors) -> Array:
    """(H, W, 3) uint8: some moments, the driver above and the frame below."""
    places = set(np.linspace(0, len(plan.files) - 1, min(_STRIP, len(plan.files))).round().astype(int).tolist())
    columns = [
        np.concatenate([_fitted(image, _STRIP_PX) for image in pair])
        for place, pair in enumerate(_pairs(job, plan, driven, has_driver=_has_pictures(job, driven)))
        if place in places
    ]
    return np.concatenate(columns, 1)


def _has_pictures(job: ReenactJob, driven: PoseDescriptors) -> bool:
    path = job.request.driver
    return driven.crops is not None and path is not None and path.suffix.lower() != ".npz"


def _pairs(job: ReenactJob, plan: Plan, driven: PoseDescriptors, *, has_driver: bool) -> Iterator[tuple[Array, ...]]:
    """The driver's square, if there is one, and the frame before grey, for each frame."""
    pictures = open_driver(job.request).pictures() if has_driver else None
    for place, path in enumerate(plan.files):
        frame = over_grey(read_picture(path))
        found = next(pictures, None) if pictures is not None else None
        if found is None or driven.crops is None:
            yield (frame,)
            continue
        x, y, side = driven.crops[place].tolist()
        yield Crop(x, y, side).cut(found[2], _SIDE), frame


def _fitted(image: Array, side: int) -> Array:
    way = cv2.INTER_CUBIC if len(image) < side else cv2.INTER_AREA
    return cv2.resize(image, (side, side), interpolation=way)
