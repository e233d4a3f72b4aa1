"""What can be asked for: one frozen dataclass a task, and the list of tasks.

A new task is a request class and a line in `TASKS`; flags, JSON, Blender's properties and tables follow from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from . import schema
from .errors import RequestError
from .schema import About, frozen

Fault = Literal["none", "error", "abort", "exit", "memory", "hang", "hold"]
MAX_PHOTOS = 8  # of one head
PHOTOS = (  # endings; of HEIC photos the reader says that they are not read
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".jp2",
    ".tga", ".avif", ".heic", ".heif",
)  # fmt: skip
PROTOCOL = 1  # raise when an older worker or an older add-on could not understand the job folder


@frozen
class MotionRequest:
    """Film of one person, by one camera or several, becomes a moving skeleton."""

    video: Annotated[tuple[Path, ...], About("A clip; once for each view, in the order of the calibration.")] = ()
    keypoints: Annotated[
        tuple[Path, ...], About("A file or folder of 2D keypoints in place of detection; once for each view.")
    ] = ()
    calibration: Annotated[
        Path | None, About("The calibration of the cameras; without it, several are calibrated from the person.")
    ] = None
    refine: Annotated[bool, About("Refine the calibration on this very clip first.")] = False
    markers: Annotated[
        Path | None, About("A C3D or TRC file of markers on the person, in place of clips and keypoints.")
    ] = None
    image_size: Annotated[
        tuple[int, int] | None,
        About("Size of the images, where keypoint files do not say it.", 16, 16384, "px", ("W", "H")),
    ] = None
    fps: Annotated[float | None, About("Frames per second, where the files do not say it.", 0.1, 1000)] = None
    person: Annotated[
        tuple[tuple[float, ...], ...],
        About("Who is followed on the first frame: a point X Y or a box X0 Y0 X1 Y1; once for each view.", unit="px"),
    ] = ()
    people: Annotated[int, About("How many people are captured; 0 is everybody.", 0, 32)] = 1
    sync: Annotated[
        Literal["off", "auto", "motion", "sound"],
        About("How clips are brought in step; auto shifts them only on clear evidence."),
    ] = "auto"
    triangulation: Annotated[
        Literal["auto", "lift", "dlt", "ransac", "algebraic", "volumetric", "temporal"],
        About("How keypoints come into space; auto takes what promises the smallest error."),
    ] = "auto"
    whole_clip: Annotated[
        bool,
        About("Place what several cameras saw in all frames together: bones keep their length, motion is steady."),
    ] = True
    move_cameras: Annotated[
        bool, About("Where the whole clip is placed: move its cameras, too, as far as calibrations usually err.")
    ] = True
    tuned: Annotated[
        Path | None, About("Weights that were tuned to these cameras; without them, the published ones.")
    ] = None
    start: Annotated[int, About("The first frame that is read, of the slowest of several clips.", 0)] = 0
    stop: Annotated[int | None, About("The frame before which reading stops; without it, the clip's end.", 1)] = None
    smoothing: Annotated[float, About("How strongly jitter is taken out of the motion.", 0, 1)] = 0.5
    min_confidence: Annotated[float, About("Keypoints seen less surely than this are left out.", 0, 1)] = 0.3
    focal_px: Annotated[
        float | None, About("Focal length of a single camera, where it is known.", 50, 100_000, "px")
    ] = None
    height_m: Annotated[float | None, About("Height of the person, where it is known.", 0.5, 2.5, "m")] = None
    hands: Annotated[bool, About("Capture the fingers.")] = True
    face: Annotated[bool, About("Capture the face.")] = True
    unswap: Annotated[bool, About("Find and undo exchanges of left and right.")] = True
    floor: Annotated[bool, About("Find the floor from the feet and stand the person on it.")] = True
    fill_gap_s: Annotated[float, About("Gaps up to this long are filled.", 0, 5, "s")] = 0.5
    overlay: Annotated[bool, About("Draw a movie of the result over the footage.")] = True
    device: Annotated[Literal["auto", "cpu", "cuda"], About("Where one view is lifted; auto is cpu.")] = "auto"
    threads: Annotated[int, About("Processor threads behind detection; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        views = max(len(self.video), len(self.keypoints))
        if views and self.markers is not None:
            raise RequestError("given beside clips or keypoints", "Give one or the other.", field="markers")
        if not views and self.markers is None:
            raise RequestError("no clip and no keypoints", "Give --video FILE or --keypoints FOLDER.", field="video")
        if self.video and self.keypoints and len(self.video) != len(self.keypoints):
            count = f"{len(self.keypoints)} given for {len(self.video)} videos"
            raise RequestError(count, "Give one for each view, or only one of the two kinds.", field="keypoints")
        if self.refine and self.calibration is None:
            raise RequestError("there is nothing to refine", "Give the calibration, too.", field="refine")
        if views > 1 and self.triangulation == "lift":
            raise RequestError(f"{views} views are not lifted", "Give one view, or another way.", field="triangulation")
        if views == 1 and self.triangulation not in ("auto", "lift"):
            hint = f"{self.triangulation} needs 2 views at least; one is lifted (auto)."
            raise RequestError("1 view is not triangulated", hint, field="triangulation")
        self._check_person(views)
        if self.stop is not None and self.stop <= self.start:
            raise RequestError(f"{self.stop} is not after start {self.start}", field="stop")

    def _check_person(self, views: int) -> None:
        if len(self.person) not in (0, views):
            raise RequestError(f"{len(self.person)} given for {views} views", field="person")
        for index, where in enumerate(self.person):
            if len(where) not in (2, 4):
                hint = "A point is X Y, a box is X0 Y0 X1 Y1."
                raise RequestError(f"{len(where)} values given, 2 or 4 needed", hint, field=f"person[{index}]")


@frozen
class CalibrateRequest:
    """Clips of people or of a board become calibrated cameras; or a calibration is refined, checked, written anew."""

    video: Annotated[tuple[Path, ...], About("A clip; once for each camera.")] = ()
    keypoints: Annotated[
        tuple[Path, ...], About("A file or folder of 2D keypoints in place of detection; once for each camera.")
    ] = ()
    board: Annotated[
        str,
        About("The board in the clips: chessboard:9x6:0.025 (inner corners, metres) or charuco:5x7:0.04:0.03:4X4_50."),
    ] = ""
    calibration: Annotated[Path | None, About("A calibration to refine, to check or to write in another format.")] = (
        None
    )
    refine: Annotated[bool, About("Refine the calibration on the people in the clips.")] = False
    check: Annotated[bool, About("Say what is wrong with the calibration.")] = False
    fix: Annotated[bool, About("Put right what the check finds.")] = False
    only: Annotated[tuple[str, ...], About("Put only this right: CODE or CODE@CAMERA; may be repeated.")] = ()
    lenses: Annotated[bool, About("Refine the lenses, too.")] = False
    height_m: Annotated[float | None, About("Height of the person, where it is known.", 0.5, 2.5, "m")] = None
    distance: Annotated[
        tuple[str, ...], About("One measured distance between two cameras: the name of each, and metres.")
    ] = ()
    focal_px: Annotated[float | None, About("Focal length of all cameras, where it is known.", 50, 100_000, "px")] = (
        None
    )
    fps: Annotated[float | None, About("Frames per second, where the files do not say it.", 0.1, 1000)] = None
    image_size: Annotated[
        tuple[int, int] | None,
        About("Size of the images, where keypoint files do not say it.", 16, 16384, "px", ("W", "H")),
    ] = None
    start: Annotated[int, About("The first frame that is read.", 0)] = 0
    stop: Annotated[int | None, About("The frame before which reading stops; without it, the clip's end.", 1)] = None
    min_confidence: Annotated[float, About("Keypoints seen less surely than this are left out.", 0, 1)] = 0.3
    export: Annotated[Path | None, About("Write the calibration here, too, in the format that the name says.")] = None
    format: Annotated[str, About("The format of the export, where its name does not say it.")] = ""
    threads: Annotated[int, About("Processor threads behind detection; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        needs = next((name for name in ("refine", "check", "fix") if getattr(self, name)), "")
        if needs and self.calibration is None:
            raise RequestError("there is no calibration", "Give --calibration FILE.", field=needs)
        views = max(len(self.video), len(self.keypoints))
        if not views and (self.calibration is None or self.refine):
            raise RequestError("no clip and no keypoints", "Give --video FILE, once for each camera.", field="video")
        if self.board and not self.video:
            raise RequestError("a board is looked for in clips", "Give --video FILE.", field="board")
        if len(self.distance) not in (0, 3):
            hint = "Give the names of two cameras and metres."
            raise RequestError(f"{len(self.distance)} values given, 3 needed", hint, field="distance")
        if self.stop is not None and self.stop <= self.start:
            raise RequestError(f"{self.stop} is not after start {self.start}", field="stop")


@frozen
class TuneRequest:
    """What decides which views are believed is tuned to a rig, by captures that were made with it."""

    captures: Annotated[
        tuple[Path, ...], About("Job folder of an earlier capture of the rig's cameras; may be repeated.")
    ] = ()
    minutes: Annotated[float, About("How long it may take.", 0.01, 600, "min")] = 5.0
    threads: Annotated[int, About("Processor threads; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse nothing to learn from."""
        if not self.captures:
            raise RequestError("no earlier capture", "Give --captures FOLDER.", field="captures")


@frozen
class SyncRequest:
    """Clips of one take that started at different moments: when each did, and how surely. Nothing is captured."""

    video: Annotated[tuple[Path, ...], About("A clip; once for each view.")] = ()
    keypoints: Annotated[
        tuple[Path, ...], About("A file or folder of 2D keypoints in place of detection; once for each view.")
    ] = ()
    calibration: Annotated[Path | None, About("The calibration of the cameras, where there is one.")] = None
    by: Annotated[
        Literal["auto", "motion", "sound"], About("What is compared; sound alone needs no look at the pictures.")
    ] = "auto"
    image_size: Annotated[
        tuple[int, int] | None,
        About("Size of the images, where keypoint files do not say it.", 16, 16384, "px", ("W", "H")),
    ] = None
    fps: Annotated[float | None, About("Frames per second, where the files do not say it.", 0.1, 1000)] = None
    min_confidence: Annotated[float, About("Keypoints seen less surely than this are left out.", 0, 1)] = 0.3
    threads: Annotated[int, About("Processor threads behind detection; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        views = max(len(self.video), len(self.keypoints))
        if views < 2:
            raise RequestError(f"{views} given", "Give --video twice at least.", field="video")
        if self.video and self.keypoints and len(self.video) != len(self.keypoints):
            count = f"{len(self.keypoints)} given for {len(self.video)} videos"
            raise RequestError(count, "Give one for each view, or only one of the two kinds.", field="keypoints")
        if self.by == "sound" and not self.video:
            raise RequestError("sound was asked for and no clip given", "Give --video.", field="by")


@frozen
class LiveRequest:
    """A camera, or a film played like one, becomes a stream of poses while it runs; recorded only where asked for."""

    camera: Annotated[str, About("Number of the camera, from 0, or the name of its device.")] = "0"
    video: Annotated[Path | None, About("A film in place of the camera.")] = None
    record: Annotated[bool, About("Record from the first frame; it becomes an ordinary capture at the end.")] = False
    footage: Annotated[bool, About("Keep the pictures of what is recorded, too.")] = False
    mirror: Annotated[bool, About("Exchange left and right, as a mirror does.")] = False
    hands: Annotated[bool, About("Capture the fingers.")] = True
    smoothing: Annotated[float, About("How strongly jitter is taken out of the motion.", 0, 1)] = 0.5
    height_m: Annotated[float | None, About("Height of the person, where it is known.", 0.5, 2.5, "m")] = None
    focal_px: Annotated[float | None, About("Focal length of the camera, where it is known.", 50, 100_000, "px")] = None
    min_confidence: Annotated[float, About("Keypoints seen less surely than this are left out.", 0, 1)] = 0.3
    camera_size: Annotated[
        tuple[int, int] | None,
        About("Size of the pictures that the camera is asked for.", 16, 16384, "px", ("W", "H")),
    ] = None
    pace: Annotated[
        Literal["real-time", "all"],
        About("A film is played as it was filmed, missing what comes too late, or seen picture by picture."),
    ] = "real-time"
    threads: Annotated[int, About("Processor threads behind detection; 0 takes one.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        if self.video is None and not self.camera.strip():
            raise RequestError("no camera and no film", "Give --camera 0 or --video FILE.", field="camera")


@frozen
class HeadRequest:
    """One photo of somebody, or a few, becomes a textured head that can be animated."""

    photo: Annotated[tuple[Path, ...], About("A photo of the person; may be repeated, up to 8 times.")] = ()
    video: Annotated[Path | None, About("A short film turned round the head, in place of photos.")] = None
    face: Annotated[
        tuple[int, ...],
        About(
            "Which face, counted from the left; once, or for each photo. 0 is the only or by far largest one.", 0, 64
        ),
    ] = ()
    accept_doubtful: Annotated[
        bool, About("Go on where a face seems drawn, blurred or covered, instead of refusing the photo.")
    ] = False
    quality: Annotated[Literal["draft", "default", "high"], About("How long the head is worked on.")] = "default"
    texture_size: Annotated[int, About("Width and height of the texture.", 256, 8192, "px")] = 2048
    surface_faces: Annotated[int, About("Triangles of the dense surface, about.", 1000, 1_000_000)] = 60_000
    body: Annotated[bool, About("Make a body with this head, too.")] = False
    pupil_distance_mm: Annotated[
        float | None, About("Distance between the pupils, where it is known.", 40, 80, "mm")
    ] = None
    head_height_m: Annotated[
        float | None, About("Height of the head from chin to crown, where it is known.", 0.1, 0.4, "m")
    ] = None
    focal_px: Annotated[
        float | None,
        About("Focal length of the photos as they lie on disk, where it is known.", 50, 100_000, "px"),
    ] = None
    prior: Annotated[Path | None, About("What is known of heads beforehand; without it, the published weights.")] = None
    seed: Annotated[int, About("What random numbers start from.", 0, 2**31 - 1)] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], About("Where the head is fitted.")] = "auto"
    threads: Annotated[int, About("Processor threads; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        if not self.photo and self.video is None:
            raise RequestError("no photo and no film", "Give --photo FILE or --video FILE.", field="photo")
        if self.photo and self.video is not None:
            raise RequestError("given beside photos", "Give one or the other.", field="video")
        if len(self.photo) > MAX_PHOTOS:
            raise RequestError(f"{len(self.photo)} given", f"At most {MAX_PHOTOS} are used.", field="photo")
        if len(self.face) not in (0, 1, len(self.photo) or 1):
            count = f"{len(self.face)} given for {len(self.photo) or 1} pictures"
            raise RequestError(count, "Give one for all, or one for each photo.", field="face")
        if self.pupil_distance_mm is not None and self.head_height_m is not None:
            hint = "Give the one that was measured more carefully."
            raise RequestError("given beside the distance of the pupils", hint, field="head_height_m")


@frozen
class ReenactRequest:
    """Somebody's photos are animated by a driver: frames of that person who does what the driver does."""

    source: Annotated[tuple[Path, ...], About("A photo or a film of the person to be shown; may be repeated.")] = ()
    driver: Annotated[
        Path | None, About("Who is followed: a film, a folder of numbered pictures, or pose descriptors (.npz).")
    ] = None
    camera: Annotated[
        str, About("Number or device of a camera that drives live until it is stopped; a film is played as one.")
    ] = ""
    frames: Annotated[
        str, About("Frames of the driver that are made: first-last, counted from 1; without it, all of them.")
    ] = ""
    fps: Annotated[float | None, About("Frames per second of a folder of pictures.", 0.1, 1000)] = None
    face: Annotated[
        tuple[int, ...],
        About("Which face of a source, from the left; once, or for each. 0 is the only or by far largest one.", 0, 64),
    ] = ()
    driver_face: Annotated[
        int, About("Which face of the driver, from the left, where it first shows one; 0 is the largest.", 0, 64)
    ] = 0
    size: Annotated[int | None, About("Side of the frames; without it, the network's own.", 16, 4096, "px")] = None
    format: Annotated[Literal["png", "exr"], About("PNG, or OpenEXR with linear light times alpha.")] = "png"
    mode: Annotated[
        Literal["absolute", "relative"],
        About("Take the driver's poses, or only how they differ from the driver's reference frame."),
    ] = "absolute"
    reference: Annotated[
        int | None, About("The driver's frame that is its rest in relative mode; without it, the first.", 0)
    ] = None
    strength: Annotated[float, About("How much of the driver's pose is taken; above 1 it is exaggerated.", 0, 2)] = 1.0
    region: Annotated[
        Literal["all", "lips", "eyes"], About("What the driver moves; lips with the jaw, eyes with the brows.")
    ] = "all"
    smoothing_s: Annotated[float, About("Time over which poses are averaged against jitter.", 0, 1, "s")] = 0.0
    hold_s: Annotated[
        float, About("How long the last pose is held where the driver shows no face, before it fades.", 0, 60, "s")
    ] = 0.5
    iterations: Annotated[
        int | None,
        About("Steps by which the network is made the person's own; without it, as many as photos call for.", 0, 5000),
    ] = None
    network: Annotated[Path | None, About("The network; without it, the published weights.")] = None
    movie: Annotated[bool, About("Make a movie of driver and frames side by side.")] = True
    seed: Annotated[int, About("What random numbers start from.", 0, 2**31 - 1)] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], About("Where the network runs.")] = "auto"
    threads: Annotated[int, About("Processor threads; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        if not self.source:
            raise RequestError("nobody to show", "Give --source FILE.", field="source")
        if (self.driver is None) == (not self.camera.strip()):
            text = "no driver" if self.driver is None else "given beside a camera"
            raise RequestError(text, "Give --driver FILE or --camera 0, one of them.", field="driver")
        if self.camera and self.frames:
            raise RequestError("a camera's frames are not known beforehand", "Leave them out.", field="frames")
        self.frame_range()
        if len(self.face) not in (0, 1, len(self.source)):
            count = f"{len(self.face)} given for {len(self.source)} sources"
            raise RequestError(count, "Give one for all, or one for each source.", field="face")
        if self.reference is not None and self.mode != "relative":
            raise RequestError("given in absolute mode", "Choose relative.", field="reference")

    def frame_range(self) -> tuple[int, int] | None:
        """First and last frame that are made, None for all.

        Raises:
            RequestError: it is no range.
        """
        if not self.frames:
            return None
        first, dash, last = self.frames.partition("-")
        hint = "Give first and last, as in 1-120."
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()):
            raise RequestError(f"{self.frames[:40]!r} is no range of frames", hint, field="frames")
        ends = int(first), int(last) if dash else int(first)
        if not 0 <= ends[0] <= ends[1] < 10**9:
            raise RequestError(f"{ends[1]} is before {ends[0]}", hint, field="frames")
        return ends


@frozen
class BodyRequest:
    """A filmed person becomes a body of their own shape, in motion."""

    video: Annotated[Path | None, About("A clip of one person.")] = None
    keypoints: Annotated[Path | None, About("A file or folder of 2D keypoints in place of detection.")] = None
    masks: Annotated[
        Path | None,
        About("A folder of pictures of the person's mask, one a frame of the film in the order of their names."),
    ] = None
    keypoints_3d: Annotated[
        Path | None, About("A keypoints_3d.npz of the same clip, lifted or triangulated: it fixes the depth.")
    ] = None
    capture: Annotated[
        Path | None, About("Job folder of a motion capture: its clips, keypoints and cameras are used.")
    ] = None
    view: Annotated[str, About("The only one of the capture's views that is used, by name.")] = ""
    person: Annotated[
        tuple[float, ...], About("Who is followed on the first frame: a point X Y or a box X0 Y0 X1 Y1.", unit="px")
    ] = ()
    height_m: Annotated[float | None, About("Height of the person, where it is known.", 0.4, 2.5, "m")] = None
    distance_m: Annotated[
        float | None,
        About("From the camera to the person's hips at first, where it is known.", 0.2, 100, "m"),
    ] = None
    focal_px: Annotated[float | None, About("Focal length of the camera, where it is known.", 50, 100_000, "px")] = None
    image_size: Annotated[
        tuple[int, int] | None,
        About("Size of the images, where keypoint files do not say it.", 16, 16384, "px", ("W", "H")),
    ] = None
    fps: Annotated[float | None, About("Frames per second, where the files do not say it.", 0.1, 1000)] = None
    start: Annotated[int, About("The first frame that is read.", 0)] = 0
    stop: Annotated[int | None, About("The frame before which reading stops; without it, the clip's end.", 1)] = None
    min_confidence: Annotated[float, About("Keypoints seen less surely than this are left out.", 0, 1)] = 0.3
    lift: Annotated[bool, About("Lift one camera's keypoints to space first, which fixes most of the depth.")] = True
    hypotheses: Annotated[bool, About("Weigh other readings of a frame, where a limb may be before or behind.")] = True
    refine: Annotated[int, About("Steps by which the body is fitted to what is seen; 0 for none.", 0, 1000)] = 60
    smoothing: Annotated[float, About("How strongly jitter is taken out of the motion.", 0, 1)] = 0.5
    loose_clothes: Annotated[bool, About("The mask shows clothes that are wider than the body.")] = False
    sex: Annotated[Literal["unknown", "female", "male"], About("Of the body's build, which outlines hardly tell.")] = (
        "unknown"
    )
    model: Annotated[
        Path | None, About("Your own SMPL or SMPL-X model file (.npz) that the body is made of, in place of anny.")
    ] = None
    overlay: Annotated[bool, About("Draw a movie of where body and mask differ, over the footage.")] = True
    threads: Annotated[int, About("Processor threads; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        if self.video is None and self.keypoints is None and self.capture is None:
            hint = "Give --video FILE, --keypoints FOLDER or --capture JOB."
            raise RequestError("no clip, no keypoints and no capture", hint, field="video")
        given = [name for name in ("keypoints", "keypoints_3d") if getattr(self, name) is not None]
        if self.capture is not None and given:
            raise RequestError("given beside a capture, which has its own", "Give one or the other.", field=given[0])
        if self.view and self.capture is None:
            raise RequestError("there is no capture whose view it could be", "Give --capture JOB.", field="view")
        if self.masks is not None and self.capture is not None and not self.view:
            raise RequestError("a capture may have several views", "Say whose these are: --view NAME.", field="masks")
        if len(self.person) not in (0, 2, 4):
            hint = "A point is X Y, a box is X0 Y0 X1 Y1."
            raise RequestError(f"{len(self.person)} values given, 2 or 4 needed", hint, field="person")
        if self.stop is not None and self.stop <= self.start:
            raise RequestError(f"{self.stop} is not after start {self.start}", field="stop")


@frozen
class CoachRequest:
    """What a trainee does beside what a trainer does: in step, in place, and by how much joint angles differ."""

    trainee: Annotated[Path | None, About("Job folder of the trainee's body, or its body_parameters.npz.")] = None
    trainer: Annotated[Path | None, About("Job folder of the trainer's body, or its body_parameters.npz.")] = None
    tolerance_deg: Annotated[float, About("Differences up to this are shown as none.", 0, 90, "deg")] = 5.0
    worst_deg: Annotated[float, About("Differences from this on are shown as worst.", 1, 180, "deg")] = 40.0
    stretch: Annotated[
        float, About("How many times faster or slower than the trainer's the trainee's motion may be.", 1, 10)
    ] = 3.0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        for name in ("trainee", "trainer"):
            if getattr(self, name) is None:
                raise RequestError("nobody is given", f"Give --{name} JOB.", field=name)
        if self.worst_deg <= self.tolerance_deg:
            text = f"{self.worst_deg:g} is not above tolerance_deg {self.tolerance_deg:g}"
            raise RequestError(text, field="worst_deg")


@frozen
class FaceRequest:
    """Film of a face becomes the 52 weights of ARKit's shapes, the turning of the head, and where the eyes look."""

    video: Annotated[Path | None, About("The film.")] = None
    live_link: Annotated[Path | None, About("A CSV file of Live Link Face, in place of a film.")] = None
    face: Annotated[
        int, About("Which face, counted from the left where so many are first seen; 0 is the largest one.", 0, 64)
    ] = 0
    start: Annotated[int, About("The first frame that is read.", 0)] = 0
    stop: Annotated[int | None, About("The frame before which reading stops; without it, the clip's end.", 1)] = None
    smoothing: Annotated[float, About("How strongly jitter is taken out of the motion.", 0, 1)] = 0.5
    neutral: Annotated[
        int | None, About("A frame of the film in which the face is neutral: what it shows is taken off all.", 0)
    ] = None
    hold_s: Annotated[
        float, About("How long a face that is not seen keeps its expression before it fades.", 0, 60, "s")
    ] = 0.5
    visemes: Annotated[bool, About("Say which viseme the mouth shows, too.")] = False
    readings: Annotated[int, About("How often each picture is read; more is steadier and slower.", 1, 3)] = 1
    focal_px: Annotated[float | None, About("Focal length of the camera, where it is known.", 50, 100_000, "px")] = None
    fps: Annotated[float | None, About("Frames per second, where the file does not say it.", 0.1, 1000)] = None
    overlay: Annotated[bool, About("Draw a movie of the result over the footage.")] = True
    export: Annotated[Path | None, About("Write the result as a CSV of Live Link Face, too.")] = None
    threads: Annotated[int, About("Processor threads; 0 takes this process' share.", 0, 1024)] = 0

    def __post_init__(self) -> None:
        """Refuse settings that are each fine and do not fit together."""
        if self.video is None and self.live_link is None:
            raise RequestError("no film", "Give --video FILE, or --live-link FILE.", field="video")
        if self.video is not None and self.live_link is not None:
            raise RequestError("given beside a film", "Give one or the other.", field="live_link")
        if self.stop is not None and self.stop <= self.start:
            raise RequestError(f"{self.stop} is not after start {self.start}", field="stop")
        if self.neutral is not None and not self.start <= self.neutral < (self.stop or self.neutral + 1):
            text = f"{self.neutral} is not among the frames {self.start} to {self.stop or 'the end'}"
            raise RequestError(text, "Choose one that is read.", field="neutral")
        if self.export is not None and self.export.suffix.lower() != ".csv":
            raise RequestError(f"{self.export.name} is no .csv", field="export")


@frozen
class SelftestRequest:
    """A job that behaves, or fails in a chosen way, to prove that a worker can be relied upon."""

    steps: Annotated[int, About("How many steps the job takes.", 0, 1_000_000)] = 3
    step_s: Annotated[float, About("How long each step sleeps.", 0, 60, "s")] = 0.0
    print_kib: Annotated[int, About("How much is printed to both output streams, by Python and by C.", 0, 65536)] = 0
    artifact_kib: Annotated[int, About("The size of the artifact.", 0, 1 << 20)] = 4
    hold_gil_s: Annotated[float, About("How long native code keeps the interpreter to itself.", 0, 3600, "s")] = 0.0
    fault: Annotated[Fault, About("How the job fails after its steps.")] = "none"
    once: Annotated[str, About("It fails only where this file is not there yet, which it then makes.")] = ""


@frozen
class Task:
    """A name for what a worker can do.

    `run` is `module:function` inside the package and is imported when the task first runs; the function takes the
    request, the job folder and a Reporter.
    """

    request: type
    run: str


TASKS = {
    "motion": Task(MotionRequest, "motion.pipeline:run"),
    "calibrate": Task(CalibrateRequest, "calibration.pipeline:run"),
    "sync": Task(SyncRequest, "motion.sync_report:run"),
    "tune": Task(TuneRequest, "motion.tune:run"),
    "live": Task(LiveRequest, "motion.live:run"),
    "head": Task(HeadRequest, "head.pipeline:run"),
    "face": Task(FaceRequest, "face.pipeline:run"),
    "reenact": Task(ReenactRequest, "reenact.pipeline:run"),
    "body": Task(BodyRequest, "body.pipeline:run"),
    "coach": Task(CoachRequest, "body.coaching:run"),
    "selftest": Task(SelftestRequest, "runtime.selftest:run"),
}


def find_task(name: Any) -> Task:
    """Look a task up.

    Raises:
        RequestError: there is none of this name.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise RequestError(f"{str(name)[:60]!r} is not one of {', '.join(TASKS)}", field="task")
    return TASKS[name]


@frozen
class Order:
    """The contents of `request.json`: a request, whose it is, and which run of the folder it asks for."""

    task: str
    request: Any
    run_id: str
    app: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give the JSON values of the file."""
        return {
            "protocol": PROTOCOL,
            "task": self.task,
            "run_id": self.run_id,
            "app": self.app,
            "request": schema.encode(self.request),
        }

    @classmethod
    def from_json(cls, value: Any) -> Order:
        """Read the file's JSON values.

        Raises:
            RequestError: another protocol, an unknown task, or a setting that is wrong.
        """
        if not isinstance(value, dict):
            raise RequestError("the request is not a JSON object.")
        if value.get("protocol") != PROTOCOL:
            raise mismatch("the request", value.get("protocol"), "this worker")
        task = find_task(value.get("task"))
        run_id, app = str(value.get("run_id", "")), str(value.get("app", ""))
        return cls(value["task"], schema.decode(task.request, value.get("request", {})), run_id, app)


def mismatch(who: str, protocol: Any, reader: str) -> RequestError:
    """Say that two sides speak different protocols."""
    return RequestError(
        f"{who} speaks protocol {str(protocol)[:20]}, {reader} speaks {PROTOCOL}.",
        "The add-on and its environment differ in version: update both, then restart Blender.",
        field="protocol",
    )
