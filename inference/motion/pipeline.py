"""The road of the motion wing: clips or keypoint files -> 2D -> 3D -> skeleton -> report.

Markers enter it at 3D. Every stage reads artifacts and writes one; an artifact that was made from the same inputs by
the same settings is used again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.artifacts import Artifact, BodyMotion, Keypoints2D, Keypoints3D
from ..core.cameras import Camera, CameraSet
from ..core.formats.calibration import read_calibration
from ..core.formats.keypoints2d import read_keypoints
from ..core.formats.markers import read_markers
from ..core.skeletons import FACE, LEFT_HAND, RIGHT_HAND
from ..protocol.errors import InputError
from ..protocol.events import Reporter, SilentReporter
from ..protocol.requests import MotionRequest
from ..runtime import weights
from ..runtime.device import choose, set_threads
from ..runtime.video import probe
from .fit import FitSettings, fit
from .report import write_report
from .summary import Capture
from .views import check_image_sizes, match_cameras

ALGORITHM = 3  # raise when a stage's result changes for the same inputs
MAX_NAME = 60  # letters of a view's name: artifacts are called after it
_A = TypeVar("_A", bound=Artifact)
_K = TypeVar("_K", Keypoints2D, Keypoints3D)


@dataclass
class _Job:
    """One run: where things go, what has been said, and how long each stage took."""

    request: MotionRequest
    artifacts: Path
    report: Reporter
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[dict[str, str]] = field(default_factory=list)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.report.progress(stage, done, total)

    def warning(self, code: str, text: str) -> None:
        self.warnings.append({"code": code, "text": text})
        self.report.warning(code, text)

    def artifact(self, name: str, file: str) -> None:
        self.report.artifact(name, file)

    def stage(self, kind: type[_A], name: str, stage: str, inputs: Sequence[object], make: Callable[[], _A]) -> _A:
        """Run one stage, or take its artifact where the same inputs already made it."""
        path = self.artifacts / f"{name}.npz"
        fingerprint = _fingerprint(stage, *inputs)
        artifact = _load_same(kind, path, fingerprint)
        if artifact is None:
            said = len(self.warnings)
            start = time.perf_counter()
            artifact = make()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
            artifact = artifact.with_header(fingerprint=fingerprint, stage_warnings=self.warnings[said:])
            artifact.save(path)
        else:
            for warning in artifact.header.get("stage_warnings", []):
                self.warning(warning["code"], warning["text"])
        self.artifact(name, f"artifacts/{path.name}")
        return artifact


def run(request: MotionRequest, folder: Path, report: Reporter) -> dict[str, Any]:
    """Capture a motion into a job folder.

    Writes `artifacts/keypoints_2d*.npz`, `artifacts/keypoints_3d.npz`, `artifacts/body_motion.npz`, `overlay*.mp4`,
    `overlay*.png`, `report.json` and `report.html`.
    Returns:
        The numbers of `report.json`.
    Raises:
        UnderstudyError: see `protocol.errors`.
    """
    job = _Job(request, Path(folder) / "artifacts", report)
    if request.markers is not None:
        views, keypoints = [], from_markers(job, request.markers)
    else:
        cameras = None if request.calibration is None else read_calibration(request.calibration)
        check_doors(request, cameras)
        views = capture_views(job)
        keypoints = to_space(job, views, cameras)
    settings = FitSettings(
        smoothing=request.smoothing, fill_gap_s=request.fill_gap_s, floor=request.floor, hands=request.hands
    )
    motion = job.stage(
        BodyMotion,
        "body_motion",
        "fit",
        [settings, keypoints.header["fingerprint"]],
        lambda: fit(keypoints, settings, job).with_header(start=request.start),
    )
    capture = Capture(views, _cameras_of(keypoints), keypoints, motion, job.seconds, job.warnings)
    return present(job, capture)


def check_doors(request: MotionRequest, cameras: CameraSet | None) -> None:
    """Refuse what cannot work now, and not after minutes of detection: clips, sizes, device, weights."""
    footage = [probe(video) for video in request.video]
    for place, video in enumerate(request.video):
        if any(video.samefile(other) for other in request.video[:place]):
            raise InputError(f"{video.name} is given for two views.", "Give each view the clip of its own camera.")
    if cameras is not None and footage and not request.keypoints:
        _check_sizes([film.size for film in footage], _view_names(request.video), cameras)
    set_threads(request.threads)
    one_view = max(len(request.video), len(request.keypoints)) == 1
    if one_view or request.device == "cuda":
        choose(request.device, request.threads)
    if one_view:
        from .lift import load_net

        load_net(device=_device(request))


def _device(request: MotionRequest) -> str:
    """Where one view is lifted. A processor takes 0.2 ms a frame: an accelerator is woken only when it is asked for."""
    return "cuda" if request.device == "cuda" else "cpu"


def _check_sizes(sizes: Sequence[tuple[int, int]], names: Sequence[str], cameras: CameraSet) -> None:
    nothing = {"positions": np.zeros((1, 0, 2)), "confidence": np.zeros((1, 0)), "times": np.zeros(1)}
    headers = [{"image_size": list(size), "view": name} for size, name in zip(sizes, names, strict=True)]
    views = [Keypoints2D(header=header, **nothing) for header in headers]
    if len(views) == 1:
        _camera_of_view(cameras, views[0], SilentReporter())
    else:
        check_image_sizes(views, match_cameras(views, cameras), SilentReporter())


def capture_views(job: _Job) -> list[Keypoints2D]:
    """See every view: by the detector, or by reading keypoint files."""
    request = job.request
    sources = request.keypoints or request.video
    names = _view_names(request.video or request.keypoints)
    views = []
    for index, source in enumerate(sources):
        person = request.person[index] if request.person else None
        name = "keypoints_2d" if len(sources) == 1 else f"keypoints_2d_{names[index]}"
        make = (_reader if request.keypoints else _detector)(job, index, names[index], person)
        footage = str(request.video[index].resolve()) if request.video else ""
        inputs = [_content(source), footage, names[index], person, _seeing_settings(request)]
        views.append(job.stage(Keypoints2D, name, "detect", inputs, make))
    return views


def _seeing_settings(request: MotionRequest) -> dict[str, Any]:
    names = ("start", "stop", "min_confidence", "hands", "face", "unswap", "image_size", "fps")
    return {name: getattr(request, name) for name in names}


def _detector(job: _Job, index: int, view: str, person: tuple[float, ...] | None) -> Callable[[], Keypoints2D]:
    def make() -> Keypoints2D:
        from .detect import DetectSettings, detect

        request = job.request
        settings = DetectSettings(
            min_confidence=request.min_confidence, hands=request.hands, face=request.face, person=person,
            unswap=request.unswap, start=request.start, stop=request.stop,
        )  # fmt: skip
        found = detect(request.video[index].resolve(), settings, job, view=view)
        return _at_rate(found, request.fps)

    return make


def _reader(job: _Job, index: int, view: str, person: tuple[float, ...] | None) -> Callable[[], Keypoints2D]:
    def make() -> Keypoints2D:
        request = job.request
        found = _read_beside_footage(job, index, view, person)
        found = _trimmed(found, request.start, request.stop)
        found = _without(found, hands=not request.hands, face=not request.face)
        if not request.unswap:
            return found
        from .swap import unswap

        positions, confidence, swapped = unswap(found.positions, found.confidence)
        return replace(found, positions=positions, confidence=confidence).with_header(
            swapped_frames=int(np.count_nonzero(swapped))
        )

    return make


def _read_beside_footage(job: _Job, index: int, view: str, person: tuple[float, ...] | None) -> Keypoints2D:
    """Read keypoints; footage beside them says the image size and the rate where nobody else does."""
    request, source = job.request, job.request.keypoints[index]
    options: dict[str, Any] = {"person": person, "view": view, "start": request.start}
    if not request.video:
        found = read_keypoints(source, image_size=request.image_size, fps=request.fps, **options)
        return found.with_header(source="")
    footage = probe(request.video[index])
    size, fps = request.image_size or footage.size, request.fps or footage.fps
    found = read_keypoints(source, image_size=size, fps=fps, **options)
    if len(found.times) != footage.frames:
        job.warning(
            "footage",
            f"{source.name} holds {len(found.times)} frames and {footage.path.name} {footage.frames}; "
            "the first frames are taken to be the same.",
        )
    return found.with_header(source=str(footage.path.resolve()))


def _without(keypoints: Keypoints2D, *, hands: bool, face: bool) -> Keypoints2D:
    """Leave out parts that nobody asked for."""
    positions, confidence = np.array(keypoints.positions, float), np.array(keypoints.confidence, float)
    for part in ([LEFT_HAND, RIGHT_HAND] if hands else []) + ([FACE] if face else []):
        positions[:, part], confidence[:, part] = np.nan, 0.0
    return replace(keypoints, positions=positions, confidence=confidence)


def to_space(job: _Job, views: Sequence[Keypoints2D], cameras: CameraSet | None) -> Keypoints3D:
    """Lift one view, or triangulate several."""
    request = job.request
    seen = [view.header["fingerprint"] for view in views]
    rig = None if cameras is None else [camera.to_header() for camera in cameras]
    if len(views) > 1:
        from .triangulate import TriangulateSettings, triangulate

        if cameras is None:
            raise InputError(f"{len(views)} views without a calibration.", "Give the calibration of their cameras.")
        settings = TriangulateSettings(min_confidence=request.min_confidence, unswap=request.unswap)
        make = lambda: triangulate(views, cameras, settings, job)  # noqa: E731
        return job.stage(Keypoints3D, "keypoints_3d", "triangulate", [settings, seen, rig], make)
    from .lift import LiftSettings, lift, load_net

    camera = None if cameras is None else _camera_of_view(cameras, views[0], job)
    lifting = LiftSettings(min_confidence=request.min_confidence, focal_px=request.focal_px, height_m=request.height_m)
    make = lambda: lift(views[0], lifting, job, camera=camera, net=load_net(device=_device(request)))  # noqa: E731
    net = weights.registry()["lifter"].sha256
    return job.stage(Keypoints3D, "keypoints_3d", "lift", [lifting, seen, rig, net], make)


def from_markers(job: _Job, path: Path) -> Keypoints3D:
    """Find the joints among markers; what had to be guessed becomes a warning."""
    request = job.request

    def make() -> Keypoints3D:
        found = read_markers(path, fps=request.fps)
        for note in found.header["notes"]:
            job.warning("markers", note)
        return _trimmed(found, request.start, request.stop)

    inputs = [_content(path), path.name, request.fps, request.start, request.stop]
    return job.stage(Keypoints3D, "keypoints_3d", "markers", inputs, make)


def present(job: _Job, capture: Capture) -> dict[str, Any]:
    """Make what people look at: overlay movies and the report page."""
    folder, pictures = job.artifacts.parent, []
    if job.request.overlay:
        from .overlay import write_overlay

        start = time.perf_counter()
        for view, camera in zip(capture.views, capture.cameras, strict=True):
            name = "overlay" if len(capture.views) == 1 else f"overlay_{view.header['view']}"
            still = write_overlay(folder / f"{name}.mp4", view, capture.motion, camera, job, start=job.request.start)
            job.artifact(name, f"{name}.mp4")
            pictures += [still] if still else []
        job.seconds["overlay"] = time.perf_counter() - start
    numbers = write_report(folder, capture, pictures=pictures)
    job.artifact("report", "report.html")
    return numbers


def _cameras_of(keypoints: Keypoints3D) -> list[Camera]:
    return [Camera.from_header(header) for header in keypoints.header["cameras"]]


def _camera_of_view(cameras: CameraSet, view: Keypoints2D, report: Reporter) -> Camera:
    named = [camera for camera in cameras if camera.name == view.header.get("view")]
    if not named and len(cameras) > 1:
        raise InputError(
            f"The calibration holds {len(cameras)} cameras and none is called {view.header.get('view')!r}.",
            "Name the clip after its camera, or keep one camera in the file.",
        )
    camera = named[0] if named else cameras[0]
    check_image_sizes([view], CameraSet((camera,)), report)
    return camera


def _view_names(sources: Sequence[Path]) -> list[str]:
    names: list[str] = []
    for source in sources:
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(source).stem)[:MAX_NAME] or "view"
        name, number = stem, 2
        while name.casefold() in {known.casefold() for known in names}:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def _at_rate(keypoints: Keypoints2D, fps: float | None) -> Keypoints2D:
    """Take the clip to have been filmed at `fps`, whatever its file says (slow motion, wrong metadata)."""
    if fps is None:
        return keypoints
    times = np.arange(len(keypoints.positions)) / fps
    return replace(keypoints, times=times).with_header(fps=fps)


def _trimmed(keypoints: _K, start: int, stop: int | None) -> _K:
    if start == 0 and stop is None:
        return keypoints
    total, rows = len(keypoints.positions), slice(start, stop)
    if not len(keypoints.positions[rows]):
        raise InputError(f"Frames {start} to {stop} were asked for; the keypoints hold {total} frames.")
    names = ("positions", "confidence", "times", "world_m", "validity")
    arrays = {name: getattr(keypoints, name, None) for name in names}
    return replace(keypoints, **{name: array[rows] for name, array in arrays.items() if array is not None})


def _load_same(kind: type[_A], path: Path, fingerprint: str) -> _A | None:
    if not path.is_file():
        return None
    try:
        artifact = kind.load(path)
    except InputError:
        return None  # of another version: made again
    return artifact if artifact.header.get("fingerprint") == fingerprint else None


def _fingerprint(stage: str, *inputs: object) -> str:
    def plain(value: Any) -> Any:
        return asdict(value) if hasattr(value, "__dataclass_fields__") else str(value)

    text = json.dumps([ALGORITHM, stage, *inputs], default=plain, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(path: Path) -> str:
    """Hash of a file's bytes, or of all files in a folder."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.name.encode())
        try:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()
