"""What a comparison of trainee and trainer says: tables, advice, a page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..core.artifacts import Coaching
from ..core.page import heading, page, pictures, table
from ..protocol.files import atomic_write_text
from .joint_angles import JOINTS, Joint

Array = np.ndarray
_MOST, _SELDOM = 0.95, 2.0  # of the frames of what is good, that differ by at most so many tolerances
_MAINLY = 0.7  # of a difference, that one angle has to tell


def pace(found: Coaching, fps: float, trainer_fps: float) -> float:
    """How many times as fast as the trainer the trainee goes, on average."""
    seconds = (found.match[-1] - found.match[0]) / trainer_fps
    own = (len(found.match) - 1) / fps
    return float(seconds / own) if own else 1.0


def summary(found: Coaching) -> list[dict[str, Any]]:
    """A row for each joint, the worst first."""
    sure = found.confidence > 0
    kept = sure if sure.any() else np.ones_like(sure)
    rows = []
    for column, joint in enumerate(JOINTS):
        difference = found.difference[kept, column]
        worst = int(np.argmax(difference))
        signed = (found.angles - found.goal)[kept, column]
        rows.append({
            "joint": joint.name, "mean_deg": round(float(difference.mean()), 1),
            "worst_deg": round(float(difference.max()), 1),
            "worst_at_s": round(float(found.times[kept][worst]), 2),
            "beyond": round(float((difference > found.header["tolerance_deg"]).mean()), 3),
            "advice": _advice(joint, signed, difference, found.times[kept], found.header["tolerance_deg"]),
        })  # fmt: skip
    return sorted(rows, key=lambda row: -row["mean_deg"])


def _advice(joint: Joint, signed: Array, difference: Array, times: Array, tolerance: float) -> str:
    """What to do, in words, about what is there all the time, or at its worst; signed (T,), difference (T,) degrees."""
    words = {"hinge": ("bend less", "bend more"), "limb": ("lower it", "raise it"), "turn": ("turn less", "turn more")}
    mean = float(signed.mean())
    if abs(mean) > tolerance:
        return f"{words[joint.kind][0 if mean > 0 else 1]} by {abs(mean):.0f} degrees"
    if difference.mean() <= tolerance and np.quantile(difference, _MOST) <= _SELDOM * tolerance:
        return "good"
    worst = int(np.argmax(difference))
    most, at = float(signed[worst]), f"at {times[worst]:.1f} s"
    if abs(most) > max(tolerance, _MAINLY * difference[worst]):
        return f"{words[joint.kind][0 if most > 0 else 1]} by {abs(most):.0f} degrees {at}"
    verb = {"hinge": "bend", "limb": "point", "turn": "turn"}[joint.kind]
    return f"{verb} it as the trainer does: {difference[worst]:.0f} degrees off {at}"


def as_csv(found: Coaching) -> str:
    """The whole table: a row a frame, and for each joint the trainee's angle, the trainer's and the difference."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = found.header["joints"]
    columns = [f"{name} {word}" for name in names for word in ("trainee_deg", "trainer_deg", "difference_deg")]
    writer.writerow(["frame", "time_s", "trainer_frame", *columns])
    for row in range(len(found.times)):
        triples = zip(found.angles[row], found.goal[row], found.difference[row], strict=True)
        cells = [f"{value:.2f}" for triple in triples for value in triple]
        writer.writerow([row, f"{found.times[row]:.4f}", f"{found.match[row]:.2f}", *cells])
    return text.getvalue()


def write_report(folder: Path, numbers: dict[str, Any], found: Coaching) -> None:
    """Write `report.json`, `report.html` and `coaching.csv`."""
    atomic_write_text(folder / "coaching.csv", as_csv(found))
    head = ("Joint", "Mean", "Worst", "At", "Beyond tolerance", "What to do")
    rows = [(row["joint"], f"{row['mean_deg']:g}", f"{row['worst_deg']:g}", f"{row['worst_at_s']:g} s",
             f"{100 * row['beyond']:.0f} %", row["advice"]) for row in numbers["joints"]]  # fmt: skip
    pace_text = f"The trainee goes {numbers['pace']:g} times as fast as the trainer; mean difference"
    parts = [
        f"<p>{pace_text} {numbers['mean_deg']:g} degrees.</p>", table(rows, head), heading("Over time"),
        pictures([(f"A row for each joint: {', '.join(found.header['joints'])}; yellow from "
                   f"{found.header['tolerance_deg']:g}, dark from {found.header['worst_deg']:g} degrees.",
                   heat(found))]),
    ]  # fmt: skip
    atomic_write_text(folder / "report.html", page("Trainee and trainer", parts))
    atomic_write_text(folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False))


def heat(found: Coaching, width: int = 900, row_px: int = 22) -> Array:
    """(H, W, 3) uint8: differences over time, a row for each joint."""
    low, high = found.header["tolerance_deg"], found.header["worst_deg"]
    share = np.clip((found.difference.T - low) / (high - low), 0.0, 1.0)
    size = (width, row_px * len(share))
    return cv2.resize(shade(share), size, interpolation=cv2.INTER_NEAREST)


def shade(share: Array) -> Array:
    """(..., 3) uint8 of values in [0, 1]: pale, yellow, red, dark (ColorBrewer YlOrRd), told apart in grey, too."""
    stops = np.array([[255, 255, 229], [254, 217, 118], [252, 78, 42], [128, 0, 38]], float)
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(share, places, stops[:, k]) for k in range(3)], -1).round().astype(np.uint8)
