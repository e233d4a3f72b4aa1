"""One person's keypoints in films: the demo clip with its truth, real clips, and films made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inference.core.artifacts import Keypoints2D, read_npz
from inference.core.skeletons import BODY, BODY_25, FACE, LEFT_HAND, OPENPOSE_137, RIGHT_HAND
from inference.protocol.errors import Cancelled, InputError
from inference.protocol.events import SilentReporter
from inference.runtime.video import read_frames, write_movie
from inference.sight.blaze import to_openpose, world_to_openpose
from inference.sight.detect import DetectSettings, detect

DEMO = Path(__file__).resolve().parents[2] / "inference" / "demo"
BODY_ONLY = DetectSettings(hands=False, face=False, unswap=False)
LIMBS = [BODY_25.index(f"{side}{name}") for side in "LR" for name in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee")]


class Listener(SilentReporter):
    """Keeps what is said; stops the job after `patience` frames."""

    def __init__(self, patience: int = 10_000) -> None:
        self.patience = patience
        self.steps: list[tuple[str, int, int]] = []
        self.warnings: list[tuple[str, str]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        if done > self.patience:
            raise Cancelled
        self.steps.append((stage, done, total))

    def warning(self, code: str, text: str) -> None:
        self.warnings.append((code, text))


def pictures(name: str, count: int) -> list[np.ndarray]:
    return [rgb for _, _, rgb in read_frames(DEMO / f"{name}.mp4", stop=count)]


def film(path: Path, frames: Iterable[np.ndarray]) -> Path:
    frames = list(frames)
    with write_movie(path, 30.0, (frames[0].shape[1], frames[0].shape[0])) as movie:
        for frame in frames:
            movie.write(frame)
    return path


def distance_px(found: Keypoints2D, truth: np.ndarray, joints: slice | list[int]) -> np.ndarray:
    """Median distance in each frame, over joints that are seen (T,)."""
    distance = np.linalg.norm(found.positions[:, joints] - truth[:, joints], axis=-1)
    distance[found.confidence[:, joints] < 0.3] = np.nan
    return np.nanmedian(distance, 1)


@pytest.fixture(scope="module")
def front() -> tuple[Keypoints2D, Listener]:
    listener = Listener()
    return detect(DEMO / "front.mp4", DetectSettings(stop=24), listener, view="front"), listener


def test_body_and_hands_lie_where_the_rendered_person_has_them(front):
    found, _ = front
    truth = read_npz(DEMO / "truth.npz")["positions_px"][0][:24]
    tall = np.ptp(truth[:, BODY, 1], axis=1).mean()
    assert np.median(distance_px(found, truth, LIMBS)) < 0.03 * tall
    for hand in (LEFT_HAND, RIGHT_HAND):
        seen = found.confidence[:, hand].mean(1) > 0.5
        assert seen.mean() > 0.4
        assert np.median(np.linalg.norm(found.positions[seen, hand] - truth[seen, hand], axis=-1)) < 0.015 * tall


def test_the_face_is_seen_with_its_sides_right(front):
    found, _ = front
    seen = found.confidence[:, FACE].mean(1) > 0.5
    assert seen.mean() > 0.8
    points = found.positions[seen]
    right_pupil, left_pupil, chin = (points[:, FACE.start + i] for i in (68, 69, 8))
    assert (right_pupil[:, 0] < left_pupil[:, 0]).all()
    assert (chin[:, 1] > left_pupil[:, 1]).all()
    across = np.linalg.norm(right_pupil - left_pupil, axis=-1)
    for pupil, eye in ((right_pupil, "REye"), (left_pupil, "LEye")):
        apart = np.linalg.norm(pupil - points[:, BODY_25.index(eye)], axis=-1)
        assert np.median(apart / across) < 0.5


def test_the_artifact_says_what_it_holds_and_survives_the_disk(front, tmp_path):
    found, listener = front
    assert found.header["joints"] == list(OPENPOSE_137)
    assert found.image_size == (540, 720)
    assert (found.fps, found.header["view"], found.header["unit"]) == (30.0, "front", "px")
    assert listener.steps == [("detect", i + 1, 24) for i in range(24)]
    absent = [BODY_25.index("LSmallToe"), BODY_25.index("RSmallToe")]
    assert np.isnan(found.positions[:, absent]).all()
    assert not found.confidence[:, absent].any()
    assert (found.confidence[np.isnan(found.positions).any(-1)] == 0).all()
    assert 0.0 <= found.confidence.min() <= found.confidence.max() <= 1.0
    assert found.world_m is not None
    assert np.isfinite(found.world_m[:, BODY_25.index("RKnee")]).all()
    assert np.isnan(found.world_m[:, 25:]).all()
    found.save(tmp_path / "keypoints_2d.npz")
    np.testing.assert_array_equal(Keypoints2D.load(tmp_path / "keypoints_2d.npz").positions, found.positions)


def test_hands_and_face_are_left_out_on_request():
    found = detect(DEMO / "front.mp4", replace(BODY_ONLY, start=2, stop=14), SilentReporter())
    assert found.positions.shape == (12, 137, 2)
    np.testing.assert_allclose(found.times, np.arange(2, 14) / 30, atol=1e-3)
    assert np.isnan(found.positions[:, 25:]).all()
    assert (found.confidence[:, BODY].mean(1) > 0.5).all()


def test_of_two_people_the_one_that_was_clicked_is_followed(tmp_path):
    left, right = pictures("front", 14), pictures("side", 14)
    path = film(tmp_path / "two.mp4", [np.hstack(pair) for pair in zip(left, right, strict=True)])
    truth = read_npz(DEMO / "truth.npz")["positions_px"][:, :14]
    truth[1, ..., 0] += left[0].shape[1]
    for view in (0, 1):
        body = truth[view, 0, BODY]
        click = tuple(body[BODY_25.index("MidHip")])
        box = (*np.nanmin(body, 0), *np.nanmax(body, 0))
        for person in (click, box):
            found = detect(path, replace(BODY_ONLY, person=person), SilentReporter())
            assert (distance_px(found, truth[view], LIMBS) < 30).all()


def test_with_nobody_chosen_one_person_is_followed_and_the_other_is_mentioned(tmp_path):
    left, right = pictures("front", 12), pictures("side", 12)
    path = film(tmp_path / "two.mp4", [np.hstack(pair) for pair in zip(left, right, strict=True)])
    listener = Listener()
    found = detect(path, BODY_ONLY, listener)
    middle = found.positions[:, BODY_25.index("MidHip"), 0]
    assert (middle < 540).all() or (middle > 540).all()
    assert [code for code, _ in listener.warnings] == ["several-people"]
    assert "2 people" in listener.warnings[0][1]


def test_somebody_hidden_for_a_moment_is_found_again_and_not_taken_for_the_other(tmp_path):
    left, right = pictures("front", 24), pictures("side", 24)
    for hidden in left[8:13]:
        hidden[:] = left[0][:20, :20].mean((0, 1)).astype(np.uint8)
    path = film(tmp_path / "hidden.mp4", [np.hstack(pair) for pair in zip(left, right, strict=True)])
    truth = read_npz(DEMO / "truth.npz")["positions_px"][0][:24]
    person = tuple(truth[0, BODY_25.index("MidHip")])
    found = detect(path, replace(BODY_ONLY, person=person), SilentReporter())
    seen = found.confidence[:, BODY].any(1)
    assert not seen[8:13].any()
    assert seen[:8].all()
    assert seen[18:].all()
    shown = replace(found, positions=found.positions[seen], confidence=found.confidence[seen])
    assert (distance_px(shown, truth[seen], LIMBS) < 30).all()


def test_a_click_on_nobody_is_an_error_that_names_the_place(tmp_path):
    path = film(tmp_path / "beside.mp4", [np.hstack([np.full_like(p, 128), p]) for p in pictures("front", 40)])
    with pytest.raises(InputError, match=r"Nobody was found at \(20, 700\)") as caught:
        detect(path, replace(BODY_ONLY, person=(20.0, 700.0)), SilentReporter())
    assert "box" in caught.value.hint


def test_a_film_without_anybody_is_an_error(tmp_path):
    noise = np.random.default_rng(0)
    frames = [cv2.resize(noise.integers(0, 255, (12, 16, 3), dtype=np.uint8), (320, 240)) for _ in range(15)]
    with pytest.raises(InputError, match=r"Nobody is seen in any of the 15 frames of empty\.mp4\."):
        detect(film(tmp_path / "empty.mp4", frames), DetectSettings(), SilentReporter())


def test_somebody_in_3_of_40_frames_is_too_little(tmp_path):
    people = pictures("front", 3)
    path = film(tmp_path / "brief.mp4", [*people, *[np.full_like(people[0], 90)] * 37])
    with pytest.raises(InputError, match="3 of 40 frames show a person; at least 10 are needed.") as caught:
        detect(path, BODY_ONLY, SilentReporter())
    assert caught.value.hint


def test_a_clip_that_is_too_short_is_told_so():
    with pytest.raises(InputError, match="5 of 5 frames show a person; at least 10 are needed.") as caught:
        detect(DEMO / "front.mp4", replace(BODY_ONLY, stop=5), SilentReporter())
    assert "longer" in caught.value.hint


def test_frames_that_do_not_exist_are_an_error():
    with pytest.raises(InputError, match="none of them lies from frame 5000 on"):
        detect(DEMO / "front.mp4", replace(BODY_ONLY, start=5000), SilentReporter())


def test_a_film_that_breaks_off_is_used_as_far_as_it_goes(tmp_path):
    whole = DEMO / "front.mp4"
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    listener = Listener()
    found = detect(cut, BODY_ONLY, listener)
    assert listener.warnings == [("truncated", f"cut.mp4 breaks off after {len(found.times)} of 96 frames.")]


def test_cancel_takes_effect_within_a_frame():
    listener = Listener(patience=3)
    with pytest.raises(Cancelled):
        detect(DEMO / "front.mp4", BODY_ONLY, listener)
    assert len(listener.steps) == 3


def test_the_mask_covers_the_person_and_little_else():
    masks: dict[int, np.ndarray] = {}
    settings = replace(BODY_ONLY, mask=True, stop=10)
    found = detect(DEMO / "front.mp4", settings, SilentReporter(), keep_mask=masks.__setitem__)
    assert sorted(masks) == list(range(10))
    mask = masks[9]
    assert (mask.shape, mask.dtype, set(np.unique(mask))) == ((720, 540), np.uint8, {0, 255})
    inside = [mask[int(y), int(x)] for x, y in found.positions[9, [1, 8, 10, 13]]]
    assert all(value == 255 for value in inside)
    assert 0.03 < (mask > 0).mean() < 0.3


def test_a_joint_between_two_landmarks_is_their_mean_and_as_sure_as_the_less_sure():
    pose = np.arange(99, dtype=float).reshape(33, 3) / 99
    positions, confidence = to_openpose(pose, None, None, None)
    np.testing.assert_allclose(positions[BODY_25.index("Neck")], (pose[11, :2] + pose[12, :2]) / 2)
    assert confidence[BODY_25.index("MidHip")] == pose[23, 2]
    np.testing.assert_allclose(positions[BODY_25.index("RBigToe")], pose[32, :2])
    world = np.random.default_rng(0).random((33, 3))
    np.testing.assert_allclose(world_to_openpose(world)[BODY_25.index("LElbow")], world[13])


@pytest.mark.data
@pytest.mark.slow
def test_the_real_camera_that_exchanges_sides_is_put_right(data_dir):
    path = data_dir / "multiview" / "pose2sim_single" / "cam02.mp4"
    found = detect(path, replace(BODY_ONLY, unswap=True), SilentReporter())
    raw = detect(path, BODY_ONLY, SilentReporter())
    with np.load(data_dir / "multiview" / "pose2sim_single" / "calib_pose2d_ref3d.npz", allow_pickle=False) as data:
        truth = data["pose2d"][:, 1, :, :2] * np.array([found.image_size[0] / 1088, 1.0])
    ankles_hips = {"LHip": 11, "RHip": 12, "LKnee": 13, "RKnee": 14}  # BODY_25B's numbers
    ours = [BODY_25.index(name) for name in ankles_hips]

    def wrong(keypoints: Keypoints2D) -> float:
        distance = np.linalg.norm(keypoints.positions[:, ours] - truth[:, list(ankles_hips.values())], axis=-1)
        return float((np.median(distance, 1) > 50).mean())

    assert wrong(raw) > 0.15
    assert wrong(found) < 0.05
