"""What photos show: one person's face, cut out with the head, the best view first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from understudy.tests.head import faces

from inference.core.cameras import Camera
from inference.head.doubts import find_doubts, is_sure
from inference.head.frame import CENTRE, RADIUS
from inference.head.see import Frame, choose_frames, see
from inference.protocol.requests import HeadRequest
from inference.runtime.video import write_movie

Array = np.ndarray


class Heard:
    """A reporter that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total, stage

    def warning(self, code: str, text: str) -> None:
        self.warnings.append(f"{code}: {text}")

    def artifact(self, name: str, file: str) -> None:
        raise AssertionError((name, file))


def written(path: Path, picture: Array, **options: Any) -> Path:
    Image.fromarray(picture).save(path, **options)
    return path


def look(*paths: Path, **settings: Any) -> tuple[list[Any], list[str]]:
    heard = Heard()
    return see(HeadRequest(photo=paths, **settings), heard), heard.warnings


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return written(tmp_path / "astronaut.png", faces.portrait())


def test_a_portrait_is_cut_to_its_head_with_landmarks_mask_and_where_its_middle_was(photo: Path) -> None:
    (seen,), _ = look(photo)
    assert seen.landmarks.shape == (478, 2) and seen.depth.shape == (478,) and seen.focal_px is None
    moved = seen.centre_px - [255.5, 255.5]
    assert np.abs(seen.landmarks - moved - faces.face().landmarks).max() < 1.0
    x, y = np.round(-moved).astype(int)
    height, width = seen.mask.shape
    assert np.array_equal(seen.image, faces.portrait()[y : y + height, x : x + width])
    assert abs(seen.yaw_deg) < 5


def test_the_mask_holds_face_and_hair_and_not_the_wall(photo: Path) -> None:
    (seen,), _ = look(photo)
    x, y = np.round(-(seen.centre_px - [255.5, 255.5])).astype(int)
    inside, outside = [(225, 120), (225, 40), (160, 90), (290, 90)], [(120, 60), (330, 60), (225, 8), (340, 120)]
    assert all(seen.mask[v - y, u - x] > 0.9 for u, v in inside)
    assert all(seen.mask[v - y, u - x] < 0.1 for u, v in outside)
    assert seen.mask.dtype == np.float32 and 0 <= seen.mask.min() <= seen.mask.max() <= 1


def test_landmarks_do_not_depend_on_the_size_of_the_photo(tmp_path: Path, photo: Path) -> None:
    large = cv2.resize(faces.portrait(), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    (one,), _ = look(photo)
    (other,), _ = look(written(tmp_path / "large.jpg", large, quality=95))
    scale = other.image.shape[1] / one.image.shape[1]
    assert max(other.image.shape) == 2048
    apart = (other.landmarks - other.centre_px) / scale - (one.landmarks - one.centre_px)
    assert np.linalg.norm(apart, axis=1).mean() < 0.01 * faces.face().size_px


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_of_a_turned_camera_shows_the_same(tmp_path: Path, photo: Path, orientation: int) -> None:
    turns = {3: 2, 6: 1, 8: 3}
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = np.ascontiguousarray(np.rot90(faces.portrait(), turns[orientation]))
    (one,), _ = look(photo)
    (other,), _ = look(written(tmp_path / "turned.png", turned, exif=exif))
    assert np.abs((other.landmarks - other.centre_px) - (one.landmarks - one.centre_px)).max() < 1.5


def test_the_focal_length_follows_the_picture_as_it_is_scaled(tmp_path: Path) -> None:
    large = cv2.resize(faces.portrait(), None, fx=14, fy=14, interpolation=cv2.INTER_AREA)  # 7168 px: shrunk to 6000
    exif = Image.Exif()
    exif.get_ifd(0x8769)[41989] = 50
    path = written(tmp_path / "large.jpg", large, exif=exif)
    (seen,), _ = look(path)
    scale = np.linalg.norm(np.ptp(seen.landmarks, 0)) / np.linalg.norm(np.ptp(faces.face().landmarks, 0))
    assert seen.focal_px == pytest.approx(50 / 43.2666 * 512 * 2**0.5 * scale, rel=0.01)
    (told,), _ = look(path, focal_px=14_000.0)
    assert told.focal_px == pytest.approx(1000.0 * scale, rel=0.01)


@pytest.mark.parametrize("kind", ["grey", "deep", "cut out"])
def test_grey_deep_and_cut_out_photos_serve(tmp_path: Path, kind: str) -> None:
    picture, path = faces.portrait(), tmp_path / "a.png"
    if kind == "grey":
        written(path, picture.mean(-1).astype(np.uint8))
    elif kind == "deep":
        cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 257)
    else:
        alpha = np.zeros(picture.shape[:2], np.uint8)
        cv2.ellipse(alpha, (225, 110), (75, 110), 0, 0, 360, (255,), -1)
        written(path, np.dstack([picture, alpha]))
    (seen,), _ = look(path)
    x, y = np.round(-(seen.centre_px - [255.5, 255.5])).astype(int)
    assert seen.mask[120 - y, 225 - x] > 0.9
    if kind == "cut out":
        assert seen.mask[250 - y, 225 - x] < 0.1, "the chest was cut away"


def test_the_chosen_face_is_seen_and_the_other_person_is_none_of_the_mask(tmp_path: Path) -> None:
    path = written(tmp_path / "both.png", faces.twice())
    (left,), _ = look(path, face=(1,))
    (right,), _ = look(path, face=(2,))
    middles = [one.landmarks[:, 0].mean() - one.centre_px[0] for one in (left, right)]
    assert middles[1] - middles[0] == pytest.approx(512, abs=3)


def test_somebody_small_in_the_background_is_left_alone_and_said(tmp_path: Path) -> None:
    (seen,), warnings = look(written(tmp_path / "both.png", faces.twice(second=0.45)))
    assert seen.landmarks[:, 0].mean() - seen.centre_px[0] < 0
    assert any("shows 2 faces; the largest is taken" in warning for warning in warnings)


def test_of_several_photos_bad_ones_are_left_out_and_said(tmp_path: Path, photo: Path) -> None:
    bad = written(tmp_path / "masked.png", faces.masked())
    seen, warnings = look(bad, photo)
    assert [one.name for one in seen] == ["astronaut.png"]
    assert any("masked.png" in warning and "left out" in warning for warning in warnings)


def test_doubtful_photos_serve_where_that_is_accepted(tmp_path: Path) -> None:
    seen, warnings = look(written(tmp_path / "masked.png", faces.masked()), accept_doubtful=True)
    assert len(seen) == 1 and any("mouth covered" in warning for warning in warnings)


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_no_doubts_about_the_portrait_however_it_is_compressed(quality: int) -> None:
    coded = cv2.imencode(".jpg", faces.portrait(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    assert find_doubts(cv2.imdecode(coded, cv2.IMREAD_COLOR), faces.face()) == []
    assert is_sure(faces.face())


@pytest.mark.parametrize("colour", [(235, 235, 238), (160, 200, 225), (25, 25, 28), (200, 120, 140)])
def test_masks_of_any_colour_are_noticed(colour: tuple[int, int, int]) -> None:
    from inference.sight.faces import Faces

    picture = faces.painted((faces.MASK,), colour)
    with Faces() as finder:
        found = finder.find(picture)
    assert all("mouth" in find_doubts(picture, face) or not is_sure(face) for face in found)


def test_of_a_film_sharp_frames_of_different_turns_are_kept_the_frontal_one_first() -> None:
    turns = np.concatenate([np.linspace(0, 60, 20), np.linspace(60, -60, 40)])
    frames = [Frame(i, float(turn), 100.0 + i % 7) for i, turn in enumerate(turns)]
    blurred = [Frame(100 + i, float(turn), 3.0) for i, turn in enumerate(turns)]
    chosen = choose_frames([*frames, *blurred])
    yaws = sorted(frame.yaw_deg for frame in chosen)
    assert len(chosen) == 8 and abs(chosen[0].yaw_deg) < 20 and not set(chosen) & set(blurred)
    assert np.diff(yaws).min() >= 8 and yaws[0] < -50 and yaws[-1] > 50


def test_a_film_of_somebody_who_holds_still_gives_one_frame(tmp_path: Path) -> None:
    with write_movie(tmp_path / "a.mp4", 30, (512, 512)) as movie:
        for _ in range(10):
            movie.write(faces.portrait())
    seen = see(HeadRequest(video=tmp_path / "a.mp4"), Heard())
    assert len(seen) == 1 and seen[0].name.startswith("a.mp4, frame")


def test_of_a_film_the_chosen_face_is_taken_where_as_many_are_seen(tmp_path: Path) -> None:
    """While the other person is out of view, who is left is not taken for the chosen one."""
    both, alone = faces.twice(second=0.8), np.full((512, 922, 3), 128, np.uint8)
    alone[:, :512] = faces.portrait()
    both[:, 512:] = cv2.GaussianBlur(both[:, 512:], (0, 0), 0.7)
    with write_movie(tmp_path / "a.mp4", 30, (922, 512)) as movie:
        for picture in [alone] * 6 + [both] * 4:
            movie.write(picture)
    (seen,) = see(HeadRequest(video=tmp_path / "a.mp4", face=(2,)), Heard())
    assert seen.landmarks[:, 0].mean() > seen.centre_px[0]


@pytest.mark.data
@pytest.mark.parametrize("turn", [-45, 0, 45])
def test_how_far_heads_are_turned_is_known_to_ten_degrees(data_dir: Path, tmp_path: Path, turn: int) -> None:
    picture = studio_photo(data_dir, turn)
    (seen,), _ = look(written(tmp_path / "a.png", picture))
    assert seen.yaw_deg == pytest.approx(-turn, abs=10)  # a camera to the left of somebody sees them turned right


def studio_photo(data_dir: Path, turn: float) -> Array:
    """A photograph of a true head by a camera `turn` degrees round it, to its left."""
    from inference.training.portraits import make
    from inference.training.studio.portrait import Light, Portrait
    from inference.training.studio.render import look_at

    angle, focal = np.radians(turn), 0.46 * 640 * np.sqrt(1.44 - RADIUS**2) / RADIUS
    eye = CENTRE + 1.2 * np.array([np.sin(angle), -np.cos(angle), 0.05])
    camera: Camera = look_at("view", (640, 640), focal, eye, CENTRE)
    light = Light.drawn(np.random.default_rng(4))
    image, mask, _ = Portrait(make(data_dir, "Asian_M_1")).photograph(camera, light)
    return (image * mask[..., None] + 130 * (1 - mask[..., None])).astype(np.uint8)
