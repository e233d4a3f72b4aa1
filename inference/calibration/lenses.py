"""What one camera's numbers say about themselves: finite, a rotation, a lens that could have been built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..core.cameras import Camera, CameraSet, distort
from ..core.rotations import nearest_rotation

Array = np.ndarray
Severity = Literal["error", "warning", "note"]
_FOCAL_ODD, _FOCAL_WRONG = (0.35, 6.0), (0.1, 40.0)  # in sizes of the image: 110 to 9.5 degrees of view
_ASPECT = 1.15  # of fx and fy
_CENTRE_ODD = 0.2  # of the image's size, from its middle
_MOVED = 0.45  # share of the way to the corner by which a lens may move the corner
_FOLD_ODD, _FOLD_WRONG = 0.92, 0.6  # of the way to the corner, where the picture folds back
_TANGENTIAL = 0.02
_NOT_ROTATION = 1e-3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the camera's name ("" = all), what, how bad, and what would be changed ("" = cannot be).

    Findings are in the order in which they were found, each with those before it applied.
    """

    camera: str
    code: str
    severity: Severity
    text: str
    change: str = ""
    apply: Callable[[CameraSet], CameraSet] | None = None


def on_camera(name: str, change: Callable[[Camera], Camera]) -> Callable[[CameraSet], CameraSet]:
    """Make a change of one camera a change of the whole rig."""

    def apply(cameras: CameraSet) -> CameraSet:
        return replace(cameras, cameras=tuple(change(camera) if camera.name == name else camera for camera in cameras))

    return apply


def check_numbers(camera: Camera) -> Finding | None:
    """Find numbers that no other check can work with: not finite, no size, no focal length."""
    parts = {"matrix": camera.matrix, "distortion": camera.distortion, "rotation": camera.rotation,
             "translation": camera.translation}  # fmt: skip
    for part, values in parts.items():
        bad = int((~np.isfinite(np.asarray(values, float))).sum())
        if bad:
            text = f"{bad} of the {np.size(values)} numbers of the {part} of {camera.name} are not finite."
            fixable = part == "distortion"
            return Finding(
                camera.name,
                "not-finite",
                "error",
                text,
                f"The distortion of {camera.name} would be set to none." if fixable else "",
                on_camera(camera.name, _straight) if fixable else None,
            )
    if min(camera.size) < 1 or min(camera.matrix[0, 0], camera.matrix[1, 1]) <= 0:
        return Finding(
            camera.name,
            "focal",
            "error",
            f"{camera.name} has images of {camera.size[0]} x {camera.size[1]} px and focal lengths of "
            f"{camera.matrix[0, 0]:.1f} and {camera.matrix[1, 1]:.1f} px; all must be positive.",
        )
    return None


def check_rotation(camera: Camera) -> Finding | None:
    """Find a rotation that is not one; a mirrored one is left to those who have clips."""
    error = float(np.abs(camera.rotation @ camera.rotation.T - np.eye(3)).max())
    if error <= _NOT_ROTATION or np.linalg.det(camera.rotation) <= 0:
        return None
    severity: Severity = "warning" if error < 0.1 else "error"
    return Finding(
        camera.name,
        "rotation",
        severity,
        f"The rotation of {camera.name} is not one: R R^T differs from the identity by {error:.2g}.",
        f"The nearest rotation to that of {camera.name} would be taken.",
        on_camera(camera.name, lambda other: replace(other, rotation=nearest_rotation(other.rotation))),
    )


def check_lens(camera: Camera) -> Iterator[Finding]:
    """Find focal lengths, principal points and distortions that no lens has."""
    (width, height), name = camera.size, camera.name
    fx, fy, cx, cy = camera.matrix[0, 0], camera.matrix[1, 1], camera.matrix[0, 2], camera.matrix[1, 2]
    share = float(np.sqrt(fx * fy)) / max(width, height)
    if not _FOCAL_ODD[0] <= share <= _FOCAL_ODD[1] and not (camera.fisheye and share > _FOCAL_ODD[0] / 2):
        wrong = not _FOCAL_WRONG[0] <= share <= _FOCAL_WRONG[1]
        degrees = np.degrees(2 * np.arctan(0.5 / share))
        yield Finding(
            name,
            "focal",
            "error" if wrong else "warning",
            f"The focal length of {name} is {share * max(width, height):.0f} px for images of {width} x {height} px: "
            f"it would see {degrees:.1f} degrees.",
        )
    if not 1 / _ASPECT <= fx / fy <= _ASPECT:
        yield Finding(
            name,
            "focal",
            "warning",
            f"The focal lengths of {name} are {fx:.0f} px across and {fy:.0f} px down: its pixels are far from square.",
        )
    off = np.array([cx - (width - 1) / 2, cy - (height - 1) / 2]) / [width, height]
    if np.abs(off).max() > _CENTRE_ODD:
        outside = np.abs(off).max() > 0.5
        yield Finding(
            name,
            "principal-point",
            "error" if outside else "warning",
            f"The principal point of {name} is ({cx:.0f}, {cy:.0f}) px, {100 * np.abs(off).max():.0f} % of the image "
            f"of {width} x {height} px away from its middle.",
            f"The principal point of {name} would be put into the middle.",
            on_camera(name, _centred),
        )
    yield from _check_distortion(camera)


def _check_distortion(camera: Camera) -> Iterator[Finding]:
    name, lens = camera.name, camera.distortion
    if not np.any(lens) and not camera.fisheye:
        return
    if not camera.fisheye and np.abs(lens[2:4]).max() > _TANGENTIAL:
        ordered = len(lens) == 5 and abs(lens[2]) > _TANGENTIAL and np.abs(lens[3:5]).max() < _TANGENTIAL / 2
        yield Finding(
            name,
            "distortion",
            "warning",
            f"The tangential distortion of {name} is ({lens[2]:.3g}, {lens[3]:.3g}), many times that of a lens"
            + (": its coefficients seem to stand in the order k1 k2 k3 p1 p2." if ordered else "."),
            f"The coefficients of {name} would be read as k1 k2 k3 p1 p2." if ordered
            else f"The tangential distortion of {name} would be set to none.",
            on_camera(name, _reordered if ordered else _untangential),
        )  # fmt: skip
        camera = _reordered(camera) if ordered else _untangential(camera)
    fold, moved = _bending(camera)
    if fold < _FOLD_ODD:
        yield Finding(
            name,
            "distortion",
            "error" if fold < _FOLD_WRONG else "warning",
            f"The distortion of {name} ({', '.join(f'{k:.3g}' for k in camera.distortion)}) bends the picture back "
            f"{100 * fold:.0f} % of the way to the corner: what lies beyond has no place.",
            f"The distortion of {name} would be replaced by the nearest that does not fold.",
            on_camera(name, _unfolded),
        )
    elif abs(moved) > _MOVED:
        yield Finding(
            name,
            "distortion",
            "warning",
            f"The distortion of {name} ({', '.join(f'{k:.3g}' for k in camera.distortion)}) moves the corners of the "
            f"picture by {100 * moved:+.0f} % of their distance from its middle.",
        )


def _corner(camera: Camera) -> float:
    """Distance of the farthest corner from the principal point, in focal lengths."""
    (width, height), matrix = camera.size, camera.matrix
    across = max(matrix[0, 2], width - 1 - matrix[0, 2]) / matrix[0, 0]
    down = max(matrix[1, 2], height - 1 - matrix[1, 2]) / matrix[1, 1]
    return float(np.hypot(across, down))


def _bending(camera: Camera) -> tuple[float, float]:
    """Give how far out the picture folds back, in shares of the way to the corner, and that corner's shift."""
    corner = _corner(camera)
    straight = np.linspace(0.0, 6.0 * corner, 3000)
    radial = _untangential(camera)
    with np.errstate(all="ignore"):
        bent = distort(radial, np.stack([straight, np.zeros_like(straight)], -1))[:, 0]
    rising = np.concatenate([[True], np.diff(bent) > 0])
    if camera.fisheye and rising.all():
        return 1.0, 0.0  # it may see less than its corners
    turn = len(bent) if rising.all() else int(np.argmin(rising))
    reached = float(np.nanmax(bent[:turn])) if turn else 0.0
    if reached < corner:
        return reached / corner, 0.0
    at = int(np.searchsorted(bent[:turn], corner))
    return 1.0, float(corner / max(straight[min(at, turn - 1)], 1e-9) - 1.0)


def _straight(camera: Camera) -> Camera:
    return replace(camera, distortion=np.zeros(4 if camera.fisheye else 5))


def _untangential(camera: Camera) -> Camera:
    if camera.fisheye:
        return camera
    lens = camera.distortion.copy()
    lens[2:4] = 0.0
    lens[8:] = 0.0
    return replace(camera, distortion=lens)


def _reordered(camera: Camera) -> Camera:
    k1, k2, k3, p1, p2 = camera.distortion
    return replace(camera, distortion=np.array([k1, k2, p1, p2, k3]))


def _centred(camera: Camera) -> Camera:
    matrix = camera.matrix.copy()
    matrix[:2, 2] = (camera.size[0] - 1) / 2, (camera.size[1] - 1) / 2
    return replace(camera, matrix=matrix)


def _unfolded(camera: Camera) -> Camera:
    """Fit k1 alone to what the lens does well inside of where it folds, less of it until nothing folds."""
    inside = np.linspace(0.0, 0.5 * _corner(camera) * max(_bending(camera)[0], 0.05), 50)
    bent = distort(_untangential(camera), np.stack([inside, np.zeros_like(inside)], -1))[:, 0]
    cube = inside**3
    k1 = float(cube @ (bent - inside) / max(cube @ cube, 1e-12))
    for share in (1.0, 0.5, 0.25):
        plain = replace(camera, distortion=np.array([k1 * share, 0, 0, 0, 0]), fisheye=False)
        if _bending(plain)[0] >= 1.0 and abs(_bending(plain)[1]) < _MOVED:
            return plain
    return replace(camera, distortion=np.zeros(5), fisheye=False)
