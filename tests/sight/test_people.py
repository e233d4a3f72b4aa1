"""Several people in a film: tracked past each other, associated, and one of them followed without being lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.bench.people import CrowdNoise, identity_scores, make_scene
from inference.core.artifacts import Crowd2D, read_npz
from inference.core.formats.calibration import read_calibration
from inference.core.skeletons import BODY_25
from inference.protocol.errors import Cancelled, InputError
from inference.protocol.events import SilentReporter
from inference.runtime.video import read_frames, write_movie
from inference.sight.blaze import Landmarks
from inference.sight.blaze_crowd import Region
from inference.sight.detect import DetectSettings, detect
from inference.sight.grouping import group, similarity
from inference.sight.looks import SIZE, look_at
from inference.sight.people import associate, detect_people
from inference.sight.track import Reading, Track, alike, assign, distinct, windows

DEMO = Path(__file__).resolve().parents[2] / "inference" / "demo"
BODY_ONLY = DetectSettings(hands=False, face=False)
JUDGED = [
    BODY_25.index(name) for name in ("Neck", "RShoulder", "LShoulder", "MidHip", "RHip", "LHip", "RKnee", "LKnee")
]
FRAMES = 48


class Listener(SilentReporter):
    def __init__(self, patience: int = 10_000) -> None:
        self.patience = patience
        self.warnings: list[str] = []

    def progress(self, stage: str, done: int, total: int) -> None:  # noqa: ARG002
        if done > self.patience:
            raise Cancelled

    def warning(self, code: str, text: str) -> None:  # noqa: ARG002
        self.warnings.append(text)


@dataclass(frozen=True)
class Crossing:
    """A film of two people who pass each other, the second one behind the first; truth (2, T, 137, 2) px."""

    path: Path
    truth: np.ndarray

    def who(self, positions: np.ndarray, frame: int) -> tuple[int, float]:
        """Who stands where somebody was seen, and how far off, px."""
        away = np.linalg.norm(self.truth[:, frame][:, JUDGED] - positions[JUDGED], axis=-1)
        off = np.nanmedian(away, axis=1)
        return int(off.argmin()), float(off.min())


def cut_out(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The demo's person in each frame, and their mask."""
    masks: dict[int, np.ndarray] = {}
    settings = replace(BODY_ONLY, mask=True, unswap=False, stop=FRAMES)
    detect(DEMO / f"{name}.mp4", settings, SilentReporter(), keep_mask=masks.__setitem__)
    frames = [rgb for _, _, rgb in read_frames(DEMO / f"{name}.mp4", stop=FRAMES)]
    empty = np.zeros(frames[0].shape[:2], np.uint8)
    return frames, [cv2.erode(masks.get(i, empty), np.ones((3, 3), np.uint8)) for i in range(len(frames))]


@pytest.fixture(scope="module")
def crossing(tmp_path_factory) -> Crossing:
    """Two of the demo's views of one person, the second in other colours, pasted into one picture."""
    people = [cut_out("front"), cut_out("side")]
    truth = read_npz(DEMO / "truth.npz")["positions_px"][:2, :FRAMES].astype(float)
    middle = np.nanmean(truth[:, :, BODY_25.index("MidHip"), 0], axis=1)
    ways = np.stack([np.linspace(170, 690, FRAMES), np.linspace(690, 170, FRAMES)])
    path = tmp_path_factory.mktemp("crossing") / "crossing.mp4"
    with write_movie(path, 30.0, (860, 720)) as movie:
        for t in range(FRAMES):
            picture = np.full((720, 860, 3), 150, np.uint8)
            for who in (1, 0):  # the first one is painted last
                frames, masks = people[who]
                rgb = frames[t] if who == 0 else np.ascontiguousarray(frames[t][..., [2, 0, 1]])
                shift = round(ways[who, t] - middle[who])
                truth[who, t, :, 0] += shift
                paste(picture, rgb, masks[t], shift)
            movie.write(picture)
    return Crossing(path, truth)


def paste(picture: np.ndarray, rgb: np.ndarray, mask: np.ndarray, shift: int) -> None:
    rows, columns = np.nonzero(mask)
    inside = (columns + shift >= 0) & (columns + shift < picture.shape[1])
    rows, columns = rows[inside], columns[inside]
    picture[rows, columns + shift] = rgb[rows, columns]


@pytest.fixture(scope="module")
def crowd(crossing) -> Crowd2D:
    return detect_people(crossing.path, BODY_ONLY, SilentReporter())


def test_two_people_who_pass_each_other_are_told_apart_in_one_view(crossing, crowd):
    judged = [crossing.who(p, f) for p, f in zip(crowd.positions, crowd.frame, strict=True)]
    true, off = (np.array(values) for values in zip(*judged, strict=True))
    label = np.full(len(true), -1)
    for number, pieces in enumerate(group([crowd], None)):
        for piece in pieces:
            label[piece.rows] = number
    assert identity_scores(true, label, np.zeros(len(true)), crowd.frame)["idf1"] > 0.9
    assert np.median(off) < 12
    assert len(true) > 1.3 * FRAMES  # one of them is hidden for a while


@pytest.mark.parametrize("person", [0, 1])
def test_the_one_who_is_crossed_is_not_lost_to_the_one_in_front(crossing, person):
    click = tuple(float(v) for v in crossing.truth[person, 0, BODY_25.index("MidHip")])
    found = detect(crossing.path, replace(BODY_ONLY, person=click), SilentReporter())
    seen = np.flatnonzero(found.confidence[:, JUDGED].max(1) > 0.3)
    right = [crossing.who(found.positions[t], t)[0] == person for t in seen]
    assert np.mean(right) > 0.95
    assert len(seen) > 0.55 * FRAMES
    assert seen[-1] > FRAMES - 6, "found again after the crossing"


def test_each_view_of_one_person_is_an_artifact_that_survives_the_disk(crowd, tmp_path):
    people = associate([crowd], None, SilentReporter())
    assert len(people) == 2
    assert people[0].views[0].positions.shape == (FRAMES, 137, 2)
    crowd.save(tmp_path / "crowd.npz")
    again = Crowd2D.load(tmp_path / "crowd.npz")
    np.testing.assert_array_equal(again.positions, crowd.positions)
    assert again.look is not None
    assert again.look.shape == (len(crowd.frame), SIZE)


def test_whoever_was_clicked_comes_first(crossing, crowd):
    for person in (0, 1):
        click = tuple(float(v) for v in crossing.truth[person, 0, BODY_25.index("MidHip")])
        first = associate([crowd], None, SilentReporter(), people=1, chosen=(click,))[0].views[0]
        assert crossing.who(first.positions[2], 2)[0] == person


def test_people_who_are_left_out_and_people_who_lack_are_said(crowd):
    listener = Listener()
    associate([crowd], None, listener, people=1)
    associate([crowd], None, listener, people=4)
    assert any("2 people are seen; 1 is left out" in text for text in listener.warnings)
    assert any("4 people were asked for; 2 are seen" in text for text in listener.warnings)


def test_a_film_without_anybody_is_an_error(tmp_path):
    with write_movie(tmp_path / "empty.mp4", 30.0, (320, 240)) as movie:
        for _ in range(12):
            movie.write(np.full((240, 320, 3), 90, np.uint8))
    with pytest.raises(InputError, match=r"Nobody is seen in any of the 12 frames of empty\.mp4"):
        detect_people(tmp_path / "empty.mp4", BODY_ONLY, SilentReporter())


def test_too_few_frames_are_an_error_with_numbers():
    scene = make_scene(np.random.default_rng(0), people=2, views=2, frames=8, noise=CrowdNoise(absent=0.0))
    with pytest.raises(InputError, match="8 frames show a person; at least 10 are needed"):
        associate(scene.crowds, scene.cameras, SilentReporter())


def test_cancel_takes_effect_within_a_frame():
    with pytest.raises(Cancelled):
        detect_people(DEMO / "front.mp4", BODY_ONLY, Listener(patience=2))


def reading(x: float, look: float = 0.5, sought: int | None = None, sure: float = 0.9) -> Reading:
    """Somebody standing at x, in one colour or the other."""
    rng = np.random.default_rng(0)
    positions = np.full((137, 2), np.nan)
    positions[:25] = rng.uniform(-60, 60, (25, 2)) * [0.5, 2.0] + [x, 300.0]
    confidence = np.zeros(137)
    confidence[:25] = sure
    landmarks = Landmarks(positions, confidence, np.full((137, 3), np.nan), (x, 300.0, 400.0))
    clothes = np.zeros(SIZE)
    clothes[[0, SIZE // 2]] = np.sqrt(look)
    clothes[[1, SIZE // 2 + 1]] = np.sqrt(1.0 - look)
    return Reading(landmarks, Region(x, 300.0, 400.0), clothes, frozenset() if sought is None else frozenset([sought]))


def track(number: int, x: float, look: float, velocity: float = 0.0) -> Track:
    seen = reading(x, look)
    return Track(number, seen, frame=0, hits=20, velocity=np.array([velocity, 0.0]), look=np.square(seen.look))


def test_two_readings_of_one_body_are_one_and_remember_who_was_sought():
    merged = distinct([reading(100, sought=1), reading(104, sought=2, sure=0.95), reading(300)])
    assert len(merged) == 2
    assert merged[0].sought == {1, 2}
    assert alike(reading(100), reading(100)) == pytest.approx(1.0)
    assert alike(reading(100), reading(300)) < 0.05


def test_a_body_that_two_are_looked_for_at_goes_to_whom_its_clothes_say():
    front, behind = track(0, 200, 0.9), track(1, 204, 0.1)
    assert assign([front, behind], [reading(203, 0.9)], 1, 30.0) == [(front, 0)]
    assert assign([front, behind], [reading(203, 0.1)], 1, 30.0) == [(behind, 0)]


def test_somebody_else_in_other_clothes_does_not_take_the_place_of_one_who_is_lost():
    lost = track(0, 200, 0.9)
    assert assign([lost], [reading(210, 0.1)], 6, 30.0) == []
    assert assign([lost], [reading(210, 0.9)], 6, 30.0) == [(lost, 0)]


def test_people_in_the_same_clothes_go_on_as_they_were_going():
    left, right = track(0, 200, 0.5, velocity=10.0), track(1, 220, 0.5, velocity=-10.0)
    found = assign([left, right], [reading(190), reading(230)], 2, 30.0)
    assert {(t.number, body) for t, body in found} == {(0, 1), (1, 0)} or len(found) == 2
    by_number = {t.number: body for t, body in found}
    assert by_number[0] == 1  # expected at 220, seen at 230


def test_the_whole_picture_and_parts_that_cover_it_are_searched():
    for width, height in ((1920, 1080), (640, 480), (1080, 1920), (400, 400)):
        parts = windows(width, height)
        assert parts[0] == (0, 0, width, height)
        assert min(p[0] for p in parts[1:]) == min(p[1] for p in parts[1:]) == 0
        assert max(p[2] for p in parts[1:]) == width
        assert max(p[3] for p in parts[1:]) == height


def test_looks_tell_colours_apart_in_any_light():
    positions = np.zeros((25, 2))
    places = {"RShoulder": (40, 40), "LShoulder": (80, 40)}
    for row, joint in ((110, "Hip"), (160, "Knee"), (210, "Ankle")):
        places |= {f"R{joint}": (45, row), f"L{joint}": (75, row)}
    for name, place in places.items():
        positions[BODY_25.index(name)] = place
    seen = np.ones(25)

    def dressed(colour: tuple[int, int, int], light: float = 1.0) -> np.ndarray:
        return look_at((np.full((240, 120, 3), colour) * light).astype(np.uint8), positions, seen)

    red, blue = dressed((200, 30, 30)), dressed((30, 30, 200))
    assert (similarity(red, dressed((200, 30, 30), 0.9)) or 0.0) > 0.9
    assert (similarity(red, blue) or 0.0) < 0.2
    assert np.isnan(look_at(np.zeros((240, 120, 3), np.uint8), positions, np.zeros(25))).all()


@pytest.mark.data
@pytest.mark.slow
def test_clothed_avatars_who_cross_before_three_cameras_are_told_apart(data_dir, tmp_path):
    from inference.training.studio.crowd import film

    film(data_dir, tmp_path, people=3, views=3, frames=72)
    truth = read_npz(tmp_path / "truth.npz")["positions_px"]
    crowds = [detect_people(tmp_path / f"cam{v + 1}.mp4", BODY_ONLY, SilentReporter()) for v in range(3)]
    true, label, stream = [], [], []
    people = group(crowds, read_calibration(tmp_path / "rig.toml"))
    for view, crowd in enumerate(crowds):
        for row, frame in enumerate(crowd.frame):
            away = np.linalg.norm(truth[view][:, frame][:, JUDGED] - crowd.positions[row][JUDGED], axis=-1)
            true.append(int(np.nanmedian(away, axis=1).argmin()))
            mine = (k for k, pieces in enumerate(people) for p in pieces if p.view == view and row in p.rows)
            label.append(next(mine, -1))
            stream.append(view)
    frames = np.concatenate([crowd.frame for crowd in crowds])
    assert identity_scores(np.array(true), np.array(label), np.array(stream), frames)["idf1"] > 0.9
