"""The road of the reenactment wing: sources -> a person; driver -> poses; both -> frames, a movie and a page.

Descriptors are an artifact, the person's network a checkpoint, and every frame a file that says what it was made
from: what was made from the same inputs is used again, so that a run goes on where another was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.artifacts import PoseDescriptors
from ..protocol.events import Reporter
from ..protocol.folder import JobFolder
from ..protocol.requests import ReenactRequest
from .job import ReenactJob
from .report import write_report
from .shown import Shown, check_roles, see_sources

if TYPE_CHECKING:
    from .frames import Plan
    from .person import Person

Array = np.ndarray
_SHEET = 8  # sources that are shown
_ONE_THREAD_PX = 64


def run(request: ReenactRequest, folder: JobFolder, report: Reporter) -> dict[str, Any]:
    """Make frames in a job folder.

    Writes `artifacts/frames/frame_0001.png` and so on, `artifacts/reenactment.json` which describes them,
    `artifacts/driver.npz` with the driver's pose descriptors, with `movie` also `artifacts/reenactment.mp4`;
    `report.json` and `report.html`; the person's network under `checkpoints`. With a camera, frames are made until
    the folder's `stop` appears.

    Returns:
        The numbers of `report.json`.

    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    job = ReenactJob(request, folder.artifacts, report)
    job.artifacts.mkdir(parents=True, exist_ok=True)
    for old in job.artifacts.glob("preview_*.png"):
        old.unlink()
    check_roles(request)
    from ..runtime.device import choose
    from .network import load
    from .person import digest, make_person

    device = choose(request.device, request.threads)
    base = digest(request.network)
    network = load(request.network, device.name)
    if not request.threads and network.size <= _ONE_THREAD_PX:
        device = choose(request.device, 1)  # more wait for each other longer than they work
    shown = job.timed("see", lambda: see_sources(request, job, max(network.size, network.pose_size)))
    job.show(sheet(shown))
    person = make_person(job, shown, network, base)
    if request.camera:
        from .live import follow_camera

        return follow_camera(job, folder, person)
    return _make(job, person, shown, device.threads)


def _make(job: ReenactJob, person: Person, shown: Sequence[Shown], threads: int) -> dict[str, Any]:
    from .drive import describe_driver, wanted_poses
    from .frames import make_frames, plan_frames, write_manifest
    from .movie import make_movie, strip

    driven, opacity = describe_driver(job, person.network, person.base)
    poses = wanted_poses(job, driven, person)
    plan = plan_frames(job, driven, poses, opacity, person)
    made = job.timed("frames", lambda: make_frames(job, plan, person, threads))
    write_manifest(job, plan, driven)
    if job.request.movie:
        job.timed("movie", lambda: make_movie(job, plan, driven))
    numbers = summary(job, person, driven, plan, made)
    write_report(job, numbers, [("Who is shown", sheet(shown)), ("Driver and frames", strip(job, plan, driven))])
    return numbers


def sheet(shown: Sequence[Shown]) -> Array:
    """(H, W, 3) uint8: pictures of the person side by side, darker where the person is not."""
    kept = [one.image * (0.25 + 0.75 * one.mask[..., None] / 255.0) for one in shown[:_SHEET]]
    return np.concatenate(kept, 1).astype(np.uint8)


def summary(job: ReenactJob, person: Person, driven: PoseDescriptors, plan: Plan, made: int) -> dict[str, Any]:
    """What there is to say about frames, in numbers."""
    count = len(plan.files)
    seconds = {stage: round(value, 2) for stage, value in job.seconds.items()}
    return {
        "frames": {"count": count, "first": int(driven.frames[0]), "last": int(driven.frames[-1]), "made": made},
        "size_px": plan.size,
        "network_px": person.network.size,
        "iterations": person.iterations,
        "driver": {"fps": round(driven.fps, 4), "unseen": int((~driven.seen).sum())},
        "mode": job.request.mode, "region": job.request.region, "strength": job.request.strength,
        "agreement": agreement(person, plan),
        "ms_a_frame": round(1000 * job.seconds.get("frames", 0.0) / made, 2) if made else None,
        "warnings": job.warnings,
        "seconds": seconds,
    }  # fmt: skip


def agreement(person: Person, plan: Plan, looks: int = 16) -> dict[str, float]:
    """How far frames show what they should, by the network's own eyes: cosines of descriptors, means over a few frames.

    Pose: of a frame's descriptor and the wanted one. Movement: the same, after the clip's mean is taken off both.
    """
    places = np.flatnonzero(plan.opacity > 0)
    places = places[np.linspace(0, len(places) - 1, min(looks, len(places))).round().astype(int)]
    wanted = plan.poses[places]
    found = person.network.pose(np.stack([person.frame(pose)[0] for pose in wanted.astype(np.float32)]))
    known = np.isfinite(found).all(1)  # a network that is driven by landmarks may find none
    found, wanted = found[known], wanted[known]
    if not len(found):
        return {}
    figures = {"pose": _cosine(found, wanted)}
    if len(found) > 2:
        figures["movement"] = _cosine(found - found.mean(0), wanted - wanted.mean(0))
    return {name: round(value, 3) for name, value in figures.items()}


def _cosine(a: Array, b: Array) -> float:
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return float(((a * b).sum(-1) / np.maximum(lengths, 1e-12)).mean())
