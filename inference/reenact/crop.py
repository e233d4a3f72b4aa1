"""The square about a head that the network sees: one scale for a shot, and a place that does not shake.

A square is the bounds of a face's landmarks, made square on the longer side and enlarged about its middle, as the
original's crops are. What lies outside the picture repeats its border, ever more blurred and faded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..protocol.errors import InputError

Array = np.ndarray
ENLARGE = 1.8
_STILL = 0.12  # of the side: heads that stay within are seen by a crop that does not move
_SETTLE_S = 0.5  # standard deviation of the filter for a crop that must move
_BLUR = 0.016  # of the side


@dataclass(frozen=True)
class Crop:
    """A square of a picture: its middle and side, px; the origin is the centre of the top-left pixel."""

    x: float
    y: float
    side: float

    def cut(self, picture: Array, size: int) -> Array:
        """Give (size, size, ...) uint8 of a picture (H, W, ...) uint8; the border is repeated, blurred and faded."""
        inside = self._cut(picture, size, cv2.BORDER_REFLECT_101)
        cover = self._cut(np.full(picture.shape[:2], 255, np.uint8), size, cv2.BORDER_CONSTANT)
        if cover.min() == 255:
            return inside
        if picture.ndim == 2:  # a mask: nothing above, its border repeated elsewhere
            return np.where(self._above(size), 0, self._cut(picture, size, cv2.BORDER_REPLICATE)).astype(np.uint8)
        soft = cv2.GaussianBlur(inside, (0, 0), max(_BLUR * size, 0.5)).astype(np.float32)
        known = inside[cover == 255] if (cover == 255).any() else picture.reshape(-1, picture.shape[-1])
        away = cv2.distanceTransform((cover < 255).astype(np.uint8), cv2.DIST_L2, 3) / (0.25 * size)
        fade = np.clip(away, 0, 1)[..., None]
        outside = soft * (1 - fade) + np.median(known, axis=0) * fade
        return np.where(cover[..., None] == 255, inside, outside.round().clip(0, 255)).astype(np.uint8)

    def _cut(self, picture: Array, size: int, border: int) -> Array:
        """Resample; smaller pictures by area, that is from a picture that was reduced first."""
        scale = size / self.side
        reduced = 1.0
        if scale < 0.5:
            reduced = max(scale * 2, 2.0 / min(picture.shape[:2]))
            picture = cv2.resize(picture, None, fx=reduced, fy=reduced, interpolation=cv2.INTER_AREA)
        # where the centre of a cut pixel lies among centres of the reduced picture's
        step = reduced / scale
        low = np.array([self.x, self.y]) + 0.5 - 0.5 * self.side
        matrix = np.array(
            [[step, 0, low[0] * reduced + 0.5 * step - 0.5], [0, step, low[1] * reduced + 0.5 * step - 0.5]]
        )
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if scale <= 1 else cv2.INTER_CUBIC)
        return cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=border)

    def _above(self, size: int) -> Array:
        rows = self.y - 0.5 * self.side + (np.arange(size) + 0.5) * self.side / size
        return np.broadcast_to(rows[:, None] < 0, (size, size))


def crop_of(face: Array) -> Crop:
    """Give the square about one face, from its landmarks (N, 2) px or its box (4,) x0, y0, x1, y1 px.

    Raises:
        InputError: nothing of the face is known, or it has no size.
    """
    low, high = _bounds(np.asarray(face, float))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (high - low).max() > 0):
        raise InputError("There is no face to crop: none of its points is known.")
    middle = 0.5 * (low + high)
    return Crop(float(middle[0]), float(middle[1]), float(ENLARGE * (high - low).max()))


def crops_of_shot(faces: Array, times: Array) -> list[Crop]:
    """Give the squares of a shot's frames: one scale, at rest wherever the head stays near, else moving smoothly.

    Args:
        faces: (T, N, 2) landmarks or (T, 4) boxes, px; NaN where no face was found, which takes the neighbours' place.
        times: (T,) seconds.
    Raises:
        InputError: no frame shows a face.
    """
    bounds = [_bounds(np.asarray(face, float)) for face in faces]
    low, high = (np.stack([pair[side] for pair in bounds]) for side in (0, 1))
    known = np.isfinite(low).all(1) & np.isfinite(high).all(1)
    if not known.any():
        raise InputError(f"None of {len(bounds)} frames shows a face.")
    side = float(ENLARGE * np.median((high - low)[known].max(1)))
    middles = np.stack([np.interp(times, times[known], 0.5 * (low + high)[known, axis]) for axis in range(2)], 1)
    still = 0.5 * (middles.min(0) + middles.max(0))
    if np.abs(middles - still).max() < _STILL * side:
        return [Crop(float(still[0]), float(still[1]), side)] * len(middles)
    return [Crop(float(x), float(y), side) for x, y in _smoothed(middles, times)]


def _smoothed(places: Array, times: Array) -> Array:
    """Places (T, 2), each on the line that fits its neighbours best, so that the ends do not lag behind."""
    away = times[None] - times[:, None]
    weights = np.exp(-0.5 * (away / _SETTLE_S) ** 2)
    weights /= weights.sum(1, keepdims=True)
    when, where = (weights * away).sum(1, keepdims=True), weights @ places
    spread = (weights * (away - when) ** 2).sum(1, keepdims=True)
    slope = (weights * (away - when)) @ places / np.maximum(spread, 1e-9)
    return where - slope * when


def _bounds(face: Array) -> tuple[Array, Array]:
    """Lowest and highest x, y; NaN where nothing is known."""
    if face.shape == (4,):
        return face[:2], face[2:]
    known = face[np.isfinite(face).all(-1)]
    return (known.min(0), known.max(0)) if len(known) else (np.full(2, np.nan), np.full(2, np.nan))
