"""The report of one capture: `report.json`, and a page that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..core.artifacts import Keypoints2D
from ..protocol.files import atomic_write_text
from .plots import DELAYS, draw_delays, draw_plots
from .summary import Capture, summary
from .sync import Offsets

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%}table{border-collapse:collapse;width:100%}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}th{font-weight:600;white-space:nowrap}h2{margin:1.8em 0 .4em;font-size:1.1em}
.warn{background:#fff3cd;padding:.5em 1em;border-left:4px solid #e0a800}.note{color:#666;margin:.2em 0}
figure{display:inline-block;margin:0 8px 0 0}figure img{max-height:420px;width:auto}figcaption{color:#666}
.wide{overflow-x:auto}"""
_FRAMES = {"world": "in the calibration's world", "camera": "in the camera's frame"}
_NOTES = {
    DELAYS: "Motion: share of joints whose rays meet, or correlation of vertical "
    "speeds where no calibration is known; sound: correlation of onsets. The line stands where a closer look found the "
    "second clip to start after the first one; the dotted grey one is what explains them next best.",
    "Reprojection error by camera and joint, px": "How far the keypoints in space, seen by each camera, are from what "
    "that camera saw; means over all frames, nothing cut off. Grey: never seen.",
    "Share of frames in which a view was used, %": "Of all frames, for each joint: the rest was not seen, or "
    "disagreed with the other views.",
    "Expected error by joint over time, mm": "68 % of the true errors are expected to be smaller.",
    "Limb lengths, m: measured (lines) and after the fit (dashed)": "Bones do not stretch: what the lines wander is "
    "the error of the measurement. All panels span 30 cm.",
}


def write_report(folder: Path, capture: Capture, *, pictures: Sequence[Path] = ()) -> dict[str, Any]:
    """Write `report.html` and, last of all, `report.json` into `folder`; `pictures` top the page."""
    numbers = summary(capture)
    text = json.dumps(numbers, indent=1, allow_nan=False)
    atomic_write_text(folder / "report.html", _page(numbers, draw_plots(capture), pictures))
    atomic_write_text(folder / "report.json", text)
    return numbers


def write_sync_report(folder: Path, offsets: Offsets, views: Sequence[Keypoints2D]) -> dict[str, Any]:
    """Write `report.html` and `report.json` of when clips started, and of nothing else."""
    numbers = offsets.summary()
    rows = [
        (str(one["view"]), f"{one['seconds']:+.4f} s, rate {one['rate']:.6f}, give or take {one['error_s'] or 0:.4f} s")
        for one in numbers["views"]
    ]
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Understudy: sync</title>"
    page = [f"<!doctype html><html lang='en'><head>{head}<style>{_STYLE}</style></head><body>"]
    page += ["<h1>Understudy: when each clip started</h1>", f"<p>{html.escape(numbers['said'])}</p>", _table(rows)]
    if len(offsets.curves):
        page.append(f"<h2>{DELAYS}</h2><p class='note'>{html.escape(_NOTES[DELAYS])}</p>{draw_delays(offsets, views)}")
    atomic_write_text(folder / "report.html", "\n".join([*page, "</body></html>"]))
    atomic_write_text(folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False))
    return numbers


def _page(numbers: dict[str, Any], plots: Sequence[tuple[str, str]], pictures: Sequence[Path]) -> str:
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Understudy report</title>"
    parts = [f"<!doctype html><html lang='en'><head>{head}<style>{_STYLE}</style></head><body>"]
    parts.append("<h1>Understudy: what this capture is worth</h1>")
    parts += [f"<p class='warn'>{html.escape(warning['text'])}</p>" for warning in numbers["warnings"]]
    parts.append("".join(_figure(path) for path in pictures))
    parts += [_table(_overview(numbers))]
    parts += ["<h2>People</h2>", _people_table(numbers["people"])] if numbers.get("people") else []
    parts += ["<h2>Views</h2>", _view_table(numbers["views"])] if numbers["views"] else []
    parts += ["<h2>The calibration</h2>", _finding_table(numbers["findings"])] if numbers.get("findings") else []
    for title, plot in plots:
        note = f"<p class='note'>{html.escape(_NOTES[title])}</p>" if title in _NOTES else ""
        parts.append(f"<h2>{html.escape(title)}</h2>{note}{plot}")
    return "\n".join([*parts, "</body></html>"])


def _figure(path: Path) -> str:
    data, name = base64.b64encode(path.read_bytes()).decode(), html.escape(path.stem, quote=True)
    return f"<figure><img alt='{name}' src='data:image/png;base64,{data}'><figcaption>{name}</figcaption></figure>"


def _overview(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    slide, sunk = numbers["feet"]["slide_m_s"], numbers["feet"]["penetration_mm"]
    confidence = ", ".join(f"{name} {_percent(value)}" for name, value in numbers["confidence"].items())
    contacts = ", ".join(f"{name} {_percent(value)}" for name, value in numbers["contacts"].items())
    spent = ", ".join(f"{name} {value:.3g}" for name, value in numbers["ms_per_frame"].items())
    return [
        ("Clip", f"{numbers['frames']} frames at {numbers['fps']:g} fps, {_FRAMES[numbers['frame']]}"),
        *([("In step", numbers["sync"]["said"])] if numbers.get("sync") else []),
        ("Person", "-" if numbers["height_m"] is None else f"{numbers['height_m']:.2f} m tall as measured"),
        ("Reprojection error", f"{_triple(numbers['reprojection_px'])} (mean / median / 95 % below)"),
        *([("Cameras were moved by", _moves(numbers["cameras_moved"]))] if numbers.get("cameras_moved") else []),
        ("Limb lengths wander by", f"{_with_unit(numbers['limb_length_std_mm'], 'mm')} (std, before the fit)"),
        ("Jitter", f"{_pair(numbers['jitter_mm'].values(), 'mm')}, second differences (raw / smoothed)"),
        ("Feet slide in contact", f"{_pair((1000 * v if v is not None else None for v in slide.values()), 'mm/s')}"
         " (raw / smoothed)"),
        ("Feet below the floor", f"{_pair(sunk.values(), 'mm')} (mean / deepest)"),
        ("On the floor", contacts + " of frames"),
        ("Confidence", confidence),
        ("Time", f"{spent} ms a frame" if spent else "all stages taken from an earlier run"),
    ]  # fmt: skip


def _moves(cameras: Sequence[dict[str, Any]]) -> str:
    """How far the clip has moved each camera from its calibration."""
    far = [f"{c['name']} {c['turned_deg']:.2f}\N{DEGREE SIGN}, {c['moved_mm']:.0f} mm" for c in cameras]
    seen = [f" ({c['moved_px']:.1f} px at the person)" if c["moved_px"] is not None else "" for c in cameras]
    return "; ".join(one + more for one, more in zip(far, seen, strict=True))


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{body}</table>"


def _view_table(views: Sequence[dict[str, Any]]) -> str:
    titles = ("View", "Person", "Hands L / R", "Face", "Sides put right", "Reprojection, mean / median / 95 %",
              "Constant offset from the others")  # fmt: skip
    rows = [[html.escape(cell) for cell in _view_row(view, number + 1)] for number, view in enumerate(views)]
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><tr><th>{'</th><th>'.join(titles)}</th></tr>{cells}</table></div>"


def _people_table(people: Sequence[dict[str, Any]]) -> str:
    """Everybody in a row; the rest of the page is about the first one."""
    titles = (
        "Person",
        "There from - to, s",
        "Seen by",
        "Height",
        "Reprojection, mean / median / 95 %",
        "Limbs wander by",
    )
    rows = []
    for one in people:
        seen = ", ".join(f"{v['view']} {_percent(v['frames_with_person'])}" for v in one["views"])
        height = "-" if one["height_m"] is None else f"{one['height_m']:.2f} m"
        there = " - ".join(f"{second:.1f}" for second in one["seconds"])
        wander = _with_unit(one["limb_length_std_mm"], "mm")
        rows.append([str(one["person"]), there, seen, height, _triple(one["reprojection_px"]), wander])
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='wide'><table><tr><th>{'</th><th>'.join(titles)}</th></tr>{cells}</table></div>"


def _finding_table(findings: Sequence[dict[str, str]]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(found['camera'] or 'all')}</th><td>{html.escape(found['severity'])}</td>"
        f"<td>{html.escape(found['text'])}</td><td>{html.escape(found['change'])}</td></tr>"
        for found in findings
    )
    titles = ("Camera", "", "What is wrong", "What would put it right")
    return f"<div class='wide'><table><tr><th>{'</th><th>'.join(titles)}</th></tr>{rows}</table></div>"


def _view_row(view: dict[str, Any], number: int) -> list[str]:
    swapped, offset = view["sides_exchanged_back"], view["offset_from_others_px"]
    apart = "-"
    if offset is not None and None not in offset:
        apart = f"({offset[0]:+.1f}, {offset[1]:+.1f}) px, scatter {view['scatter_px']:.1f}"
    return [
        str(view["view"] or number),
        _percent(view["frames_with_person"]),
        f"{_percent(view['frames_with_left_hand'])} / {_percent(view['frames_with_right_hand'])}",
        _percent(view["frames_with_face"]),
        "-" if swapped is None else f"{swapped} frames",
        _triple(view["reprojection_px"]),
        apart,
    ]


def _pair(values: Iterable[float | None], unit: str) -> str:
    return " / ".join("-" if value is None else f"{value:.1f}" for value in values) + f" {unit}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"


def _triple(values: dict[str, float | None]) -> str:
    return " / ".join("-" if values[k] is None else f"{values[k]:.1f}" for k in ("mean", "median", "p95")) + " px"
