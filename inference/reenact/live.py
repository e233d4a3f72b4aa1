"""A camera drives a person, one picture at a time and never late, until it is stopped."""

from __future__ import annotations

import json
import statistics
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import PoseDescriptors
from ..core.descriptors import carry_over
from ..core.formats.pictures import write_picture
from ..protocol.errors import Cancelled, InputError
from ..protocol.files import atomic_write_text
from ..protocol.folder import JobFolder
from ..protocol.stream import clock_ns
from ..sight.face_track import FaceTracker
from ..sight.faces import Faces
from ..sight.live_source import Picture, Source, open_camera, open_film
from .crop import Crop, crop_of
from .drive import FADE_S, region_changes
from .frames import Plan, make_frame, over_grey, write_manifest
from .job import ReenactJob
from .person import Person

Array = np.ndarray
NEWEST = "live.png"
_FIRST_FACES = 5  # whose median says how large the crop is
_STILL = 0.12  # of the side: heads that stay within are seen by a crop that does not move
_SHOWN_S = 0.25  # between two pictures that a panel shows
_MOVE_S = 0.25  # in which a crop follows a head that has left it


def follow_camera(job: ReenactJob, folder: JobFolder, person: Person) -> dict[str, Any]:
    """Make a frame of each picture of a camera; the newest is also `artifacts/live.png`.

    Returns:
        The numbers of `report.json`.

    Raises:
        InputError: the camera cannot be opened, or never showed a face.
        Cancelled: somebody asked to stop without keeping anything.
    """
    for old in job.frames.glob("*"):
        old.unlink()
    show = _Show(job, person)
    with _open(job.request.camera) as source, Faces() as faces:
        tracker = FaceTracker(faces, source.fps, job.request.driver_face, report=job)
        while not source.has_ended and not folder.stop.exists():
            if folder.cancel.exists():  # `progress` looks more seldom
                raise Cancelled()
            job.progress("live", len(show.times), 0)
            picture = source.next()
            if picture is not None:
                show.take(picture, tracker)
    return show.finish(source)


def _open(camera: str) -> AbstractContextManager[Source]:
    """A camera, or a film that is played as if it were one."""
    film = Path(camera)
    return open_film(film, in_time=True) if film.is_file() else open_camera(camera, None)


@dataclass
class _Show:
    """What happens to each picture, and what is kept of it."""

    job: ReenactJob
    person: Person
    times: list[float] = field(default_factory=list)
    poses: list[Array] = field(default_factory=list)
    seen: list[bool] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    _first: list[Crop] = field(default_factory=list)
    _pose: Array | None = None
    _reference: Array | None = None
    _keep: Array | None = None
    _shown: float = 1.0  # how opaque the last frame was

    def __post_init__(self) -> None:
        if self.job.request.region != "all":
            self._keep = region_changes(self.job.request.region, self.person, self.person.own[None])

    def take(self, picture: Picture, tracker: FaceTracker) -> None:
        """Turn a picture into a frame; nothing before the first face."""
        face = tracker.see(picture.rgb)
        if face is not None:
            crop = self._crop(crop_of(face.points[:, :2]), picture.time_s)
            pose = self.person.network.pose(crop.cut(picture.rgb, self.person.network.pose_size)[None])[0]
            if np.isfinite(pose).all():
                self._pose = self._smoothed(pose, picture.time_s)
                self._keep_frame(crop, picture, is_seen=True)
                return
        if self._pose is not None:
            self._keep_frame(self.crops[-1], picture, is_seen=False)

    def _keep_frame(self, crop: Crop, picture: Picture, *, is_seen: bool) -> None:
        assert self._pose is not None
        request = self.job.request
        if self._reference is None and request.mode == "relative":
            self._reference = self._pose
        self.times.append(picture.time_s)
        self.poses.append(self._pose)
        self.seen.append(is_seen)
        self.crops.append(crop)
        wanted = carry_over(
            self._pose[None], self.person.own, strength=request.strength, reference=self._reference, keep=self._keep
        )[0]
        rgba = make_frame(self.person, wanted, self._opacity(), request.size or self.person.network.size)
        self.job.frames.mkdir(parents=True, exist_ok=True)
        write_picture(self.job.frames / f"frame_{len(self.times):06d}.{request.format}", rgba)
        write_picture(self.job.artifacts / NEWEST, rgba)
        if self.job.is_time_to_show(_SHOWN_S):
            self.job.show(over_grey(rgba))
        self.late_ms.append((clock_ns() - picture.captured_ns) / 1e6)

    def _crop(self, found: Crop, time_s: float) -> Crop:
        """One scale, from the first faces, and a place that moves only with a head that leaves it."""
        if len(self._first) < _FIRST_FACES:
            self._first.append(found)
        side = float(np.median([crop.side for crop in self._first]))
        if not self.crops:
            return Crop(found.x, found.y, side)
        last, away_s = self.crops[-1], max(time_s - self.times[-1], 1e-3)
        if max(abs(found.x - last.x), abs(found.y - last.y)) < _STILL * side:
            return Crop(last.x, last.y, side)
        share = 1.0 - float(np.exp(-away_s / _MOVE_S))
        return Crop(last.x + share * (found.x - last.x), last.y + share * (found.y - last.y), side)

    def _smoothed(self, pose: Array, time_s: float) -> Array:
        span = self.job.request.smoothing_s
        if self._pose is None or span <= 0:
            return pose
        share = 1.0 - float(np.exp(-max(time_s - self.times[-1], 1e-3) / span))
        return self._pose + share * (pose - self._pose)

    def _opacity(self) -> float:
        """Fade out where nobody has been seen for long, and in where somebody is again."""
        away_s = self.times[-1] - self.times[max(index for index, one in enumerate(self.seen) if one)]
        wanted = float(np.clip(1.0 - (away_s - self.job.request.hold_s) / FADE_S, 0.0, 1.0))
        passed_s = self.times[-1] - self.times[-2] if len(self.times) > 1 else 0.0
        self._shown = min(wanted, self._shown + passed_s / FADE_S)
        return self._shown

    def finish(self, source: Source) -> dict[str, Any]:
        """Write what was seen, and what the frames are.

        Raises:
            InputError: there never was a face.
        """
        job, person = self.job, self.person
        if not self.times:
            raise InputError(f"Camera {job.request.camera} showed no face.", "Sit before it, in light, and try again.")
        times = np.array(self.times) - self.times[0]
        fps = (len(times) - 1) / times[-1] if times[-1] > 0 else source.fps
        header = {"fps": round(float(fps), 3), "network": person.base, "source": "", "is_film": False}
        squares = np.array([(crop.x, crop.y, crop.side) for crop in self.crops])
        driven = PoseDescriptors(
            header, np.array(self.poses), np.arange(1, len(times) + 1), times, np.array(self.seen), squares
        )
        driven.save(job.artifacts / "driver.npz")
        job.artifact("driver", "artifacts/driver.npz")
        names = tuple(sorted(job.frames.glob(f"frame_*.{job.request.format}")))
        size = job.request.size or person.network.size
        write_manifest(job, Plan(driven.descriptors, np.ones(len(times)), names, size), driven)
        numbers = {
            "frames": {"count": len(times), "first": 1, "last": len(times), "made": len(times)},
            "size_px": size, "iterations": person.iterations, "fps": header["fps"],
            "late_ms": round(statistics.median(self.late_ms), 1), "warnings": job.warnings,
            "seconds": {stage: round(value, 2) for stage, value in job.seconds.items()},
        }  # fmt: skip
        atomic_write_text(job.folder / "report.json", json.dumps(numbers, indent=1, allow_nan=False))
        return numbers
