"""Masks that can be believed and those that cannot; outlines against geometry."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from understudy.tests.body.bodies import golden_mesh, parameters_of

from inference.body.masks import doubt, keep_mask, kept_masks, read_mask, read_masks
from inference.body.silhouette import Shadow, outline, overlap
from inference.core.cameras import Camera
from inference.protocol.errors import InputError

Array = np.ndarray
SIZE = (320, 240)
LIMBS = ((0, 1), (1, 8), (2, 3), (3, 4), (5, 6), (6, 7), (9, 10), (10, 11), (12, 13), (13, 14), (2, 5), (9, 12))


def person(x: float = 160.0) -> tuple[Array, Array]:
    """(25, 2) px and (25,) of somebody who stands in the middle of SIZE."""
    points = np.full((25, 2), np.nan)
    places = {
        0: (0, 40), 1: (0, 70), 8: (0, 130), 2: (-20, 72), 3: (-30, 100), 4: (-32, 128), 5: (20, 72), 6: (30, 100),
        7: (32, 128), 9: (-12, 130), 10: (-14, 170), 11: (-15, 210), 12: (12, 130), 13: (14, 170), 14: (15, 210),
    }  # fmt: skip
    for joint, (across, down) in places.items():
        points[joint] = x + across, down
    return points, np.where(np.isfinite(points[:, 0]), 0.9, 0.0)


def drawn(*people: Array) -> Array:
    mask = np.zeros(SIZE[::-1], np.uint8)
    for points in people:
        for a, b in (
            (0, 1),
            (1, 8),
            (2, 3),
            (3, 4),
            (5, 6),
            (6, 7),
            (9, 10),
            (10, 11),
            (12, 13),
            (13, 14),
            (2, 5),
            (9, 12),
        ):
            cv2.line(mask, points[a].astype(int).tolist(), points[b].astype(int).tolist(), (1,), 18)
    return mask > 0


def test_a_mask_of_the_person_is_believed_also_with_wide_clothes_and_missing_arms() -> None:
    points, confidence = person()
    mask = drawn(points)
    assert doubt(mask, points, confidence) == ""
    assert doubt(cv2.dilate(mask.astype(np.uint8), np.ones((13, 13))) > 0, points, confidence) == ""
    mask[:, 180:] = False
    assert doubt(mask, points, confidence) == ""


def test_masks_of_nobody_somebody_else_and_two_are_told_apart() -> None:
    points, confidence = person()
    other, _ = person(250.0)
    assert doubt(None, points, confidence) == "missing"
    assert doubt(np.zeros(SIZE[::-1], bool), points, confidence) == "empty"
    assert doubt(drawn(other), points, confidence) == "elsewhere"
    assert doubt(drawn(points, other), points, confidence) == "merged"
    assert doubt(np.ones(SIZE[::-1], bool), points, confidence) == "merged"


def test_masks_are_read_at_any_scale_as_grey_as_colour_as_zero_and_one_and_from_alpha(tmp_path: Path) -> None:
    points, _ = person()
    mask = drawn(points).astype(np.uint8)
    half = cv2.resize(mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    clear = np.dstack([np.zeros((*mask.shape, 3), np.uint8), mask * 255])
    pictures = {
        "a.png": mask * 255,
        "b.png": np.dstack([mask * 255] * 3),
        "c.png": mask,
        "d.png": half * 255,
        "e.png": clear,
        "f.png": mask.astype(np.uint16),
        "g.png": mask.astype(np.uint16) * 65535,
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / name), picture)
    masks = read_masks(tmp_path, np.arange(7), SIZE)
    for sample in range(7):
        found = masks(sample)
        assert found is not None and overlap(found, mask > 0) > 0.9


def test_numbers_in_names_of_masks_count_as_numbers(tmp_path: Path) -> None:
    names = [f"mask{number}.png" for number in range(12)]
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros(SIZE[::-1], np.uint8))
    assert [file and file.name for file in read_masks(tmp_path, np.arange(12), SIZE).files] == names


def test_other_systems_droppings_are_no_masks(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask_0.png"), np.zeros(SIZE[::-1], np.uint8))
    (tmp_path / "._mask_0.png").write_bytes(b"of another system")
    assert [file and file.name for file in read_masks(tmp_path, np.arange(1), SIZE).files] == ["mask_0.png"]


@pytest.mark.parametrize("label", [1, 2, 38])
def test_a_person_may_be_the_number_of_a_class(tmp_path: Path, label: int) -> None:
    person_mask = drawn(person()[0])
    cv2.imwrite(str(tmp_path / "1.png"), label * person_mask.astype(np.uint8))
    assert ((read_mask(tmp_path / "1.png") > 127) == person_mask).all()


def test_folders_that_do_not_belong_to_the_clip_are_refused_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read_masks(tmp_path / "none", np.arange(3), SIZE)
    with pytest.raises(InputError, match="0 pictures"):
        read_masks(tmp_path, np.arange(3), SIZE)
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((240, 240), np.uint8))
    with pytest.raises(InputError, match="1 masks for 3 frames"):
        read_masks(tmp_path, np.arange(3), SIZE)
    with pytest.raises(InputError, match="240 x 240 px do not belong to pictures of 320 x 240 px"):
        read_masks(tmp_path, np.arange(1), SIZE)
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png is no picture"):
        read_mask(tmp_path / "1.png")


def test_kept_masks_come_back_and_frames_without_one_say_so(tmp_path: Path) -> None:
    big = cv2.resize(drawn(person()[0]).astype(np.uint8) * 255, (1280, 960))
    keep_mask(tmp_path, 7, big)
    masks = kept_masks(tmp_path, np.array([6, 7]), (1280, 960))
    assert masks(0) is None
    again = masks(1)
    assert again is not None and overlap(again, big > 127) > 0.97


def test_the_outline_of_a_ball_is_a_disc_and_what_is_behind_the_camera_is_not_drawn() -> None:
    tilt, turn = np.meshgrid(np.linspace(0.02, np.pi - 0.02, 40), np.linspace(0, 2 * np.pi, 80, endpoint=False))
    ball = np.stack([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)], -1).reshape(-1, 3)
    at = np.arange(80 * 40).reshape(80, 40)
    after = np.roll(at, -1, 0)
    faces = np.stack([at[:, :-1], at[:, 1:], after[:, 1:], after[:, :-1]], -1).reshape(-1, 4)
    rows, columns = np.mgrid[:240, :320]
    disc = np.hypot(columns - 160, rows - 120) <= 60
    for order in (faces, faces[:, ::-1]):
        seen = outline(ball[:, :2] * 60 + (160, 120), ball[:, 2] + 5, order, SIZE)
        assert overlap(seen, disc) > 0.96
    assert not outline(ball[:, :2] * 60 + (160, 120), ball[:, 2] - 5, faces, SIZE).any()


def test_a_body_in_front_of_a_camera_covers_what_it_should() -> None:
    mesh = golden_mesh()
    pose = np.tile([1.0, 0, 0, 0], (1, len(mesh.parents), 1))
    look = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    camera = Camera("c", SIZE, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), rotation=look,
                    translation=np.array([0.0, 0.95, 3.5]))  # fmt: skip
    body = Shadow(mesh, parameters_of(mesh, pose), camera).outline(0, SIZE)
    rows = np.flatnonzero(body.any(1))
    wanted = 300 * mesh.header["measures_m"]["height"] / 3.5
    assert rows[-1] - rows[0] == pytest.approx(wanted, rel=0.05)
    assert np.nanmean(np.flatnonzero(body.any(0))) == pytest.approx(160, abs=2)
