"""Plots about one capture, as SVG for the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import charts
from ..core.artifacts import Keypoints2D
from ..core.charts import Panel, chart, legend, span, stroke
from ..core.kinematics import forward
from ..core.skeletons import BODY, BODY_25, LIMBS
from .plots_rig import Painter, joints_over_time, rig_painters, views_by_joints
from .summary import (
    CONTACT_NAMES,
    LIMB_BONES,
    Capture,
    fitted_lengths,
    limb_lengths,
    mean,
    quantile,
    reprojection_errors,
)
from .sync import Offsets

Array = np.ndarray
_SIDES = {"L": "#1f77b4", "R": "#e6550d"}
_SIDE_NAMES = {"L": "left", "R": "right"}
DELAYS = "How well the clips fit at each delay"
_EVIDENCE = {"motion": "#2ca02c", "sound": "#9467bd"}
_MOST_CURVES = 12


def draw_plots(capture: Capture) -> list[tuple[str, str]]:
    """(title, SVG) of each plot."""
    painters: tuple[Painter, ...] = (
        ("Reprojection error by camera and joint, px", _plot_reprojection),
        ("Limb lengths, m: measured (lines) and after the fit (dashed)", _plot_lengths),
        ("Confidence by joint over time", _plot_confidence),
        ("Foot contacts", _plot_contacts),
        ("Height above the floor, m", _plot_heights),
    )
    chosen: list[Painter] = list(painters[0 if capture.views else 1 :])
    if capture.offsets is not None and len(capture.offsets.curves):
        chosen.insert(0, (DELAYS, _plot_sync))
    chosen[1:1] = rig_painters(capture, _view_names(capture.views))
    return [(title, paint(capture, title)) for title, paint in chosen]


def _plot_sync(capture: Capture, _: str) -> str:
    assert capture.offsets is not None
    return draw_delays(capture.offsets, capture.views)


def draw_delays(offsets: Offsets, views: Sequence[Keypoints2D]) -> str:
    """SVG of each pair of clips: the correlation over all delays, the one that was found, and its rival."""
    pairs = list(zip(offsets.header["pairs"], offsets.curves, offsets.curve_starts, offsets.curve_steps, strict=True))
    parts, names = [], _view_names(views)
    for number, (pair, score, start, step) in enumerate(pairs[:_MOST_CURVES]):
        place = (44 + 318 * (number % 3), 24 + 190 * (number // 3))
        parts.append(_delays(place, pair, start + step * np.arange(len(score)), np.asarray(score, float), names))
    return chart(DELAYS, 10 + 190 * ((min(len(pairs), _MOST_CURVES) + 2) // 3), parts)


def _delays(place: tuple[int, int], pair: dict[str, Any], delays: Array, score: Array, names: Sequence[str]) -> str:
    panel = Panel(*place, 262, 120, span(delays), span(score, 0.08))
    colour = _EVIDENCE[pair["by"]]
    views = " / ".join(names[int(i)] for i in pair["views"])
    clear = "clear" if pair["clear"] else "not clear"
    title = f"{views}, {pair['by']}: {pair['delay_s']:+.3f} s, {clear}"
    parts = [panel.axes(title=title, x_label="s"), panel.line(delays, score, stroke(colour, 0.9))]
    parts.append(panel.upright(pair["delay_s"], stroke(colour, 1.5, dash="" if pair["used"] else "2 3", opacity=0.7)))
    if pair["rival_s"] is not None:
        parts.append(panel.upright(pair["rival_s"], stroke("#888", dash="2 3")))
    return "".join(parts)


def _plot_reprojection(capture: Capture, title: str) -> str:
    """A table whose cells are numbers on colours; grey is never seen."""
    errors = reprojection_errors(capture)[..., BODY]
    table = np.array([[mean(view[:, j]) for j in range(len(BODY_25))] for view in errors])
    hundredth = max(max(view.image_size) for view in capture.views) / 100  # of the image: dark red at least
    most = max(quantile(table, 0.95), hundredth) if np.isfinite(table).any() else hundredth
    texts = [[f"{v:.1f}" if v < 10 else f"{v:.0f}" if np.isfinite(v) else "" for v in row] for row in table]
    colours = charts.colours_of(table, charts.HEAT, 0, most)
    return views_by_joints(title, _view_names(capture.views), texts, colours)


def _view_names(views: Sequence[Keypoints2D]) -> list[str]:
    names = [str(view.header.get("view") or index + 1) for index, view in enumerate(views)]
    return [name if len(name) <= 16 else f"{name[:15]}\u2026" for name in names]


def _plot_lengths(capture: Capture, title: str) -> str:
    lengths, fitted = limb_lengths(capture.keypoints.positions), fitted_lengths(capture.motion)
    times, parts = capture.keypoints.times, []
    for number, bone in enumerate(LIMB_BONES):
        limbs = [(i, name) for i, (name, _, _) in enumerate(LIMBS) if name[:-2] == bone]
        shown = lengths[:, [i for i, _ in limbs]]
        middle = quantile(shown, 0.5) if np.isfinite(shown).any() else 0.3
        panel = Panel(40 + 234 * number, 24, 184, 170, span(times), (middle - 0.15, middle + 0.15))
        parts.append(panel.axes(title=bone, x_label="s", ticks=(4, 6)))
        for i, name in limbs:
            colour = _SIDES[name[-1]]
            parts.append(panel.line(times, lengths[:, i], stroke(colour)))
            parts += [panel.level(fitted[name], stroke(colour, 1.6, dash="6 4", opacity=0.7))] if name in fitted else []
    parts.append(legend(46, 188, [(_SIDE_NAMES[side], stroke(_SIDES[side])) for side in _SIDES], step=70))
    return chart(title, 230, parts)


def _plot_confidence(capture: Capture, title: str) -> str:
    values = np.array(capture.keypoints.confidence[:, BODY], float).T
    seen = np.where(values > 0, values, np.nan)
    scale = (charts.TRAFFIC, 0.0, 1.0)
    return joints_over_time(title, capture.keypoints.times, seen, scale, "confidence (grey: not seen)")


def _plot_contacts(capture: Capture, title: str) -> str:
    times, count = capture.motion.times, len(CONTACT_NAMES)
    panel = Panel(110, 12, 830, 26 * count, span(times), (0.0, count))
    parts = [panel.axes(x_label="s", ticks=(10, 0)), panel.row_names(CONTACT_NAMES)]
    edges = _edges(times)
    for row, name in enumerate(CONTACT_NAMES):
        value = np.clip(capture.motion.contacts[:, row], 0, 1)
        ground = count - row - 0.9
        steps = ground + 0.8 * np.concatenate([[0.0], np.repeat(value, 2), [0.0]])
        places = np.concatenate([edges[:1], np.repeat(edges, 2)[1:-1], edges[-1:]])
        parts.append(panel.line(places, steps, f'style="fill:{_SIDES[name[0].upper()]}"'))
    return chart(title, 12 + 26 * count + 36, parts)


def _plot_heights(capture: Capture, title: str) -> str:
    motion = capture.motion
    heads = forward(motion.rest, motion.parents, motion.rotations, motion.root)[..., :3, 3]
    up = np.asarray(motion.header.get("floor_from_frame", np.eye(4)))
    heights = heads @ up[2, :3] + up[2, 3]
    bones, times = list(motion.header["bones"]), motion.times
    hips = heights[:, bones.index("hips")]
    kinds = [("foot", "ankle", ""), ("toe", "ball of the foot", "2 3")]
    feet = [
        (f"{_SIDE_NAMES[side]} {name}", heights[:, bones.index(f"{bone}.{side}")], stroke(colour, 1.5, dash=dash))
        for bone, name, dash in kinds
        for side, colour in _SIDES.items()
    ]
    left = Panel(44, 24, 260, 190, span(times), span(hips, 0.06))
    lowest, highest = span(np.concatenate([np.zeros(1), *(values for _, values, _ in feet)]), 0.06)
    right = Panel(352, 24, 588, 190, span(times), (lowest, highest + 0.2 * (highest - lowest)))  # room for the legend
    parts = [left.axes(title="hips", x_label="s"), left.line(times, hips, stroke("#222", 1.5))]
    parts += [right.axes(title="feet (the floor is at 0)", x_label="s"), right.level(0.0, stroke("#222"))]
    parts += [right.line(times, values, style) for _, values, style in feet]
    parts.append(legend(364, 42, [(name, style) for name, _, style in feet], step=144))
    return chart(title, 250, parts)


def _edges(times: Array) -> Array:
    """(T + 1,) seconds where frames begin and end."""
    middles = (times[1:] + times[:-1]) / 2
    return np.concatenate([times[:1], middles, times[-1:] + (1e-3 if len(times) == 1 else 0.0)])
