"""The page of a body: what was measured, how well it fits what is seen, and how sure that is."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np

from ..core.artifacts import BodyParameters
from ..core.page import heading, page, pictures, table
from ..protocol.files import atomic_write_text
from .job import BodyJob

Array = np.ndarray
_PLOT = (900, 220)  # px
_LINES = ((0, 158, 115), (0, 114, 178))
_LEGEND = "Green: confidence. Blue: overlap with the mask. Both from 0 to 1."
_CAPTION = "The median frame: orange where the body is beyond the mask, blue where the mask is without body."


def write_report(
    job: BodyJob, numbers: dict[str, Any], parameters: BodyParameters, stills: list[tuple[str, Array]]
) -> None:
    """Write `report.json` and `report.html`; `stills` are pictures (H, W, 3) uint8 of overlays, by view."""
    shown = [(f"{name}. {_CAPTION}" if name else _CAPTION, still) for name, still in stills]
    parts = [pictures(shown), heading("Measures"), table(_measures(numbers["measures_m"]))]
    parts += [heading("Over time"), pictures([(_LEGEND, plot(parameters))])]
    parts += [heading("Numbers"), table(_rows(numbers)), heading("Shape"), table(list(numbers["shape"].items()))]
    atomic_write_text(job.folder / "report.html", page("A body", parts, numbers["warnings"]))
    atomic_write_text(job.folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False))
    job.artifact("report", "report.html")


def plot(parameters: BodyParameters) -> Array:
    """(H, W, 3) uint8: confidence and overlap from 0 to 1 over time."""
    width, height = _PLOT
    image = np.full((height, width, 3), 255, np.uint8)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = round((1 - share) * (height - 11)) + 5
        cv2.line(image, (0, y), (width, y), (225, 225, 225), 1)
    for colour, values in zip(_LINES, (parameters.confidence, parameters.silhouette_iou), strict=True):
        if values is None:
            continue
        x = np.linspace(0, width - 1, len(values))
        y = (1 - np.clip(values, 0, 1)) * (height - 11) + 5
        known = np.isfinite(y)
        for run in np.split(np.arange(len(y)), np.flatnonzero(np.diff(known.astype(int))) + 1):
            if known[run].all():
                line = np.round(np.stack([x[run], y[run]], 1)).astype(np.int32)
                cv2.polylines(image, [line], isClosed=False, color=colour, thickness=2, lineType=cv2.LINE_AA)
    return image


def _measures(measures: dict[str, float]) -> list[tuple[str, str]]:
    return [(name.capitalize(), f"{100 * value:.1f} cm") for name, value in measures.items()]


def _rows(numbers: dict[str, Any]) -> list[tuple[str, object]]:
    overlap, mesh = numbers["silhouette_iou"], numbers["mesh"]
    rows: list[tuple[str, object]] = [
        ("Frames", f"{numbers['frames']} at {numbers['fps']:g} a second; {numbers['unseen_frames']} of them unseen"),
        ("Confidence", f"{numbers['confidence']:.2f}"),
        ("Masks used", numbers["masks"]),
        ("Joints in space", "given" if numbers["joints_in_space"] else "none: depth is the network's"),
        ("Mesh", f"{mesh['vertices']} vertices, {mesh['faces']} faces, {mesh['bones']} bones, "
                 f"{mesh['expressions']} expressions, {mesh['shape_keys']} keys of its shape"),
    ]  # fmt: skip
    if overlap:
        text = f"{overlap['mean']:.3f} mean, {overlap['median']:.3f} median, {overlap['least']:.3f} least"
        rows.append(("Body against mask (intersection over union)", text))
    return rows + [(f"Seconds: {stage}", f"{seconds:g}") for stage, seconds in numbers["seconds"].items()]
