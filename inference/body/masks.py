"""Masks of a person, frame by frame: pictures in a folder, and what makes one unfit to be believed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.skeletons import BODY, BODY_25_PARENTS
from ..protocol.errors import InputError
from ..protocol.files import atomic_write_bytes

Array = np.ndarray
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_SIDE_PX = 640  # of masks that are kept: bodies are fitted at a fraction of that
_ASPECT = 0.02  # by which a mask's shape may differ from the picture's
_DARK = 100  # of 255: what is no darker is a person's white, or its edge
_LOOK_PX = 256  # side at which masks are looked at
_SURE = 0.3  # confidence of a joint that is asked for
_LEAST_SHARE = 5e-4  # of the picture, of a mask that shows somebody
_LEAST_INSIDE = 0.5  # of the joints, in a mask that shows this person
_TRUNK = ((2, 9), (5, 12), (2, 12), (5, 9))  # shoulders and hips, where neck and middle hip are not told
_NEAR = 0.55  # of the trunk's length: skin, hair and clothes lie so near to bones
_MOST_FOREIGN = 0.35  # of a mask, farther away than that: two people in one


@dataclass(frozen=True)
class Masks:
    """Masks of the samples of a clip: a file for each, None where there is none; size (W, H) of the pictures."""

    files: tuple[Path | None, ...]
    size: tuple[int, int]

    def __call__(self, sample: int) -> Array | None:
        """(H, W) bool of a sample, None where it has no mask.

        Raises:
            InputError: the file is no picture.
        """
        file = self.files[sample] if 0 <= sample < len(self.files) else None
        if file is None:
            return None
        mask = read_mask(file)
        if mask.shape != self.size[::-1]:
            mask = cv2.resize(mask, self.size, interpolation=cv2.INTER_LINEAR)
        return mask > 127


def read_mask(file: Path) -> Array:
    """(H, W) uint8 of a picture; one with alpha is its alpha where that says anything.

    Raises:
        InputError: it is no picture.
    """
    try:
        content = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror or error}.") from error
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    if image is None:
        raise InputError(f"{file.name} is no picture.", "Give masks as PNG, white where the person is.")
    if image.dtype != np.uint8:
        peak = 65535.0 if image.dtype == np.uint16 and image.max() > 1 else 1.0
        image = np.round(np.clip(image.astype(float) / peak, 0, 1) * 255).astype(np.uint8)
    if image.ndim == 3 and image.shape[2] == 4 and (image[..., 3] < 255).any():
        return image[..., 3]
    mask = image if image.ndim == 2 else image[..., :3].max(2)
    return np.where(mask > 0, 255, 0).astype(np.uint8) if _is_label(mask) else mask


def _is_label(mask: Array) -> bool:
    """Whether the person is written as one dark value, a number of a class, beside nothing."""
    highest = mask.max(initial=0)
    return 0 < highest < _DARK and bool(((mask == 0) | (mask == highest)).all())


def keep_mask(folder: Path, frame: int, mask: Array) -> None:
    """Write the mask (H, W) of a frame as a small picture."""
    scale = min(1.0, MAX_SIDE_PX / max(mask.shape))
    small = cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else mask
    atomic_write_bytes(folder / f"{frame:06d}.png", cv2.imencode(".png", small)[1].tobytes())


def kept_masks(folder: Path, frames: Array, size: tuple[int, int]) -> Masks:
    """Masks that `keep_mask` wrote, of the (T,) frames of a clip."""
    files = [folder / f"{frame:06d}.png" for frame in np.asarray(frames, int)]
    return Masks(tuple(file if file.is_file() else None for file in files), size)


def read_masks(folder: Path, frames: Array, size: tuple[int, int]) -> Masks:
    """Masks of a user's folder, in the order of the files' names one a frame of the film, for (T,) of its frames.

    Numbers in names count as such: 2.png comes before 10.png.


    Raises:
        InputError: no folder, no pictures, too few of them, or of another shape than the clip's pictures.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Give a folder with one picture of the mask for each frame.")
    shown = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    files = sorted(shown, key=_in_order)
    if not files:
        raise InputError(f"{folder} holds no masks: 0 pictures.", f"Known are {', '.join(SUFFIXES)}.")
    count = int(frames.max()) + 1
    if len(files) < count:
        hint = "Give one mask for each frame of the film; an empty picture where there is nobody."
        raise InputError(f"{folder.name} holds {len(files)} masks for {count} frames.", hint)
    wanted = tuple(files[frame] for frame in frames)
    height, width = read_mask(wanted[0]).shape
    if abs(width * size[1] / (height * size[0]) - 1.0) > _ASPECT:
        text = f"Masks of {width} x {height} px do not belong to pictures of {size[0]} x {size[1]} px."
        raise InputError(text, "Give masks of the same framing, at any scale.")
    return Masks(wanted, size)


def _in_order(file: Path) -> list[tuple[bool, int, str]]:
    parts = re.findall(r"[0-9]+|[^0-9]+", file.name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def doubt(mask: Array | None, points: Array, confidence: Array) -> str:
    """Say why a mask (H, W) is not this person's silhouette, given (25, 2) px and (25,); "" where it is."""
    if mask is None:
        return "missing"
    scale = min(1.0, _LOOK_PX / max(mask.shape))
    small = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    if small.mean() < _LEAST_SHARE:
        return "empty"
    points = (points + 0.5) * scale - 0.5
    sure = (confidence >= _SURE) & np.isfinite(points).all(1)
    inside = sure & (points >= 0).all(1) & (points[:, 0] < small.shape[1]) & (points[:, 1] < small.shape[0])
    if inside.sum() < 4:
        return ""
    columns, rows = points[inside].astype(int).T
    near = cv2.dilate(small, np.ones((3, 3), np.uint8))
    if near[rows, columns].mean() < _LEAST_INSIDE:
        return "elsewhere"
    away = _far_from_bones(small.shape, points, sure)
    return "merged" if away is not None and small[away].sum() > _MOST_FOREIGN * small.sum() else ""


def _far_from_bones(shape: tuple[int, ...], points: Array, sure: Array) -> Array | None:
    """(H, W) where no skin of a person is, None where their size is not known."""
    bones = np.full(shape, 255, np.uint8)
    for child, parent in (*enumerate(BODY_25_PARENTS), *_TRUNK):
        if parent >= 0 and sure[child] and sure[parent]:
            ends = np.round(points[[child, parent]]).clip(-9999, 9999).astype(int)
            cv2.line(bones, ends[0].tolist(), ends[1].tolist(), (0,), 1)
    shoulders, hips = ([joint for joint in pair if sure[joint]] for pair in ((1, 2, 5), (8, 9, 12)))
    if not shoulders or not hips:
        return None
    trunk = float(np.linalg.norm(points[shoulders].mean(0) - points[hips].mean(0)))
    across = [np.linalg.norm(points[a] - points[b]) for a, b in ((10, 11), (13, 14), (9, 10), (12, 13))
              if sure[a] and sure[b]]  # fmt: skip
    size = max([trunk, *across])
    return cv2.distanceTransform(bones, cv2.DIST_L2, 3) > _NEAR * size


def judge(masks: Masks, keypoints: Keypoints2D) -> tuple[Masks, dict[str, int]]:
    """Leave out masks that cannot be believed; give what is left, and how many frames had which fault."""
    found: dict[str, int] = {}
    files = list(masks.files)
    for sample, (points, confidence) in enumerate(
        zip(keypoints.positions[:, BODY], keypoints.confidence[:, BODY], strict=True)
    ):
        if files[sample] is None:
            continue
        why = doubt(masks(sample), points, confidence)
        if why:
            files[sample], found[why] = None, found.get(why, 0) + 1
    return Masks(tuple(files), masks.size), found
