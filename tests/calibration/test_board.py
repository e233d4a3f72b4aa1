"""Cameras from a board: rendered footage of chessboards and ChArUco boards by cameras that are known exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from understudy.tests.calibration.filming import looking

from inference.calibration.alignment import difference, lay_over
from inference.calibration.board import Board, _finder, _paces, calibrate_from_board
from inference.core.cameras import CameraSet
from inference.core.rotations import matrix_from_rotvec
from inference.protocol.errors import InputError, RequestError
from inference.protocol.events import SilentReporter
from inference.runtime.video import VideoInfo, write_movie

SIZE = (960, 720)
FRAMES = 20
PX = 60  # of a square, in the picture of the board
CHARUCO = Board("charuco", 7, 5, 0.06, 0.045, "4X4_50")
CHESS = Board("chessboard", 8, 5, 0.06)


def picture(board: Board) -> tuple[np.ndarray, np.ndarray]:
    """The board's picture, and (3, 3) from metres, origin at the first inner corner, to its pixels."""
    if board.kind == "charuco":
        dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
        printed = cv2.aruco.CharucoBoard((board.columns, board.rows), board.square_m, board.marker_m, dictionary)
        gray = printed.generateImage((board.columns * PX, board.rows * PX))
        squares = (board.columns, board.rows)
    else:
        squares = (board.columns + 1, board.rows + 1)
        y, x = np.mgrid[: squares[1] * PX, : squares[0] * PX] // PX
        gray = np.where((x + y) % 2 == 0, 0, 255).astype(np.uint8)
    gray = cv2.copyMakeBorder(gray, PX, PX, PX, PX, cv2.BORDER_CONSTANT, value=(255,))
    scale = PX / board.square_m
    return gray, np.array([[scale, 0, 2 * PX - 0.5], [0, scale, 2 * PX - 0.5], [0, 0, 1.0]])


def rig(count: int = 2) -> CameraSet:
    target = np.array([0.0, 0.0, 1.0])
    matrix = np.array([[850.0, 0, 470.0], [0, 850.0, 365.0], [0, 0, 1.0]])
    places = [np.array([1.9 * np.cos(a), 1.9 * np.sin(a), 1.2]) for a in np.radians([-100, -70, -40][:count])]
    cameras = [looking(f"cam{index + 1}", place, target) for index, place in enumerate(places)]
    return CameraSet(
        tuple(replace(c, size=SIZE, matrix=matrix + np.diag([9.0 * i, 9.0 * i, 0])) for i, c in enumerate(cameras))
    )


def waved(frame: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the board is: facing the cameras, tilted to and fro, near and far, all over the picture."""
    facing = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])  # x right, y down, looking along +y
    t = 2.4 * frame
    tilt = matrix_from_rotvec(np.array([0.5 * np.sin(t), 0.35 * np.sin(0.7 * t), 0.5 * np.cos(1.3 * t)]))
    shift = np.array([0.35 * np.sin(1.1 * t), 0.3 * np.cos(0.9 * t), 1.0 + 0.22 * np.sin(1.7 * t)])
    return tilt @ facing, shift


def filmed(
    folder: Path, cameras: CameraSet, board: Board, *, mirrored: bool = False, rates: tuple[int, ...] = (1, 1, 1)
) -> list[Path]:
    """Write a clip for each camera; `rates`: of 30 frames a second."""
    gray, from_board = picture(board)
    middle = board.corners().mean(0)
    clips = []
    for camera, rate in zip(cameras, rates, strict=False):
        path = folder / f"{camera.name}.mp4"
        with write_movie(path, 30.0 * rate, SIZE) as movie:
            for frame in range(FRAMES * rate):
                rotation, shift = waved(frame / rate)
                shift = shift - rotation @ middle
                turn, place = camera.rotation @ rotation, camera.rotation @ shift + camera.translation
                plane = camera.matrix @ np.stack([turn[:, 0], turn[:, 1], place], axis=1)
                warped = cv2.warpPerspective(
                    gray, plane @ np.linalg.inv(from_board), SIZE, flags=cv2.INTER_AREA, borderValue=(90,)
                )
                warped = warped[:, ::-1] if mirrored else warped
                movie.write(np.ascontiguousarray(np.repeat(warped[..., None], 3, axis=-1)))
        clips.append(path)
    return clips


@pytest.mark.parametrize("board", [CHARUCO, CHESS], ids=lambda board: board.kind)
def test_a_board_gives_lenses_and_places(board: Board, tmp_path: Path) -> None:
    cameras = rig(2)
    found = calibrate_from_board(filmed(tmp_path, cameras, board), board, SilentReporter())
    moved = lay_over(found.cameras, cameras)
    off = difference(tuple(moved.cameras(found.cameras)), tuple(cameras))
    assert off.share.max() < 0.02 and off.degrees.max() < 1.0  # a principal point 10 px aside is a turn
    assert moved.scale == pytest.approx(1.0, abs=0.015)  # metres, by the size of a square
    for camera, truth in zip(found.cameras, cameras, strict=True):
        assert camera.matrix[0, 0] == pytest.approx(truth.matrix[0, 0], rel=0.015)
        assert np.abs(camera.matrix[:2, 2] - truth.matrix[:2, 2]).max() < 12
    assert found.figures["reprojection_px"] < 0.5
    assert all(0.1 < row["coverage"] <= 1 for row in found.figures["cameras"])
    assert np.degrees(np.arccos(moved.turn[2, 2])) < 1.0


def test_a_camera_of_twice_the_rate_is_looked_at_at_the_same_moments(tmp_path: Path) -> None:
    cameras = rig(2)
    found = calibrate_from_board(filmed(tmp_path, cameras, CHARUCO, rates=(1, 2)), CHARUCO, SilentReporter())
    moved = lay_over(found.cameras, cameras)
    assert difference(tuple(moved.cameras(found.cameras)), tuple(cameras)).share.max() < 0.02


def test_clips_that_do_not_end_together_are_looked_at_at_the_same_moments() -> None:
    films = [VideoInfo(Path(f"{frames}.mp4"), SIZE, 30.0, frames, frames / 30.0) for frames in (1199, 1200, 4000)]
    looked = [{pace.moment(frame / 30.0) for frame in range(film.frames)} - {None}
              for film, pace in zip(films, _paces(films, 0, None), strict=True)]  # fmt: skip
    assert [len(moments) for moments in looked] == [134, 134, 223]
    assert len(looked[0] & looked[1]) == 134 and len(looked[0] & looked[2]) == 67


def test_a_board_of_which_one_row_is_in_the_picture_says_nothing() -> None:
    gray, _ = picture(CHARUCO)
    two = _finder(CHARUCO).find(gray[: 4 * PX])
    assert two is not None and len(two.ids) == 12
    assert _finder(CHARUCO).find(gray[: 3 * PX]) is None  # six corners on one line: OpenCV's calibration ends there


def test_one_camera_gives_its_lens(tmp_path: Path) -> None:
    cameras = rig(1)
    found = calibrate_from_board(filmed(tmp_path, cameras, CHARUCO), CHARUCO, SilentReporter())
    assert found.cameras[0].matrix[0, 0] == pytest.approx(cameras[0].matrix[0, 0], rel=0.015)


def told(clips: list[Path], board: Board) -> str:
    with pytest.raises(InputError) as caught:
        calibrate_from_board(clips, board, SilentReporter())
    return f"{caught.value.message} {caught.value.hint}"


def test_a_mirrored_board_is_refused(tmp_path: Path) -> None:
    text = told(filmed(tmp_path, rig(1), CHARUCO, mirrored=True), CHARUCO)
    assert "cam1" in text and "mirrored" in text


def test_squares_counted_in_place_of_corners_are_told_with_the_right_count(tmp_path: Path) -> None:
    text = told(filmed(tmp_path, rig(1), CHESS), replace(CHESS, columns=9, rows=6))
    assert "chessboard:8x5" in text and "0 of" in text


def test_boards_that_no_two_cameras_see_at_once_do_not_connect(tmp_path: Path) -> None:
    clips = filmed(tmp_path, rig(2), CHARUCO)
    with write_movie(tmp_path / "away.mp4", 30.0, SIZE) as movie:
        blank = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
        for _ in range(FRAMES):
            movie.write(blank)
    text = told([clips[0], tmp_path / "away.mp4"], CHARUCO)
    assert "away" in text and "0 of" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("chessboard:9x6:25", "Millimetres would be 0.025"),
        ("charuco:5x7:0.04:0.05:4X4_50", "do not fit"),
        ("charuco:5x7:0.04:0.03:9X9_1", "not a dictionary"),
        ("chessboard:9:0.025", "not a board"),
        ("chessboard:1x6:0.025", "not the size"),
    ],
)
def test_a_board_that_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        Board.parse(text)


def test_boards_are_read_as_they_are_written() -> None:
    assert Board.parse("charuco:5x7:0.04:0.03:DICT_4X4_50") == Board("charuco", 5, 7, 0.04, 0.03, "4X4_50")
    assert Board.parse("chessboard:9x6:0.025") == Board("chessboard", 9, 6, 0.025)
