"""Feet on the floor before and after they were held: numbers for a report, and a plot as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ..charts import tick
from ..rig import RigMotion
from .feet import Foot, FootMeasures, steps_of, summary
from .planting import runs

Array = np.ndarray
_SIDES = {"L": "left", "R": "right"}
_HEEL, _BALL, _OLD = "#c2410c", "#1d4ed8", 0.55  # colours, and how faint lines before are
_LEFT, _WIDTH, _TOP, _HEIGHT, _GAP, _BAR = 62, 880, 66, 120, 46, 9  # px


def report(before: FootMeasures, after: FootMeasures) -> dict[str, object]:
    """Slide and penetration as numbers: means, 95th percentiles and maxima; `knee` 1 is a straight leg."""
    return {"before": _numbers(before), "after": _numbers(after)}


def _numbers(measures: FootMeasures) -> dict[str, object]:
    feet = {
        _SIDES[foot.side]: {
            "slide_mm_per_frame": _three(summary(foot.slide)),
            "penetration_mm": _three(summary(foot.depth)),
            "contact_frames": len(foot.slide),
            "knee": round(foot.knee, 4),
        }
        for foot in measures.feet
    }
    whole = {
        "slide_mm_per_frame": _three(measures.slide_mm),
        "penetration_mm": _three(measures.depth_mm),
        "knee": round(measures.knee, 4),
    }
    return {**whole, **feet}


def _three(values: tuple[float, float, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in zip(("mean", "p95", "max"), values, strict=True)}


@dataclass(frozen=True)
class _Track:
    """Heights (T, 2) of heel and ball, mm above the floor, and their speeds (T, 2) across it, mm a frame."""

    heights: Array
    speeds: Array


def _track(motion: RigMotion, foot: Foot) -> _Track:
    steps = steps_of(motion.rig, foot, motion.turns, motion.heads)
    points = 1e3 * np.stack([steps.heel(foot.sole), steps.ball(foot.sole)], axis=1)
    speed = np.linalg.norm(np.diff(points[..., :2], axis=0, prepend=points[:1, :, :2]), axis=-1)
    return _Track(points[..., 2] - 1e3 * foot.sole.ground, speed)


def plot_svg(before: RigMotion, after: RigMotion, feet: Sequence[Foot], contacts: Array, *, title: str = "") -> str:
    """Draw heights and speeds of heels and balls over time, faint before and strong after; bars where they stand.

    One panel of heights and one of speeds for each foot; a picture of its own, without scripts or fonts.
    """
    times = np.asarray(after.times, float) - float(after.times[0])
    panels: list[str] = []
    top = _TOP
    for foot in feet:
        old, new = _track(before, foot), _track(after, foot)
        standing = np.asarray(contacts)[:, foot.columns] > 0.5
        name = f"{_SIDES[foot.side]} foot"
        for label, a, b in (
            (f"{name}: height above the floor, mm", old.heights, new.heights),
            (f"{name}: speed across the floor, mm a frame", old.speeds, new.speeds),
        ):
            panels.append(_panel(top, label, times, (a, b), standing))
            top += _HEIGHT + 2 * _BAR + _GAP
    head = escape(title or "Heels and balls of the feet")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {top}" '
            f'width="{_LEFT + _WIDTH + 20}" height="{top}" font-family="sans-serif" font-size="12" fill="#222">',
            f'<rect width="100%" height="100%" fill="white"/><text x="{_LEFT}" y="18" font-size="14">{head}</text>',
            _legend(),
            *panels,
            "</svg>",
        ]
    )


def _legend() -> str:
    out, x = [], _LEFT
    for name, colour, faint in (
        ("heel before", _HEEL, True), ("heel after", _HEEL, False), ("ball before", _BALL, True),
        ("ball after", _BALL, False),
    ):  # fmt: skip
        out.append(f'<path d="M{x} 32h24" {_stroke(colour, faint=faint)}/><text x="{x + 30}" y="36">{name}</text>')
        x += 130
    out.append(
        f'<rect x="{x}" y="28" width="24" height="{_BAR - 2}" fill="#666"/><text x="{x + 30}" y="36">stands</text>'
    )
    return "".join(out)


def _stroke(colour: str, *, faint: bool) -> str:
    dash = ' stroke-dasharray="4 2"' if faint else ""
    return f'fill="none" stroke="{colour}" stroke-width="1.4" stroke-opacity="{_OLD if faint else 1}"{dash}'


def _panel(top: float, label: str, times: Array, values: tuple[Array, Array], standing: Array) -> str:
    """One panel: (T, 2) values of heel and ball before and after, and bars where (T, 2) they stand."""
    low, high, step = _scale(np.concatenate(values))
    last = float(times[-1]) or 1.0
    x = _LEFT + _WIDTH * times / last
    out = [f'<text x="{_LEFT}" y="{top - 6:.0f}">{escape(label)}</text>']
    for value in np.arange(low, high + step / 2, step):
        y = top + _HEIGHT * (high - value) / (high - low)
        strong = "#888" if abs(value) < 1e-9 else "#ddd"
        out.append(f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="{strong}"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for data, faint in ((values[0], True), (values[1], False)):
        for i, colour in enumerate((_HEEL, _BALL)):
            y = top + _HEIGHT * (high - data[:, i]) / (high - low)
            line = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
            out.append(f'<path d="M{line}" {_stroke(colour, faint=faint)}/>')
    for i, colour in enumerate((_HEEL, _BALL)):
        y, half = top + _HEIGHT + 2 + i * _BAR, _WIDTH / max(len(times) - 1, 1) / 2
        for start, end in runs(standing[:, i]):
            a, b = max(x[start] - half, _LEFT), min(x[end - 1] + half, _LEFT + _WIDTH)
            out.append(f'<rect x="{a:.1f}" y="{y}" width="{b - a:.1f}" height="{_BAR - 2}" fill="{colour}"/>')
    out += [
        f'<text x="{_LEFT + _WIDTH * second / last:.1f}" y="{top + _HEIGHT + 2 * _BAR + 14}" text-anchor="middle" '
        f'fill="#666">{second:g} s</text>'
        for second in np.arange(0.0, last + 1e-9, tick(last, 10))
    ]
    return "\n".join(out)


def _scale(values: Array) -> tuple[float, float, float]:
    """Lowest and highest value of an axis, and the step between its lines."""
    low, high = min(0.0, float(values.min())), max(float(values.max()), 1.0)
    step = tick(high - low, 5)
    return step * np.floor(low / step + 1e-9), step * np.ceil(high / step - 1e-9), step
