"""Numbers about one capture: what `report.json` holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from ..core.cameras import Camera, project
from ..core.contacts import CONTACT_NAMES
from ..core.kinematics import forward
from ..core.metrics import limb_lengths, second_difference
from ..core.skeletons import BODY, BODY_25, FACE, LEFT_HAND, LIMBS, RIGHT_HAND
from .sync import Offsets

Array = np.ndarray
LIMB_BONES = {"upper arm": "upper_arm", "forearm": "forearm", "thigh": "thigh", "shank": "shin"}


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
    offsets: Offsets | None = None
    findings: list[dict[str, str]] = field(default_factory=list)


def reprojection_errors(capture: Capture) -> Array:
    """(N, T, J) pixels between what each view saw and the 3D keypoints, before any truncation; NaN where unseen."""
    if capture.keypoints.error_px is not None:
        return np.asarray(capture.keypoints.error_px, float)
    if not capture.views:  # markers
        return np.full((0, *capture.keypoints.confidence.shape), np.nan)
    rows = []
    for view, camera in zip(capture.views, capture.cameras, strict=True):
        difference = project(camera, capture.keypoints.positions) - view.positions
        rows.append(np.linalg.norm(difference, axis=-1))
    return np.stack(rows)


def footage_offsets(capture: Capture) -> list[dict[str, Any]]:
    """For each view, how far it is constantly off from the others: a calibration that has moved; empty for one."""
    diagnostics = capture.keypoints.header.get("diagnostics") or {}
    found = list(diagnostics.get("cameras", []))
    return found if len(found) == len(capture.views) else [{} for _ in capture.views]


def summary(capture: Capture) -> dict[str, Any]:
    """Everything in `report.json`, JSON-ready; quantities that do not exist are null."""
    errors = reprojection_errors(capture)[..., BODY]
    motion = capture.motion
    fit = motion.header.get("diagnostics") or {}
    limbs = _limb_summary(capture)
    offsets = footage_offsets(capture)
    numbers = {
        "frames": len(motion.root),
        "fps": motion.fps,
        "frame": motion.header["frame"],
        "height_m": (capture.keypoints.header.get("diagnostics") or {}).get("height_m"),
        "cameras_moved": (capture.keypoints.header.get("triangulation") or {}).get("cameras"),
        "views": [_view_summary(view, errors[i], offsets[i]) for i, view in enumerate(capture.views)],
        "reprojection_px": {**_distribution(errors), "by_joint": _by_joint(errors)},
        "limb_length_m": limbs,
        "limb_length_std_mm": _number(1000 * mean(np.array([limb["std"] for limb in limbs.values()], float))),
        "confidence": {
            name: _number(mean(capture.keypoints.confidence[:, block]))
            for name, block in (("body", BODY), ("face", FACE), ("left hand", LEFT_HAND), ("right hand", RIGHT_HAND))
        },
        "contacts": {name: _number(np.mean(motion.contacts[:, i] > 0.5)) for i, name in enumerate(CONTACT_NAMES)},
        "feet": {
            "slide_m_s": {"raw": fit.get("foot_slide_raw"), "smoothed": fit.get("foot_slide")},
            "penetration_mm": {"mean": fit.get("penetration_mm"), "max": fit.get("penetration_max_mm")},
        },
        "jitter_mm": {
            "raw": _number(_jitter(motion, raw=True)),
            "smoothed": _number(_jitter(motion, raw=False)),
        },
        "sync": None if capture.offsets is None else capture.offsets.summary(),
        "diagnostics": capture.keypoints.header.get("diagnostics"),
        "fit": fit or None,
        "seconds": {name: round(value, 3) for name, value in capture.seconds.items()},
        "ms_per_frame": {
            name: round(1000 * value / max(len(motion.root), 1), 2) for name, value in capture.seconds.items()
        },
        "findings": capture.findings,
        "warnings": capture.warnings,
        **capture.facts,
    }
    return {name: _plain(value) for name, value in numbers.items()}


def _limb_summary(capture: Capture) -> dict[str, dict[str, float | None]]:
    lengths, fitted = limb_lengths(capture.keypoints.positions), fitted_lengths(capture.motion)
    return {
        name: {
            "mean": _number(mean(lengths[:, i])),
            "std": _number(_std(lengths[:, i])),
            "least": _number(quantile(lengths[:, i], 0.0)),
            "most": _number(quantile(lengths[:, i], 1.0)),
            "fitted": fitted.get(name),
        }
        for i, (name, _, _) in enumerate(LIMBS)
    }


def fitted_lengths(motion: BodyMotion) -> dict[str, float]:
    """Constant lengths, metres, of the skeleton's bones that are `skeletons.LIMBS`."""
    lengths = dict(zip(motion.header["bones"], motion.header["lengths_m"], strict=True))
    bones = {name: f"{LIMB_BONES[name[:-2]]}.{name[-1]}" for name, _, _ in LIMBS}
    return {name: round(float(lengths[bone]), 5) for name, bone in bones.items() if bone in lengths}


def _by_joint(errors: Array) -> dict[str, float | None]:
    return {name: _number(mean(errors[..., joint])) for joint, name in enumerate(BODY_25)}


def _plain(value: Any) -> Any:
    """JSON has neither NaN nor numpy's numbers."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _view_summary(view: Keypoints2D, errors: Array, offset: dict[str, Any]) -> dict[str, Any]:
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
        "reprojection_px": {**_distribution(errors), "by_joint": _by_joint(errors)},
        "offset_from_others_px": offset.get("offset_from_others_px"),
        "scatter_px": offset.get("scatter_px"),
        "is_biased": offset.get("biased"),
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
    return 1000 * second_difference(heads)


def mean(values: Array) -> float:
    """Mean of the finite values; NaN where there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _std(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.std()) if finite.size else float("nan")


def quantile(values: Array, part: float) -> float:
    """Quantile of the finite values; NaN where there are none."""
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, part)) if finite.size else float("nan")


def _number(value: float | np.floating[Any]) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
