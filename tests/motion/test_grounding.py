"""The ground before one camera: its depth drifts, what it sees across its rays does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from understudy.tests.motion import bodies

from inference.core.contacts import foot_points
from inference.core.humanoid import bone, make_skeleton, motion_keypoints
from inference.core.ik import turn_about
from inference.core.kinematics import forward
from inference.core.rotations import unit
from inference.core.skeletons import HUMANOID_NAMES, OPENPOSE_137
from inference.motion.fit import FitSettings, fit
from inference.motion.grounding import hovering, least_seen, tilted
from inference.protocol.events import SilentReporter

UP = np.array([0.0, 0.0, 1.0])
FOCAL_PX = 900.0
CAMERA_M = 1.4


def camera_axes(pitch_deg, roll_deg=0.0):
    """World to camera: z ahead along +Y, y down, then looking down by the pitch."""
    return turn_about(2, np.radians(roll_deg)) @ turn_about(0, np.radians(90.0 + pitch_deg))


def before_camera(points, axes, *, away_m=4.5):
    return (points - [0.0, -away_m, CAMERA_M]) @ axes.T


def drifting(points, fps, *, amount=0.03, noise_m=0.005, seed=0):
    """Points of a camera whose person comes and goes by `amount` of the distance, each frame's image the same."""
    rng = np.random.default_rng(seed)
    time = np.arange(len(points)) / fps
    scale = 1.0 + amount * np.sin(2 * np.pi * 0.35 * time + rng.uniform(0, 6))
    middle = np.nanmean(points[:, :25], axis=1)
    return points + ((scale - 1.0)[:, None] * middle)[:, None] + noise_m * rng.standard_normal(points.shape)


def fitted(points, fps=30.0, options=None):
    return fit(bodies.seen(points, fps=fps, frame="camera"), options or FitSettings(), SilentReporter())


def on_floor(motion):
    transform = np.array(motion.header["floor_from_frame"])
    return motion_keypoints(motion) @ transform[:3, :3].T + transform[:3, 3]


def tilt_error_deg(motion, axes):
    up = np.array(motion.header["floor_from_frame"])[2, :3]
    return np.degrees(np.arccos(np.clip(up @ axes @ UP, -1.0, 1.0)))


def sole_height(points, clearance=0.02):
    feet, _ = foot_points(points, np.ones(points.shape[:2]))
    return feet[..., 2].min(axis=1) - clearance


def pixels(points):
    return FOCAL_PX * points[..., :2] / points[..., 2:]


def jumping(frames=90, fps=30.0):
    """A person who stands, jumps 0.5 m high within 0.64 s, and stands; and the height of the jump (T,)."""
    still = bodies.still(frames)
    turns = np.broadcast_to(np.eye(3), (frames, len(HUMANOID_NAMES), 3, 3)).copy()
    for side, sign in (("L", -1.0), ("R", 1.0)):
        turns[:, bone(f"upper_arm.{side}")] = turn_about(2, np.array(sign * 1.2))
    time = np.arange(frames) / fps - 1.2
    height = np.maximum(0.0, 0.5 - 4.9 * time**2)
    return bodies.motion_of(make_skeleton(), turns, still.root + height[:, None] * UP, fps), height


@pytest.mark.parametrize("heading_deg", [0.0, 90.0, 180.0], ids=["towards", "across", "away"])
@pytest.mark.parametrize("pitch_deg", [2.0, 12.0])
def test_a_walk_whose_depth_drifts_stays_on_the_floor(heading_deg, pitch_deg):
    truth, standing = bodies.walking(90)
    world = motion_keypoints(truth) @ turn_about(2, np.radians(heading_deg)).T
    world = world - np.mean(world[:, 8], axis=0) * [1.0, 1.0, 0.0]
    axes = camera_axes(pitch_deg)
    camera = drifting(before_camera(world, axes), truth.fps)
    motion = fitted(camera)
    figures = motion.header["diagnostics"]
    assert figures["penetration_mm"] < 3.0
    assert figures["penetration_max_mm"] < 30.0
    assert tilt_error_deg(motion, axes) < 5.0
    found = motion.contacts[:, [0, 2]] > 0.5
    assert (found & standing).sum() > 0.6 * standing.sum()
    assert (found & standing).sum() > 0.8 * found.sum()
    hips = on_floor(motion)[:, 8, 2]
    np.testing.assert_allclose(hips, world[:, 8, 2], atol=0.06)
    moved = np.linalg.norm(pixels(motion_keypoints(motion)) - pixels(camera), axis=-1)[:, :25]
    assert np.nanmean(moved) < 8.0


def test_a_jump_stays_a_jump():
    truth, height = jumping()
    axes = camera_axes(8.0)
    motion = fitted(drifting(before_camera(motion_keypoints(truth), axes), truth.fps))
    rise = sole_height(on_floor(motion))
    flies = height > 0.15
    np.testing.assert_allclose(rise[flies], height[flies], atol=0.08)
    assert np.abs(rise[height == 0.0]).max() < 0.03
    assert (motion.contacts[flies] < 0.5).all()


def test_smoothing_off_finds_the_floor_and_moves_nothing():
    truth, _ = bodies.walking(60)
    motion = fitted(before_camera(motion_keypoints(truth), camera_axes(8.0)), options=FitSettings(smoothing=0.0))
    assert motion.root_raw is not None
    np.testing.assert_array_equal(motion.root, motion.root_raw)
    assert np.array(motion.header["floor_from_frame"])[2, 3] == pytest.approx(CAMERA_M, abs=0.1)


def test_without_legs_the_floor_is_a_leg_below_the_hips():
    truth, _ = bodies.walking(60)
    points = before_camera(motion_keypoints(truth), camera_axes(4.0))
    legs = [i for i, n in enumerate(OPENPOSE_137[:25]) if any(p in n for p in ("Knee", "Ankle", "Toe", "Heel"))]
    points[:, legs] = np.nan
    motion = fitted(points)
    assert on_floor(motion)[:, 8, 2] == pytest.approx(0.92, abs=0.12)
    assert motion.contacts.max() == 0.0
    assert tilt_error_deg(motion, camera_axes(4.0)) < 8.0


def test_the_floor_lies_under_a_person_who_lies():
    points = motion_keypoints(bodies.still(60))
    points = (points - points[:1, 8:9]) @ turn_about(0, np.array(-np.pi / 2)).T @ turn_about(2, np.array(1.2)).T
    axes = camera_axes(15.0)
    motion = fitted(drifting(before_camera(points + 0.12 * UP, axes), 30.0))
    assert tilt_error_deg(motion, axes) < 12.0
    assert on_floor(motion)[:, 8, 2].min() > 0.0
    assert on_floor(motion)[:, 8, 2].max() < 0.35
    heads = forward(motion.rest, motion.parents, motion.rotations, motion.root)[..., :3, 3]
    assert np.ptp(heads[:, 0], axis=0).max() < 0.6


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(-0.2, 0.2), st.floats(1.5, 8.0), st.floats(-0.1, 0.1), st.floats(-0.4, 0.4))
def test_a_body_is_raised_by_the_wanted_height_and_hardly_seen_to_move(pitch, roll, away, rise, aside):
    up = tilted(np.array([pitch, roll]))
    point = np.array([aside, 0.5 * aside, away])
    move = least_seen(point, up, np.array(rise))
    assert move @ up == pytest.approx(rise, abs=1e-9)
    across = move - (move @ unit(point)) * unit(point)
    assert np.linalg.norm(across) <= abs(rise) + 1e-9


def squatting(frames=90, fps=30.0):
    """A person whose hips stay where they are while both legs bend for half a second, as a lifter may see it."""
    still = bodies.still(frames)
    bend = np.radians(30.0) * np.exp(-(((np.arange(frames) / fps - 1.5) / 0.22) ** 4))
    turns = np.broadcast_to(np.eye(3), (frames, len(HUMANOID_NAMES), 3, 3)).copy()
    for side, sign in (("L", -1.0), ("R", 1.0)):
        turns[:, bone(f"upper_arm.{side}")] = turn_about(2, np.array(sign * 1.2))
        for part, share in (("thigh", 1.0), ("shin", -2.0), ("foot", 1.0)):
            turns[:, bone(f"{part}.{side}")] = turn_about(0, share * bend)
    return bodies.motion_of(make_skeleton(), turns, still.root, fps)


def test_soles_that_leave_the_ground_under_hips_that_do_not_fall_are_put_back():
    world = motion_keypoints(squatting())
    assert sole_height(world).max() > 0.08
    motion = fitted(before_camera(world, camera_axes(8.0)))
    assert sole_height(on_floor(motion)).max() < 0.03


def test_only_hips_that_fall_make_a_flight():
    time = np.arange(90) / 30.0
    inside = np.abs(time - 1.5) < 0.3
    above = np.where(inside, 0.15, 0.0)
    flying = np.where(inside, -0.5 * 9.81 * (time - 1.5) ** 2, -0.5 * 9.81 * 0.3**2)
    assert hovering(above, flying, 30.0).max() == 0.0
    np.testing.assert_allclose(hovering(above, np.zeros(90), 30.0)[40:50], 0.15)
    assert hovering(np.full(90, 0.15), np.zeros(90), 30.0).max() == 0.0  # three seconds: on a step, or a chair
