"""What a frame shows of a face, small and upright: a crop by the detector's points, and where its pixels come from."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import Delaunay, KDTree

from ..core.artifacts import FacePoints

Array = np.ndarray
SIDE = FacePoints.crop_side  # px
WIDTH, HEIGHT = 80, 96  # px of an unfolded face
PIXEL_M = 0.0015
ABOVE_EYES_M = 0.043  # of its upper edge
OUTLINE_END = 468  # points of the skin; irises follow
_EYES = (33, 263)  # outer corners, the person's right and left


def crop_from_picture(points: Array) -> Array:
    """(T, 2, 3) similarities that carry places in pictures, px, to places in crops; points (T, 478, 2 or more) px.

    The points' box, upright by the eyes, becomes a square of SIDE pixels.
    """
    points = points[..., :2]
    across = points[:, _EYES[1]] - points[:, _EYES[0]]
    across = across / np.linalg.norm(across, axis=1, keepdims=True)
    turn = np.stack([across, np.stack([-across[:, 1], across[:, 0]], 1)], 1)  # rows: along the eyes, down the face
    straight = points @ np.swapaxes(turn, 1, 2)
    low, high = straight.min(1), straight.max(1)
    scale = SIDE / np.ptp(straight, axis=1).max(1)
    linear = scale[:, None, None] * turn
    shift = (SIDE - 1) / 2 - scale[:, None] * (low + high) / 2
    return np.concatenate([linear, shift[..., None]], 2)


def carried(points: Array, places: Array) -> Array:
    """(T, P, 2) px in the crops by points (T, 478, 2 or more) of places (T, P, 2) px in their pictures."""
    carry = crop_from_picture(points)
    return places @ np.swapaxes(carry[:, :, :2], 1, 2) + carry[:, None, :, 2]


def cut(rgb: Array, points: Array) -> Array:
    """(SIDE, SIDE) uint8, grey: the crop of a picture (H, W, 3) uint8 whose face has points (478, 2 or more) px.

    What lies beyond the picture's edge repeats it.
    """
    carry = crop_from_picture(points[None])[0]
    many = max(int(np.ceil(1 / np.linalg.norm(carry[:, 0]))), 1)  # samples a pixel, so that nothing is skipped
    carry = many * carry
    carry[:, 2] += (many - 1) / 2
    size = (SIDE * many, SIDE * many)
    large = cv2.warpAffine(rgb, carry, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grey = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)
    return grey if many == 1 else cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


class Unfold:
    """Carries crops onto a face at rest that looks at the viewer, so that what is left to see is what it does.

    The face is a mesh over the detector's points; each pixel is a place in a triangle of it.
    """

    def __init__(self, mean: Array, margin: int = 0) -> None:
        """Lay the grid on a mean face (478, 3), metres in the frame of heads; margin: more pixels on every side."""
        face = mean[:OUTLINE_END, [0, 2]]  # x to the person's left, z up
        eyes = face[list(_EYES)].mean(0)
        width, height = WIDTH + 2 * margin, HEIGHT + 2 * margin
        x = (np.arange(width) - (width - 1) / 2) * PIXEL_M + eyes[0]
        z = eyes[1] + ABOVE_EYES_M - (np.arange(height) - margin) * PIXEL_M
        places = np.stack(np.meshgrid(x, z), -1).reshape(-1, 2)
        self.shape = (height, width)
        corners, shares = _triangles(face, places)
        rows = np.repeat(np.arange(len(places)), 3)
        self._blend = csr_array((shares.ravel(), (rows, corners.ravel())), shape=(len(places), len(face)))

    def __call__(self, crops: Array, places: Array) -> Array:
        """Give (T, H, W) uint8 from crops (T, SIDE, SIDE) in which points at rest lie at places (T, 478, 2) px."""
        out = np.empty((len(crops), *self.shape), np.uint8)
        skin = places[:, :OUTLINE_END].astype(np.float32)
        for k, crop in enumerate(crops):
            across, down = (self._blend @ skin[k]).T.reshape(2, *self.shape)
            out[k] = cv2.remap(crop, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return out


def _triangles(face: Array, places: Array) -> tuple[Array, Array]:
    """Corners (N, 3) and shares (N, 3) of the triangle over points (P, 2) that each place (N, 2) lies in.

    A place outside goes with the nearest triangle, as if its plane went on.
    """
    mesh = Delaunay(face)
    found = mesh.find_simplex(places)
    middles = face[mesh.simplices].mean(1)
    outside = np.flatnonzero(found < 0)
    found[outside] = KDTree(middles).query(places[outside])[1]
    carry = mesh.transform[found]
    first = np.einsum("nij,nj->ni", carry[:, :2], places - carry[:, 2])
    shares = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1).astype(np.float32)
    return mesh.simplices[found], shares
