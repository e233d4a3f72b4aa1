"""The fit against bodies whose every joint is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from understudy.tests.motion import bodies

from inference.core.contacts import foot_points
from inference.core.humanoid import Proportions, bone, keypoint, make_skeleton, motion_keypoints
from inference.core.ik import flexion, turn_about
from inference.core.kinematics import forward
from inference.core.rotations import conjugate, matrix_from_quaternion, multiply, rotvec_from_quaternion
from inference.core.skeletons import (
    FACE,
    HUMANOID_NAMES,
    HUMANOID_PARENTS,
    LEFT_HAND,
    LIMBS,
    OPENPOSE_137,
    RIGHT_HAND,
)
from inference.motion.fit import FitSettings, evaluate_fit, fit
from inference.protocol.errors import InputError
from inference.protocol.events import SilentReporter

TALL = Proportions(
    torso=0.56, hips=0.20, shoulders=0.40, upper_arm=0.31, forearm=0.27, thigh=0.47, shin=0.45, neck=0.13
)
RAW = FitSettings(smoothing=0.0)
LOWER = [
    i for i, name in enumerate(OPENPOSE_137[:25]) if any(p in name for p in ("Hip", "Knee", "Ankle", "Toe", "Heel"))
]


def fitted(keypoints, options=RAW):
    return fit(keypoints, options, SilentReporter())


def errors_mm(motion, truth):
    """(T, 137) distances; NaN where no bone carries a keypoint."""
    return 1e3 * np.linalg.norm(motion_keypoints(motion) - truth, axis=-1)


def angle_between(a, b, name):
    index = bone(name)
    turn = multiply(conjugate(a.rotations[:, index]), b.rotations[:, index])
    return np.degrees(np.linalg.norm(rotvec_from_quaternion(turn), axis=-1))


def second_difference(points):
    return float(np.mean(np.diff(points, 2, axis=0) ** 2))


@pytest.mark.parametrize("person", [Proportions(), TALL], ids=["average", "tall"])
def test_clean_keypoints_are_met_within_five_millimetres(person):
    truth = bodies.moving(60, person=person)
    motion = fitted(bodies.keypoints_of(truth))
    errors = errors_mm(motion, motion_keypoints(truth))
    assert np.nanmean(errors) < 5.0
    assert np.nanmean(errors[:, LEFT_HAND]) < 5.0
    assert np.nanmax(errors[:, :25]) < 25.0


def test_bone_lengths_are_recovered_and_equal_on_both_sides():
    motion = fitted(bodies.keypoints_of(bodies.moving(60, person=TALL)))
    lengths = dict(zip(motion.header["bones"], motion.header["lengths_m"], strict=True))
    for name, wanted in (
        ("upper_arm", TALL.upper_arm),
        ("forearm", TALL.forearm),
        ("thigh", TALL.thigh),
        ("shin", TALL.shin),
    ):
        assert lengths[f"{name}.L"] == pytest.approx(wanted, abs=2e-3)
    for name in HUMANOID_NAMES:
        if name.endswith(".L"):
            assert lengths[name] == pytest.approx(lengths[f"{name[:-1]}R"], abs=1e-12)


def test_bone_lengths_do_not_change_over_time():
    motion = fitted(bodies.keypoints_of(bodies.moving(40), noise_m=0.02), FitSettings())
    heads = forward(motion.rest, motion.parents, motion.rotations, motion.root)[..., :3, 3]
    for child, parent in enumerate(HUMANOID_PARENTS):
        if parent >= 0:
            assert np.std(np.linalg.norm(heads[:, child] - heads[:, parent], axis=-1)) < 1e-12


@pytest.mark.parametrize("name", ["upper_arm.L", "forearm.R", "hand.L", "thigh.R", "shin.L", "index.01.L"])
def test_twist_is_recovered_where_elbow_hand_knee_and_foot_show_it(name):
    truth = bodies.moving(90)
    index = bone(name)
    world = [
        forward(m.rest, m.parents, m.rotations, m.root)[:, index, :3, :3]
        for m in (truth, fitted(bodies.keypoints_of(truth)))
    ]
    cosine = (np.trace(np.swapaxes(world[0], -1, -2) @ world[1], axis1=-2, axis2=-1) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 5.0


def test_a_t_pose_gives_the_rest_pose():
    motion = fitted(bodies.keypoints_of(bodies.still(3)))
    for name in ("upper_arm.L", "forearm.L", "hand.L", "thigh.L", "shin.L", "foot.L", "index.01.L", "upper_arm.R"):
        assert angle_between(motion, bodies.still(3), name).max() < 4.0, name


def test_a_straight_arm_that_swings_does_not_spin():
    skeleton = make_skeleton()
    frames = 80
    turns = np.broadcast_to(np.eye(3), (frames, len(HUMANOID_NAMES), 3, 3)).copy()
    turns[:, bone("upper_arm.L")] = turn_about(2, np.linspace(-1.2, 0.8, frames))
    truth = bodies.motion_of(skeleton, turns, np.repeat(skeleton.rest[:1, :3, 3], frames, axis=0), 30.0)
    keypoints = bodies.without(bodies.keypoints_of(truth, noise_m=0.003), range(95, 137))
    motion = fitted(keypoints)
    index = bone("upper_arm.L")
    steps = multiply(conjugate(motion.rotations[:-1, index]), motion.rotations[1:, index])
    assert np.degrees(np.linalg.norm(rotvec_from_quaternion(steps), axis=-1)).max() < 12.0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.7, 1.2))
def test_any_body_is_met(seed, size):
    person = Proportions(**{n: size * getattr(Proportions(), n) for n in (
        "torso", "hips", "shoulders", "upper_arm", "forearm", "thigh", "shin", "neck"
    )})  # fmt: skip
    truth = bodies.moving(12, seed=seed, person=person)
    motion = fitted(bodies.keypoints_of(truth))
    assert np.nanmean(errors_mm(motion, motion_keypoints(truth))[:, :25]) < 8.0
    signs = np.sum(motion.rotations[1:] * motion.rotations[:-1], axis=-1)
    assert signs.min() >= 0.0


def test_knees_and_elbows_never_bend_backwards():
    motion = fitted(bodies.keypoints_of(bodies.moving(60), noise_m=0.03), FitSettings())
    for name in ("shin.L", "shin.R", "forearm.L", "forearm.R"):
        assert flexion(matrix_from_quaternion(motion.rotations[:, bone(name)])).min() > -0.1


def test_smoothing_takes_off_noise_and_comes_nearer_to_the_truth():
    truth = motion_keypoints(bodies.moving(150))[:, :25]
    motion = fitted(bodies.keypoints_of(bodies.moving(150), noise_m=0.012), FitSettings())
    raw = replace(motion, rotations=motion.rotations_raw, root=motion.root_raw)
    after, before = motion_keypoints(motion)[:, :25], motion_keypoints(raw)[:, :25]
    assert second_difference(after) < second_difference(before) / 5.0
    assert np.sqrt(np.mean((after - truth) ** 2)) < 0.8 * np.sqrt(np.mean((before - truth) ** 2))


def test_keypoints_that_are_expected_to_err_pull_less():
    truth = bodies.keypoints_of(bodies.moving(40))
    generator, shape = np.random.default_rng(3), truth.positions.shape[:2]
    wrong = generator.random(shape) < 0.2
    noise = generator.normal(0.0, 1.0, (*shape, 3)) * np.where(wrong, 0.12, 0.005)[..., None]
    noisy = replace(truth, positions=truth.positions + noise)
    warned = replace(noisy, expected_error_m=np.where(wrong, 0.2, 0.01))
    body = [i for i in range(15) if np.isfinite(truth.positions[:, i]).all()]

    def miss(keypoints):
        fitted = motion_keypoints(fit(keypoints, FitSettings(floor=False), SilentReporter()))
        return np.linalg.norm(fitted[:, body] - truth.positions[:, body], axis=-1).mean()

    assert miss(warned) < 0.75 * miss(noisy)


def test_no_smoothing_returns_the_raw_result():
    motion = fitted(bodies.keypoints_of(bodies.moving(20), noise_m=0.01), FitSettings(smoothing=0.0))
    assert motion.rotations_raw is not None
    assert motion.root_raw is not None
    np.testing.assert_array_equal(motion.rotations, motion.rotations_raw)
    np.testing.assert_array_equal(motion.root, motion.root_raw)


def test_a_hand_that_is_never_seen_stays_relaxed_with_confidence_zero():
    truth = bodies.moving(40)
    motion = fitted(bodies.without(bodies.keypoints_of(truth), range(LEFT_HAND.start, LEFT_HAND.stop)))
    fingers = [bone(f"{f}.{i:02d}.L") for f in ("thumb", "index", "middle", "ring", "little") for i in (1, 2, 3)]
    assert (motion.bone_confidence[:, fingers] == 0).all()
    assert np.ptp(motion.rotations[:, fingers], axis=0).max() < 1e-9
    assert np.nanmean(errors_mm(motion, motion_keypoints(truth))[:, RIGHT_HAND]) < 5.0


def test_a_hand_that_is_only_guessed_stays_relaxed():
    keypoints = bodies.keypoints_of(bodies.moving(20))
    keypoints.validity[:, RIGHT_HAND] = False
    assert fitted(keypoints).bone_confidence[:, bone("index.01.R")].max() == 0.0


def test_a_face_that_is_never_seen_leaves_the_rest_as_it_is():
    truth = bodies.moving(40)
    face = [0, 15, 16, 17, 18, *range(FACE.start, FACE.stop)]
    motion = fitted(bodies.without(bodies.keypoints_of(truth), face))
    assert (motion.bone_confidence[:, bone("head")] == 0).all()
    errors = errors_mm(motion, motion_keypoints(truth))[:, [i for i in range(25) if i not in face]]
    assert np.nanmean(errors) < 5.0


def test_a_desk_shot_without_legs_stands_at_ease_below():
    truth = bodies.moving(60)
    keypoints = bodies.without(bodies.keypoints_of(truth), LOWER)
    motion = fitted(keypoints, FitSettings())
    assert (motion.bone_confidence[:, [bone("thigh.L"), bone("shin.R"), bone("foot.L")]] == 0).all()
    assert np.isfinite(motion.rotations).all()
    arms = [keypoint(s + j) for s in "LR" for j in ("Shoulder", "Elbow", "Wrist")]
    assert np.nanmean(errors_mm(motion, motion_keypoints(truth))[:, arms]) < 8.0
    assert motion.contacts.max() == 0.0
    thigh = forward(motion.rest, motion.parents, motion.rotations, motion.root)[:, bone("thigh.L"), :3, 1]
    assert thigh[:, 2].max() < -0.95


def test_a_short_gap_is_bridged():
    truth = bodies.moving(90)
    arm = [keypoint("LElbow"), keypoint("LWrist")]
    motion = fitted(bodies.without(bodies.keypoints_of(truth), arm, slice(40, 48)))
    assert errors_mm(motion, motion_keypoints(truth))[40:48][:, arm].mean() < 30.0
    assert 0.0 < motion.bone_confidence[44, bone("forearm.L")] < 0.5


def test_a_long_gap_relaxes_with_confidence_zero_and_without_a_jump():
    truth = bodies.moving(150)
    arm = [keypoint("LElbow"), keypoint("LWrist"), *range(LEFT_HAND.start, LEFT_HAND.stop)]
    motion = fitted(bodies.without(bodies.keypoints_of(truth), arm, slice(40, 110)))
    index = bone("upper_arm.L")
    assert (motion.bone_confidence[45:105, index] == 0).all()
    steps = multiply(conjugate(motion.rotations[:-1, index]), motion.rotations[1:, index])
    assert np.degrees(np.linalg.norm(rotvec_from_quaternion(steps), axis=-1)).max() < 15.0
    down = forward(motion.rest, motion.parents, motion.rotations, motion.root)[75, index, :3, 1]
    assert down[2] < -0.5


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_very_short_clips_are_fitted(frames):
    truth = bodies.moving(frames)
    motion = fitted(bodies.keypoints_of(truth), FitSettings())
    motion.check("motion")
    assert motion.rotations.shape == (frames, len(HUMANOID_NAMES), 4)
    assert np.nanmean(errors_mm(motion, motion_keypoints(truth))[:, :25]) < 12.0


def test_nobody_is_an_error_with_numbers():
    with pytest.raises(InputError, match="0 of 7 frames"):
        fitted(bodies.seen(np.full((7, 137, 3), np.nan)))


def test_a_spike_is_dropped():
    truth = bodies.moving(60)
    keypoints = bodies.keypoints_of(truth)
    positions = keypoints.positions.copy()
    positions[30, keypoint("RWrist")] += [0.5, 0.0, 0.3]
    motion = fitted(bodies.seen(positions))
    assert errors_mm(motion, motion_keypoints(truth))[30, keypoint("RWrist")] < 40.0


def test_a_body_only_skeleton_is_fitted():
    keypoints = bodies.keypoints_of(bodies.moving(30))
    short = replace(
        keypoints.with_header(joints=list(OPENPOSE_137[:25])), positions=keypoints.positions[:, :25],
        confidence=keypoints.confidence[:, :25], validity=keypoints.validity[:, :25],
    )  # fmt: skip
    motion = fitted(short)
    assert motion.header["diagnostics"]["residual_mm"] < 5.0


def test_the_artifact_survives_a_round_trip(tmp_path):
    motion = fitted(bodies.keypoints_of(bodies.moving(10)), FitSettings())
    motion.save(tmp_path / "body_motion.npz")
    again = type(motion).load(tmp_path / "body_motion.npz")
    np.testing.assert_array_equal(again.rotations, motion.rotations)
    assert again.header["diagnostics"] == motion.header["diagnostics"]


def test_the_floor_of_a_z_up_world_is_found_within_a_centimetre():
    truth, _ = bodies.walking()
    points = motion_keypoints(truth) + [0.0, 0.0, 0.37]
    motion = fitted(bodies.seen(points), FitSettings())
    transform = np.array(motion.header["floor_from_frame"])
    np.testing.assert_array_equal(transform[:3, :3], np.eye(3))
    assert transform[2, 3] == pytest.approx(-0.37, abs=0.01)


def test_a_floor_that_is_nearly_right_is_left_alone():
    truth, _ = bodies.walking()
    motion = fitted(bodies.keypoints_of(truth), FitSettings())
    np.testing.assert_array_equal(motion.header["floor_from_frame"], np.eye(4))


def test_a_y_up_world_is_turned_upright():
    truth, _ = bodies.walking()
    y_up = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    motion = fitted(bodies.seen(motion_keypoints(truth) @ y_up.T), FitSettings())
    up = np.array(motion.header["floor_from_frame"])[2, :3]
    np.testing.assert_allclose(up, [0.0, 1.0, 0.0], atol=1e-9)


@pytest.mark.parametrize("tilt_deg", [0.0, 10.0, 20.0])
def test_the_tilt_and_the_floor_of_a_camera_are_found(tilt_deg):
    truth, _ = bodies.walking(150)
    camera_from_world = turn_about(0, np.radians(90.0 + tilt_deg))  # z ahead along +Y, y down, then tilted
    points = (motion_keypoints(truth) + [0.0, 6.0, -1.5]) @ camera_from_world.T
    motion = fitted(bodies.seen(points, frame="camera"), FitSettings())
    transform = np.array(motion.header["floor_from_frame"])
    up = camera_from_world @ [0.0, 0.0, 1.0]
    assert np.degrees(np.arccos(transform[2, :3] @ up)) < 4.0
    feet, _ = foot_points(motion_keypoints(motion), np.ones((150, 137)))
    lowest = np.quantile((feet @ transform[:3, :3].T + transform[:3, 3])[..., 2], 0.1)
    assert lowest == pytest.approx(0.02, abs=0.03)
    hips = transform[:3, :3] @ motion.root[0] + transform[:3, 3]
    np.testing.assert_allclose(hips[:2], 0.0, atol=0.02)


def test_feet_that_stand_do_not_slide():
    truth, standing = bodies.walking()
    motion = fitted(bodies.keypoints_of(truth, noise_m=0.01), FitSettings())
    figures = motion.header["diagnostics"]
    assert figures["foot_slide"] < 0.5 * figures["foot_slide_raw"]
    assert figures["foot_slide"] < 0.12
    found = motion.contacts[:, [0, 2]] > 0.5
    assert (found & standing).sum() > 0.9 * found.sum()
    assert (found & standing).sum() > 0.7 * standing.sum()


def test_figures_of_a_fit_hold_lengths_residual_jitter_and_feet():
    keypoints = bodies.keypoints_of(bodies.moving(40), noise_m=0.01)
    figures = evaluate_fit(keypoints, fitted(keypoints, FitSettings()))
    assert set(figures["limb_length_std_mm"]) == {name for name, _, _ in LIMBS}
    assert min(figures["limb_length_std_mm"].values()) > 5.0
    assert figures["limb_length_std_after_mm"] < 1e-6
    assert figures["jitter"] < figures["jitter_raw"] < figures["jitter_input"]


@pytest.mark.data
@pytest.mark.parametrize("clip", ["MSS_walk_fullbody", "MASS_dance"])
def test_captured_motion_on_a_person_of_other_proportions_is_met(data_dir, clip):
    truth, fps = bodies.captured(data_dir, clip)
    motion = fitted(bodies.seen(truth, fps=fps), FitSettings())
    errors = errors_mm(motion, truth)
    assert np.nanmean(errors[:, :25]) < 8.0
    assert np.nanmean(errors[:, LEFT_HAND]) < 8.0


@pytest.mark.data
def test_contacts_of_a_captured_walk_are_found(data_dir):
    truth, fps = bodies.captured(data_dir, "MSS_walk_fullbody")
    feet, _ = foot_points(truth, np.ones(truth.shape[:2]))
    speed = np.linalg.norm(np.gradient(feet, axis=0), axis=-1) * fps
    low = feet[..., 2] < np.quantile(feet[..., 2], 0.1) + 0.04
    surely, surely_not = (speed < 0.15) & low, (speed > 0.8) | (feet[..., 2] > 0.15)
    noisy = truth + 0.005 * np.random.default_rng(0).standard_normal(truth.shape)
    found = fitted(bodies.seen(noisy, fps=fps), FitSettings()).contacts > 0.5
    assert found[surely].mean() > 0.85
    assert found[surely_not].mean() < 0.05
