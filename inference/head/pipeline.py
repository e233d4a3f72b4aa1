"""The road of the head wing: photos -> what they show -> field -> dense surface -> clean mesh -> texture -> GLB.

The field is kept as a checkpoint, all else as artifacts; what was made from the same inputs is used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..protocol.events import Reporter
from ..protocol.requests import HeadRequest
from .job import HeadJob
from .report import write_report
from .see import see
from .seen import Seen

if TYPE_CHECKING:
    from .making import Head

Array = np.ndarray
_SHEET_PX = 256


def run(request: HeadRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Make a head in a job folder.

    Writes `artifacts/head_surface.npz`, `head_mesh.npz`, `texture.png`, `normal.png`, `head.glb`, pictures of the head
    while it takes shape (`preview_*.png`) and `portrait.png`, with `body` also `body_mesh.npz` and `body.glb`;
    `report.json` and `report.html`; checkpoints under `checkpoints`.

    Returns:
        The numbers of `report.json`.

    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    job = HeadJob(request, Path(folder) / "artifacts", report)
    job.artifacts.mkdir(parents=True, exist_ok=True)
    for old in job.artifacts.glob("preview_*.png"):
        old.unlink()
    seen = job.timed("see", lambda: see(request, job))
    sheet = contact_sheet(seen)
    job.show(0, sheet)
    from ..runtime.device import choose  # what photos show is said before torch is imported
    from .making import make, views
    from .surface import load_prior
    from .wrap import load_template

    device = choose(request.device, request.threads)
    head = make(job, seen, load_prior(request.prior), load_template(), device.name)
    pictures = [("What was seen", sheet), *views(job, head)]
    numbers = summary(job, head)
    write_report(job.folder, numbers, pictures, head.color)
    job.artifact("report", "report.html")
    return numbers


def contact_sheet(seen: Sequence[Seen], height: int = _SHEET_PX) -> Array:
    """(H, W, 3) uint8: the photos side by side, darker where the person is not."""
    rows = []
    for one in seen:
        kept = one.image * (0.25 + 0.75 * one.mask[..., None])
        width = max(round(kept.shape[1] * height / kept.shape[0]), 1)
        rows.append(cv2.resize(kept.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA))
    return np.concatenate(rows, 1)


def summary(job: HeadJob, head: Head) -> dict[str, Any]:
    """What there is to say about a head, in numbers."""
    photos = [
        {
            "name": one.name, "size_px": [one.image.shape[1], one.image.shape[0]], "turned_deg": round(one.yaw_deg, 1),
            "focal_px": None if one.focal_px is None else round(one.focal_px, 1),
            "fitted_focal_px": round(float(camera.matrix[0, 0]), 1),
            "distance_m": round(float(np.linalg.norm(camera.centre)), 3),
        }
        for one, camera in zip(head.seen, head.fitted.cameras, strict=True)
    ]  # fmt: skip
    return {
        "quality": job.request.quality,
        "photos": photos,
        "fit": {name: round(float(value), 4) for name, value in head.fitted.figures.items() if np.isfinite(value)},
        "surface": {"vertices": len(head.surface.vertices), "faces": len(head.surface.faces)},
        "mesh": {"vertices": len(head.mesh.vertices), "faces": len(head.mesh.faces),
                 "shape_keys": len(head.mesh.shape_keys)},
        "scale": round(float(head.surface.header["scale"]), 4),
        "texture_px": list(head.color.shape[1::-1]),
        "warnings": job.warnings,
        "seconds": {stage: round(seconds, 2) for stage, seconds in job.seconds.items()},
    }  # fmt: skip
