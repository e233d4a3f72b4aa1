"""From what photos show to everything that is made of it: field, dense surface, clean mesh, textures, GLB."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..core.artifacts import HeadMesh, HeadSurface
from ..core.formats import gltf
from ..core.stages import content_of
from ..protocol.errors import RequestError
from ..protocol.requests import HeadRequest
from ..runtime import weights
from .anchors import anchor
from .extract import ExtractSettings, extract
from .job import HeadJob, read_same, write_picture
from .pictures import picture_mesh, picture_surface
from .prior import Prior
from .seen import Seen
from .surface import FitSettings, Fitted, fit
from .texture import texture
from .wrap import body_mesh, wrap

Array = np.ndarray
_CHIN = 152  # of the 478 face points
_SMALLEST, _LARGEST = 0.6, 1.5  # heads against an average one, infants included
_VIEW_PX = 320
_TURNS_DEG = (0, 45, 90)
_M = TypeVar("_M", HeadSurface, HeadMesh)


@dataclass(frozen=True)
class Head:
    """All that was made of one person."""

    seen: list[Seen]
    fitted: Fitted
    surface: HeadSurface
    mesh: HeadMesh
    body: HeadMesh | None
    color: Array
    normal: Array


def make(job: HeadJob, seen: list[Seen], prior: Prior, template: Any, device: str) -> Head:
    """From what photos show to everything that is written but the report."""
    request = job.request
    settings = FitSettings.of(request.quality, seed=request.seed, device=device)
    inputs = [job.inputs(), settings, _content_of_prior(request)]
    fitted = job.timed("fit", lambda: _fit(job, seen, prior, settings, job.fingerprint("fit", *inputs)))
    extracting = ExtractSettings(faces=request.surface_faces)
    surface = job.stage(
        HeadSurface, "head_surface", "extract", [*inputs, extracting],
        lambda: extract(fitted.field, extracting, job),
    )  # fmt: skip
    shape = [surface.header["fingerprint"], weights.registry()["head-template"].sha256]
    mesh = job.stage(
        HeadMesh, "head_mesh", "wrap", shape,
        lambda: wrap(template, surface, anchor(surface, seen, fitted.cameras, fitted.landmarks), job),
    )  # fmt: skip
    body = job.stage(HeadMesh, "body_mesh", "body", shape, lambda: body_mesh(mesh)) if request.body else None
    scale = find_scale(mesh, surface, fitted.landmarks, request)
    surface, mesh = _sized(job, surface, "head_surface", scale), _sized(job, mesh, "head_mesh", scale)
    body = None if body is None else _sized(job, body, "body_mesh", scale)
    color, normal = _textured(job, seen, fitted, surface, mesh)
    for name, one in (("head", mesh), ("body", body)):
        if one is not None:
            gltf.write(job.artifacts / f"{name}.glb", one.placed(), color, normal)
            job.artifact(name, f"artifacts/{name}.glb")
    return Head(seen, fitted, surface, mesh, body, color, normal)


def find_scale(mesh: HeadMesh, surface: HeadSurface, landmarks: Array, request: HeadRequest) -> float:
    """How many true metres a metre of the head is, by what was measured; 1 where nothing was.

    Raises:
        RequestError: the measure fits no head.
    """
    if request.pupil_distance_mm is not None:
        left, right = (_middle(mesh, part) for part in ("eye.L", "eye.R"))
        scale, field = request.pupil_distance_mm / 1000.0 / float(np.linalg.norm(left - right)), "pupil_distance_mm"
    elif request.head_height_m is not None:
        height = float(surface.vertices[:, 2].max() - landmarks[_CHIN, 2])
        scale, field = request.head_height_m / height, "head_height_m"
    else:
        return 1.0
    if not _SMALLEST < scale < _LARGEST:
        text = f"it would make the head {scale:.2f} times as large as an average one"
        raise RequestError(text, f"Between {_SMALLEST} and {_LARGEST} is believed.", field=field)
    return scale


def _middle(mesh: HeadMesh, part: str) -> Array:
    """(3,) of a part's bounds, which for an eyeball is where it turns."""
    faces = mesh.faces[mesh.face_part == mesh.header["parts"].index(part)]
    points = mesh.vertices[np.unique(faces[faces >= 0])].astype(float)
    return 0.5 * (points.min(0) + points.max(0))


def _sized(job: HeadJob, made: _M, name: str, scale: float) -> _M:
    """Let an artifact say its scale, also where it was made before that was measured."""
    if made.header.get("scale") != scale:
        made = made.with_header(scale=scale)
        made.save(job.artifacts / f"{name}.npz")
    return made


def _fit(job: HeadJob, seen: list[Seen], prior: Prior, settings: FitSettings, fingerprint: str) -> Fitted:
    """Fit the field, going on from a checkpoint of the same inputs; checkpoints of others are removed."""
    checkpoints = job.folder / "checkpoints"
    own = checkpoints / fingerprint[:16]
    for other in checkpoints.glob("*"):
        if other != own:
            shutil.rmtree(other, ignore_errors=True)
    return fit(seen, prior, settings, job, folder=own, preview=lambda image, step: job.show(step, image))


def _textured(
    job: HeadJob, seen: list[Seen], fitted: Fitted, surface: HeadSurface, mesh: HeadMesh
) -> tuple[Array, Array]:
    """Bake colour (H, W, 4) and normal map (H, W, 3), or read those that the same inputs made."""
    paths = job.artifacts / "texture.png", job.artifacts / "normal.png"
    size = job.request.texture_size
    fingerprint = job.fingerprint("texture", mesh.header["fingerprint"], size)
    color, normal = (read_same(path, fingerprint) for path in paths)
    if color is None or normal is None:
        baked = lambda: texture(mesh, surface, fitted.field, seen, list(fitted.cameras), size, job)  # noqa: E731
        color, normal = job.timed("texture", baked)
        for path, image in zip(paths, (color, normal), strict=True):
            write_picture(path, image, fingerprint)
    for path in paths:
        job.artifact(path.stem, f"artifacts/{path.name}")
    return color, normal


def views(job: HeadJob, head: Head) -> list[tuple[str, Array]]:
    """Pictures from the front and turned: the clean mesh, the dense surface, and that as clay; the first is kept."""
    made = []
    for number, turn in enumerate(_TURNS_DEG):
        job.progress("report", number, len(_TURNS_DEG))
        clean = picture_mesh(head.mesh, head.color, turn, _VIEW_PX)
        dense = [picture_surface(head.surface, turn, _VIEW_PX, clay=clay) for clay in (False, True)]
        made.append((f"Turned by {turn} degrees" if turn else "From the front", np.concatenate([clean, *dense], 1)))
        if not turn:
            write_picture(job.artifacts / "portrait.png", clean)
            job.artifact("portrait", "artifacts/portrait.png")
    job.progress("report", len(_TURNS_DEG), len(_TURNS_DEG))
    return made


def _content_of_prior(request: HeadRequest) -> list[str]:
    """What is known of heads and of faces' relief beforehand."""
    known = weights.registry()
    prior = content_of(request.prior) if request.prior else known["heads"].sha256
    return [prior, *(known[name].sha256 for name in ("face-relief", "head-shape"))]
