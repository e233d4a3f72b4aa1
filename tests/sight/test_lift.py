"""Lifting clips and streams: the same numbers, the right place, missing and absent parts, known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.core.artifacts import Keypoints2D
from inference.core.cameras import Camera, pinhole, project
from inference.core.skeletons import BODY, FACE, LEFT_HAND, MIRROR_137, OPENPOSE_137
from inference.nets.lifter import Lifter, LifterConfig, fuse
from inference.protocol.errors import InputError
from inference.protocol.events import SilentReporter
from inference.runtime import weights
from inference.sight import lift as stage
from inference.sight.lift import LiftSettings, StreamingLifter, lift

Array = np.ndarray
SIZE = (1920, 1080)
FOCAL = 1900.0
COCO_17 = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)


@pytest.fixture(scope="module")
def random_net() -> Lifter:
    """A net of the published shape but small, with random weights: enough for what does not need a good pose."""
    torch.manual_seed(1)
    net = Lifter(LifterConfig(hidden=32, part_hidden=16))
    for name, value in net.named_buffers():
        if name.endswith("_out_std"):
            value.fill_(0.3)
    return fuse(net.eval())


@pytest.fixture(scope="module")
def published() -> Lifter:
    """The shipped weights."""
    if "lifter" not in weights.registry():
        pytest.skip("no lifter weights are published yet")
    return stage.load_net()


def person(frames: int, *, fps: float = 30.0) -> Array:
    """(T, 137, 3) camera frame: somebody 1.7 m tall who stands 4 m away, swings the arms and steps to the right."""
    time = np.arange(frames)[:, None] / fps
    out = np.full((frames, 137, 3), np.nan)
    x = {"Neck": (0, -0.52), "Nose": (0, -0.68), "REye": (-0.03, -0.71), "LEye": (0.03, -0.71), "REar": (-0.075, -0.69),
         "LEar": (0.075, -0.69), "RShoulder": (-0.17, -0.5), "LShoulder": (0.17, -0.5), "MidHip": (0, 0),
         "RHip": (-0.09, 0), "LHip": (0.09, 0), "RKnee": (-0.1, 0.42), "LKnee": (0.1, 0.42), "RAnkle": (-0.1, 0.82),
         "LAnkle": (0.1, 0.82), "RBigToe": (-0.12, 0.88), "LBigToe": (0.12, 0.88), "RHeel": (-0.1, 0.87),
         "LHeel": (0.1, 0.87), "RSmallToe": (-0.16, 0.88), "LSmallToe": (0.16, 0.88)}  # fmt: skip
    depth = {"Nose": -0.12, "REye": -0.1, "LEye": -0.1, "BigToe": -0.17, "SmallToe": -0.14, "Heel": 0.05, "Knee": -0.03}
    for name, (across, down) in x.items():
        forward = next((d for key, d in depth.items() if name.endswith(key)), 0.0)
        out[:, OPENPOSE_137.index(name)] = (across, down, forward)
    for side, sign in (("R", -1.0), ("L", 1.0)):
        lifted = np.radians(35.0 + 30.0 * np.sin(2.0 * time * sign))
        aim = np.concatenate([sign * np.sin(lifted), np.cos(lifted), np.zeros_like(lifted)], axis=1)
        shoulder = out[:, OPENPOSE_137.index(f"{side}Shoulder")]
        out[:, OPENPOSE_137.index(f"{side}Elbow")] = shoulder + 0.28 * aim
        out[:, OPENPOSE_137.index(f"{side}Wrist")] = shoulder + 0.52 * aim
    return out + np.array([0.1, 0.0, 4.0]) + np.concatenate([0.4 * time, 0 * time, 0 * time], axis=1)[:, None]


def filmed(points: Array, *, fps: float = 30.0, camera: Camera | None = None) -> Keypoints2D:
    """What a perfect detector would see."""
    camera = camera or pinhole("camera", SIZE, FOCAL)
    pixels = project(camera, points)
    header = {
        "unit": "px", "frame": "image", "fps": fps, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(camera.size), "source": "clip.mp4", "view": "",
    }  # fmt: skip
    confidence = np.isfinite(pixels[..., 0]).astype(float)
    return Keypoints2D(header=header, positions=pixels, confidence=confidence, times=np.arange(len(points)) / fps)


def with_parts(clip: Keypoints2D, seed: int = 0) -> Keypoints2D:
    """Add a face and hands of random points near nose and wrists."""
    positions, confidence = clip.positions.copy(), clip.confidence.copy()
    rng = np.random.default_rng(seed)
    for part, joint in ((FACE, 0), (LEFT_HAND, 7)):
        count = part.stop - part.start
        positions[:, part] = positions[:, joint, None] + rng.normal(scale=15.0, size=(1, count, 2))
        confidence[:, part] = 1.0
    return replace(clip, positions=positions, confidence=confidence)


@pytest.mark.parametrize("fps", [12.0, 25.0, 30.0, 50.0, 60.0, 120.0])
def test_a_stream_gives_the_poses_of_the_clip(random_net: Lifter, fps: float) -> None:
    clip = with_parts(filmed(person(24, fps=fps), fps=fps))
    clip.confidence[9:12, 2:5] = 0.0
    whole = lift(clip, LiftSettings(), SilentReporter(), net=random_net)
    stream = StreamingLifter(SIZE, fps, LiftSettings(), net=random_net)
    for frame in range(24):
        positions, confidence = stream.push(clip.positions[frame], clip.confidence[frame], clip.times[frame])
        expected = whole.positions[frame]
        np.testing.assert_allclose(positions - positions[8], expected - expected[8], atol=2e-5)
        np.testing.assert_allclose(confidence, whole.confidence[frame], atol=1e-5)


def test_a_stream_counts_dropped_frames_as_empty(random_net: Lifter) -> None:
    clip = filmed(person(8))
    with_gap, told = (StreamingLifter(SIZE, 30.0, net=random_net) for _ in range(2))
    for frame in (0, 1, 2, 5):
        one, _ = with_gap.push(clip.positions[frame], clip.confidence[frame], clip.times[frame])
    for frame in range(6):
        two, _ = told.push(clip.positions[frame], clip.confidence[frame] * (frame not in (3, 4)))
    np.testing.assert_allclose(one[BODY] - one[8], two[BODY] - two[8], atol=1e-5)


def test_frames_without_anybody_are_finite_and_worth_nothing(random_net: Lifter) -> None:
    clip = filmed(person(30))
    clip.confidence[10:20], clip.positions[10:20] = 0.0, np.nan
    lifted = lift(clip, LiftSettings(), SilentReporter(), net=random_net)
    assert np.isfinite(lifted.positions[:, BODY]).all()
    assert not lifted.validity[10:20].any()
    assert lifted.confidence[15:20].max() == 0.0  # the whole window is empty
    assert lifted.confidence[:10, BODY].min() > 0.0


def test_a_clip_without_anybody_is_refused(random_net: Lifter) -> None:
    clip = filmed(person(12))
    clip.confidence[:] = 0.0
    with pytest.raises(InputError, match="0 of 12 frames"):
        lift(clip, LiftSettings(), SilentReporter(), net=random_net)


def test_a_stream_of_nothing_is_finite(random_net: Lifter) -> None:
    stream = StreamingLifter(SIZE, 30.0, net=random_net)
    positions, confidence = stream.push(np.full((137, 2), np.nan), np.zeros(137))
    assert np.isfinite(positions[BODY]).all() and confidence.max() == 0.0


def test_parts_that_are_not_seen_are_absent(random_net: Lifter) -> None:
    lifted = lift(with_parts(filmed(person(8))), LiftSettings(), SilentReporter(), net=random_net)
    assert np.isfinite(lifted.positions[:, :116]).all()
    assert np.isnan(lifted.positions[:, 116:]).all() and lifted.confidence[:, 116:].max() == 0.0


def test_what_the_detector_doubts_is_not_used(random_net: Lifter) -> None:
    clip = filmed(person(10))
    doubted = replace(clip, confidence=np.where(np.arange(137) == 4, 0.2, clip.confidence))
    moved = replace(doubted, positions=doubted.positions + 300.0 * (np.arange(137) == 4)[:, None])
    one, two = (lift(c, LiftSettings(), SilentReporter(), net=random_net) for c in (doubted, moved))
    np.testing.assert_array_equal(one.positions, two.positions)


def test_the_mirror_image_lifts_to_the_mirrored_pose(random_net: Lifter) -> None:
    clip = filmed(person(10))
    mirror = list(MIRROR_137)
    flipped = replace(
        clip,
        positions=((SIZE[0] - 1, 0.0) + clip.positions * (-1.0, 1.0))[:, mirror],
        confidence=clip.confidence[:, mirror],
    )
    one, two = (lift(c, LiftSettings(flip=True), SilentReporter(), net=random_net) for c in (clip, flipped))
    np.testing.assert_allclose(one.positions, two.positions[:, mirror] * (-1.0, 1.0, 1.0), atol=1e-4)


def test_the_root_is_found_where_the_pose_is_right() -> None:
    truth = person(5)
    rays = (truth[..., :2] / truth[..., 2:]).astype(np.float32)
    valid = np.isfinite(rays[..., 0])
    errors = np.full(valid.shape, 0.03)
    poses = np.nan_to_num(truth - truth[:, 8:9])
    roots, placed = stage.place(stage.Pull(poses, np.nan_to_num(rays), valid, errors))
    assert placed.all()
    np.testing.assert_allclose(roots, truth[:, 8], atol=1e-4)


def test_one_wild_keypoint_hardly_moves_the_root() -> None:
    truth = person(1)
    rays = np.nan_to_num(truth[..., :2] / truth[..., 2:]).astype(np.float32)
    rays[:, 4] += 0.3
    valid = np.isfinite(truth[..., 0])
    roots, _ = stage.place(stage.Pull(np.nan_to_num(truth - truth[:, 8:9]), rays, valid, np.full(valid.shape, 0.03)))
    assert np.linalg.norm(roots - truth[:, 8]) < 0.1


def test_the_window_spans_the_same_time_at_any_rate() -> None:
    assert stage.window_steps(30.0, 5).tolist() == [4, 3, 2, 1, 0]
    assert stage.window_steps(60.0, 5).tolist() == [8, 6, 4, 2, 0]
    assert stage.window_steps(25.0, 5).tolist() == [4, 3, 2, 1, 0]
    assert stage.window_steps(15.0, 5).tolist() == [2, 1.5, 1, 0.5, 0]


def test_frames_between_frames_need_both_neighbours() -> None:
    rays = np.arange(4.0, dtype=np.float32)[:, None, None] * np.ones((4, 1, 2), np.float32)
    valid = np.array([[True], [True], [False], [True]])
    out, ok = stage.gather(rays, valid, np.array([3]), np.array([2.5, 2.0, 1.5, 0.0]))
    assert out[0, :, 0, 0].tolist() == [0.5, 1.0, 0.0, 3.0] and ok[0, :, 0].tolist() == [True, True, False, True]


def test_an_assumed_camera_says_so(random_net: Lifter) -> None:
    clip = filmed(person(6))
    assumed = lift(clip, LiftSettings(), SilentReporter(), net=random_net)
    given = lift(clip, LiftSettings(focal_px=FOCAL), SilentReporter(), net=random_net)
    assert assumed.header["focal"] == "assumed" and given.header["focal"] == "given"
    camera = Camera.from_header(given.header["cameras"][0])
    assert camera.matrix[0, 0] == FOCAL and np.array_equal(camera.rotation, np.eye(3))
    assert given.header["frame"] == "camera" and given.error_px is not None
    assert given.error_px.shape == (1, 6, 137)


def test_a_known_person_is_found_in_metres(published: Lifter) -> None:
    truth = person(40)
    lifted = lift(filmed(truth), LiftSettings(focal_px=FOCAL), SilentReporter(), net=published)
    joints = list(COCO_17)
    relative = (lifted.positions - lifted.positions[:, 8:9]) - (truth - truth[:, 8:9])
    assert np.linalg.norm(relative[:, joints], axis=-1).mean() < 0.09
    assert np.abs(lifted.positions[:, 8, 2] - truth[:, 8, 2]).mean() < 0.5
    assert lifted.error_px is not None
    assert np.nanmedian(lifted.error_px[0, :, joints]) < 0.02 * 800  # of a person 800 pixels tall
    assert lifted.confidence[:, joints].mean() > 0.6


def test_height_sets_the_scale(published: Lifter) -> None:
    clip = filmed(person(20))
    one, two = (lift(clip, LiftSettings(height_m=h), SilentReporter(), net=published) for h in (1.5, 1.8))
    np.testing.assert_allclose(two.positions[:, BODY], 1.2 * one.positions[:, BODY], atol=1e-3)
    assert abs(np.median(stage.stature(one.positions)) - 1.5) < 0.05
