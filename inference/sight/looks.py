"""What somebody wears: colours of torso and legs, by which people are known again."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from ..core.skeletons import BODY_25

Array = np.ndarray
HUES, GREYS = 12, 4
SIZE = 2 * (2 * HUES + GREYS)  # of a look: for torso and legs each, dark hues, light hues, greys
_TORSO = [BODY_25.index(name) for name in ("RShoulder", "LShoulder", "LHip", "RHip")]
_LEGS = [[BODY_25.index(f"{side}{name}") for name in ("Hip", "Knee", "Ankle")] for side in "LR"]
_SURE = 0.4
_COLOURFUL, _DARK, _LIGHT = 50, 30, 120  # of 255: saturation from which a pixel has a hue; brightness below and above
_LEAST = 40  # pixels that are seen of a part
_SMOOTH = np.array([0.25, 0.5, 0.25])  # light moves hues to the next bin


def look_at(rgb: Array, positions: Array, confidence: Array) -> Array:
    """Describe one person's clothes in a picture (H, W, 3) uint8, given BODY_25 (25, 2) px and (25,).

    Returns:
        (SIZE,) square roots of shares of the pixels of torso and legs, each with unit length; NaN: hardly seen.
    """
    seen = (confidence[:25] >= _SURE) & np.isfinite(positions[:25]).all(-1)
    parts = [_torso(positions, seen), _legs(positions, seen)]
    return np.concatenate([_colours(rgb, shapes, width) for shapes, width in parts])


def _torso(positions: Array, seen: Array) -> tuple[list[Array], int]:
    if not seen[_TORSO].all():
        return [], 0
    corners = positions[_TORSO]
    middle = corners.mean(0)
    return [middle + 0.8 * (corners - middle)], 0  # arms and background stay outside


def _legs(positions: Array, seen: Array) -> tuple[list[Array], int]:
    bones = [positions[[a, b]] for leg in _LEGS for a, b in itertools.pairwise(leg) if seen[[a, b]].all()]
    long = max((float(np.linalg.norm(a - b)) for a, b in bones), default=0.0)
    return bones, max(round(0.18 * long), 1)


def _colours(rgb: Array, shapes: list[Array], width: int) -> Array:
    """Count the colours in polygons (K, 2) px, or on lines of a width."""
    nothing = np.full(2 * HUES + GREYS, np.nan)
    if not shapes:
        return nothing
    every = np.concatenate(shapes)
    x0, y0 = np.maximum(np.floor(every.min(0) - width), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(every.max(0) + width) + 1, [rgb.shape[1], rgb.shape[0]]).astype(int)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return nothing
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for shape in shapes:
        points = np.round(shape - [x0, y0]).astype(np.int32)
        if width == 0:
            cv2.fillConvexPoly(mask, points, (1,))
        else:
            cv2.polylines(mask, [points], isClosed=False, color=(1,), thickness=width)
    hue, saturation, value = cv2.cvtColor(rgb[y0:y1, x0:x1], cv2.COLOR_RGB2HSV)[mask > 0].T.astype(int)
    if len(hue) < _LEAST:
        return nothing
    colourful = (saturation >= _COLOURFUL) & (value >= _DARK)
    bins = hue[colourful] * HUES // 180 + HUES * (value[colourful] >= _LIGHT)
    counts = np.bincount(bins, minlength=2 * HUES).reshape(2, HUES).astype(float)
    counts = sum(weight * np.roll(counts, shift, axis=1) for weight, shift in zip(_SMOOTH, (-1, 0, 1), strict=True))
    greys = np.bincount(np.minimum(value[~colourful] * GREYS // 256, GREYS - 1), minlength=GREYS)
    return np.sqrt(np.concatenate([np.ravel(counts), greys]) / len(hue))
