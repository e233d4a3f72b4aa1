"""One real face - the NASA portrait that scikit-image ships - and what can be done to it."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from skimage import data

from inference.sight.faces import Face, Faces

Array = np.ndarray
# landmarks around what a surgical mask covers, and around each eye from brow to cheek
MASK = (
    197, 118, 117, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323,
    454, 346, 347,
)  # fmt: skip
LENSES = (
    (46, 53, 52, 65, 55, 193, 245, 128, 121, 120, 119, 118, 117, 111, 35, 124),
    (276, 283, 282, 295, 285, 417, 465, 357, 350, 349, 348, 347, 346, 340, 265, 353),
)


@cache
def portrait() -> Array:
    """(512, 512, 3) uint8; the face is about 110 px large."""
    return data.astronaut()


@cache
def face() -> Face:
    """The portrait's face."""
    with Faces() as faces:
        (found,) = faces.find(portrait())
    return found


def painted(which: tuple[tuple[int, ...], ...], colour: tuple[int, int, int], *, larger: float = 1.0) -> Array:
    """The portrait with areas between landmarks painted over."""
    picture = portrait().copy()
    for corners in which:
        points = face().landmarks[list(corners)]
        middle = points.mean(0)
        points = np.round(middle + larger * (points - middle)).astype(np.int32)
        cv2.fillPoly(picture, [points], colour)
    return picture


def masked() -> Array:
    """With a blue surgical mask."""
    return painted((MASK,), (150, 190, 220))


def in_sunglasses() -> Array:
    """With dark glasses."""
    return painted(LENSES, (15, 15, 18), larger=1.15)


def drawn() -> Array:
    """As a cartoon: few flat colours and black outlines."""
    picture = portrait()
    flat = picture
    for _ in range(6):
        flat = cv2.bilateralFilter(flat, 9, 40, 9)
    cv2.setRNGSeed(0)
    criteria = (3, 20, 1.0)
    colours = flat.reshape(-1, 3).astype(np.float32)
    _, labels, centres = cv2.kmeans(colours, 6, np.empty(0), criteria, 2, cv2.KMEANS_PP_CENTERS)
    reduced = np.asarray(centres)[np.asarray(labels, int).ravel()]
    flat = cv2.medianBlur(reduced.reshape(picture.shape).astype(np.uint8), 5)
    grey = cv2.medianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 5)
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 4)
    return np.where(lines[..., None] == 0, np.uint8(20), flat)


def twice(*, second: float = 1.0) -> Array:
    """The portrait beside itself, the right one at another scale."""
    right = cv2.resize(portrait(), None, fx=second, fy=second, interpolation=cv2.INTER_AREA)
    out = np.full((512, 512 + right.shape[1], 3), 128, np.uint8)
    out[:, :512], out[: right.shape[0], 512:] = portrait(), right
    return out
