"""Poses to frames as files, each whole or not there; what was made from the same inputs is used again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..core.artifacts import PoseDescriptors
from ..core.formats.pictures import read_key, to_bytes, write_picture
from ..protocol.files import atomic_write_text
from .job import FRAMES, ReenactJob
from .person import Person

Array = np.ndarray
STEM = "frame_"
MANIFEST = "reenactment.json"
_DIGITS = 4  # at least
_GREY = 0.5  # behind what is shown
_CLEAR = 1e-3  # alpha below which there is no colour


@dataclass(frozen=True)
class Plan:
    """What is to be made: poses (T, D), opacity (T,), the files' names, and the side of the frames."""

    poses: Array
    opacity: Array
    files: tuple[Path, ...]
    size: int


def plan_frames(job: ReenactJob, driven: PoseDescriptors, poses: Array, opacity: Array, person: Person) -> Plan:
    """Name the frames after the driver's."""
    digits = max(_DIGITS, len(str(int(driven.frames[-1]))))
    files = tuple(job.frames / f"{STEM}{number:0{digits}d}.{job.request.format}" for number in driven.frames.tolist())
    return Plan(poses, opacity, files, job.request.size or person.network.size)


def make_frames(job: ReenactJob, plan: Plan, person: Person, threads: int) -> int:
    """Make what is not there yet and remove what belongs to other settings; gives how many were made.

    Frames are made one at a time, so that none depends on where work was cut off.

    Raises:
        ResourceError: the disk is full.
        Cancelled: somebody asked to stop; frames that are whole stay.
    """
    wanted, made = set(plan.files), 0
    for old in job.frames.glob("*"):
        if old.is_file() and old not in wanted:
            old.unlink()
    inputs = job.fingerprint("frames", person.key, plan.size, job.request.format, threads)
    for place, path in enumerate(plan.files):
        job.progress("frames", place, len(plan.files))
        key = _key(inputs, plan.poses[place], float(plan.opacity[place]))
        if read_key(path) == key:
            continue
        rgba = make_frame(person, plan.poses[place], float(plan.opacity[place]), plan.size)
        write_picture(path, rgba, key=key)
        made += 1
        if job.is_time_to_show():
            job.show(over_grey(rgba))
    job.progress("frames", len(plan.files), len(plan.files))
    return made


def _key(inputs: str, pose: Array, opacity: float) -> str:
    numbers = np.append(pose, opacity).astype("<f4")
    return hashlib.sha256(inputs.encode() + numbers.tobytes()).hexdigest()


def make_frame(person: Person, pose: Array, opacity: float, size: int) -> Array:
    """(size, size, 4) float in [0, 1], sRGB, not multiplied by alpha."""
    rgb, alpha = person.frame(pose.astype(np.float32))
    both = np.concatenate([rgb, alpha[..., None]], -1)
    if size != len(both):
        way = cv2.INTER_CUBIC if size > len(both) else cv2.INTER_AREA
        both = cv2.resize(both, (size, size), interpolation=way)
    alpha = np.clip(both[..., 3:], 0.0, 1.0)
    straight = np.where(alpha > _CLEAR, np.clip(both[..., :3] / np.maximum(alpha, _CLEAR), 0.0, 1.0), 0.0)
    return np.concatenate([straight, alpha * opacity], -1)


def over_grey(rgba: Array) -> Array:
    """(H, W, 3) uint8 of a frame before grey."""
    alpha = rgba[..., 3:]
    return to_bytes(rgba[..., :3] * alpha + _GREY * (1.0 - alpha))


def write_manifest(job: ReenactJob, plan: Plan, driven: PoseDescriptors) -> None:
    """Say in `reenactment.json` what the frames are, for whoever puts them to use."""
    first = plan.files[0]
    digits = len(first.stem) - len(STEM)
    manifest: dict[str, Any] = {
        "folder": FRAMES, "stem": STEM, "digits": digits, "suffix": first.suffix, "size": plan.size,
        "frames": driven.frames.tolist(), "fps": driven.fps, "start_s": float(driven.times[0]),
        "times": np.round(driven.times, 6).tolist(),
        "driver": str(driven.header.get("source", "")), "is_film": bool(driven.header.get("is_film", False)),
        "unseen": driven.frames[~driven.seen].tolist(),
    }  # fmt: skip
    atomic_write_text(job.artifacts / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False))
    job.artifact("reenactment", f"artifacts/{MANIFEST}")
