"""Plots about one capture, as pictures for the report's page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints2D
from ..core.kinematics import forward
from ..core.skeletons import BODY, BODY_25, LIMBS
from .plots_rig import Painter, rig_painters
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

_SIDES = {"L": "#1f77b4", "R": "#e6550d"}
_SIDE_NAMES = {"L": "left", "R": "right"}
DELAYS = "How well the clips fit at each delay"
_EVIDENCE = {"motion": "#2ca02c", "sound": "#9467bd"}
_MOST_CURVES = 12
_UNSEEN = "#d0d0d0"
_LAST_LETTER = 0x52F  # Latin, Greek, Cyrillic: what matplotlib's own font is sure to draw


def draw_plots(capture: Capture) -> list[tuple[str, str]]:
    """(title, PNG as base64) of each plot."""
    painters = (
        ("Reprojection error by camera and joint, px", 1.6 + 0.45 * len(capture.views), _plot_reprojection),
        ("Limb lengths, m: measured (lines) and after the fit (dashed)", 2.6, _plot_lengths),
        ("Confidence by joint over time", 5.0, _plot_confidence),
        ("Foot contacts", 1.9, _plot_contacts),
        ("Height above the floor, m", 2.6, _plot_heights),
    )
    chosen: list[Painter] = list(painters[0 if capture.views else 1 :])
    if capture.offsets is not None and len(capture.offsets.curves):
        chosen.insert(0, (DELAYS, _height_of_delays(capture.offsets), _plot_sync))
    chosen[1:1] = rig_painters(capture, [_view_name(view, i) for i, view in enumerate(capture.views)])
    return [(title, _drawn(height, partial(paint, capture))) for title, height, paint in chosen]


def draw_delays(offsets: Offsets, views: Sequence[Keypoints2D]) -> str:
    """PNG as base64 of how well clips fit at each delay."""
    return _drawn(_height_of_delays(offsets), partial(_plot_delays, offsets, views))


def _drawn(height: float, paint: Callable[[Any], None]) -> str:
    """PNG as base64 of a figure that `paint` fills."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, stream = plt.figure(figsize=(9.6, height), layout="constrained"), io.BytesIO()
    paint(figure)
    figure.savefig(stream, format="png", dpi=100)
    plt.close(figure)
    return base64.b64encode(stream.getvalue()).decode()


def _height_of_delays(offsets: Offsets) -> float:
    return 0.4 + 1.7 * ((min(len(offsets.curves), _MOST_CURVES) + 2) // 3)


def _plot_sync(capture: Capture, figure: Any) -> None:
    assert capture.offsets is not None
    _plot_delays(capture.offsets, capture.views, figure)


def _plot_delays(offsets: Offsets, views: Sequence[Keypoints2D], figure: Any) -> None:
    """Each pair of clips: the correlation over all delays, the one that was found, and its rival."""
    pairs = list(zip(offsets.header["pairs"], offsets.curves, offsets.curve_starts, offsets.curve_steps, strict=True))
    pairs = pairs[:_MOST_CURVES]
    panels = figure.subplots((len(pairs) + 2) // 3, 3, squeeze=False).ravel()
    for axes, (pair, score, start, step) in zip(panels, pairs, strict=False):
        delays = start + step * np.arange(len(score))
        colour = _EVIDENCE[pair["by"]]
        axes.plot(delays, score, lw=0.8, color=colour)
        axes.axvline(pair["delay_s"], color=colour, ls="-" if pair["used"] else ":", lw=1.2, alpha=0.7)
        if pair["rival_s"] is not None:
            axes.axvline(pair["rival_s"], color="grey", ls=":", lw=1.0)
        names = " / ".join(_view_name(views[i], i) for i in pair["views"])
        clear = "clear" if pair["clear"] else "not clear"
        axes.set_title(f"{names}, {pair['by']}: {pair['delay_s']:+.3f} s, {clear}", fontsize=8)
        axes.set_xlabel("s", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(visible=True, alpha=0.3)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)


def _plot_reprojection(capture: Capture, figure: Any) -> None:
    """A table whose cells are numbers on colours; grey is never seen."""
    axes = figure.subplots()
    errors = reprojection_errors(capture)[..., BODY]
    table = np.array([[mean(view[:, j]) for j in range(len(BODY_25))] for view in errors])
    hundredth = max(max(view.image_size) for view in capture.views) / 100  # of the image: dark red at least
    most = max(quantile(table, 0.95), hundredth) if np.isfinite(table).any() else hundredth
    axes.set_facecolor(_UNSEEN)
    axes.imshow(table, aspect="auto", cmap="YlOrRd", vmin=0, vmax=most)
    for row, column in np.argwhere(np.isfinite(table)):
        value = table[row, column]
        colour = "white" if value > 0.6 * most else "black"
        axes.text(column, row, f"{value:.1f}" if value < 10 else f"{value:.0f}", ha="center", va="center",
                  fontsize=8, color=colour)  # fmt: skip
    axes.set_yticks(range(len(table)), [_view_name(view, i) for i, view in enumerate(capture.views)], fontsize=9)
    axes.set_xticks(range(len(BODY_25)), BODY_25, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)


def _view_name(view: Keypoints2D, index: int) -> str:
    name = str(view.header.get("view") or index + 1)
    if any(ord(letter) > _LAST_LETTER for letter in name):
        name = f"view {index + 1}"
    return name if len(name) <= 16 else f"{name[:15]}\u2026"


def _plot_lengths(capture: Capture, figure: Any) -> None:
    lengths, fitted = limb_lengths(capture.keypoints.positions), fitted_lengths(capture.motion)
    panels = figure.subplots(1, len(LIMB_BONES))
    for i, (name, _, _) in enumerate(LIMBS):
        axes = panels[list(LIMB_BONES).index(name[:-2])]
        colour = _SIDES[name[-1]]
        axes.plot(capture.keypoints.times, lengths[:, i], lw=0.9, color=colour, label=_SIDE_NAMES[name[-1]])
        if name in fitted:
            axes.axhline(fitted[name], color=colour, lw=1.5, ls="--", alpha=0.7)
    for axes, name in zip(panels, LIMB_BONES, strict=True):
        shown = lengths[:, [i for i, limb in enumerate(LIMBS) if limb[0][:-2] == name]]
        middle = quantile(shown, 0.5) if np.isfinite(shown).any() else 0.3
        axes.set(title=name, xlabel="s", ylim=(middle - 0.15, middle + 0.15))
        axes.grid(visible=True, alpha=0.3)
        axes.tick_params(labelsize=8)
    panels[0].legend(fontsize=8, loc="lower left")


def _plot_confidence(capture: Capture, figure: Any) -> None:
    axes, times = figure.subplots(), capture.keypoints.times
    values = np.array(capture.keypoints.confidence[:, BODY], float).T
    axes.set_facecolor(_UNSEEN)
    picture = axes.imshow(
        np.where(values > 0, values, np.nan), aspect="auto", cmap="RdYlGn", vmin=0, vmax=1, interpolation="nearest",
        extent=(times[0], max(times[-1], times[0] + 1e-3), len(BODY_25) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(len(BODY_25)), BODY_25, fontsize=8)
    axes.set_xlabel("s")
    figure.colorbar(picture, ax=axes, label="confidence (grey: not seen)", fraction=0.03, pad=0.01)


def _plot_contacts(capture: Capture, figure: Any) -> None:
    axes, times = figure.subplots(), capture.motion.times
    for row, name in enumerate(CONTACT_NAMES):
        value = np.clip(capture.motion.contacts[:, row], 0, 1)
        colour = _SIDES[name[0].upper()]
        axes.fill_between(times, row - 0.4, row - 0.4 + 0.8 * value, step="mid", color=colour, lw=0)
    axes.set_yticks(range(len(CONTACT_NAMES)), CONTACT_NAMES, fontsize=9)
    axes.set(xlabel="s", ylim=(len(CONTACT_NAMES) - 0.5, -0.5), xlim=(times[0], max(times[-1], times[0] + 1e-3)))
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x", alpha=0.3)


def _plot_heights(capture: Capture, figure: Any) -> None:
    motion, panels = capture.motion, figure.subplots(1, 2, width_ratios=(1, 2))
    heads = forward(motion.rest, motion.parents, motion.rotations, motion.root)[..., :3, 3]
    up = np.asarray(motion.header.get("floor_from_frame", np.eye(4)))
    heights = heads @ up[2, :3] + up[2, 3]
    bones = list(motion.header["bones"])
    panels[0].plot(motion.times, heights[:, bones.index("hips")], color="black", lw=1.2)
    panels[0].set(title="hips", xlabel="s")
    for bone, name, style in (("foot", "ankle", "-"), ("toe", "ball of the foot", ":")):
        for side, colour in _SIDES.items():
            label = f"{_SIDE_NAMES[side]} {name}"
            panels[1].plot(
                motion.times, heights[:, bones.index(f"{bone}.{side}")], color=colour, ls=style, lw=1.3, label=label
            )
    panels[1].axhline(0, color="black", lw=0.8)
    panels[1].set(title="feet (the floor is at 0)", xlabel="s")
    low, high = panels[1].get_ylim()
    panels[1].set_ylim(low, high + 0.3 * (high - low))  # room for the legend
    panels[1].legend(ncols=2, fontsize=8, loc="upper left")
    for axes in panels:
        axes.grid(visible=True, alpha=0.3)
