"""Plots about the rig of several cameras: where they stand, what each contributes, and how sure that makes a joint."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core import charts
from ..core.cameras import Camera
from ..core.charts import Panel, chart, span, words
from ..core.skeletons import BODY, BODY_25
from .summary import Capture

Array = np.ndarray
Painter = tuple[str, Callable[[Capture, str], str]]
Scale = tuple[Sequence[str], float, float]  # colours, and what the first and the last stand for
_HIPS = 8  # MidHip of OpenPose's 25
_LEAST_MM = 20.0  # the scale of errors reaches at least this far
_CONE = 0.18  # length of a camera's cone, in sizes of the scene
_MARGIN = 0.2  # around all that is drawn from above, in its sizes


def rig_painters(capture: Capture, names: Sequence[str]) -> list[Painter]:
    """(title, painter) of the plots that this capture has the numbers for; a painter gives SVG.

    Args:
        names: what the views are called.
    """
    several = len(capture.views) > 1
    painters: list[Painter] = []
    if several and len(capture.cameras) == len(capture.views):
        painters.append(("Cameras and the person's path, from above, m", _above(names)))
    if several and capture.keypoints.views_used is not None:
        painters.append(("Share of frames in which a view was used, %", _usage(names)))
    if expected_error(capture) is not None:
        painters.append(("Expected error by joint over time, mm", _plot_expected))
    return painters


def expected_error(capture: Capture) -> Array | None:
    """(T, J) metres: 68 % of the true errors are smaller; None where nobody estimated it."""
    found = getattr(capture.keypoints, "expected_error_m", None)
    return None if found is None or not np.isfinite(found).any() else np.asarray(found, float)


def views_by_joints(title: str, names: Sequence[str], texts: Sequence[Sequence[str]], colours: Array) -> str:
    """SVG of a table (N, 25) of words on (N, 25, 3) colours."""
    high = 34 * len(names)
    panel = Panel(120, 6, 830, high, (0, 1), (0, 1))
    return chart(title, high + 90, [charts.table(panel, texts, colours, BODY_25), panel.row_names(names)])


def joints_over_time(title: str, times: Array, values: Array, scale: Scale, label: str) -> str:
    """SVG of (25, T) values as colours over (T,) seconds."""
    panel = Panel(110, 8, 754, 440, span(times), (0, 1))
    parts = [panel.axes(x_label="s", ticks=(10, 0)), panel.picture(charts.colours_of(values, *scale))]
    return chart(title, 484, [*parts, panel.row_names(BODY_25), charts.colour_bar(panel, *scale, label)])


def _above(names: Sequence[str]) -> Callable[[Capture, str], str]:
    def paint(capture: Capture, title: str) -> str:
        up = np.asarray(capture.motion.header.get("floor_from_frame", np.eye(4)), float)
        path = _carry(up, capture.keypoints.positions[:, _HIPS])
        centres = _carry(up, np.stack([camera.centre for camera in capture.cameras]))
        known = np.concatenate([centres, path[np.isfinite(path).all(-1)]])[:, :2]
        cones = [_cone(camera, up, _CONE * float(np.ptp(known, axis=0).max())) for camera in capture.cameras]
        panel = _level_panel(np.concatenate([known, *(cone[:, :2] for cone in cones)]))
        times = capture.keypoints.times
        scale: Scale = (charts.DAWN, *span(times))
        parts = [panel.axes(x_label="x", ticks=(8, 8)), _walked(panel, path, times, scale)]
        middle = float(centres[:, 0].mean())
        for name, centre, cone in zip(names, centres, cones, strict=True):
            parts.append(_camera(panel, name, centre, cone, is_left=centre[0] < middle))
        return chart(title, panel.height + 46, [*parts, charts.colour_bar(panel, *scale, "s")])

    return paint


def _level_panel(points: Array) -> Panel:
    """A panel as large as fits, in which (N, 2) metres are as long along x as along y."""
    low, high = points.min(0), points.max(0)
    low, high = low - _MARGIN * np.ptp(points, axis=0).max(), high + _MARGIN * np.ptp(points, axis=0).max()
    wide, tall = np.maximum(high - low, 1e-3)
    size = min(780 / wide, 470 / tall)
    left = 50 + (780 - size * wide) / 2
    return Panel(left, 8, size * wide, size * tall, (float(low[0]), float(high[0])), (float(low[1]), float(high[1])))


def _walked(panel: Panel, path: Array, times: Array, scale: Scale) -> str:
    """Dots of (T, 3) places, coloured by their seconds; at most 400 of them."""
    shown = np.flatnonzero(np.isfinite(path).all(-1))
    shown = shown[:: max(1, len(shown) // 400)]
    across, down = panel.at(path[shown, 0], path[shown, 1])
    colours = charts.colours_of(times[shown], *scale)
    return "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="#{r:02x}{g:02x}{b:02x}"/>'
        for x, y, (r, g, b) in zip(across.tolist(), down.tolist(), colours.tolist(), strict=True)
    )


def _camera(panel: Panel, name: str, centre: Array, cone: Array, *, is_left: bool) -> str:
    x, y = (float(value) for value in panel.at(centre[0], centre[1]))
    corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(*panel.at(cone[:, 0], cone[:, 1]), strict=True))
    anchor, at = ("end", x - 9) if is_left else ("start", x + 9)
    return (
        f'<polygon points="{corners}" fill="#9ecae1" fill-opacity="0.6"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#08519c"/>'
        f"{words(at, y - 3, name, anchor=anchor, size=10)}"
        f"{words(at, y + 10, f'{centre[2]:.2f} m up', anchor=anchor, size=10)}"
    )


def _carry(transform: Array, points: Array) -> Array:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _cone(camera: Camera, up: Array, length: float) -> Array:
    """(3, 3) the corners, in space, of what a camera sees of its middle row, `length` metres deep."""
    half = 0.5 * camera.size[0] / camera.matrix[0, 0]
    corners = np.array([[0.0, 0.0, 0.0], [-half, 0.0, 1.0], [half, 0.0, 1.0]]) * length
    return _carry(up, (corners - camera.translation) @ camera.rotation)


def _usage(names: Sequence[str]) -> Callable[[Capture, str], str]:
    def paint(capture: Capture, title: str) -> str:
        share = 100.0 * np.asarray(capture.keypoints.views_used, float)[..., BODY].mean(1)
        texts = [[f"{value:.0f}" for value in row] for row in share]
        return views_by_joints(title, names, texts, charts.colours_of(share, charts.BLUES, 0, 100))

    return paint


def _plot_expected(capture: Capture, title: str) -> str:
    found = expected_error(capture)
    assert found is not None
    values = 1000.0 * found[:, BODY].T
    finite = values[np.isfinite(values)]
    most = max(float(np.quantile(finite, 0.98)) if finite.size else 0.0, _LEAST_MM)
    return joints_over_time(title, capture.keypoints.times, values, (charts.HEAT, 0.0, most), "mm (grey: unknown)")
