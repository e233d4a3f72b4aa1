"""The first stage: what a clip, files or an earlier capture show of a person - keypoints, masks, joints in space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.artifacts import BodyMotion, Keypoints2D, Keypoints3D
from ..core.cameras import Camera, pinhole
from ..core.formats.keypoints2d import read_keypoints
from ..core.skeletons import BODY, MIN_FRAMES, MIN_JOINTS, OPENPOSE_137
from ..core.stages import content_of
from ..protocol.errors import InputError
from ..runtime import weights
from ..runtime.video import probe
from ..sight.lift import ASSUMED_FOCAL, LiftSettings, lift
from .job import BodyJob
from .masks import Masks, judge, keep_mask, kept_masks, read_masks

Array = np.ndarray
_SAID = {
    "empty": "show nobody", "elsewhere": "are not where the person is", "merged": "show more than this person",
}  # fmt: skip
_LEGS = [10, 11, 13, 14]  # knees and ankles of BODY_25
_CUT = 0.5  # of the body's joints in sight, below which most of it is guessed
_SAME_TIME = 0.6  # of a frame, by which samples may differ that are taken to be one


@dataclass(frozen=True)
class Shown:
    """What one camera shows of the person; frames (T,): numbers of the film's."""

    keypoints: Keypoints2D
    masks: Masks
    frames: Array
    camera: Camera

    @property
    def source(self) -> Path | None:
        """The film, where it is known and still there."""
        return _footage(None, self.keypoints)


@dataclass(frozen=True)
class Sight:
    """What is known of a clip: one view or several, in step, and the same joints in space where somebody had them.

    floor: (4, 4) of a capture, from the frame of its joints in space, and clips: when each view's began, as a header
    has them.
    """

    views: tuple[Shown, ...]
    keypoints_3d: Keypoints3D | None = None
    floor: list[list[float]] | None = None
    clips: list[list[float]] | None = None


def see(job: BodyJob) -> Sight:
    """Look at what was given; masks that cannot be believed are left out, and that is said.

    Raises:
        InputError: it shows nobody, or its parts do not belong together.
    """
    sight = _of_capture(job, job.request.capture) if job.request.capture is not None else _of_clip(job)
    views = []
    for shown in sight.views:
        _check_person(shown.keypoints, job)
        masks, faults = judge(shown.masks, shown.keypoints)
        given = sum(file is not None for file in shown.masks.files)
        for fault, count in faults.items():
            job.warning("masks", f"{count} of {given} masks {_SAID.get(fault, fault)}; they are not used.")
        views.append(replace(shown, masks=masks))
    if not any(any(shown.masks.files) for shown in views):
        job.warning("no-masks", "No mask of the person is usable; the shape comes from the joints alone and is unsure.")
    return replace(sight, views=tuple(views))


def _of_clip(job: BodyJob) -> Sight:
    request = job.request
    film = None if request.video is None else probe(request.video)
    settings = [request.person, request.start, request.stop, request.min_confidence, request.image_size, request.fps]
    inputs = [content_of(path) for path in (request.keypoints, request.video) if path] + settings
    make = (lambda: _detected(job)) if request.keypoints is None else (lambda: _read(job))
    keypoints = job.stage(Keypoints2D, "keypoints_2d", "detect", inputs, make)
    first = request.start if request.keypoints is None else round(float(keypoints.times[0]) * keypoints.fps)
    frames = first + np.arange(len(keypoints.times))
    if film is not None:
        _check_size(keypoints, film.size)
    if request.masks is not None:
        masks = read_masks(request.masks, frames, keypoints.image_size)
    elif request.keypoints is not None and request.video is not None:
        masks = _found_masks(job, request.video, frames, keypoints.image_size)
    else:
        masks = kept_masks(job.mask_folder, frames, keypoints.image_size)
    space = None if request.keypoints_3d is None else _in_step(job, Keypoints3D.load(request.keypoints_3d), keypoints)
    if space is None and request.lift:
        space = _lifted(job, keypoints)
    camera = None if space is None else _camera_of(space, _place_in(space, keypoints))
    if camera is not None and camera.size != keypoints.image_size:
        text = f"The joints in space are of a camera of {camera.size[0]} x {camera.size[1]} px, the keypoints of"
        hint = "Give those that were made of this very clip."
        raise InputError(f"{text} {keypoints.image_size[0]} x {keypoints.image_size[1]} px.", hint)
    return Sight((Shown(keypoints, masks, frames, camera or _assumed(keypoints, request.focal_px)),), space)


def _lifted(job: BodyJob, keypoints: Keypoints2D) -> Keypoints3D:
    """Joints in space by the lifter, as large as the distance to the camera says where that is known."""
    request = job.request
    settings = LiftSettings(
        min_confidence=request.min_confidence, focal_px=request.focal_px, height_m=request.height_m
    )  # fmt: skip
    inputs = [settings, keypoints.header["fingerprint"], weights.registry()["lifter"].sha256]
    found = job.stage(Keypoints3D, "keypoints_3d", "lift", inputs, lambda: lift(keypoints, settings, job))
    hips = found.positions[:, OPENPOSE_137.index("MidHip")]
    known = np.flatnonzero(np.isfinite(hips).all(1))
    if request.distance_m is None or request.height_m is not None or not len(known):
        return found
    return replace(found, positions=found.positions * (request.distance_m / float(np.linalg.norm(hips[known[0]]))))


def _assumed(keypoints: Keypoints2D, focal_px: float | None) -> Camera:
    """A pinhole of the focal length that was given, or of a usual one."""
    return pinhole("camera", keypoints.image_size, focal_px or ASSUMED_FOCAL * max(keypoints.image_size))


def _detected(job: BodyJob) -> Keypoints2D:
    from ..sight.detect import DetectSettings, detect

    request = job.request
    assert request.video is not None
    settings = DetectSettings(
        min_confidence=request.min_confidence, face=False, person=request.person or None, mask=True,
        start=request.start, stop=request.stop,
    )  # fmt: skip
    (job.artifacts / "keypoints_2d.npz").unlink(missing_ok=True)  # not to be taken up again without their masks
    _empty(job.mask_folder)
    keep = lambda frame, mask: keep_mask(job.mask_folder, frame, mask)  # noqa: E731
    found = detect(request.video.resolve(), settings, job, keep_mask=keep)
    if request.fps is None:
        return found
    times = np.arange(len(found.times)) / request.fps
    return replace(found, times=times).with_header(fps=request.fps)


def _found_masks(job: BodyJob, video: Path, frames: Array, size: tuple[int, int], view: str = "") -> Masks:
    """Masks alone, by the detector, of a clip whose keypoints are known; kept from one run to the next."""
    from ..sight.detect import DetectSettings, detect

    start, stop = int(frames.min()), int(frames.max()) + 1
    folder = job.mask_folder / view
    note = folder / "of.txt"
    said = job.fingerprint("masks", content_of(video), start, stop, job.request.person)
    if not note.is_file() or note.read_text(encoding="utf-8") != said:
        settings = DetectSettings(face=False, hands=False, person=job.request.person or None, mask=True, start=start,
                                  stop=stop)  # fmt: skip
        _empty(folder)
        detect(video.resolve(), settings, job, keep_mask=lambda frame, mask: keep_mask(folder, frame, mask))
        note.write_text(said, encoding="utf-8")
    return kept_masks(folder, frames, size)


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.*"):
        old.unlink()


def _read(job: BodyJob) -> Keypoints2D:
    request = job.request
    assert request.keypoints is not None
    size, fps, source = request.image_size, request.fps, ""
    if request.video is not None:
        film = probe(request.video)
        size, fps, source = size or film.size, fps or film.fps, str(request.video.resolve())
    person: Any = request.person or None
    found = read_keypoints(request.keypoints, image_size=size, fps=fps, person=person, start=request.start)
    rows = slice(request.start, request.stop)
    arrays = {name: getattr(found, name)[rows] for name in ("positions", "confidence", "times")}
    if not len(arrays["times"]):
        raise InputError(f"Frames from {request.start} on were asked for; {len(found.times)} frames are there.")
    return replace(found, world_m=None, **arrays).with_header(source=source)


def _of_capture(job: BodyJob, folder: Path) -> Sight:
    """Take keypoints, cameras and clips of a motion capture's job folder.

    Raises:
        InputError: it is no such folder, or has no such view.
    """
    request, artifacts = job.request, folder / "artifacts"
    space = Keypoints3D.load(artifacts / "keypoints_3d.npz")
    motion = _header_of_motion(artifacts / "body_motion.npz")
    views = {str(view.header.get("view", "")): view for view in _views_of(artifacts, space)}
    order = [str(name) for name in space.header.get("views", views)]
    wanted = [name for name in order if name in views and request.view in ("", name)]
    if not wanted:
        hint = f"Its views are {', '.join(views)}." if views else "Capture the clips again."
        of_view = f"of a view {request.view!r}" if request.view else "of a film"
        raise InputError(f"{folder.name} holds no keypoints {of_view}.", hint)
    if request.video is not None and len(wanted) > 1:
        text = f"One clip was given beside a capture of {len(wanted)} views: {', '.join(wanted)}."
        raise InputError(text, "Say which view it is of: --view NAME.")
    places = [order.index(name) for name in wanted]
    shown = [_shown(job, views[name], space, k, motion.get("start")) for name, k in zip(wanted, places, strict=True)]
    clips = space.header.get("clips")
    return Sight(tuple(shown), space, motion.get("floor_from_frame"), clips and [clips[k] for k in places])


def _views_of(artifacts: Path, space: Keypoints3D) -> list[Keypoints2D]:
    """What each camera saw of the person in `space`; other people and earlier runs have files beside these."""
    names = [f"keypoints_2d_{name}.npz" for name in space.header.get("views", [])] or ["keypoints_2d.npz"]
    files = [artifacts / name for name in names if (artifacts / name).is_file()]
    return [Keypoints2D.load(file) for file in files or sorted(artifacts.glob("keypoints_2d*.npz"))]


def _shown(job: BodyJob, view: Keypoints2D, space: Keypoints3D, place: int, start: int | None) -> Shown:
    """What one camera of a capture shows, at the times of its joints in space; `start`: the first frame it read."""
    keypoints, rows = _sampled(view, space, place)
    frames = rows + (round(float(view.times[0]) * view.fps) if start is None else start)
    camera = _camera_of(space, place) or _assumed(keypoints, job.request.focal_px)
    footage = _footage(job.request.video, keypoints)
    if job.request.video is not None:
        _check_size(keypoints, probe(job.request.video).size)
    if job.request.masks is not None:
        masks = read_masks(job.request.masks, frames, keypoints.image_size)
    elif footage is not None:
        masks = _found_masks(job, footage, frames, keypoints.image_size, camera.name)
        keypoints = keypoints.with_header(source=str(footage))
    else:
        masks = Masks((None,) * len(keypoints.times), keypoints.image_size)
    return Shown(keypoints, masks, frames, camera)


def _header_of_motion(file: Path) -> dict[str, Any]:
    """Where a capture found the floor, if it looked for it, and the first frame that it read."""
    return dict(BodyMotion.load(file).header) if file.is_file() else {}


def _footage(video: Path | None, keypoints: Keypoints2D) -> Path | None:
    source = str(video or keypoints.header.get("source") or "")
    return Path(source) if source and Path(source).is_file() else None


def _sampled(view: Keypoints2D, space: Keypoints3D, place: int) -> tuple[Keypoints2D, Array]:
    """What a view saw at the times of the joints in space, and the row of each."""
    start, rate = (space.header.get("clips") or [[None, 1.0]] * (place + 1))[place]
    times = space.times if start is None else start + (space.times - space.times[0]) * (rate or 1.0)
    rows = np.searchsorted(0.5 * (view.times[:-1] + view.times[1:]), times)  # the nearest, at any rate
    seen = np.abs(view.times[rows] - times) < _SAME_TIME / view.fps
    positions = np.where(seen[:, None, None], view.positions[rows], np.nan)
    confidence = np.where(seen[:, None], view.confidence[rows], 0.0)
    taken = replace(view, positions=positions, confidence=confidence, times=space.times, world_m=None)
    return taken.with_header(fps=space.fps), rows


def _check_size(keypoints: Keypoints2D, size: tuple[int, int]) -> None:
    """Refuse a film of another size than the keypoints'.

    Raises:
        InputError: it is.
    """
    if size != keypoints.image_size:
        text = f"Keypoints of {keypoints.image_size[0]} x {keypoints.image_size[1]} px do not belong to a clip of"
        raise InputError(f"{text} {size[0]} x {size[1]} px.", "Give the clip that the keypoints were found in.")


def _place_in(space: Keypoints3D, keypoints: Keypoints2D) -> int:
    """Which of the cameras of joints in space saw these keypoints, by its name or its film.

    Raises:
        InputError: there are several, and none of them is said to.
    """
    names = [str(camera["name"]) for camera in space.header.get("cameras") or []]
    if len(names) < 2:
        return 0
    for known, name in (("views", "view"), ("sources", "source")):
        mine, theirs = keypoints.header.get(name), list(space.header.get(known) or [])
        if mine and mine in theirs:
            return theirs.index(mine)
    text = f"The joints in space are of {len(names)} cameras, {', '.join(names)}; the keypoints name none of them"
    raise InputError(f"{text} ({keypoints.header.get('view', '')!r}).", "Give --capture JOB and --view NAME instead.")


def _camera_of(space: Keypoints3D, place: int) -> Camera | None:
    cameras = space.header.get("cameras") or []
    return Camera.from_header(cameras[place]) if place < len(cameras) else None


def _in_step(job: BodyJob, space: Keypoints3D, keypoints: Keypoints2D) -> Keypoints3D:
    """Refuse joints in space of another clip; say where they seem to be of other frames of it.

    Raises:
        InputError: they have other frames.
    """
    if len(space.times) != len(keypoints.times):
        text = f"The joints in space have {len(space.times)} frames, the clip {len(keypoints.times)}."
        raise InputError(text, "Give those that were made of this very clip.")
    apart = float(np.abs(space.times - keypoints.times).max())
    if apart > 1.0 / min(space.fps, keypoints.fps):
        text = f"The joints in space are of other moments than the keypoints, by up to {apart:.2f} s; they are taken in"
        job.warning("other-times", f"{text} the order of their frames. Give those of these very frames.")
    return space


def _check_person(keypoints: Keypoints2D, job: BodyJob) -> None:
    """Refuse what hardly shows anybody; say where most of the body is out of sight."""
    width, height = keypoints.image_size
    points = keypoints.positions[:, BODY]
    inside = (points >= 0).all(-1) & (points[..., 0] < width) & (points[..., 1] < height)
    seen = (keypoints.confidence[:, BODY] >= job.request.min_confidence) & inside
    shown = seen.sum(1) >= MIN_JOINTS
    frames, least = len(shown), min(MIN_FRAMES, 1 if job.request.keypoints is not None else MIN_FRAMES)
    if shown.sum() < least:
        hint = "Film one person whole, in good light, and larger than a fifth of the picture's height."
        raise InputError(f"{int(shown.sum())} of {frames} frames show a person; at least {least} are needed.", hint)
    cut = shown & (seen.mean(1) < _CUT)
    if cut.sum() > 0.25 * shown.sum():
        text = f"{int(cut.sum())} of {int(shown.sum())} frames show less than half of the body; the rest is guessed."
        job.warning("cut-off", text)
        return
    without = shown & ~seen[:, _LEGS].any(1)
    if without.sum() > 0.5 * shown.sum():
        text = f"{int(without.sum())} of {int(shown.sum())} frames show neither knees nor feet."
        job.warning(
            "legs-unseen", f"{text} Legs, height and inseam are guessed; film the whole person, or give a height."
        )
