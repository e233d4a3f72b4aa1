"""Control frames: a pose in space drawn for any camera, the nearer before the farther."""

from __future__ import annotations

import numpy as np
import pytest

from inference.core.cameras import Camera, pinhole, project
from inference.core.skeletons import BODY_25, OPENPOSE_137
from inference.core.stickman import control_frame

Array = np.ndarray
SIZE = (512, 512)
RED_ARM, GREEN_ARM = (153, 51, 0), (153, 153, 0)  # right and left upper arm, dimmed as OpenPose's


def at(**places: tuple[float, float, float]) -> Array:
    points = np.full((len(OPENPOSE_137), 3), np.nan)
    for name, place in places.items():
        points[OPENPOSE_137.index(name)] = place
    return points


def camera() -> Camera:
    return pinhole("front", SIZE, 500.0)


def test_a_limb_lies_where_the_camera_sees_its_ends() -> None:
    points = at(RShoulder=(-0.4, 0.0, 3.0), RElbow=(0.4, 0.1, 3.0))
    frame = control_frame(points, camera(), hands=False, face=False)
    middle = project(camera(), np.array([0.0, 0.05, 3.0]))
    assert tuple(frame[round(middle[1]), round(middle[0])]) == (153, 102, 0)
    rows, columns = np.nonzero(frame.any(-1))
    ends = project(camera(), points[[2, 3]])
    assert columns.min() == pytest.approx(ends[0, 0] - 4, abs=1.5)
    assert columns.max() == pytest.approx(ends[1, 0] + 4, abs=1.5)
    assert rows.max() - rows.min() < 40


@pytest.mark.parametrize(("right_m", "left_m", "seen"), [(2.0, 4.0, "right"), (4.0, 2.0, "left")])
def test_what_is_nearer_hides_what_is_farther_whatever_is_drawn_first(right_m: float, left_m: float, seen: str) -> None:
    points = at(
        RShoulder=(-0.1 * right_m, 0, right_m), RElbow=(0.1 * right_m, 0, right_m),
        LShoulder=(0, -0.1 * left_m, left_m), LElbow=(0, 0.1 * left_m, left_m),
    )  # fmt: skip
    colour = tuple(int(value) for value in control_frame(points, camera(), hands=False, face=False)[255, 255])
    assert colour == {"right": (153, 102, 0), "left": (102, 153, 0)}[seen]


def test_limbs_that_pass_through_each_other_change_places_where_they_cross() -> None:
    points = at(
        RShoulder=(-0.5, 0, 2.0), RElbow=(0.5, 0, 4.0), LShoulder=(-0.5, 0.0, 4.0), LElbow=(0.5, 0.0, 2.0)
    )  # fmt: skip
    frame = control_frame(points, camera(), hands=False, face=False)
    row = frame[255].astype(int)
    assert tuple(row[160]) == (153, 102, 0) and tuple(row[352]) == (102, 153, 0)


def test_turned_about_the_camera_shows_another_side() -> None:
    points = at(RShoulder=(-0.2, 0, 3.0), LShoulder=(0.2, 0, 3.0), Neck=(0, 0, 3.0))
    turn = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # from the person's side
    aside = Camera("side", SIZE, camera().matrix, np.zeros(5), turn, -turn @ np.array([-3.0, 0, 3.0]))
    front, side = (control_frame(points, one, hands=False, face=False).any(-1).sum() for one in (camera(), aside))
    assert side < 0.5 * front


def test_unknown_points_and_points_behind_the_camera_are_left_out() -> None:
    assert not control_frame(at(RShoulder=(0, 0, 2.0)), camera(), hands=False)[:, :100].any()
    assert not control_frame(at(RShoulder=(0, 0, -2.0), RElbow=(0.2, 0, -2.0)), camera()).any()
    assert not control_frame(np.full((137, 3), np.nan), camera()).any()


def test_hands_and_face_can_be_left_away_and_feet_belong_to_the_stickman() -> None:
    points = at(
        Face30=(0, 0, 2), LHandWrist=(0.2, 0, 2), LHandThumb1=(0.25, 0, 2), LAnkle=(0, 0.3, 2), LBigToe=(0.1, 0.3, 2)
    )
    whole = control_frame(points, camera())
    plain = control_frame(points, camera(), hands=False, face=False)
    assert tuple(whole[255, 255]) == (255, 255, 255) and not plain[255, 255].any()
    assert not plain[:, 300:].any() and whole[:, 300:].any()
    toe = project(camera(), points[BODY_25.index("LBigToe")]).round().astype(int)
    assert not plain[toe[1], toe[0]].any()
    assert control_frame(points, camera(), style="stickman")[toe[1], toe[0]].any()
