"""The page of a head: what was seen, what was made of it, and how sure that is."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..protocol.files import atomic_write_text

Array = np.ndarray
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%}table{border-collapse:collapse;width:100%}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}th{font-weight:600}h2{margin:1.8em 0 .4em;font-size:1.1em}
.warn{background:#fff3cd;padding:.5em 1em;border-left:4px solid #e0a800}.views{display:flex;flex-wrap:wrap;gap:1em}
figure{margin:0}figcaption{color:#666}"""
_TEXTURE_PX = 768
_FIT = {
    "psnr_first": "Photo against picture of the head, likely heads only (dB, pixels left out)",
    "psnr_second": "The same, after fitting everything (dB)",
    "steps": "Steps",
}


def write_report(folder: Path, numbers: dict[str, Any], pictures: Sequence[tuple[str, Array]], color: Array) -> None:
    """Write `report.json` and `report.html`, which needs nothing else.

    Args:
        pictures: captions and pictures (H, W, 3) uint8.
        color: the texture (H, W, 4) uint8.
    """
    atomic_write_text(folder / "report.html", page(numbers, pictures, color))
    atomic_write_text(folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False))


def page(numbers: dict[str, Any], pictures: Sequence[tuple[str, Array]], color: Array) -> str:
    """Give the whole page as HTML."""
    head = "<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Head</title>"
    parts = [f"<!doctype html><html lang='en'><head>{head}<style>{_STYLE}</style></head><body><h1>A head</h1>"]
    parts += [f"<p class='warn'>{html.escape(warning['text'])}</p>" for warning in numbers["warnings"]]
    parts.append("<div class='views'>" + "".join(_figure(*picture) for picture in pictures) + "</div>")
    parts.append("<h2>Photos</h2>" + _photos(numbers["photos"]))
    parts.append("<h2>Numbers</h2>" + _table(_rows(numbers)))
    small = np.asarray(Image.fromarray(color).convert("RGB").resize((_TEXTURE_PX, _TEXTURE_PX)))
    parts.append("<h2>Texture</h2>" + _figure("", small))
    return "\n".join([*parts, "</body></html>"])


def _rows(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("Quality", numbers["quality"]), ("Size against an average head", f"{numbers['scale']:.3f}")]
    rows += [(label, f"{numbers['fit'][name]:g}") for name, label in _FIT.items() if name in numbers["fit"]]
    surface, mesh = numbers["surface"], numbers["mesh"]
    rows.append(("Dense surface", f"{surface['vertices']} vertices, {surface['faces']} triangles"))
    rows.append(("Clean mesh", f"{mesh['vertices']} vertices, {mesh['faces']} faces, {mesh['shape_keys']} shape keys"))
    rows.append(("Texture", "{} x {} px".format(*numbers["texture_px"])))
    return rows + [(f"Seconds: {stage}", f"{seconds:g}") for stage, seconds in numbers["seconds"].items()]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{body}</table>"


def _photos(photos: Sequence[dict[str, Any]]) -> str:
    head = "".join(f"<th>{label}</th>" for label in ("Photo", "Used, px", "Turned", "Focal length", "Distance"))
    body = ""
    for photo in photos:
        noted = "" if photo["focal_px"] is None else f" (noted: {photo['focal_px']:g})"
        cells = [photo["name"], "{} x {}".format(*photo["size_px"]), f"{photo['turned_deg']:g} degrees"]
        cells += [f"{photo['fitted_focal_px']:g} px{noted}", f"{photo['distance_m']:g} m"]
        body += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _figure(caption: str, image: Array) -> str:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    data, text = base64.b64encode(stream.getvalue()).decode(), html.escape(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"
