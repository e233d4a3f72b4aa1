"""Cameras from footage of a printed board: chessboard or ChArUco. Lenses camera by camera, then all poses together.

Frames are looked at evenly over the clips, in step; blurred ones are left out, and of the rest those are taken that
spread the board over the picture, near and far. A board that is seen mirrored, has other counts than were said, or is
never seen by two cameras at once, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix

from ..core.cameras import Camera, CameraSet, distort
from ..core.rotations import matrix_from_rotvec, rotvec_from_matrix
from ..protocol.errors import InputError, RequestError
from ..protocol.events import Reporter
from ..runtime.video import VideoInfo, probe, read_frames
from .alignment import angle
from .levelling import level_cameras
from .result import Calibrated

Array = np.ndarray
_LOOKED_AT = 120  # frames of each clip
_LENS_VIEWS, _POSE_VIEWS = 40, 60
_LEAST_VIEWS, _LEAST_SHARED, _LEAST_CORNERS = 8, 5, 6
_SHARP = 0.3  # of a clip's median sharpness
_CELLS = 8
_COVERED = 0.35
_BAD_PX = 3.0
_SAME_DEG, _SAME_SHARE = 4.0, 0.08  # two frames that give the same relative pose
_SQUARE_M = (0.003, 0.5)
_LENS = 9  # log f x, log f y, cx, cy, k1 k2 p1 p2 k3


@dataclass(frozen=True)
class Board:
    """What was printed: `columns` x `rows` inner corners of a chessboard, or squares of a ChArUco board; metres."""

    kind: str
    columns: int
    rows: int
    square_m: float
    marker_m: float = 0.0
    dictionary: str = ""

    @staticmethod
    def parse(text: str) -> Board:
        """Read "chessboard:9x6:0.025" or "charuco:5x7:0.04:0.03:4X4_50".

        Raises:
            RequestError: it is something else, or no board has such measures.
        """
        parts = text.strip().split(":")
        try:
            columns, rows = (int(n) for n in parts[1].lower().split("x"))
            lengths = [float(part) for part in parts[2:4]]
        except (IndexError, ValueError):
            raise _bad(f"{text!r} is not a board") from None
        if parts[0] == "chessboard" and len(parts) == 3:
            board = Board("chessboard", columns, rows, lengths[0])
        elif parts[0] == "charuco" and len(parts) == 5:
            board = Board("charuco", columns, rows, lengths[0], lengths[1], parts[4].upper().removeprefix("DICT_"))
        else:
            raise _bad(f"{text!r} is not a board")
        board.check()
        return board

    def check(self) -> None:
        """Raise RequestError where no such board can be."""
        if min(self.columns, self.rows) < 3 or max(self.columns, self.rows) > 60:
            raise _bad(f"{self.columns} x {self.rows} is not the size of a board (3 to 60 each way)")
        if not _SQUARE_M[0] <= self.square_m <= _SQUARE_M[1]:
            likely = f" Millimetres would be {self.square_m / 1000:g}." if 3 <= self.square_m <= 500 else ""
            raise _bad(f"squares of {self.square_m:g} m are not to be believed (3 mm to 50 cm).{likely}")
        if self.kind == "charuco":
            if not 0 < self.marker_m < self.square_m:
                raise _bad(f"markers of {self.marker_m:g} m do not fit into squares of {self.square_m:g} m")
            if not hasattr(cv2.aruco, f"DICT_{self.dictionary}"):
                raise _bad(f"{self.dictionary!r} is not a dictionary of OpenCV, such as 4X4_50 or 5X5_100")

    def corners(self) -> Array:
        """(K, 3) metres, z = 0: all inner corners, row by row."""
        columns, rows = (self.columns - 1, self.rows - 1) if self.kind == "charuco" else (self.columns, self.rows)
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        return np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], -1) * self.square_m


@dataclass(frozen=True)
class Sight:
    """The board in one frame: ids (K,) of corners, pixels (K, 2), and how sharp the picture is there."""

    ids: Array
    pixels: Array
    sharpness: float


def calibrate_from_board(
    videos: Sequence[Path], board: Board, report: Reporter, *, names: Sequence[str] = (), start: int = 0,
    stop: int | None = None,
) -> Calibrated:  # fmt: skip
    """Calibrate the cameras of clips in step that show one board; a single clip gives a lens.

    Args:
        start, stop: frames of the slowest clip.
    Returns:
        Metres; z up as far as cameras are held level, the origin in the middle of where the board was.
    Raises:
        InputError: the board is not seen as said, too seldom, mirrored, or not by two cameras at once.
    """
    names = list(names) or [Path(video).stem for video in videos]
    films = [probe(video) for video in videos]
    sights = [
        _look(Path(video), board, report, name=name, place=(index, len(videos)), pace=pace)
        for index, (video, name, pace) in enumerate(zip(videos, names, _paces(films, start, stop), strict=True))
    ]
    cameras, figures, notes = [], [], []
    for name, film, seen in zip(names, films, sights, strict=True):
        camera, found, said = _lens(name, film.size, seen, board)
        cameras.append(camera)
        figures.append(found)
        notes += said
    report.progress("adjust", 0, 1)
    if len(cameras) == 1:
        return Calibrated(CameraSet(tuple(cameras)), _figures(figures, []), tuple(notes))
    rig, frames, poses = _connect(cameras, sights, board)
    rig, poses = _adjust(rig, sights, frames, poses, board)
    errors = _errors(rig, sights, frames, poses, board)
    world = level_cameras(rig, np.mean([pose[1] for pose in poses], axis=0))
    notes.append("The board does not say where the floor is: z = 0 is the middle of where the board was shown.")
    report.progress("adjust", 1, 1)
    return Calibrated(world.cameras(rig), _figures(figures, errors), tuple(notes))


@dataclass(frozen=True)
class _Pace:
    """When a clip is looked at: at every `stride`-th moment of all clips, by the frame within `reach_s` of it."""

    begin_s: float
    end_s: float
    moment_s: float  # from one to the next
    stride: int
    reach_s: float

    def moment(self, time_s: float) -> int | None:
        """Number of the moment that a frame shows; None where it shows none that is looked at."""
        since = time_s - self.begin_s
        number = round(since / (self.moment_s * self.stride)) * self.stride
        is_near = abs(since - number * self.moment_s) <= self.reach_s
        return number if is_near and number >= 0 and time_s < self.end_s else None


def _paces(films: Sequence[VideoInfo], start: int, stop: int | None) -> list[_Pace]:
    """Choose moments for all clips, so that frames of different rates and lengths can be held against each other.

    The shortest clip is looked at most closely, a longer one at every second, fourth ... of its moments.
    """
    frame_s = 1.0 / min(film.fps for film in films)
    spans = [film.frames / film.fps if stop is None else min(stop * frame_s, film.frames / film.fps) for film in films]
    counts = np.maximum(np.round(np.array(spans) / frame_s) - start, 1)
    step = max(1, int(counts.min()) // _LOOKED_AT)
    strides = 2 ** np.floor(np.log2(np.maximum(counts / (step * _LOOKED_AT), 1))).astype(int)
    end_s = np.inf if stop is None else (stop - 0.5) * frame_s
    return [
        _Pace(start * frame_s, end_s, step * frame_s, int(stride), 0.5 / film.fps)
        for film, stride in zip(films, strides, strict=True)
    ]


def _look(
    video: Path, board: Board, report: Reporter, *, name: str, place: tuple[int, int], pace: _Pace
) -> dict[int, Sight]:
    """Find the board at moments spread evenly over a clip."""
    finder, mirrored, found = _finder(board), 0, {}
    looked: set[int] = set()
    for _, time_s, rgb in read_frames(video):
        moment = pace.moment(time_s)
        if moment is None or moment in looked:
            continue
        looked.add(moment)
        report.progress("detect", place[0] * _LOOKED_AT + min(len(looked), _LOOKED_AT), place[1] * _LOOKED_AT)
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        sight = finder.find(gray)
        if sight is not None:
            found[moment] = sight
        elif board.kind == "charuco" and mirrored < 5 and len(found) < _LEAST_VIEWS:
            mirrored += finder.find(np.ascontiguousarray(gray[:, ::-1])) is not None
    turned = [sight for sight in found.values() if _is_mirrored(sight, board)]
    if mirrored > len(found) or len(turned) > 0.5 * len(found) > 0:
        seen = f"in {mirrored} frames only in its mirror image" if mirrored > len(found) else "the wrong way round"
        raise InputError(
            f"The board in {name} is mirrored: it is found {seen}.",
            "Turn off mirroring in the camera, or print the board again as it is.",
        )
    if len(found) < _LEAST_VIEWS:
        raise InputError(
            f"The board {_said(board)} is found in {len(found)} of {len(looked)} frames of {name}; "
            f"{_LEAST_VIEWS} are needed.",
            _other_counts(video, board, pace, sorted(looked)) or "Show all of it, flat, well lit and slowly moved.",
        )
    least = _SHARP * float(np.median([sight.sharpness for sight in found.values()]))
    return {index: sight for index, sight in found.items() if sight.sharpness >= least}


class _Chessboard:
    def __init__(self, board: Board) -> None:
        self.size = (board.columns, board.rows)

    def find(self, gray: Array) -> Sight | None:
        """Find all corners, or nothing."""
        done, corners = cv2.findChessboardCornersSB(gray, self.size)
        if not done:
            return None
        pixels = np.asarray(corners, float).reshape(-1, 2)
        return Sight(np.arange(len(pixels)), pixels, _sharpness(gray, pixels))


class _Charuco:
    def __init__(self, board: Board) -> None:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{board.dictionary}"))
        size, lengths = (board.columns, board.rows), (board.square_m, board.marker_m)
        self.across = board.columns - 1
        self.detectors = []
        for legacy in (False, True):  # OpenCV 4.6 moved the markers of boards with an even number of rows
            printed = cv2.aruco.CharucoBoard(size, *lengths, dictionary)
            printed.setLegacyPattern(legacy)
            self.detectors.append(cv2.aruco.CharucoDetector(printed))

    def _spans_plane(self, ids: Array) -> bool:
        """Tell whether corners are enough to say how the board lies: those along one line do not."""
        off = [len(ids) - np.bincount(places).max() for places in np.divmod(ids, self.across)]
        return len(ids) >= _LEAST_CORNERS and min(off) >= 2

    def find(self, gray: Array) -> Sight | None:
        """Find at least some corners, by the layout of markers that gives more of them."""
        best: Sight | None = None
        for detector in self.detectors:
            corners, ids, _, _ = detector.detectBoard(gray)
            if ids is None or not self._spans_plane(np.ravel(ids)) or (best is not None and len(ids) <= len(best.ids)):
                continue
            pixels = np.asarray(corners, float).reshape(-1, 2)
            best = Sight(np.ravel(ids).astype(int), pixels, _sharpness(gray, pixels))
        return best


def _finder(board: Board) -> _Chessboard | _Charuco:
    return _Charuco(board) if board.kind == "charuco" else _Chessboard(board)


def _sharpness(gray: Array, pixels: Array) -> float:
    """Give how quickly brightness changes where the board is, against how much it changes."""
    low, high = np.maximum(pixels.min(0).astype(int), 0), pixels.max(0).astype(int) + 1
    part = gray[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    return float(cv2.Laplacian(part, cv2.CV_32F).std() / max(float(part.std()), 1.0)) if part.size else 0.0


def _is_mirrored(sight: Sight, board: Board) -> bool:
    """Tell whether the board's right-handed plane is seen left-handed."""
    if board.kind == "chessboard":
        return False  # its corners carry no names
    plane = board.corners()[sight.ids][:, :2]
    matrix = np.linalg.lstsq(plane - plane.mean(0), sight.pixels - sight.pixels.mean(0), rcond=None)[0]
    return float(np.linalg.det(matrix)) < 0


def _other_counts(video: Path, board: Board, pace: _Pace, looked: Sequence[int]) -> str:
    """Look for a chessboard of nearly the same size, as people count squares in place of corners."""
    if board.kind != "chessboard":
        return ""
    near = [(-1, -1), (1, 1), (-1, 0), (0, -1), (1, 0), (0, 1), (-2, 0), (0, -2)]
    sizes = [(board.columns + a, board.rows + b) for a, b in near]
    wanted = {looked[row] for row in np.linspace(0, len(looked) - 1, 6).round().astype(int)} if looked else set()
    for _, time_s, rgb in read_frames(video):
        if pace.moment(time_s) not in wanted:
            continue
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        for size in sizes:
            if min(size) >= 3 and cv2.findChessboardCornersSB(gray, size)[0]:
                return f"A board of {size[0]} x {size[1]} inner corners is found: say chessboard:{size[0]}x{size[1]}."
    return ""


def _lens(
    name: str, size: tuple[int, int], sights: dict[int, Sight], board: Board
) -> tuple[Camera, dict[str, Any], list[str]]:
    """Calibrate one lens from frames that spread the board over its picture."""
    chosen = [sights[index] for index in _spread(sights, size)]
    space = [board.corners()[sight.ids].astype(np.float32) for sight in chosen]
    plane = [sight.pixels.astype(np.float32) for sight in chosen]
    guess, lens = np.eye(3), np.zeros(5)
    flags = cv2.CALIB_FIX_K3 | cv2.CALIB_ZERO_TANGENT_DIST  # a decentred lens looks like a moved principal point
    error, matrix, lens, _, _ = cv2.calibrateCamera(space, plane, size, guess, lens, flags=flags)
    covered = _coverage(list(sights.values()), size)
    if not np.isfinite(error) or not 0.2 * max(size) < matrix[0, 0] < 20 * max(size):
        raise InputError(
            f"The lens of {name} cannot be told from the board: its focal length would be {matrix[0, 0]:.0f} px.",
            "Tilt the board towards the camera, show it near and far, and in all corners of the picture.",
        )
    if error > _BAD_PX:
        raise InputError(
            f"The board {_said(board)} does not fit what {name} saw: corners are {error:.1f} px off.",
            "Check the counts of the board, and that it is flat.",
        )
    notes = []
    if covered < _COVERED:
        notes.append(
            f"The board covered only {100 * covered:.0f} % of the picture of {name}; its lens is a guess elsewhere."
        )
    camera = Camera(name, size, matrix, np.resize(np.append(lens.ravel()[:5], np.zeros(5)), 5))
    figures = {"name": name, "frames": len(sights), "lens_px": round(float(error), 3), "coverage": round(covered, 3)}
    return camera, figures, notes


def _spread(sights: dict[int, Sight], size: tuple[int, int]) -> list[int]:
    """Take frames whose boards differ most in place, size and slant, beginning with the sharpest."""
    indices = list(sights)
    points = []
    for index in indices:
        pixels = sights[index].pixels
        spread = np.linalg.eigvalsh(np.cov(pixels.T))
        slant = np.sqrt(max(spread[0], 1e-9) / max(spread[1], 1e-9))
        points.append([*(pixels.mean(0) / max(size)), 2 * np.sqrt(spread[1]) / max(size), 0.5 * slant])
    places = np.array(points)
    taken = [int(np.argmax([sights[index].sharpness for index in indices]))]
    away = np.linalg.norm(places - places[taken[0]], axis=-1)
    while len(taken) < min(_LENS_VIEWS, len(indices)):
        taken.append(int(np.argmax(away)))
        away = np.minimum(away, np.linalg.norm(places - places[taken[-1]], axis=-1))
    return [indices[row] for row in taken]


def _coverage(sights: Sequence[Sight], size: tuple[int, int]) -> float:
    """Share of the picture's cells in which a corner was seen."""
    pixels = np.concatenate([sight.pixels for sight in sights])
    cells = np.clip((pixels / np.array(size) * _CELLS).astype(int), 0, _CELLS - 1)
    return len(np.unique(cells @ [1, _CELLS])) / _CELLS**2


Pose = tuple[Array, Array]  # rotation (3, 3), translation (3,)


def _board_pose(camera: Camera, sight: Sight, board: Board) -> Pose | None:
    done, turn, shift = cv2.solvePnP(board.corners()[sight.ids], sight.pixels, camera.matrix, camera.distortion,
                                     flags=cv2.SOLVEPNP_IPPE)  # fmt: skip
    if not done:
        return None
    turn, shift = cv2.solvePnPRefineLM(
        board.corners()[sight.ids], sight.pixels, camera.matrix, camera.distortion, turn, shift
    )
    return cv2.Rodrigues(turn)[0], shift.ravel()


def _connect(
    cameras: Sequence[Camera], sights: Sequence[dict[int, Sight]], board: Board
) -> tuple[CameraSet, list[int], list[Pose]]:
    """Chain the cameras by the frames that pairs share, most shared first; and give the board's pose in each frame."""
    poses = [
        {index: pose for index, sight in seen.items() if (pose := _board_pose(camera, sight, board)) is not None}
        for camera, seen in zip(cameras, sights, strict=True)
    ]
    placed: dict[int, Pose] = {0: (np.eye(3), np.zeros(3))}
    while len(placed) < len(cameras):
        pairs = [(a, b) for a in placed for b in range(len(cameras)) if b not in placed]
        shared = [len(poses[a].keys() & poses[b].keys()) for a, b in pairs]
        best = int(np.argmax(shared))
        a, b = pairs[best]
        if shared[best] < _LEAST_SHARED:
            alone = ", ".join(cameras[view].name for view in range(len(cameras)) if view not in placed)
            raise InputError(
                f"The board connects {alone} with the other cameras in {shared[best]} frames; "
                f"{_LEAST_SHARED} are needed.",
                "Show the board to two cameras at a time, until all are connected; the clips must be in step.",
            )
        rotation, shift = _relative(poses[a], poses[b], board, (cameras[a].name, cameras[b].name))
        placed[b] = rotation @ placed[a][0], rotation @ placed[a][1] + shift
    rig = CameraSet(tuple(replace(c, rotation=placed[v][0], translation=placed[v][1]) for v, c in enumerate(cameras)))
    frames = sorted(index for index in set().union(*poses) if sum(index in seen for seen in poses) >= 2)
    frames = [frames[row] for row in np.unique(np.linspace(0, len(frames) - 1, _POSE_VIEWS).round().astype(int))]
    where = []
    for index in frames:
        view = next(view for view in range(len(cameras)) if index in poses[view])
        rotation, shift = poses[view][index]
        camera = rig[view]
        where.append((camera.rotation.T @ rotation, camera.rotation.T @ (shift - camera.translation)))
    return rig, frames, where


def _relative(first: dict[int, Pose], second: dict[int, Pose], board: Board, names: tuple[str, str]) -> Pose:
    """Find the pose of the second camera in the first one's frame that most shared frames agree on.

    A chessboard may be read from either end, so each frame proposes two poses.
    """
    half = np.diag([-1.0, -1.0, 1.0])
    middle = board.corners().mean(0)
    flips = [(np.eye(3), np.zeros(3)), (half, middle - half @ middle)] if board.kind == "chessboard" else [None]
    proposals: list[Pose] = []
    frames = sorted(first.keys() & second.keys())
    for index in frames:
        (ra, ta), (rb, tb) = first[index], second[index]
        for flip in flips:
            r, t = (rb, tb) if flip is None else (rb @ flip[0], rb @ flip[1] + tb)
            proposals.append((r @ ra.T, t - r @ ra.T @ ta))
    far = float(np.median([np.linalg.norm(t) for _, t in proposals]))
    reach = _SAME_SHARE * max(far, 0.1)
    agree = np.array(
        [
            [angle(a[0], b[0]) < _SAME_DEG and bool(np.linalg.norm(a[1] - b[1]) < reach) for b in proposals]
            for a in proposals
        ]
    )
    votes = agree.sum(1)
    best = int(np.argmax(votes))
    if votes[best] < max(3, 0.3 * len(frames)):
        raise InputError(
            f"The board gives {names[0]} and {names[1]} another relative pose in every frame: "
            f"only {int(votes[best])} of {len(frames)} agree.",
            "The clips must be in step, none of them mirrored, and the cameras must not move.",
        )
    near = [proposals[row] for row in np.flatnonzero(agree[best])]
    turns = np.stack([rotvec_from_matrix(proposals[best][0].T @ r) for r, _ in near])
    rotation = proposals[best][0] @ matrix_from_rotvec(np.median(turns, axis=0))
    return rotation, np.median([t for _, t in near], axis=0)


def _adjust(
    rig: CameraSet, sights: Sequence[dict[int, Sight]], frames: list[int], poses: list[Pose], board: Board
) -> tuple[CameraSet, list[Pose]]:
    """Adjust lenses, cameras and boards together; the first camera keeps its place."""
    width = _LENS + 6
    order = _orders(rig, sights, frames, poses, board)
    first = np.zeros(len(rig) * width + 6 * len(frames))

    def moved(x: Array) -> tuple[list[Camera], list[Pose]]:
        cameras = []
        for camera, step in zip(rig, x[: len(rig) * width].reshape(-1, width), strict=True):
            matrix = camera.matrix.copy()
            matrix[0, 0] *= np.exp(step[0])
            matrix[1, 1] *= np.exp(step[1])
            matrix[:2, 2] += step[2:4]
            cameras.append(
                replace(
                    camera, matrix=matrix, distortion=camera.distortion + step[4:9],
                    rotation=matrix_from_rotvec(step[9:12]) @ camera.rotation,
                    translation=camera.translation + step[12:15],
                )
            )  # fmt: skip
        steps = x[len(rig) * width :].reshape(-1, 6)
        return cameras, [(matrix_from_rotvec(s[:3]) @ r, t + s[3:]) for (r, t), s in zip(poses, steps, strict=True)]

    def misses(x: Array) -> Array:
        cameras, boards = moved(x)
        out = [_miss(cameras[view], boards[row], space, pixels) for view, row, space, pixels in order]
        return np.concatenate(
            [*out, x[:width][_LENS:] * 1e3, x[: len(rig) * width].reshape(-1, width)[:, 6:9].ravel() * 1e6]
        )

    sparsity = lil_matrix((len(misses(first)), len(first)), dtype=int)
    row = 0
    for view, frame, _, pixels in order:
        rows = slice(row, row + pixels.size)
        sparsity[rows, view * width : (view + 1) * width] = 1
        sparsity[rows, len(rig) * width + 6 * frame : len(rig) * width + 6 * frame + 6] = 1
        row += pixels.size
    for place in range(6):
        sparsity[row + place, _LENS + place] = 1
    for place in range(3 * len(rig)):
        sparsity[row + 6 + place, place // 3 * width + 6 + place % 3] = 1
    scale = np.concatenate([np.tile([0.01, 0.01, 10, 10, 0.05, 0.05, 0.01, 0.01, 0.05, *[0.01] * 6], len(rig)),
                            np.full(6 * len(frames), 0.01)])  # fmt: skip
    done = least_squares(misses, first, jac_sparsity=sparsity, x_scale=scale, loss="soft_l1", max_nfev=40, method="trf")
    cameras, boards = moved(done.x)
    return CameraSet(tuple(cameras)), boards


def _orders(
    rig: CameraSet, sights: Sequence[dict[int, Sight]], frames: list[int], poses: list[Pose], board: Board
) -> list[tuple[int, int, Array, Array]]:
    """What was seen, (view, row of the frame, corners (K, 3), pixels (K, 2)), chessboards read from the same end."""
    out, corners = [], board.corners()
    for view, camera in enumerate(rig):
        for row, index in enumerate(frames):
            sight = sights[view].get(index)
            if sight is None:
                continue
            space = corners[sight.ids]
            other = corners[::-1][sight.ids]
            if board.kind == "chessboard":
                misses = [np.abs(_miss(camera, poses[row], s, sight.pixels)).mean() for s in (space, other)]
                space = space if misses[0] <= misses[1] else other
            out.append((view, row, space, sight.pixels))
    return out


def _miss(camera: Camera, pose: Pose, space: Array, pixels: Array) -> Array:
    """(2 K,) px from where corners were seen to where they would be."""
    cam = (space @ pose[0].T + pose[1]) @ camera.rotation.T + camera.translation
    plane = cam[:, :2] / np.maximum(cam[:, 2:], 1e-6)
    return (distort(camera, plane) @ camera.matrix[:2, :2].T + camera.matrix[:2, 2] - pixels).ravel()


def _errors(
    rig: CameraSet, sights: Sequence[dict[int, Sight]], frames: list[int], poses: list[Pose], board: Board
) -> list[Array]:
    """Distances of all corners, camera by camera, px."""
    out: list[list[Array]] = [[] for _ in rig]
    for view, row, space, pixels in _orders(rig, sights, frames, poses, board):
        out[view].append(np.linalg.norm(_miss(rig[view], poses[row], space, pixels).reshape(-1, 2), axis=-1))
    return [np.concatenate(rows) if rows else np.array([np.nan]) for rows in out]


def _figures(lenses: list[dict[str, Any]], errors: list[Array]) -> dict[str, Any]:
    for lens, error in zip(lenses, errors, strict=False):
        lens["reprojection_px"] = round(float(error.mean()), 3)
        lens["reprojection_median_px"] = round(float(np.median(error)), 3)
        lens["reprojection_p95_px"] = round(float(np.quantile(error, 0.95)), 3)
    for lens in lenses:
        lens.setdefault("reprojection_px", lens["lens_px"])
    total = float(np.concatenate(errors).mean()) if errors else lenses[0]["lens_px"]
    return {
        "method": "board", "frames": min(lens["frames"] for lens in lenses), "reprojection_px": round(total, 3),
        "cameras": lenses, "scale": "the squares of the board",
    }  # fmt: skip


def _said(board: Board) -> str:
    what = "inner corners" if board.kind == "chessboard" else f"squares, dictionary {board.dictionary}"
    return f"of {board.columns} x {board.rows} {what}"


def _bad(text: str) -> RequestError:
    return RequestError(text, "Say chessboard:9x6:0.025 or charuco:5x7:0.04:0.03:4X4_50, in metres.", field="board")
