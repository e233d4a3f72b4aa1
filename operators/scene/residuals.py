"""How far a capture is from what its cameras saw, for one moment and one camera, and where that lies in a view.

All of it is numpy: nothing here draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...inference.core.artifacts import Keypoints2D, Keypoints3D
from ...inference.core.cameras import BlenderLens, Camera, project, undistort
from ...inference.core.skeletons import BODY
from ...inference.protocol.errors import InputError

Array = np.ndarray
POINTS = "keypoints_3d.npz"
# Small, middling, large: apart for every kind of colour vision (ColorBrewer RdYlBu, as the bones).
_SCALE = np.array([[0.27, 0.55, 0.85], [1.0, 0.88, 0.45], [0.9, 0.15, 0.12]])
_DARK = (0.0, 0.0, 0.0, 0.65)
_SEEN = (1.0, 1.0, 1.0, 0.95)
_CORNERS = 10  # of a dot
_EVERY = slice(None)
_APART_S = 0.05  # a detection farther than this from the moment asked for is of another one


@dataclass(frozen=True)
class Marks:
    """One moment in one camera: (J, 2) px where each keypoint was seen and where space puts it; NaN = unknown.

    `error_px` (J,) is their distance in the footage itself, whatever is drawn.
    """

    seen: Array
    expected: Array
    error_px: Array

    @property
    def mean_px(self) -> float:
        """Over the body's keypoints; NaN where none is seen."""
        return _mean(self.error_px[BODY])

    @property
    def of_body(self) -> Marks:
        """Leave hands and face away."""
        return Marks(self.seen[BODY], self.expected[BODY], self.error_px[BODY])

    @property
    def count(self) -> int:
        """How many of the body's keypoints it is a mean of."""
        return int(np.isfinite(self.error_px[BODY]).sum())


@dataclass(frozen=True)
class Residuals:
    """A capture as its cameras saw it; `views[i]` belongs to `cameras[i]`, None where its file is gone."""

    points: Keypoints3D
    cameras: Sequence[Camera]
    views: Sequence[Keypoints2D | None]
    clocks: Array  # (N, 2) the view's own second at the first sample, NaN its first, and how many pass in one
    mean_px: Array  # (N,) over all moments and the body's keypoints

    @classmethod
    def load(cls, folder: Path) -> Residuals:
        """Read the artifacts of a job.

        Raises:
            InputError: there are none, or they are damaged.
        """
        if not (folder / POINTS).is_file():
            raise InputError(f"{folder} holds no {POINTS}.", "Keep the folder of the job.")
        points = Keypoints3D.load(folder / POINTS)
        cameras = [Camera.from_header(header) for header in points.header.get("cameras", ())]
        files = [Keypoints2D.load(path) for path in sorted(folder.glob("keypoints_2d*.npz"))]
        views = [_find(files, points, index, camera.name) for index, camera in enumerate(cameras)]
        clocks = np.array([_clock(points.header.get("clips", ()), index) for index in range(len(cameras))])
        found = cls(points, cameras, views, clocks.reshape(-1, 2), np.full(len(cameras), np.nan))
        return replace(found, mean_px=np.array([_mean(found._errors(index)) for index in range(len(cameras))]))

    @property
    def mean_by_name(self) -> dict[str, float]:
        """Name and mean of every camera that saw anything."""
        pairs = zip(self.cameras, self.mean_px, strict=True)
        return {camera.name: float(px) for camera, px in pairs if np.isfinite(px)}

    def at(self, view: int, sample: float, *, straight: bool = False) -> Marks:
        """Compare what a view saw with what space says, at the sample of the capture nearest to `sample`.

        Args:
            straight: in pixels without the lens' distortion, as footage that is shown without it.
        """
        row = int(np.clip(round(sample), 0, len(self.points.times) - 1))
        camera, body = self.cameras[view], self.points.positions[row]
        seen, expected = self._seen(view, np.array([row]))[0], project(camera, body)
        error = np.linalg.norm(seen - expected, axis=-1)
        if straight:
            plain = replace(camera, distortion=np.zeros(5), fisheye=False)
            seen, expected = undistort(camera, seen), project(plain, body)
        return Marks(seen, expected, error)

    def _seen(self, view: int, rows: Array, joints: slice = _EVERY) -> Array:
        """(len(rows), J, 2) px in one view at rows of the capture; NaN where it saw nothing."""
        keypoints = self.views[view]
        if keypoints is None:
            return np.full((len(rows), *self.points.positions[0, joints].shape[:1], 2), np.nan)
        start, rate = self.clocks[view]
        start = keypoints.times[0] if np.isnan(start) else start
        wanted = start + (self.points.times[rows] - self.points.times[0]) * rate
        known = np.where((keypoints.confidence > 0)[:, joints, None], keypoints.positions[:, joints], np.nan)
        return _sample(known, keypoints.times, wanted)

    def _errors(self, view: int) -> Array:
        seen = self._seen(view, np.arange(len(self.points.times)), BODY)
        return np.linalg.norm(seen - project(self.cameras[view], self.points.positions[:, BODY]), axis=-1)


def _sample(known: Array, times: Array, wanted: Array) -> Array:
    """(K, J, 2) between the frames beside each moment; where one of them saw nothing, the nearer; NaN outside."""
    place = np.interp(wanted, times, np.arange(len(times)))  # moments outside fall onto the ends
    low = np.floor(place + 1e-3).astype(int)
    high, part = np.minimum(low + 1, len(times) - 1), np.clip(place - low, 0.0, 1.0)[:, None, None]
    between = known[low] + part * (known[high] - known[low])
    found = np.where(np.isfinite(between), between, known[np.rint(place).astype(int)])
    outside = (wanted < times[0] - _APART_S) | (wanted > times[-1] + _APART_S)
    return np.where(outside[:, None, None], np.nan, found)


def to_region(pixels: Array, lens: BlenderLens, region_from_camera: Array, size: tuple[int, int]) -> Array:
    """(..., 2) places in a region, from its lower left corner, of (..., 2) pixels of an image behind a camera.

    Each pixel becomes the ray on which Blender's camera sees it; shift, zoom and panning are all in the projection.

    Args:
        region_from_camera: (4, 4) `perspective_matrix @ matrix_world`; `size` that of the region.
    """
    rays = np.ones((*pixels.shape[:-1], 4))
    rays[..., :2] = (pixels - lens.matrix[:2, 2]) / np.diag(lens.matrix)[:2] * [1.0, -1.0]
    rays[..., 2] = -1.0
    clip = rays @ np.asarray(region_from_camera).T
    return (clip[..., :2] / clip[..., 3:] + 1.0) / 2.0 * np.array(size, float)


def colour_of(error_px: Array, limit_px: float) -> Array:
    """(..., 4) colours of errors: blue none, yellow half of the limit, red the limit and beyond."""
    part = np.clip(np.asarray(error_px, float) / limit_px, 0.0, 1.0)
    channels = [np.interp(part, (0.0, 0.5, 1.0), _SCALE[:, channel]) for channel in range(3)]
    return np.stack([*channels, np.ones_like(part)], -1)


def draw_marks(marks: Marks, limit_px: float, unit: float) -> tuple[Array, Array]:
    """Triangles of one moment: (3 M, 2) corners and (3 M, 4) colours, what lies below first.

    A cross where a keypoint was seen, a dot where space puts it, and a line between, coloured by its length in the
    footage. `marks` are in the region; `unit` is its thinnest line. Hands and face are drawn smaller.
    """
    both = np.isfinite(marks.seen).all(-1) & np.isfinite(marks.expected).all(-1) & np.isfinite(marks.error_px)
    colours = colour_of(np.nan_to_num(marks.error_px, nan=0.0), limit_px)
    scale = np.full(len(both), 0.4)
    scale[BODY] = 1.0
    layers = []
    for grow, dark in ((1.0, True), (0.0, False)):  # a dark rim tells the marks from any footage
        rim = grow * unit
        lines = _lines(marks.seen[both], marks.expected[both], (2.0 * scale[both] * unit + 2 * rim))
        dots = _dots(marks.expected[both], 3.5 * scale[both] * unit + rim)
        crosses = _crosses(marks.seen[both], 5.0 * scale[both] * unit + rim, 1.6 * scale[both] * unit + 2 * rim)
        for corners, own in ((lines, colours[both]), (dots, colours[both]), (crosses, np.array([_SEEN]))):
            layers.append((corners, np.array([_DARK]) if dark else own))
    return _flatten(layers)


def draw_bar(corner: tuple[float, float], size: tuple[float, float], steps: int = 24) -> tuple[Array, Array]:
    """Triangles of the colours from no error to the limit, left to right, as `draw_marks` gives them."""
    edges = corner[0] + np.linspace(0.0, size[0], steps + 1)
    low, high = corner[1], corner[1] + size[1]
    colours = colour_of((np.arange(steps) + 0.5) / steps, 1.0)
    return _flatten([(_quads(edges[:-1], np.full(steps, low), edges[1:], np.full(steps, high)), colours)])


def draw_box(corner: tuple[float, float], size: tuple[float, float]) -> tuple[Array, Array]:
    """Triangles of the dark ground of a legend."""
    low, high = np.array(corner, float)[:, None], (np.array(corner, float) + size)[:, None]
    return _flatten([(_quads(low[0], low[1], high[0], high[1]), np.array([_DARK]))])


def _flatten(layers: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Join (K, C, 2) corners, C a multiple of 3, and a colour for each of the K or for all."""
    corners = [shapes.reshape(-1, 2) for shapes, _ in layers]
    colours = [np.repeat(np.broadcast_to(own, (len(shapes), 4)), shapes.shape[1], 0) for shapes, own in layers]
    return np.concatenate(corners).astype(np.float32), np.concatenate(colours).astype(np.float32)


def _lines(start: Array, end: Array, width: Array) -> Array:
    """(K, 6, 2) two triangles for each of K lines."""
    along = end - start
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), [1.0, 0.0])
    side = np.stack([-along[:, 1], along[:, 0]], -1) * np.asarray(width)[:, None] / 2
    a, b, c, d = start - side, start + side, end + side, end - side
    return np.stack([a, b, c, a, c, d], 1)


def _crosses(centre: Array, reach: Array, wide: Array) -> Array:
    """(K, 12, 2) a plus for each of K points."""
    x, y = np.stack([reach, 0 * reach], -1), np.stack([0 * reach, reach], -1)
    return np.concatenate([_lines(centre - x, centre + x, wide), _lines(centre - y, centre + y, wide)], 1)


def _dots(centre: Array, radius: Array) -> Array:
    """(K, 3 * _CORNERS, 2) a round dot for each of K points."""
    turn = np.linspace(0.0, 2 * np.pi, _CORNERS + 1)
    rim = np.stack([np.cos(turn), np.sin(turn)], -1)
    fans = np.stack([np.zeros((_CORNERS, 2)), rim[:-1], rim[1:]], 1).reshape(-1, 2)
    return centre[:, None] + np.asarray(radius)[:, None, None] * fans


def _quads(left: Array, low: Array, right: Array, high: Array) -> Array:
    a, b, c, d = (np.stack(pair, -1) for pair in ((left, low), (right, low), (right, high), (left, high)))
    return np.stack([a, b, c, a, c, d], 1)


def _find(files: Sequence[Keypoints2D], points: Keypoints3D, index: int, camera: str) -> Keypoints2D | None:
    """Pick the file of one view: by its name, by its footage, or by the camera's name."""
    wanted = [_entry(points.header.get(key, ()), index) for key in ("views", "sources")] + [camera]
    for key, word in zip(("view", "source", "view"), wanted, strict=True):
        fitting = [file for file in files if word and file.header.get(key) == word]
        if fitting:
            return fitting[0]
    return files[index] if len(files) == len(points.header.get("cameras", ())) else None


def _clock(clips: Sequence[Sequence[float | None]], index: int) -> tuple[float, float]:
    start, rate = clips[index] if index < len(clips) else (None, 1.0)
    return np.nan if start is None else float(start), float(rate or 1.0)


def _entry(values: Sequence[str], index: int) -> str:
    return str(values[index]) if index < len(values) else ""


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
