"""The road of the body wing: clip, files or capture -> what is seen -> body in motion -> mesh -> overlay, report."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import BodyMesh, BodyParameters
from ..core.body_measures import ruler_of
from ..core.stages import content_of
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..protocol.requests import BodyRequest
from ..runtime import weights
from ..runtime.device import set_threads
from .ground import floor_under
from .job import BodyJob
from .overlay import compare, picture_size, write_overlay
from .report import write_report
from .see import Sight, see
from .silhouette import Shadow

Array = np.ndarray
_SCORED_PX = 320  # side at which outlines are compared where no movie is made
_UNSURE_IOU = 0.6  # below which the outline says that the body is not the person's
_NETWORKS = ("gc-ssn", "gc-body", "pose-prior")


def run(request: BodyRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Make a body in a job folder.

    Writes `artifacts/keypoints_2d.npz`, `masks/*.png`, `body_parameters.npz` and `body_mesh.npz`; `overlay.mp4`,
    `overlay.png`, `report.json` and `report.html`.

    Returns:
        The numbers of `report.json`.

    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    job = BodyJob(request, Path(folder) / "artifacts", report)
    job.artifacts.mkdir(parents=True, exist_ok=True)
    check_doors(request)
    sight = see(job)
    parameters = estimate(job, sight)
    mesh, parameters = embody(job, parameters)
    parameters = stand(sight, mesh, parameters)
    start = time.perf_counter()
    scores, stills = hold_against(job, sight, mesh, parameters)
    job.seconds["overlay"] = time.perf_counter() - start
    parameters = _with_scores(job, parameters, scores)
    numbers = summary(job, sight, parameters, mesh)
    write_report(job, numbers, parameters, stills)
    return numbers


def check_doors(request: BodyRequest) -> None:
    """Refuse what cannot work now, and not after minutes of detection: weights, a foreign model."""
    set_threads(request.threads)
    for name in _NETWORKS:
        weights.locate(name)
    if request.model is not None:
        from .foreign import read_model

        read_model(request.model)


def estimate(job: BodyJob, sight: Sight) -> BodyParameters:
    """Read the body out of what is seen."""
    from .model import load_model
    from .regress import Settings, regress
    from .represent import View

    request, space = job.request, sight.keypoints_3d
    settings = Settings(
        refine=request.refine, smoothing=request.smoothing, hypotheses=request.hypotheses,
        min_confidence=request.min_confidence, height_m=request.height_m, distance_m=request.distance_m,
        loose_clothes=request.loose_clothes, sex=request.sex,
    )  # fmt: skip
    seen = [[shown.keypoints.header["fingerprint"], [file and content_of(file) for file in shown.masks.files],
             shown.camera.to_header()] for shown in sight.views]  # fmt: skip
    inputs = [settings, seen, None if space is None else space.header,
              request.keypoints_3d and content_of(request.keypoints_3d),
              [weights.registry()[name].sha256 for name in _NETWORKS]]  # fmt: skip

    def make() -> BodyParameters:
        views = [View(shown.keypoints, shown.masks, shown.camera) for shown in sight.views]
        job.progress("body model", 0, 1)  # made once on a computer, which may take a minute; then it is at hand
        load_model()
        found = regress(views, settings, job, keypoints_3d=space)
        sources = [str(shown.source or "") for shown in sight.views]
        clips = {} if sight.clips is None else {"clips": sight.clips}
        return found.with_header(start=int(sight.views[0].frames[0]), sources=sources, **clips)

    name = "body_parameters" if request.model is None else "body_parameters_anny"
    return job.stage(BodyParameters, name, "regress", inputs, make)


def embody(job: BodyJob, parameters: BodyParameters) -> tuple[BodyMesh, BodyParameters]:
    """Make the mesh of a shape; with a model of the user's own, its bones' motion, too."""
    from .model import load_model

    shape = dict(zip(parameters.header["shape_names"], parameters.shape.tolist(), strict=True))
    foreign = job.request.model
    if foreign is None:
        make = lambda: load_model().mesh(shape)  # noqa: E731
        return job.stage(BodyMesh, "body_mesh", "mesh", [shape], make), parameters
    from .foreign import as_foreign, read_model

    model, ours = read_model(foreign), load_model().mesh(shape, keys=False)
    mesh = job.stage(BodyMesh, "body_mesh", "mesh", [shape, content_of(foreign)], lambda: model.mesh_like(ours))
    said = job.fingerprint("foreign", parameters.header["fingerprint"], content_of(foreign))  # not taken for anny's
    moved = as_foreign(parameters, ours, mesh).with_header(fingerprint=said)
    moved.save(job.artifacts / "body_parameters.npz")
    return mesh, moved


def stand(sight: Sight, mesh: BodyMesh, parameters: BodyParameters) -> BodyParameters:
    """Say where the floor is: where the capture found it, else under the soles."""
    known, space = parameters.header.get("floor_from_frame"), sight.keypoints_3d
    if known is None and space is not None and parameters.header["frame"] == space.header["frame"]:
        known = sight.floor
    return parameters.with_header(floor_from_frame=floor_under(mesh, parameters).tolist() if known is None else known)


def hold_against(
    job: BodyJob, sight: Sight, mesh: BodyMesh, parameters: BodyParameters
) -> tuple[Array, list[tuple[str, Array]]]:
    """Hold the body against the masks of every view: (N, T) overlaps, and a picture of each movie, with its name."""
    scores, stills = [], []
    for shown in sight.views:
        shadow = Shadow(mesh, parameters, shown.camera)
        if not job.request.overlay:
            size = picture_size(shown.keypoints.image_size, _SCORED_PX)
            scores.append(np.array([score for _, _, score in compare(shadow, shown.masks, size)]))
            continue
        name = "overlay" if len(sight.views) == 1 else f"overlay_{shown.camera.name}"
        found, still = write_overlay(job.folder / f"{name}.mp4", shown, shadow, job)
        job.artifact(name, f"{name}.mp4")
        scores.append(found)
        stills.append((shown.camera.name if len(sight.views) > 1 else "", still))
    return np.stack(scores), stills


def _with_scores(job: BodyJob, parameters: BodyParameters, scores: Array) -> BodyParameters:
    """Keep the overlaps, mean over views, with the parameters; say where they deny that this is the person's body."""
    known = scores[np.isfinite(scores)]
    if known.size and np.median(known) < _UNSURE_IOU:
        text = f"Body and masks overlap by {np.median(known):.2f} only (intersection over union, median)."
        job.warning("overlap", f"{text} Clothes, a child or somebody else in the mask may be why.")
    counted = np.isfinite(scores).sum(0)
    mean = np.where(counted > 0, np.nansum(scores, 0) / np.maximum(counted, 1), np.nan)
    scored = replace(parameters, silhouette_iou=mean).with_header(
        iou_of_views=[None if np.isnan(row).all() else round(float(np.nanmean(row)), 4) for row in scores]
    )
    scored.save(job.artifacts / "body_parameters.npz")
    return scored


def summary(job: BodyJob, sight: Sight, parameters: BodyParameters, mesh: BodyMesh) -> dict[str, Any]:
    """What there is to say about a body, in numbers."""
    known = parameters.silhouette_iou[np.isfinite(parameters.silhouette_iou)]  # type: ignore[index]
    overlap = None if not known.size else {
        "mean": round(float(known.mean()), 4), "median": round(float(np.median(known)), 4),
        "least": round(float(known.min()), 4), "frames": int(known.size),
    }  # fmt: skip
    shape = dict(zip(parameters.header["shape_names"], parameters.shape.tolist(), strict=True))
    return {
        "frames": len(parameters.times),
        "fps": round(parameters.fps, 4),
        "model": parameters.header["model"],
        "measures_m": _measures(mesh),
        "shape": {name: round(float(value), 4) for name, value in shape.items()},
        "confidence": round(float(parameters.confidence.mean()), 4),
        "unseen_frames": int((parameters.confidence == 0).sum()),
        "silhouette_iou": overlap,
        "masks": sum(file is not None for shown in sight.views for file in shown.masks.files),
        "silhouette_iou_of_views": dict(zip([shown.camera.name for shown in sight.views],
                                            parameters.header["iou_of_views"], strict=True)),
        "joints_in_space": sight.keypoints_3d is not None,
        "mesh": {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "bones": len(mesh.parents),
                 "expressions": len(mesh.shape_keys), "shape_keys": len(mesh.parameter_keys)},
        "warnings": job.warnings,
        "seconds": {stage: round(seconds, 2) for stage, seconds in job.seconds.items()},
    }  # fmt: skip


def _measures(mesh: BodyMesh) -> dict[str, float]:
    try:
        found = ruler_of(mesh).measure(mesh.vertices)
    except InputError:  # a foreign topology has no landmarks
        return {"height": round(float(np.ptp(mesh.vertices[:, 2])), 4)}
    return {name: round(value, 4) for name, value in found.items()}
