"""What hides a face or makes it none: glasses that hide the eyes, a covered mouth, a drawing.

Decided by colours around landmarks, in Lab, at one size of the face. The limits lie between what 101 sound faces show
(photographs, films and the studio's portraits; also with rims of glasses painted on, small, and compressed hard) and
what the same faces show with masks and dark glasses painted over, or drawn over like a cartoon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..sight.faces import OVAL, Face

Array = np.ndarray

_FACE_PX = 192  # size at which a face is looked at
_EYES = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)
_SOCKETS = (  # from below the brow to the cheek
    (46, 53, 52, 65, 55, 193, 245, 128, 121, 120, 119, 118, 117, 111, 35, 124),
    (276, 283, 282, 295, 285, 417, 465, 357, 350, 349, 348, 347, 346, 340, 265, 353),
)
_MOUTH = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_BETWEEN_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_CHEEKS, _FOREHEAD = (205, 425, 50, 280, 101, 330), (9, 151, 108, 337)

_DRAWN = 0.25  # part of the face without any shading; photographs: 0.08 at most, 0.22 in 98 of 100 compressed hard
_FLAT = 0.05  # a slope of lightness a pixel that is none
_STRANGE = 16.0  # colour difference of eye sockets and cheeks; sound faces: 15 in 97 of 100
_LIKE = 20.0  # colour difference of eye sockets and forehead that are both skin
_DARK, _EVEN = 0.2, 14.0  # sockets darker by this part; lightness within the eyes is this even
_LIPS, _RED = 6.5, 1.5  # colour difference of lips and skin around, and its red part, below which none are seen
_UNSURE = 0.0045  # spread of readings
_SPREAD, _SPREAD_TURNED, _TURNED_DEG = 0.0085, 0.02, 40.0  # what is no face, straight on and turned


@dataclass(frozen=True)
class Look:
    """What the colours of a face show.

    flat: part of it without shading; sockets: colour difference of the skin around the eyes and the cheeks; darker:
    by which part the sockets are darker; brow: colour difference of sockets and forehead, where least; eyes: range of
    lightness within the lids; lips, red: colour difference of the lips and the skin around them, and its red part.
    """

    flat: float
    sockets: float
    darker: float
    brow: float
    eyes: float
    lips: float
    red: float


def is_sure(face: Face) -> bool:
    """Whether repeated readings agree well enough for a face; a face seen from the side may be read less surely."""
    turned = np.clip((abs(face.yaw_deg) - _TURNED_DEG) / 20.0, 0.0, 1.0)
    return face.presence > 0.5 and face.spread < _SPREAD + turned * (_SPREAD_TURNED - _SPREAD)


def find_doubts(rgb: Array, face: Face) -> list[str]:
    """Say what speaks against making a head of a face: `drawn`, `eyes`, `mouth`."""
    seen = look_at(rgb, face)
    strange = seen.sockets > _STRANGE
    covered = strange and seen.brow < _LIKE and seen.lips < _LIPS and abs(seen.red) < _RED and face.spread > _UNSURE
    dark = strange and seen.darker > _DARK and seen.eyes < _EVEN and not (covered and seen.brow < _STRANGE)
    covered = covered and not dark
    drawn = seen.flat > _DRAWN and not dark and not covered  # cloth and glass are flat, too
    said = {"drawn": drawn, "eyes": dark, "mouth": covered}
    return [word for word, holds in said.items() if holds]


def look_at(rgb: Array, face: Face) -> Look:
    """Measure the colours of a face in a picture (H, W, 3) uint8."""
    lab, points = _at_one_size(rgb, face)
    fine, lab = lab[..., 0], cv2.GaussianBlur(lab, (0, 0), 1)
    cheeks = np.median([_patch(lab, points, i) for i in _CHEEKS], 0)
    rings = [_inside(lab, points[list(socket)]) for socket in _SOCKETS]
    lids = [_inside(lab, points[list(eye)]) for eye in _EYES]
    around = [ring & ~_grown(lid, 7) for ring, lid in zip(rings, lids, strict=True)]
    sockets = np.mean([_colour(lab, ring, cheeks) for ring in around], 0)
    brow = min(float(np.linalg.norm(_patch(lab, points, i) - sockets)) for i in _FOREHEAD)
    ranges = [float(np.ptp(np.percentile(lab[lid][:, 0], [5, 95]))) if lid.any() else 0.0 for lid in lids]
    mouth = _inside(lab, points[list(_MOUTH)])
    lips = _colour(lab, mouth & ~_inside(lab, points[list(_BETWEEN_LIPS)]), cheeks)
    skin = _colour(lab, _grown(mouth, 13) & ~_grown(mouth, 5), cheeks)
    return Look(
        flat=_flatness(fine, points),
        sockets=float(np.linalg.norm(sockets - cheeks)),
        darker=float((cheeks[0] - sockets[0]) / max(cheeks[0], 1.0)),
        brow=brow,
        eyes=float(np.mean(ranges)),
        lips=float(np.linalg.norm(lips - skin)),
        red=float(lips[1] - skin[1]),
    )


def _at_one_size(rgb: Array, face: Face) -> tuple[Array, Array]:
    """Cut a face out: Lab (H, W, 3) and its landmarks there."""
    x0, y0, x1, y1 = face.box
    margin = 0.15 * face.size_px
    left, top = (max(int(v - margin), 0) for v in (x0, y0))
    cut = rgb[top : int(y1 + margin) + 1, left : int(x1 + margin) + 1]
    scale = _FACE_PX / face.size_px
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    sized = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=method)
    points = (face.landmarks - [left, top] + 0.5) * scale - 0.5
    return cv2.cvtColor(sized.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB), points


def _inside(image: Array, corners: Array) -> Array:
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], (1,))
    return mask > 0


def _grown(mask: Array, size: int) -> Array:
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size))) > 0


def _colour(lab: Array, mask: Array, otherwise: Array) -> Array:
    return np.median(lab[mask], 0) if mask.any() else otherwise


def _patch(lab: Array, points: Array, index: int, radius: int = 4) -> Array:
    x, y = np.clip(np.round(points[index]).astype(int), 0, [lab.shape[1] - 1, lab.shape[0] - 1])
    rows, columns = slice(max(y - radius, 0), y + radius + 1), slice(max(x - radius, 0), x + radius + 1)
    return np.median(lab[rows, columns].reshape(-1, 3), 0)


def _flatness(lightness: Array, points: Array) -> float:
    """Part of a face whose lightness does not change at all from pixel to pixel."""
    smooth = cv2.GaussianBlur(lightness, (0, 0), 0.6)
    slope = np.hypot(*(cv2.Sobel(smooth, cv2.CV_32F, *along) / 8 for along in ((1, 0), (0, 1))))
    oval = cv2.erode(_inside(smooth, points[list(OVAL)]).astype(np.uint8), np.ones((9, 9))) > 0
    return float((slope[oval] < _FLAT).mean()) if oval.any() else 1.0


_WORDS = {
    "drawn": "looks drawn, not photographed",
    "eyes": "wears glasses that hide the eyes",
    "mouth": "has its mouth covered",
}


def describe(name: str, doubts: Sequence[str]) -> str:
    """Put doubts about a photo into a sentence."""
    return f"The face in {name} " + " and ".join(_WORDS[doubt] for doubt in doubts) + "."
