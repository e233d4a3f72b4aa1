"""Where the cameras of portraits stood, and what head their face points speak of, before anything is rendered.

The detector's points of all photos are explained together: a head out of those that are known (`prior.Span`), and for
each photo a pinhole camera. One photo cannot tell a near camera from a long lens, so a focal length that the file does
not give is held by how far away people stand from the cameras that photograph their faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from scipy.optimize import least_squares

from ..core.cameras import Camera, pinhole
from ..protocol.errors import InputError, WeightsError
from ..protocol.files import atomic_write
from .frame import RADIUS, from_sphere
from .prior import Span
from .seen import Seen

Array = np.ndarray
POINT_M = 0.006  # standard deviation of a face point, with how little neighbours say anew
DEPTH_M = 0.030  # of the detector's guess of depth, likewise
_DISTANCE_M, _DISTANCE_SPREAD = 0.8, 0.6  # of a camera from a face: median and standard deviation of the logarithm
_FARTHEST_M = 8.0  # where cameras stand at most to begin with
_FOCAL_SPREAD = 0.05  # of the logarithm of a focal length that the file gives
_WORST = 0.16  # of the distance between the eyes: points that miss by more are no face seen as one
_OF_CAMERAS = ("matrix", "rotation", "translation")


@dataclass(frozen=True)
class Placed:
    """What explains the points.

    cameras: in the frame of heads, metres; z (K,) of the span; face (P, 3) metres; radii (V,) metres of the whole head,
    where more than the points is known (`settle.py`); alone: numbers of photos that have nothing in common with others.
    """

    cameras: tuple[Camera, ...]
    z: Array
    face: Array
    radii: Array | None = None
    alone: tuple[int, ...] = ()

    def save(self, path: Path) -> None:
        """Keep it, whole or not at all."""
        arrays = {"z": self.z, "face": self.face, "alone": np.array(self.alone, float)}
        if self.radii is not None:
            arrays["radii"] = self.radii
        for name in _OF_CAMERAS:
            arrays[name] = np.stack([getattr(camera, name) for camera in self.cameras])
        content = save({name: np.ascontiguousarray(value, np.float64) for name, value in arrays.items()})
        atomic_write(path, lambda stream: stream.write(content))

    @staticmethod
    def load(path: Path, photos: Sequence[Seen]) -> Placed:
        """Read what was kept of the same photos.

        Raises:
            WeightsError: it is damaged.
        """
        try:
            arrays = load_file(path)
            parts = zip(photos, *(arrays[name] for name in _OF_CAMERAS), strict=True)
            cameras = tuple(
                replace(_plain(photo, 1.0), **dict(zip(_OF_CAMERAS, own, strict=True))) for photo, *own in parts
            )
            alone = tuple(arrays.get("alone", np.zeros(0)).astype(int).tolist())
            return Placed(cameras, arrays["z"], arrays["face"], arrays.get("radii"), alone)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise WeightsError(f"The checkpoint {path} is damaged: {error}", "Delete it.") from error


def place(photos: list[Seen], span: Span) -> Placed:
    """Find cameras and head that explain the face points of all photos.

    Raises:
        InputError: a photo's points fit no head.
    """
    mean = from_sphere(span.points.double().cpu().numpy())
    basis = span.point_basis.double().cpu().numpy() * RADIUS  # (P, 3, K)
    begun = [_begin(photo, mean) for photo in photos]
    start = np.concatenate([np.zeros(basis.shape[-1]), *begun])

    def all_misses(x: Array) -> Array:
        z, poses = x[: basis.shape[-1]], x[basis.shape[-1] :].reshape(len(photos), 7)
        face = mean + basis @ z
        return np.concatenate([z, *(misses(photo, face, pose) for photo, pose in zip(photos, poses, strict=True))])

    def slopes(x: Array) -> Array:
        """(M, N) derivatives of the misses: by the span exactly, by each camera's seven numbers by differences."""
        size = basis.shape[-1]
        z, poses = x[:size], x[size:].reshape(len(photos), 7)
        face, blocks = mean + basis @ z, [np.eye(size, len(x))]
        for index, (photo, pose) in enumerate(zip(photos, poses, strict=True)):
            block = np.zeros((3 * len(face) + 2, len(x)))
            block[:, :size] = _by_span(face, basis, pose)
            here = misses(photo, face, pose)
            for k, small in enumerate(1e-6 * np.eye(7)):
                block[:, size + 7 * index + k] = (misses(photo, face, pose + small) - here) / 1e-6
            blocks.append(block)
        return np.concatenate(blocks)

    found = least_squares(all_misses, start, slopes, x_scale="jac", max_nfev=30)  # pyright: ignore[reportArgumentType]
    z, poses = found.x[: basis.shape[-1]], found.x[basis.shape[-1] :].reshape(len(photos), 7)
    face = mean + basis @ z
    for photo, pose in zip(photos, poses, strict=True):
        _check(photo, face, pose)
    return Placed(tuple(camera_of(p, q) for p, q in zip(photos, poses, strict=True)), z, face)


def stand(photo: Seen, face: Array, loose: float) -> Array:
    """(7,) axis-angle, translation and logarithm of the focal length: where the camera stood that saw a known face.

    face (P, 3) metres; loose: how many times as far its points may be off as where a head is found by them.

    Raises:
        InputError: the photo's points are not this face's.
    """
    begun = _begin(photo, face)
    pose = least_squares(lambda x: misses(photo, face, x, loose), begun, x_scale="jac", max_nfev=30).x
    _check(photo, face, pose)
    return pose


def nearest(span: Span, face: Array) -> Array:
    """(K,) of the span: the likeliest head whose points are about (P, 3) metres."""
    basis = (span.point_basis.double().cpu().numpy() * RADIUS).reshape(face.size, -1) / POINT_M
    off = (face - from_sphere(span.points.double().cpu().numpy())).ravel() / POINT_M
    return np.linalg.solve(basis.T @ basis + np.eye(basis.shape[1]), basis.T @ off)


def _check(photo: Seen, face: Array, pose: Array) -> None:
    """Raise InputError if a photo's points miss a face (P, 3) metres by more than faces can."""
    pixels, _ = _seen(photo, face, pose)
    error = float(np.linalg.norm(pixels - photo.landmarks, axis=1).mean())
    apart = float(np.linalg.norm(photo.landmarks[468:473].mean(0) - photo.landmarks[473:478].mean(0)))
    if error > _WORST * max(apart, 0.05 * max(photo.image.shape)):
        text = f"The face points of {photo.name} miss every head by {error:.0f} pixels on average."
        raise InputError(text, "Use a photo of a real face from the front or half from the side.")


def _begin(photo: Seen, face: Array) -> Array:
    """(7,) axis-angle, translation and logarithm of the focal length that explain the points roughly."""
    size = np.ptp(photo.landmarks, axis=0).max()
    metre = size / np.ptp(face[:, 2])
    focal = min(photo.focal_px or _DISTANCE_M * metre, _FARTHEST_M * metre)  # beyond, no pose is found at once
    matrix = np.array([[focal, 0, photo.centre_px[0]], [0, focal, photo.centre_px[1]], [0, 0, 1.0]])
    found, turn, move = cv2.solvePnP(face, photo.landmarks.astype(float), matrix, np.zeros(5), flags=cv2.SOLVEPNP_SQPNP)
    if not found or move[2, 0] <= 0:
        raise InputError(f"The face points of {photo.name} fit no head.", "Use a photo in which the face is clear.")
    return np.concatenate([turn[:, 0], move[:, 0], [np.log(focal)]])


def _seen(photo: Seen, face: Array, pose: Array) -> tuple[Array, Array]:
    """Pixels (P, 2) and depths (P,) of points."""
    local = face @ cv2.Rodrigues(pose[:3])[0].T + pose[3:6]
    return np.exp(pose[6]) * local[:, :2] / local[:, 2:].clip(1e-3) + photo.centre_px, local[:, 2]


def misses(photo: Seen, face: Array, pose: Array, loose: float = 1.0) -> Array:
    """(3 P + 2,) how far a photo's points are from those of a face (P, 3) metres, in standard deviations.

    Beside them, how unusual the camera is; loose: as for `stand`.
    """
    pixels, depth = _seen(photo, face, pose)
    focal, distance = np.exp(pose[6]), max(pose[5], 1e-3)
    metres = (pixels - photo.landmarks) * distance / focal / POINT_M
    guessed = photo.depth * distance / focal
    behind = (depth - depth.mean() - (guessed - guessed.mean())) / DEPTH_M
    known = np.log(focal / photo.focal_px) / _FOCAL_SPREAD if photo.focal_px else 0.0
    far = np.log(distance / _DISTANCE_M) / (_DISTANCE_SPREAD if not photo.focal_px else 3.0)
    return np.concatenate([metres.ravel() / loose, behind / loose, [known, far]])


def _by_span(face: Array, basis: Array, pose: Array) -> Array:
    """(M, K) derivatives of `misses` by the span's coordinates."""
    rotation = cv2.Rodrigues(pose[:3])[0]
    local, moved = face @ rotation.T + pose[3:6], np.einsum("ij,pjk->pik", rotation, basis)
    focal, distance, depth = np.exp(pose[6]), max(pose[5], 1e-3), local[:, 2:, None].clip(1e-3)
    pixels = focal * (moved[:, :2] - local[:, :2, None] / depth * moved[:, 2:]) / depth
    behind = (moved[:, 2] - moved[:, 2].mean(0)) / DEPTH_M
    metres = pixels.reshape(-1, pixels.shape[-1]) * distance / focal / POINT_M
    return np.concatenate([metres, behind, np.zeros((2, metres.shape[1]))])


def camera_of(photo: Seen, pose: Array) -> Camera:
    """The camera at a pose (7,), of a photo's size."""
    plain = _plain(photo, float(np.exp(pose[6])))
    matrix = plain.matrix.copy()
    matrix[:2, 2] = photo.centre_px
    return replace(plain, matrix=matrix, rotation=cv2.Rodrigues(pose[:3])[0], translation=pose[3:6].copy())


def _plain(photo: Seen, focal_px: float) -> Camera:
    height, width = photo.image.shape[:2]
    return pinhole(photo.name, (width, height), focal_px)
