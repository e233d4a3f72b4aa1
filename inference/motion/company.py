"""The road of several people: everybody in each view -> who is who -> the road of one person, for each of them.

The first person's artifacts are called as if they were alone; those of others end in `_person2`, `_person3` ...
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..core.artifacts import Artifact, BodyMotion, Crowd2D, Keypoints2D, Keypoints3D
from ..core.cameras import Camera, CameraSet
from ..core.formats.keypoints2d import read_crowd
from ..core.skeletons import BODY, MIN_FRAMES
from ..core.stages import content_of
from ..protocol.errors import InputError
from ..protocol.events import Part, SilentReporter
from ..runtime.video import probe
from ..sight.detect import DetectSettings
from ..sight.people import Person, associate, detect_people, unswapped
from .fit import FitSettings, fit
from .job import Job, forget_people
from .pipeline import cameras_of, put_in_step, to_space
from .report import write_report
from .rig import check_rig, settle_rig
from .see import Span, seeing_settings, spans_of, view_names
from .summary import Capture, summary
from .sync import in_step
from .views import check_image_sizes, check_rotations, match_cameras

Array = np.ndarray
_A = TypeVar("_A", bound=Artifact)
_WHOLE = 0.9  # of the frames in which clothes show somebody
# Of whom the report tells; the rest of a summary is the first person's.
_FIGURES = (
    "frames", "frame", "height_m", "views", "reprojection_px", "limb_length_std_mm", "confidence", "feet", "jitter_mm",
)  # fmt: skip


@dataclass
class _Turn(Job):
    """One person's turn: the same job, under names of their own."""

    suffix: str = ""
    number: int = 1

    def warning(self, code: str, text: str) -> None:
        """Say of whom it is."""
        mark = f"Person {self.number}: "
        super().warning(code, text if text.startswith(mark) else mark + text)

    def stage(self, kind: type[_A], name: str, stage: str, inputs: Sequence[object], make: Callable[[], _A]) -> _A:
        """Run one stage under the person's own name."""
        return super().stage(kind, f"{name}{self.suffix}", stage, [*inputs, self.suffix], make)


def run_people(job: Job, cameras: CameraSet | None) -> dict[str, Any]:
    """Capture several people; what `pipeline.run` does for one.

    Raises:
        UnderstudyError: see `protocol.errors`; somebody who cannot be placed in space is only warned of, unless that is
            everybody.
    """
    crowds = see_everybody(job)
    people, cameras = _find_people(job, crowds, cameras)
    captures, failed = [], []
    for number, person in enumerate(people, 1):
        suffix = "" if not captures else f"_person{len(captures) + 1}"
        turn = _Turn(
            job.request, job.artifacts, job.report, job.seconds, job.warnings, job.offsets, job.findings, suffix
        )
        try:
            captures.append(_capture(turn, person, cameras, captures))
        except InputError as error:
            failed.append(error)
            job.warning("people", f"Person {number} is left out: {error.message}")
        job.progress("people", number, len(people))
    if not captures:
        raise failed[0]
    forget_people(job.artifacts, len(captures))
    return _present(job, captures)


def see_everybody(job: Job) -> list[Crowd2D]:
    """Track everybody in every view: by the detector, or by reading keypoint files."""
    request = job.request
    sources = request.keypoints or request.video
    names, spans, crowds = view_names(request.video or request.keypoints), spans_of(request), []
    for index, source in enumerate(sources):
        name = "crowd_2d" if len(sources) == 1 else f"crowd_2d_{names[index]}"
        make = (_reader if request.keypoints else _detector)(job, index, names[index], spans[index])
        footage = str(request.video[index].resolve()) if request.video else ""
        inputs = [content_of(source), footage, names[index], seeing_settings(request, spans[index]), "everybody"]
        crowds.append(job.stage(Crowd2D, name, "detect", inputs, make))
    return crowds


def _detector(job: Job, index: int, view: str, span: Span) -> Callable[[], Crowd2D]:
    request = job.request
    settings = DetectSettings(hands=request.hands, face=request.face, start=span[0], stop=span[1])

    def make() -> Crowd2D:
        part = Part(job, index, len(request.video))
        found = detect_people(request.video[index].resolve(), settings, part, view=view)
        if request.fps is None:
            return found
        return replace(found, times=np.arange(len(found.times)) / request.fps).with_header(fps=request.fps)

    return make


def _reader(job: Job, index: int, view: str, span: Span) -> Callable[[], Crowd2D]:
    request, (start, stop) = job.request, span

    def make() -> Crowd2D:
        footage = probe(request.video[index]) if request.video else None
        size = request.image_size or (footage.size if footage else None)
        fps = request.fps or (footage.fps if footage else None)
        found = read_crowd(request.keypoints[index], image_size=size, fps=fps, view=view)
        kept = found.frame >= start
        if stop is not None:
            kept &= found.frame < stop
        if not kept.any():
            raise InputError(f"No frame of {view} from {start} on shows anybody.")
        rows = {name: getattr(found, name)[kept] for name in ("frame", "track", "positions", "confidence")}
        rows["frame"] = rows["frame"] - start
        times = found.times[start:stop]
        return replace(found, **rows, times=times).with_header(source=str(footage.path.resolve()) if footage else "")

    return make


def _rig_of(crowds: Sequence[Crowd2D], cameras: CameraSet) -> CameraSet:
    """Put the cameras in the order of the views, and refuse those that do not fit."""
    nobody = [_nobody(crowd) for crowd in crowds]
    rig = match_cameras(nobody, cameras)
    check_image_sizes(nobody, rig, SilentReporter())
    check_rotations(rig)
    return rig


def _nobody(crowd: Crowd2D) -> Keypoints2D:
    joints = len(crowd.header["joints"])
    return Keypoints2D(crowd.header, np.full((1, joints, 2), np.nan), np.zeros((1, joints)), crowd.times[:1])


def _find_people(job: Job, crowds: list[Crowd2D], cameras: CameraSet | None) -> tuple[list[Person], CameraSet | None]:
    """Tell people apart; whoever is seen most puts the views in step and calibrates them, where that is needed.

    Then people are told apart again. Without a calibration, they are so by their clothes at first.
    """
    request, several = job.request, len(crowds) > 1
    start = time.perf_counter()
    wanted: dict[str, Any] = {"people": request.people, "chosen": request.person}
    rig = _rig_of(crowds, cameras) if several and cameras is not None else None
    settled = rig is not None and request.sync == "off" and not request.refine
    people = associate(crowds, rig, job if settled or not several else SilentReporter(), **wanted)
    if several and not settled:
        if rig is not None and request.sync != "off":
            people = _not_in_step(people, crowds, wanted)
        pairs = zip(people[0].views, crowds, strict=True)
        views = [view.with_header(fingerprint=crowd.header["fingerprint"]) for view, crowd in pairs]
        views = put_in_step(job, views, rig)
        cameras = settle_rig(job, views, cameras)
        assert cameras is not None
        rates, seconds = ([1.0] * len(crowds), [0.0] * len(crowds))
        if job.offsets is not None and job.offsets.moved:
            rates, seconds = job.offsets.rates, job.offsets.seconds
        moved = [replace(c, times=c.times * r + s) for c, r, s in zip(crowds, rates, seconds, strict=True)]
        people = [_on_own_clocks(p, crowds) for p in associate(moved, _rig_of(crowds, cameras), job, **wanted)]
    job.seconds["associate"] = time.perf_counter() - start
    if several:
        seen = people[0].views if job.offsets is None else in_step(people[0].views, job.offsets, SilentReporter())
        check_rig(job, seen, cameras)
    return ([unswapped(person) for person in people] if request.unswap else people), cameras


def _not_in_step(people: list[Person], crowds: Sequence[Crowd2D], wanted: dict[str, Any]) -> list[Person]:
    """Tell people apart by their clothes where rays have torn them apart: those of different moments do not meet."""
    if any(crowd.look is None for crowd in crowds):
        return people
    dressed = associate(crowds, None, SilentReporter(), **wanted)
    return dressed if sum(people[0].frames) < _WHOLE * sum(dressed[0].frames) else people


def _on_own_clocks(person: Person, crowds: Sequence[Crowd2D]) -> Person:
    return replace(person, views=tuple(replace(v, times=c.times) for v, c in zip(person.views, crowds, strict=True)))


def _capture(turn: _Turn, person: Person, cameras: CameraSet | None, before: Sequence[Capture]) -> Capture:
    """Take one person from their views to a skeleton."""
    views = [_keep(turn, view) for view in person.views]
    if turn.offsets is not None:
        views = in_step(views, turn.offsets, turn)
    lone = [view for view, frames in zip(views, person.frames, strict=True) if frames >= MIN_FRAMES]
    if len(views) > 1 and len(lone) == 1:
        keypoints, views = _lifted(turn, lone[0], views, cameras), lone
    else:
        if before and len(before[0].cameras) == len(views):  # cameras that the first one's clip has moved serve all
            cameras = CameraSet(tuple(before[0].cameras))
            turn = replace(turn, request=replace(turn.request, move_cameras=False))
        keypoints = to_space(turn, views, cameras)
    if before:
        keypoints = trimmed(keypoints)
    settings = FitSettings(
        smoothing=turn.request.smoothing, fill_gap_s=turn.request.fill_gap_s, floor=turn.request.floor,
        hands=turn.request.hands,
    )  # fmt: skip
    floor = before[0].motion.header.get("floor_from_frame") if before else None

    def make() -> BodyMotion:
        motion = fit(keypoints, settings, turn).with_header(start=turn.request.start)
        return motion if floor is None else motion.with_header(floor_from_frame=floor)  # one floor for all

    inputs = [settings, keypoints.header["fingerprint"], floor]
    motion = turn.stage(BodyMotion, "body_motion", "fit", inputs, make)
    shown = cameras_of(keypoints)
    return Capture(views, shown, keypoints, motion, turn.seconds, turn.warnings, offsets=turn.offsets)


def _keep(turn: _Turn, view: Keypoints2D) -> Keypoints2D:
    """Save what one view saw of the person."""
    several = max(len(turn.request.video), len(turn.request.keypoints)) > 1
    name = f"keypoints_2d_{view.header['view']}" if several else "keypoints_2d"
    content = turn.fingerprint("person", view.positions.tobytes(), view.confidence.tobytes())
    return turn.stage(Keypoints2D, name, "associate", [content, view.header], lambda: view)


def _lifted(turn: _Turn, view: Keypoints2D, views: Sequence[Keypoints2D], cameras: CameraSet | None) -> Keypoints3D:
    """Lift somebody whom a single one of several calibrated cameras sees, into the world of them all."""
    assert cameras is not None
    turn.warning(
        "people", f"Somebody is seen by {view.header['view']} alone: lifted from one view, which is less exact."
    )
    camera = match_cameras(views, cameras)[list(views).index(view)]
    keypoints = to_space(replace(turn, suffix=f"{turn.suffix}_{view.header['view']}"), [view], CameraSet((camera,)))
    inputs = [keypoints.header["fingerprint"], camera.to_header()]
    return turn.stage(Keypoints3D, "keypoints_3d", "lift", inputs, lambda: in_world(keypoints, camera))


def in_world(keypoints: Keypoints3D, camera: Camera) -> Keypoints3D:
    """Take keypoints from a camera's frame to the world."""
    positions = (keypoints.positions - camera.translation) @ camera.rotation
    header = {"frame": "world", "cameras": [camera.to_header()]}
    return replace(keypoints, positions=positions).with_header(**header)


def trimmed(keypoints: Keypoints3D) -> Keypoints3D:
    """Leave out the time before somebody comes and after they have gone."""
    there = np.flatnonzero((keypoints.confidence[:, BODY] > 0).any(1))
    if not len(there):
        raise InputError("Nowhere in space are they found.", "Check the calibration.")
    rows = slice(int(there[0]), int(there[-1]) + 1)
    changed: dict[str, Any] = {}
    for name, value in vars(keypoints).items():
        if isinstance(value, np.ndarray):
            changed[name] = value[:, rows] if name in ("error_px", "views_used") else value[rows]
    return replace(keypoints, **changed)


def _present(job: Job, captures: Sequence[Capture]) -> dict[str, Any]:
    """Make overlay movies that show everybody, and the report."""
    folder, first, pictures = job.artifacts.parent, captures[0], []
    if job.request.overlay:
        from .overlay import write_overlay

        start = time.perf_counter()
        for view, camera in zip(first.views, first.cameras, strict=True):
            name = "overlay" if len(first.views) == 1 else f"overlay_{view.header['view']}"
            others = [shown for capture in captures[1:] if (shown := _shown(capture, view))]
            still = write_overlay(
                folder / f"{name}.mp4", view, first.motion, camera, job, start=job.request.start, others=others
            )
            job.artifact(name, f"{name}.mp4")
            pictures += [still] if still else []
        job.seconds["overlay"] = time.perf_counter() - start
    first.facts["people"] = [_figures(capture, number) for number, capture in enumerate(captures, 1)]
    numbers = write_report(folder, first, pictures=pictures)
    job.artifact("report", "report.html")
    return numbers


def _shown(capture: Capture, view: Keypoints2D) -> tuple[Keypoints2D, BodyMotion] | None:
    own = [v for v in capture.views if v.header["view"] == view.header["view"]]
    return (own[0] if own else replace(view, confidence=np.zeros_like(view.confidence)), capture.motion)


def _figures(capture: Capture, number: int) -> dict[str, Any]:
    """What the report says of one person."""
    numbers = summary(capture)
    suffix = "" if number == 1 else f"_person{number}"
    times = capture.motion.times
    return {
        "person": number,
        "keypoints_3d": f"artifacts/keypoints_3d{suffix}.npz",
        "body_motion": f"artifacts/body_motion{suffix}.npz",
        "seconds": [round(float(times[0]), 3), round(float(times[-1]), 3)],
        **{name: numbers[name] for name in _FIGURES},
    }
