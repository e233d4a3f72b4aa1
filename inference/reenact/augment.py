"""What is done to a driver's picture so that its descriptor cannot tell who it shows (Burkov 2020, section 3.2).

Pictures are stretched, x and y each by itself; then up to five of a dozen changes of colour, sharpness and
shape follow. Pictures are (S, S, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Array = np.ndarray
_MOST = 5


def augment(image: Array, rng: np.random.Generator, *, stretched: float = 0.5) -> Array:
    """Change one picture; `stretched`: how probably also its width and height."""
    if rng.random() < stretched:
        image = _stretched(image, rng)
    for index in rng.permutation(len(_CHANGES))[: rng.integers(0, _MOST + 1)]:
        image = _CHANGES[index](image, rng)
    return image


def _stretched(image: Array, rng: np.random.Generator) -> Array:
    middle, (sx, sy) = (len(image) - 1) / 2, rng.uniform(0.8, 1.2, 2)
    matrix = np.array([[sx, 0, middle * (1 - sx)], [0, sy, middle * (1 - sy)]])
    return cv2.warpAffine(image, matrix, image.shape[:2], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _round(values: Array) -> Array:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _blur(image: Array, rng: np.random.Generator) -> Array:
    kind = rng.integers(3)
    if kind == 0:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.05, 1.0))
    return cv2.blur(image, (3, 3)) if kind == 1 else cv2.medianBlur(image, 3)


def _sharpen(image: Array, rng: np.random.Generator) -> Array:
    share = rng.uniform(0, 0.5)
    return cv2.addWeighted(image, 1 + share, cv2.GaussianBlur(image, (0, 0), 1.0), -share, 0)


def _emboss(image: Array, rng: np.random.Generator) -> Array:
    kernel = np.array([[-1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    return cv2.addWeighted(image, 1 - (share := rng.uniform(0, 0.5)), cv2.filter2D(image, -1, kernel), share, 0)


def _edges(image: Array, rng: np.random.Generator) -> Array:
    edges = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_8U)[..., None]
    noise = cv2.resize(rng.random((4, 4), dtype=np.float32), image.shape[:2])[..., None] * rng.uniform(0, 0.15)
    return _round(image * (1 - noise) + edges * noise)


def _noise(image: Array, rng: np.random.Generator) -> Array:
    channels = 3 if rng.random() < 0.5 else 1
    return _round(image + rng.normal(size=(*image.shape[:2], channels)) * rng.uniform(0, 0.05 * 255))


def _brighten(image: Array, rng: np.random.Generator) -> Array:
    return _round(image + rng.uniform(-10, 10, 3 if rng.random() < 0.5 else 1))


def _saturate(image: Array, rng: np.random.Generator) -> Array:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = _round(hsv[..., 1] + rng.uniform(-20, 20))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _compress(image: Array, rng: np.random.Generator) -> Array:
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 100))])
    return cv2.imdecode(content, cv2.IMREAD_COLOR)


def _multiply(image: Array, rng: np.random.Generator) -> Array:
    return _round(image * rng.uniform(0.5, 1.5, 3 if rng.random() < 0.5 else 1))


def _contrast(image: Array, rng: np.random.Generator) -> Array:
    if rng.random() < 0.5:
        return _round(127 + (image - 127.0) * rng.uniform(0.75, 1.25))
    return _round(255 / (1 + np.exp(rng.uniform(4, 8) * (0.5 - image / 255.0))))


def _elastic(image: Array, rng: np.random.Generator) -> Array:
    if rng.random() < 0.5:
        return image
    side = len(image)
    shift = rng.uniform(-1, 1, (2, side, side)).astype(np.float32) * rng.uniform(0.5, 3.5) * 0.3
    y, x = np.mgrid[:side, :side].astype(np.float32)
    shift = np.stack([cv2.GaussianBlur(part, (0, 0), 0.5) for part in shift])
    return cv2.remap(image, x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


_CHANGES: tuple[Callable[[Array, np.random.Generator], Array], ...] = (
    _blur, _sharpen, _emboss, _edges, _noise, _brighten, _saturate, _compress, _multiply, _contrast, _elastic,
)  # fmt: skip
