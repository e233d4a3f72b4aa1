"""The page of frames: who is shown, what drove, and how well the one does what the other did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.page import heading, page, pictures, table
from ..protocol.files import atomic_write_text
from .job import ReenactJob

Array = np.ndarray
_AGREEMENT = {
    "pose": "Frames against wanted poses, by the network's own eyes (cosine)",
    "movement": "The same, movements about the clip's mean",
}


def write_report(job: ReenactJob, numbers: dict[str, Any], shown: Sequence[tuple[str, Array]]) -> None:
    """Write `report.json` and `report.html`; `shown` are captions and pictures (H, W, 3) uint8."""
    parts = [pictures(shown), heading("Numbers"), table(_rows(numbers))]
    text = page("Frames", parts, numbers["warnings"])
    atomic_write_text(job.folder / "report.html", text)
    atomic_write_text(job.folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False))
    job.artifact("report", "report.html")


def _rows(numbers: dict[str, Any]) -> list[tuple[str, object]]:
    frames, driver = numbers["frames"], numbers["driver"]
    rows: list[tuple[str, object]] = [
        ("Frames", f"{frames['count']}, {frames['first']} to {frames['last']}; {frames['made']} made in this run"),
        ("Size", f"{numbers['size_px']} px; the network makes {numbers['network_px']} px"),
        ("Steps of fitting to the person", numbers["iterations"]),
        ("Driver", f"{driver['fps']:g} frames a second; {driver['unseen']} without a face"),
        ("Poses", f"{numbers['mode']}, strength {numbers['strength']:g}, region {numbers['region']}"),
    ]
    rows += [(label, f"{numbers['agreement'][name]:g}") for name, label in _AGREEMENT.items()
             if name in numbers["agreement"]]  # fmt: skip
    if numbers["ms_a_frame"] is not None:
        rows.append(("Milliseconds a frame", f"{numbers['ms_a_frame']:g}"))
    return rows + [(f"Seconds: {stage}", f"{seconds:g}") for stage, seconds in numbers["seconds"].items()]
