"""A movie of where the body's outline and the person's mask differ, over the footage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..protocol.events import Reporter
from ..protocol.files import atomic_write_bytes
from ..runtime.video import read_frames, write_movie
from .masks import Masks
from .see import Shown
from .silhouette import Shadow, overlap

Array = np.ndarray
MAX_SIDE_PX = 960
# Apart for every kind of colour vision (Okabe & Ito).
TOO_MUCH, TOO_LITTLE = (230, 159, 0), (0, 114, 178)  # body beyond the mask, mask that no body covers
_PAINT = 0.65
_DARK = 32


def picture_size(size: tuple[int, int], most: int = MAX_SIDE_PX) -> tuple[int, int]:
    """Even width and height of a picture whose longer side is at most `most`."""
    scale = min(1.0, most / max(size))
    return max(int(size[0] * scale) // 2 * 2, 2), max(int(size[1] * scale) // 2 * 2, 2)


def compare(shadow: Shadow, masks: Masks, size: tuple[int, int]) -> Iterator[tuple[Array, Array | None, float]]:
    """Yield each frame's outline (H, W) bool, its mask or None, and their intersection over union."""
    for frame, body in enumerate(shadow.outlines(size)):
        mask = masks(frame)
        if mask is not None and mask.shape != size[::-1]:
            mask = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) > 127
        yield body, mask, float("nan") if mask is None else overlap(body, mask)


def write_overlay(path: Path, shown: Shown, shadow: Shadow, report: Reporter) -> tuple[Array, Array]:
    """Write the movie; without footage the background is dark.

    Returns:
        (T,) intersection over union, NaN where there is no mask; (H, W, 3) the picture of the median frame.
    """
    size = picture_size(shown.keypoints.image_size)
    total, scores, still = len(shadow), [], np.zeros((*size[::-1], 3), np.uint8)
    pictures: list[tuple[float, bytes]] = []
    with write_movie(path, shown.keypoints.fps, size) as movie:
        pairs = zip(_background(shown, size, total), compare(shadow, shown.masks, size), strict=False)
        for frame, (image, (body, mask, score)) in enumerate(pairs):
            paint(image, body, mask)
            _caption(image, f"frame {frame}", score)
            movie.write(image)
            scores.append(score)
            if frame % max(total // 16, 1) == 0:
                pictures.append((score, cv2.imencode(".png", image)[1].tobytes()))
            report.progress("overlay", frame + 1, total)
    if pictures:
        ordered = sorted(pictures, key=lambda one: np.nan_to_num(one[0], nan=-1.0))
        still = cv2.imdecode(np.frombuffer(ordered[len(ordered) // 2][1], np.uint8), cv2.IMREAD_COLOR)
        atomic_write_bytes(path.with_suffix(".png"), cv2.imencode(".png", still[..., ::-1])[1].tobytes())
    return np.array(scores + [float("nan")] * (total - len(scores))), np.asarray(still)


def paint(image: Array, body: Array, mask: Array | None) -> None:
    """Paint into (H, W, 3) uint8 RGB, in place, where body and mask differ; the body's rim is white."""
    if mask is not None:
        for where, colour in ((body & ~mask, TOO_MUCH), (mask & ~body, TOO_LITTLE)):
            image[where] = ((1 - _PAINT) * image[where] + _PAINT * np.array(colour)).astype(np.uint8)
    rims, _ = cv2.findContours(body.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(image, rims, -1, (255, 255, 255), 1, cv2.LINE_AA)


def _background(shown: Shown, size: tuple[int, int], total: int) -> Iterator[Array]:
    done, source = 0, shown.source
    if source is not None:
        for frame in _pictures(shown, source, total):
            yield cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            done += 1
    for _ in range(done, total):
        yield np.full((size[1], size[0], 3), _DARK, np.uint8)


def _pictures(shown: Shown, source: Path, total: int) -> Iterator[Array]:
    """The picture of each sample, by the numbers that `see` noted."""
    wanted = np.asarray(shown.frames, int)
    done, last = 0, None
    for index, _, picture in read_frames(source, start=int(wanted.min()), stop=int(wanted.max()) + 1):
        last = picture
        while done < total and wanted[done] <= index:
            yield picture.copy()
            done += 1
    for _ in range(done, total if last is not None else done):
        yield last.copy()  # type: ignore[union-attr]


def _caption(image: Array, text: str, score: float) -> None:
    unit = max(image.shape[1] / 48, 8.0)
    band = image[: round(1.5 * unit)]
    band[:] = (0.35 * band).astype(np.uint8)
    words = [(text, (255, 255, 255))]
    if np.isfinite(score):
        words.append((f"overlap {score:.2f}", (255, 255, 255)))
        words += [("body beyond mask", TOO_MUCH), ("mask without body", (86, 180, 233))]
    x = 0.5 * unit
    for word, colour in words:
        scale = unit / 36
        (width, _), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        cv2.putText(image, word, (int(x), round(1.05 * unit)), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
        x += width + unit
