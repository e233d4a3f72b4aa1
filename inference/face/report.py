"""The page of a captured face: what moved, how smoothly, and what was not seen."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import FaceTrack
from ..core.page import heading, page, table
from ..core.rotations import rotvec_from_quaternion
from ..protocol.files import atomic_write_text

Array = np.ndarray
_SHOWN = 8  # curves in a plot
_MOVES = 0.05  # standard deviation of a weight that moves


def numbers_of(track: FaceTrack, seconds: dict[str, float], warnings: list[dict[str, str]]) -> dict[str, Any]:
    """What there is to say about a track, in numbers."""
    seen = track.confidence > 0
    spread, shapes = track.weights.std(0), track.header["shapes"]
    order = np.argsort(-spread)
    numbers: dict[str, Any] = {
        "frames": len(seen), "fps": round(track.fps, 3), "seen": int(seen.sum()),
        "confidence": round(float(track.confidence[seen].mean()), 3) if seen.any() else 0.0,
        "misfit": track.header.get("misfit"),
        "moving": [str(shapes[k]) for k in order if spread[k] > _MOVES],
        "head_turned_deg": [round(float(x), 1) for x in np.degrees(np.ptp(rotvec_from_quaternion(track.rotations), 0))],
    }  # fmt: skip
    if track.weights_raw is not None and len(seen) > 2:
        rough, soft = (float(np.abs(np.diff(w, 2, axis=0)).mean()) for w in (track.weights_raw, track.weights))
        numbers["jitter_kept"] = round(soft / rough, 3) if rough else None
    return {**numbers, "warnings": warnings, "seconds": {name: round(value, 3) for name, value in seconds.items()}}


def write_report(folder: Path, numbers: dict[str, Any], track: FaceTrack) -> None:
    """Write `report.json` and `report.html`, which needs nothing else."""
    rows = [
        ("Frames", f"{numbers['frames']} at {numbers['fps']:g} a second"),
        ("Frames that show the face", numbers["seen"]),
        ("Shapes that move", f"{len(numbers['moving'])} of {len(track.header['shapes'])}"),
        ("Head turned, degrees (up-down, tilt, left-right)", ", ".join(map(str, numbers["head_turned_deg"]))),
    ]
    if numbers["misfit"] is not None:
        rows.append(("Errors of the points against what is usual", f"{numbers['misfit']:.2f}"))
    if numbers.get("jitter_kept") is not None:
        rows.append(("Jitter that is left of each frame's by itself", f"{100 * numbers['jitter_kept']:.0f} %"))
    rows += [(f"Seconds, {name}", value) for name, value in numbers["seconds"].items()]
    means = [(name, f"{a:.2f}", f"{b:.2f}") for name, a, b in _strongest(track)]
    parts = [
        _figure("What moves most", _curves(track)), heading("Numbers"), table(rows), heading("Shapes"),
        table(means, ("Shape", "mean", "largest")),
    ]  # fmt: skip
    atomic_write_text(folder / "report.html", page("A face", parts, numbers["warnings"]))
    atomic_write_text(folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False))


def _strongest(track: FaceTrack) -> list[tuple[str, float, float]]:
    order = np.argsort(-track.weights.max(0))
    means, most = track.weights.mean(0), track.weights.max(0)
    return [(str(track.header["shapes"][k]), float(means[k]), float(most[k])) for k in order if most[k] > _MOVES]


def _figure(title: str, data: bytes) -> str:
    text = html.escape(title)
    return f"{heading(title)}<img alt='{text}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"


def _curves(track: FaceTrack) -> bytes:
    """PNG of the weights that move most, dotted as each frame by itself, and grey where no face was seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.argsort(-track.weights.std(0))[:_SHOWN]
    figure = Figure(figsize=(10, 1.1 * len(order)), dpi=90)
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(order), 1, sharex=True, squeeze=False)[:, 0]
    for axis, shape in zip(axes, order, strict=True):
        if track.weights_raw is not None:
            axis.plot(track.times, track.weights_raw[:, shape], ":", color="#e6550d", linewidth=0.8)
        axis.plot(track.times, track.weights[:, shape], color="#1f77b4")
        axis.fill_between(track.times, 0, 1, where=track.confidence == 0, color="#d0d0d0", step="mid")
        axis.set_ylim(0, 1)
        axis.set_ylabel(str(track.header["shapes"][shape]), rotation=0, ha="right", va="center", fontsize=8)
    axes[-1].set_xlabel("s")
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
