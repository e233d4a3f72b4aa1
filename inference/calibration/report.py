"""The page of a calibration: where the cameras stand, what each is off by, before and after."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.artifacts import Keypoints3D
from ..core.cameras import CameraSet
from ..core.skeletons import BODY_25

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%}table{border-collapse:collapse;width:100%}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}th{font-weight:600}h2{margin:1.8em 0 .4em;font-size:1.1em}
.warn{background:#fff3cd;padding:.5em 1em;border-left:4px solid #e0a800}.error{border-color:#c0392b;background:#fdecea}
.note{color:#666}.wide{overflow-x:auto}"""
_TITLES = {"people": "Cameras, found from the people in their clips", "board": "Cameras, found from a board",
           "refine": "A calibration, refined on the people in the clips", "check": "A calibration, checked",
           "convert": "A calibration, written anew"}  # fmt: skip
_COLUMNS = (
    ("reprojection_before_px", "Reprojection before, px"), ("reprojection_px", "Reprojection, px"),
    ("reprojection_median_px", "median, px"), ("reprojection_p95_px", "95 %, px"), ("moved_m", "Moved, m"),
    ("turned_deg", "Turned, degrees"), ("focal_px", "Focal length, px"), ("place_within_m", "Place known within, m"),
    ("clock_ms", "Clip ahead, ms"), ("coverage", "Picture covered"), ("frames", "Frames with the board"),
)  # fmt: skip
_BEFORE, _AFTER = "#b0b0b0", "#1f77b4"


def page(numbers: dict[str, Any], cameras: CameraSet, before: CameraSet | None, keypoints: Keypoints3D | None) -> str:
    """Give the whole page as HTML that needs nothing else."""
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Calibration</title>"
    parts = [f"<!doctype html><html lang='en'><head>{head}<style>{_STYLE}</style></head><body>"]
    parts.append(f"<h1>{html.escape(_TITLES.get(numbers['method'], 'Calibration'))}</h1>")
    parts += [f"<p class='warn'>{html.escape(warning['text'])}</p>" for warning in numbers["warnings"]]
    parts.append(_overview(numbers))
    parts.append("<h2>Cameras</h2>" + _table(numbers["cameras"]))
    parts += [_findings(numbers["findings"])] if numbers["findings"] else []
    for title, picture in _plots(numbers, cameras, before, keypoints):
        alt = html.escape(title, quote=True)
        parts.append(f"<h2>{html.escape(title)}</h2><img alt='{alt}' src='data:image/png;base64,{picture}'>")
    return "\n".join([*parts, "</body></html>"])


def _overview(numbers: dict[str, Any]) -> str:
    names = {"scale": "Size", "frames": "Frames used", "height_m": "Person, m", "reprojection_before_px": "Mean "
             "reprojection before, px", "reprojection_px": "Mean reprojection, nothing cut off, px",
             "limb_std_before_mm": "Limb lengths wander before, mm", "limb_std_mm": "Limb lengths wander, mm",
             "seconds": "Seconds"}  # fmt: skip
    rows = [(label, numbers[key]) for key, label in names.items() if numbers.get(key) is not None]
    return "<table>" + "".join(f"<tr><th>{a}</th><td>{html.escape(str(b))}</td></tr>" for a, b in rows) + "</table>"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    shown = [(key, label) for key, label in _COLUMNS if any(row.get(key) is not None for row in rows)]
    head = "".join(f"<th>{label}</th>" for _, label in shown)
    body = ""
    for row in rows:
        cells = "".join(f"<td>{'-' if row.get(key) is None else row[key]}</td>" for key, _ in shown)
        body += f"<tr><td>{html.escape(row['name'])}</td>{cells}</tr>"
    return f"<div class='wide'><table><tr><th>Camera</th>{head}</tr>{body}</table></div>"


def _findings(findings: Sequence[dict[str, str]]) -> str:
    rows = "".join(
        f"<p class='warn {html.escape(f['severity'])}'>{html.escape(f['text'])} <i>{html.escape(f['change'])}</i></p>"
        for f in findings
    )
    return f"<h2>Findings</h2>{rows}"


def _plots(
    numbers: dict[str, Any], cameras: CameraSet, before: CameraSet | None, keypoints: Keypoints3D | None
) -> list[tuple[str, str]]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    out = []
    figure = plt.figure(figsize=(9.6, 7.0), layout="constrained")
    _from_above(figure.subplots(), cameras, before, keypoints)
    out.append(("The rig from above, m", _png(figure)))
    plt.close(figure)
    if any(row.get("reprojection_px") is not None for row in numbers["cameras"]):
        figure = plt.figure(figsize=(9.6, 2.8), layout="constrained")
        _bars(figure.subplots(), numbers["cameras"])
        out.append(("Mean reprojection error of each camera, nothing cut off, px", _png(figure)))
        plt.close(figure)
    return out


def _from_above(axes: Any, cameras: CameraSet, before: CameraSet | None, keypoints: Keypoints3D | None) -> None:
    """Draw places and directions of cameras, and the path of the person's hips."""
    centres = np.stack([camera.centre for camera in cameras])
    size = max(float(np.ptp(centres[:, :2], axis=0).max()), 0.5)
    for rig, colour, label in ((before, _BEFORE, "before"), (cameras, _AFTER, "now")):
        for index, camera in enumerate(rig or ()):
            ahead, place = 0.15 * size * camera.rotation[2], camera.centre
            axes.plot(*np.stack([place, place + ahead])[:, :2].T, color=colour, lw=2)
            axes.plot(*place[:2], "o", color=colour, label=label if index == 0 and before is not None else None)
            if colour == _AFTER:
                text = f"{camera.name}, {place[2]:.2f} m up"
                axes.annotate(text, place[:2], textcoords="offset points", xytext=(6, 6), fontsize=9)
    if keypoints is not None:
        hips = keypoints.positions[:, [BODY_25.index("LHip"), BODY_25.index("RHip")], :2].mean(1)
        axes.plot(*hips.T, color="#e6550d", lw=1.5, label="the person's hips")
    if before is not None or keypoints is not None:
        axes.legend(fontsize=9)
    axes.set(aspect="equal", xlabel="x", ylabel="y")
    axes.margins(0.2)
    axes.grid(visible=True, alpha=0.3)


def _bars(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    index = np.arange(len(rows))
    kinds = [("reprojection_before_px", _BEFORE, "before"), ("reprojection_px", _AFTER, "now")]
    kinds = [kind for kind in kinds if any(row.get(kind[0]) is not None for row in rows)]
    for number, (key, colour, label) in enumerate(kinds):
        values = [row.get(key) or 0.0 for row in rows]
        bars = axes.bar(index + (number - 0.5 * (len(kinds) - 1)) * 0.4, values, 0.38, color=colour, label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks(index, [row["name"] for row in rows], fontsize=9)
    axes.legend(fontsize=8)


def _png(figure: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return base64.b64encode(stream.getvalue()).decode()
