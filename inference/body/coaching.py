"""A trainee held against a trainer: in step by their joints' angles, in the same place, and what differs by how much.

The task `coach`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import BodyMesh, BodyParameters, Coaching
from ..core.body import local_turns, place_bones
from ..core.rotations import matrix_from_quaternion, quaternion_from_matrix, slerp
from ..protocol.errors import InputError
from ..protocol.events import Reporter
from ..protocol.requests import CoachRequest
from .coach_report import pace, summary, write_report
from .joint_angles import JOINTS, amount, angle_between, at, looks
from .steps import in_step

Array = np.ndarray
_MOST_FRAMES = 6000
_LEAST_S = 0.5


@dataclass(frozen=True)
class Performer:
    """A body in motion, upright on the floor, with the frames that show it."""

    mesh: BodyMesh
    parameters: BodyParameters
    turns: Array  # (T, B, 3, 3) from rest to a frame with Z up
    heads: Array  # (T, B, 3) there


def run(request: CoachRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Compare two bodies in motion in a job folder.

    Writes `artifacts/coaching.npz`, `coaching.csv`, `report.json` and `report.html`.

    Returns:
        The numbers of `report.json`.

    Raises:
        InputError: a file is no body in motion, or too short.
        Cancelled: somebody asked to stop.
    """
    assert request.trainee is not None and request.trainer is not None
    trainee, trainer = read_performer(request.trainee), read_performer(request.trainer)
    found = compare(trainee, trainer, request, report)
    files = [str(find_parameters(path)) for path in (request.trainee, request.trainer)]
    found = found.with_header(trainee=files[0], trainer=files[1])
    artifacts = Path(folder) / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    found.save(artifacts / "coaching.npz")
    report.artifact("coaching", "artifacts/coaching.npz")
    numbers = {
        "frames": len(found.times), "mean_deg": round(float(found.difference.mean()), 2), "joints": summary(found),
        "pace": round(pace(found, trainee.parameters.fps, trainer.parameters.fps), 3), "warnings": [],
    }  # fmt: skip
    write_report(Path(folder), numbers, found)
    report.artifact("report", "report.html")
    return numbers


def find_parameters(path: Path) -> Path:
    """Find the parameters that a path means: the file, or its job folder.

    Raises:
        InputError: there are none.
    """
    for candidate in (path, path / "artifacts" / "body_parameters.npz", path / "body_parameters.npz"):
        if candidate.is_file() and candidate.suffix == ".npz":
            return candidate
    raise InputError(f"{path} holds no body_parameters.npz.", "Give the folder of a finished body.")


def read_performer(path: Path) -> Performer:
    """Read a body of anny in motion.

    Raises:
        InputError: it is none, or shorter than half a second.
    """
    file = find_parameters(path)
    parameters, mesh = BodyParameters.load(file), BodyMesh.load(file.with_name("body_mesh.npz"))
    needed = {bone for joint in JOINTS for bone in (joint.bone, joint.base)}
    if not needed <= set(mesh.header["bones"]) or list(mesh.header["bones"]) != list(parameters.header["bones"]):
        raise InputError(
            f"{file.name} is no body of anny: its joints have other names.", "Make the body without a model."
        )
    count = len(parameters.times)
    if count < _LEAST_S * parameters.fps or count < 3:
        raise InputError(f"{file.name} holds {count} frames; at least half a second is needed.", "Take a longer clip.")
    if count > _MOST_FRAMES:
        raise InputError(f"{file.name} holds {count} frames; at most {_MOST_FRAMES} are compared.", "Cut the clip.")
    floor = np.array(parameters.header.get("floor_from_frame", np.eye(4)), float)
    turns, heads = place_bones(mesh, parameters.pose, parameters.root)
    return Performer(mesh, parameters, floor[:3, :3] @ turns, heads @ floor[:3, :3].T + floor[:3, 3])


def compare(trainee: Performer, trainer: Performer, request: CoachRequest, report: Reporter) -> Coaching:
    """Put the trainer in step and in place with the trainee, and tell what differs.

    Raises:
        InputError: one clip would have to be stretched more than is allowed.
    """
    shown, wanted = (looks(one.mesh, one.turns) for one in (trainee, trainer))
    paced = _at_pace(trainer.parameters, trainee.parameters.fps)
    cost = sum(angle_between(a[:, None], at(b, paced)[None], joint.kind)
               for a, b, joint in zip(shown, wanted, JOINTS, strict=True))  # fmt: skip
    report.progress("coach", 1, 3)
    match = in_step(np.asarray(cost) / len(JOINTS), request.stretch)
    match = np.interp(match, np.arange(len(paced)), paced)
    report.progress("coach", 2, 3)
    goal = [at(look, match) for look in wanted]
    apart = [angle_between(a, b, joint.kind) for a, b, joint in zip(shown, goal, JOINTS, strict=True)]
    pose, root = in_place(trainee, trainer, match)
    report.progress("coach", 3, 3)
    index = {name: row for row, name in enumerate(trainee.mesh.header["bones"])}
    sure = np.minimum(trainee.parameters.confidence, np.interp(match, np.arange(len(trainer.parameters.confidence)),
                                                               trainer.parameters.confidence))  # fmt: skip
    header = {
        "unit": "m", "frame": "floor", "fps": trainee.parameters.fps, "skeleton": "anny",
        "joints": [joint.name for joint in JOINTS], "joint_bones": [list(joint.bones) for joint in JOINTS],
        "bones": list(trainee.mesh.header["bones"]), "tolerance_deg": request.tolerance_deg,
        "worst_deg": request.worst_deg, "floor_from_frame": np.eye(4).tolist(),
    }  # fmt: skip
    places = trainee.heads[:, [index[joint.bone] for joint in JOINTS]]
    degrees = [np.degrees(np.stack([amount(look, joint.kind) for look, joint in zip(both, JOINTS, strict=True)], 1))
               for both in (shown, goal)]  # fmt: skip
    return Coaching(
        header, trainee.parameters.times, match, degrees[0], degrees[1], np.degrees(np.stack(apart, 1)), pose, root,
        places, sure,
    )  # fmt: skip


def _at_pace(parameters: BodyParameters, fps: float) -> Array:
    """(U,) fractional frames of a motion at another rate, first and last among them or nearly."""
    times = parameters.times
    count = int(np.floor((times[-1] - times[0]) * fps + 1e-6)) + 1
    return np.interp(times[0] + np.arange(count) / fps, times, np.arange(len(times)))


def in_place(trainee: Performer, trainer: Performer, match: Array) -> tuple[Array, Array]:
    """The trainer's motion (T, B, 4), (T, 3) on the trainee's body: facing the same way, at the same place on average.

    Heights above the floor are scaled by how long the bodies' legs are.
    """
    low = np.clip(np.floor(match).astype(int), 0, len(trainer.turns) - 1)
    high, share = np.minimum(low + 1, len(trainer.turns) - 1), match - low
    local = local_turns(trainer.turns, trainer.mesh.parents)
    pose = slerp(local[low], local[high], share[:, None])
    hips = trainer.heads[:, 0]
    root = hips[low] * (1 - share)[:, None] + hips[high] * share[:, None]
    size = float(trainee.mesh.heads[0, 2] / max(trainer.mesh.heads[0, 2], 1e-3))
    turn = _yaw(_facing(trainee.turns[:, 0]), _facing(matrix_from_quaternion(pose[:, 0])))
    pose[:, 0] = quaternion_from_matrix(turn @ matrix_from_quaternion(pose[:, 0]))
    root = size * root @ turn.T
    root[:, :2] += (trainee.heads[:, 0] - root)[:, :2].mean(0)
    return pose, root


def _facing(turns: Array) -> Array:
    """(T, 2) where bodies look, seen from above; people face -y at rest."""
    return -turns[:, :2, 1]


def _yaw(to: Array, of: Array) -> Array:
    """(3, 3) turn about z that takes directions (T, 2) to others, on average over the circle."""
    cross, dot = of[:, 0] * to[:, 1] - of[:, 1] * to[:, 0], (of * to).sum(1)
    angle = np.arctan2(cross.sum(), dot.sum())
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
