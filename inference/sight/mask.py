"""Who of a picture is the person: head, hair, neck and body against everything else."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from .faces import OVAL, Face

Array = np.ndarray

_MODEL_PX = 256  # side of what the segmenter sees
_CLOSER = 0.72  # of the picture, around the face: a second, finer look
_EDGE = 1e-4  # of the guided filter (He 2010): colour variance that is an edge


def cut_out(rgb: Array, face: Face, others: Sequence[Face] = ()) -> Array:
    """Give (H, W) float32 in [0, 1]: how much of each pixel is the person whose face is given.

    Args:
        rgb: (H, W, 3) uint8, the head's surroundings.
        others: faces of other people; what is nearer to theirs is not the person's.
    """
    mask = _refined(rgb, _segmented(rgb, face))
    mask[_belongs_to_others(mask.shape, face, others)] = 0.0
    return _joined(mask, face)


def _segmented(rgb: Array, face: Face) -> Array:
    """(H, W) by mediapipe's selfie model: the whole picture and its middle, each also mirrored."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    height, width = rgb.shape[:2]
    x, y = face.landmarks.mean(0)
    half_x, half_y = 0.5 * _CLOSER * width, 0.5 * _CLOSER * height
    x, y = np.clip(x, half_x, width - half_x), np.clip(y, half_y, height - half_y)
    inner = slice(int(y - half_y), int(y + half_y)), slice(int(x - half_x), int(x + half_x))
    with SelfieSegmentation(model_selection=0) as net:
        mask = _both_ways(net, rgb)
        mask[inner] = 0.5 * (mask[inner] + _both_ways(net, np.ascontiguousarray(rgb[inner])))
    return mask


def _both_ways(net: Any, rgb: Array) -> Array:
    small = cv2.resize(rgb, (_MODEL_PX, _MODEL_PX), interpolation=cv2.INTER_AREA)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype", UserWarning)  # mediapipe's own call
        straight: Any = net.process(small)
        mirrored: Any = net.process(np.ascontiguousarray(small[:, ::-1]))
    mean = 0.5 * (straight.segmentation_mask + mirrored.segmentation_mask[:, ::-1])
    return cv2.resize(np.clip(mean, 0, 1), (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _refined(rgb: Array, mask: Array) -> Array:
    """Let the mask's edge follow the picture's."""
    radius = max(round(2.0 * max(rgb.shape[:2]) / _MODEL_PX), 2)
    guided = cv2.ximgproc.guidedFilter(rgb.astype(np.float32) / 255.0, mask.astype(np.float32), radius, _EDGE)
    return np.clip((guided - 0.1) / 0.8, 0.0, 1.0).astype(np.float32)


def _belongs_to_others(shape: tuple[int, ...], face: Face, others: Sequence[Face]) -> Array:
    """(H, W) bool: nearer to another face than to this one, in sizes of each."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)

    def away(one: Face) -> Array:
        x, y = one.landmarks.mean(0)
        return np.hypot(columns - x, rows - y) / one.size_px

    own, out = away(face), np.zeros(shape[:2], bool)
    for other in others:
        out |= away(other) < own
    return out


def _joined(mask: Array, face: Face) -> Array:
    """Keep what hangs together with the face, and all of the face itself."""
    inside = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(face.landmarks[list(OVAL)]).astype(np.int32)], (1,))
    inside = cv2.erode(inside, np.ones((5, 5)))
    solid = ((mask > 0.5) | (inside > 0)).astype(np.uint8)
    _, labels = cv2.connectedComponents(solid)
    own = labels[inside > 0]
    kept = np.isin(labels, np.unique(own[own > 0])).astype(np.uint8)
    near = cv2.dilate(kept, np.ones((9, 9)))
    return np.where(inside > 0, 1.0, mask * near).astype(np.float32)
