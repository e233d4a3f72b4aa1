"""Plots about the rig of several cameras: where they stand, what each contributes, and how sure that makes a joint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.cameras import Camera
from ..core.skeletons import BODY, BODY_25
from .summary import Capture

Array = np.ndarray
Painter = tuple[str, float, Callable[[Capture, Any], None]]
_UNSEEN = "#d0d0d0"
_HIPS = 8  # MidHip of OpenPose's 25
_LEAST_MM = 20.0  # the scale of errors reaches at least this far
_CONE = 0.18  # length of a camera's cone, in sizes of the scene


def rig_painters(capture: Capture, names: Sequence[str]) -> list[Painter]:
    """(title, height in inches, painter) of the plots that this capture has the numbers for.

    Args:
        names: what the views are called.
    """
    several = len(capture.views) > 1
    painters: list[Painter] = []
    if several and len(capture.cameras) == len(capture.views):
        painters.append(("Cameras and the person's path, from above, m", 5.2, _above(names)))
    if several and capture.keypoints.views_used is not None:
        painters.append(("Share of frames in which a view was used, %", 1.6 + 0.45 * len(names), _usage(names)))
    if expected_error(capture) is not None:
        painters.append(("Expected error by joint over time, mm", 5.0, _plot_expected))
    return painters


def expected_error(capture: Capture) -> Array | None:
    """(T, J) metres: 68 % of the true errors are smaller; None where nobody estimated it."""
    found = getattr(capture.keypoints, "expected_error_m", None)
    return None if found is None or not np.isfinite(found).any() else np.asarray(found, float)


def _above(names: Sequence[str]) -> Callable[[Capture, Any], None]:
    def paint(capture: Capture, figure: Any) -> None:
        axes = figure.subplots()
        up = np.asarray(capture.motion.header.get("floor_from_frame", np.eye(4)), float)
        path = _carry(up, capture.keypoints.positions[:, _HIPS])
        centres = _carry(up, np.stack([camera.centre for camera in capture.cameras]))
        known = np.concatenate([centres, path[np.isfinite(path).all(-1)]])
        size = float(np.ptp(known[:, :2], axis=0).max())
        cones = [_cone(camera, up, _CONE * size) for camera in capture.cameras]
        middle = centres.mean(0)
        for name, centre, cone in zip(names, centres, cones, strict=True):
            axes.fill(*cone[:, :2].T, color="#9ecae1", alpha=0.6, lw=0)
            axes.plot(*centre[:2], "o", color="#08519c", ms=5)
            outwards = "right" if centre[0] < middle[0] else "left"
            axes.annotate(
                f"{name}\n{centre[2]:.2f} m up", centre[:2], xytext=(-8 if outwards == "right" else 8, 0),
                textcoords="offset points", ha=outwards, va="center", fontsize=8,
            )  # fmt: skip
        times = capture.keypoints.times
        axes.plot(*path[:, :2].T, color="#bbbbbb", lw=0.8)
        dots = axes.scatter(*path[:, :2].T, c=times, cmap="viridis", s=6, zorder=3)
        figure.colorbar(dots, ax=axes, label="s", fraction=0.03, pad=0.01)
        axes.set(aspect="equal", xlabel="x", ylabel="y")
        axes.margins(0.15)
        axes.grid(visible=True, alpha=0.3)

    return paint


def _carry(transform: Array, points: Array) -> Array:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _cone(camera: Camera, up: Array, length: float) -> Array:
    """(3, 3) the corners, in space, of what a camera sees of its middle row, `length` metres deep."""
    half = 0.5 * camera.size[0] / camera.matrix[0, 0]
    corners = np.array([[0.0, 0.0, 0.0], [-half, 0.0, 1.0], [half, 0.0, 1.0]]) * length
    return _carry(up, (corners - camera.translation) @ camera.rotation)


def _usage(names: Sequence[str]) -> Callable[[Capture, Any], None]:
    def paint(capture: Capture, figure: Any) -> None:
        axes = figure.subplots()
        share = 100.0 * np.asarray(capture.keypoints.views_used, float)[..., BODY].mean(1)
        axes.imshow(share, aspect="auto", cmap="Blues", vmin=0, vmax=100)
        for row, column in np.ndindex(share.shape):
            value = share[row, column]
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8,
                      color="white" if value > 60 else "black")  # fmt: skip
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.set_xticks(range(len(BODY_25)), BODY_25, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)

    return paint


def _plot_expected(capture: Capture, figure: Any) -> None:
    found = expected_error(capture)
    assert found is not None
    values, times = 1000.0 * found[:, BODY].T, capture.keypoints.times
    finite = values[np.isfinite(values)]
    most = max(float(np.quantile(finite, 0.98)) if finite.size else 0.0, _LEAST_MM)
    axes = figure.subplots()
    axes.set_facecolor(_UNSEEN)
    picture = axes.imshow(
        values, aspect="auto", cmap="YlOrRd", vmin=0, vmax=most, interpolation="nearest",
        extent=(times[0], max(times[-1], times[0] + 1e-3), len(BODY_25) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(len(BODY_25)), BODY_25, fontsize=8)
    axes.set_xlabel("s")
    figure.colorbar(picture, ax=axes, label="mm (grey: unknown)", fraction=0.03, pad=0.01)
