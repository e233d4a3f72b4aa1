"""Numbers and plots about one capture: `report.json` and a page that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import BodyMotion, Keypoints2D, Keypoints3D, atomic_write
from ..core.cameras import Camera, project
from ..core.kinematics import forward
from ..core.skeletons import BODY, BODY_25, FACE, LEFT_HAND, LIMBS, RIGHT_HAND

Array = np.ndarray
CONTACT_NAMES = ("left heel", "left toe", "right heel", "right toe")


@dataclass
class Capture:
    """All that one motion job made, for reporting."""

    views: Sequence[Keypoints2D]
    cameras: Sequence[Camera]
    keypoints: Keypoints3D
    motion: BodyMotion
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[dict[str, str]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def reprojection_errors(capture: Capture) -> Array:
    """(N, T, J) pixels between what each view saw and the 3D keypoints, before any truncation; NaN where unseen."""
    if capture.keypoints.error_px is not None:
        return np.asarray(capture.keypoints.error_px, float)
    rows = []
    for view, camera in zip(capture.views, capture.cameras, strict=True):
        difference = project(camera, capture.keypoints.positions) - view.positions
        rows.append(np.linalg.norm(difference, axis=-1))
    return np.stack(rows)


def limb_lengths(positions: Array) -> Array:
    """(T, 8) metres: the lengths of `skeletons.LIMBS` over time."""
    return np.stack([np.linalg.norm(positions[:, a] - positions[:, b], axis=-1) for _, a, b in LIMBS], axis=-1)


def summary(capture: Capture) -> dict[str, Any]:
    """Everything in `report.json`, JSON-ready; quantities that do not exist are null."""
    errors = reprojection_errors(capture)[..., BODY]
    lengths = limb_lengths(capture.keypoints.positions)
    motion = capture.motion
    return {
        "frames": len(motion.root),
        "fps": motion.fps,
        "frame": motion.header["frame"],
        "views": [_view_summary(view, errors[i]) for i, view in enumerate(capture.views)],
        "reprojection_px": {
            **_distribution(errors),
            "by_joint": {name: _number(_mean(errors[..., j])) for j, name in enumerate(BODY_25)},
        },
        "limb_length_m": {
            name: {"mean": _number(_mean(lengths[:, i])), "std": _number(_std(lengths[:, i]))}
            for i, (name, _, _) in enumerate(LIMBS)
        },
        "limb_length_std_mm": _number(1000 * _mean(np.array([_std(lengths[:, i]) for i in range(len(LIMBS))]))),
        "confidence": {
            name: _number(_mean(capture.keypoints.confidence[:, block]))
            for name, block in (("body", BODY), ("face", FACE), ("left hand", LEFT_HAND), ("right hand", RIGHT_HAND))
        },
        "contacts": {name: _number(np.mean(motion.contacts[:, i] > 0.5)) for i, name in enumerate(CONTACT_NAMES)},
        "jitter_mm": {
            "raw": _number(_jitter(motion, raw=True)),
            "smoothed": _number(_jitter(motion, raw=False)),
        },
        "diagnostics": capture.keypoints.header.get("diagnostics"),
        "fit": motion.header.get("diagnostics"),
        "seconds": {name: round(value, 3) for name, value in capture.seconds.items()},
        "ms_per_frame": {
            name: round(1000 * value / max(len(motion.root), 1), 2) for name, value in capture.seconds.items()
        },
        "warnings": capture.warnings,
        **capture.facts,
    }


def write_report(folder: Path, capture: Capture, *, pictures: Sequence[Path] = ()) -> dict[str, Any]:
    """Write `report.json` and `report.html` into `folder`; `pictures` are shown at the top of the page."""
    numbers = summary(capture)
    text = json.dumps(numbers, indent=1, allow_nan=False)
    atomic_write(folder / "report.json", lambda stream: stream.write(text.encode()) and None)
    page = _page(numbers, _plots(capture), pictures)
    atomic_write(folder / "report.html", lambda stream: stream.write(page.encode()) and None)
    return numbers


def _view_summary(view: Keypoints2D, errors: Array) -> dict[str, Any]:
    seen = view.confidence > 0
    return {
        "view": view.header.get("view", ""),
        "source": str(view.header.get("source") or ""),
        "image_size": list(view.image_size),
        "frames_with_person": _number(np.mean(seen[:, BODY].any(axis=1))),
        "frames_with_left_hand": _number(np.mean(seen[:, LEFT_HAND].any(axis=1))),
        "frames_with_right_hand": _number(np.mean(seen[:, RIGHT_HAND].any(axis=1))),
        "frames_with_face": _number(np.mean(seen[:, FACE].any(axis=1))),
        "sides_exchanged_back": view.header.get("swapped_frames"),
        "reprojection_px": _distribution(errors),
    }


def _distribution(values: Array) -> dict[str, float | None]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return {"mean": None, "median": None, "p95": None}
    return {
        "mean": _number(finite.mean()),
        "median": _number(np.median(finite)),
        "p95": _number(np.percentile(finite, 95)),
    }


def _jitter(motion: BodyMotion, *, raw: bool) -> float:
    """Mean norm of second differences of the bone heads, millimetres."""
    rotations = motion.rotations_raw if raw else motion.rotations
    root = motion.root_raw if raw else motion.root
    if rotations is None or root is None or len(root) < 3:
        return float("nan")
    heads = forward(motion.rest, motion.parents, rotations, root)[..., :3, 3]
    return float(1000 * np.linalg.norm(np.diff(heads, n=2, axis=0), axis=-1).mean())


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _std(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.std()) if finite.size else float("nan")


def _number(value: float | np.floating[Any]) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None


def _plots(capture: Capture) -> list[tuple[str, str]]:
    """(title, PNG as base64) of each plot."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    painters = (
        ("Reprojection error by camera and joint (px, mean before any truncation)", _plot_reprojection),
        ("Limb lengths over time, before the fit (thin) and after it (thick)", _plot_lengths),
        ("Confidence by joint over time", _plot_confidence),
        ("Foot contacts", _plot_contacts),
        ("Height of hips and feet above the floor", _plot_heights),
    )
    out = []
    for title, paint in painters:
        figure, axes = plt.subplots(figsize=(9.6, 3.2), layout="constrained")
        paint(capture, axes)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=100)
        plt.close(figure)
        out.append((title, base64.b64encode(stream.getvalue()).decode()))
    return out


def _plot_reprojection(capture: Capture, axes: Any) -> None:
    errors = reprojection_errors(capture)[..., BODY]
    table = np.array([[_mean(view[:, j]) for j in range(len(BODY_25))] for view in errors])
    picture = axes.imshow(table, aspect="auto", cmap="magma", vmin=0)
    axes.set_yticks(range(len(table)), [str(view.header.get("view") or i) for i, view in enumerate(capture.views)])
    axes.set_xticks(range(len(BODY_25)), BODY_25, rotation=70, fontsize=7)
    axes.figure.colorbar(picture, ax=axes, label="px")


def _plot_lengths(capture: Capture, axes: Any) -> None:
    lengths = limb_lengths(capture.keypoints.positions)
    bones = list(capture.motion.header["bones"])
    fitted = dict(zip(bones, capture.motion.header["lengths_m"], strict=True))
    names = {"upper arm": "upper_arm", "forearm": "forearm", "thigh": "thigh", "shank": "shin"}
    for i, (name, _, _) in enumerate(LIMBS):
        line = axes.plot(capture.keypoints.times, lengths[:, i], lw=0.8, label=name)[0]
        bone = f"{names[name[:-2]]}.{name[-1]}"
        if bone in fitted:
            axes.axhline(fitted[bone], color=line.get_color(), lw=2, alpha=0.5)
    axes.set(xlabel="s", ylabel="m", ylim=(0, None))
    axes.legend(ncols=4, fontsize=7)


def _plot_confidence(capture: Capture, axes: Any) -> None:
    times = capture.keypoints.times
    picture = axes.imshow(
        capture.keypoints.confidence[:, BODY].T, aspect="auto", cmap="RdYlGn", vmin=0, vmax=1,
        extent=(times[0], max(times[-1], times[0] + 1e-3), len(BODY_25) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_yticks(range(len(BODY_25)), BODY_25, fontsize=5)
    axes.set_xlabel("s")
    axes.figure.colorbar(picture, ax=axes)


def _plot_contacts(capture: Capture, axes: Any) -> None:
    for i, name in enumerate(CONTACT_NAMES):
        axes.fill_between(capture.motion.times, i, i + 0.9 * np.clip(capture.motion.contacts[:, i], 0, 1), step="mid")
        axes.text(capture.motion.times[0], i + 0.4, name, fontsize=8)
    axes.set(yticks=[], xlabel="s", ylim=(0, len(CONTACT_NAMES)))


def _plot_heights(capture: Capture, axes: Any) -> None:
    motion = capture.motion
    heads = forward(motion.rest, motion.parents, motion.rotations, motion.root)[..., :3, 3]
    up = np.asarray(motion.header.get("floor_from_frame", np.eye(4)))
    heights = heads @ up[2, :3] + up[2, 3]
    for bone in ("hips", "foot.L", "foot.R", "toe.L", "toe.R"):
        axes.plot(motion.times, heights[:, list(motion.header["bones"]).index(bone)], label=bone, lw=1)
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel="s", ylabel="m")
    axes.legend(ncols=5, fontsize=7)


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%}table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}
h2{margin-top:1.6em;font-size:1.1em}.warn{background:#fff3cd;padding:.5em 1em;border-left:4px solid #e0a800}
.pictures img{max-height:420px;width:auto;margin-right:8px}"""


def _page(numbers: dict[str, Any], plots: Sequence[tuple[str, str]], pictures: Sequence[Path]) -> str:
    parts = ["<!doctype html><meta charset='utf-8'><title>Understudy report</title>", f"<style>{_STYLE}</style>"]
    parts.append("<h1>Understudy: what this capture is worth</h1>")
    parts += [f"<p class='warn'>{html.escape(warning['text'])}</p>" for warning in numbers["warnings"]]
    shown = [f"<img src='data:image/png;base64,{base64.b64encode(p.read_bytes()).decode()}'>" for p in pictures]
    parts.append(f"<div class='pictures'>{''.join(shown)}</div>")
    parts.append(_table(numbers))
    for title, picture in plots:
        parts.append(f"<h2>{html.escape(title)}</h2><img src='data:image/png;base64,{picture}'>")
    return "\n".join(parts)


def _table(numbers: dict[str, Any]) -> str:
    rows = [
        ("Frames", f"{numbers['frames']} at {numbers['fps']:g} fps, {numbers['frame']} frame"),
        ("Limb length, std before the fit", _with_unit(numbers["limb_length_std_mm"], "mm")),
        ("Reprojection error, mean / median / p95", _triple(numbers["reprojection_px"])),
        ("Jitter, raw / smoothed", " / ".join(_with_unit(v, "mm") for v in numbers["jitter_mm"].values())),
        ("Time", ", ".join(f"{name} {value:g} ms" for name, value in numbers["ms_per_frame"].items()) + " a frame"),
    ]
    for view in numbers["views"]:
        text = (
            f"person in {_percent(view['frames_with_person'])} of frames, left hand "
            f"{_percent(view['frames_with_left_hand'])}, right hand {_percent(view['frames_with_right_hand'])}, "
            f"face {_percent(view['frames_with_face'])}; reprojection {_triple(view['reprojection_px'])}"
        )
        rows.append((f"View {view['view'] or '1'}", text))
    body = "".join(f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{body}</table>"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"


def _triple(values: dict[str, float | None]) -> str:
    return " / ".join("-" if values[k] is None else f"{values[k]:.1f}" for k in ("mean", "median", "p95")) + " px"
