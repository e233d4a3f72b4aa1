"""A film played to a real worker drives a character in a real Blender; the pump is worked by hand."""

from __future__ import annotations

import os
import signal
import sys
import time

import bpy
import numpy as np
import pytest
from understudy.inference.core.artifacts import BodyMotion
from understudy.inference.core.humanoid import make_skeleton
from understudy.inference.core.kinematics import forward
from understudy.inference.core.rig import Property
from understudy.inference.core.rotations import quaternion_from_rotvec, unit
from understudy.inference.core.skeletons import HUMANOID_NAMES, HUMANOID_PARENTS
from understudy.inference.protocol.requests import LiveRequest
from understudy.inference.protocol.retarget import RetargetSettings
from understudy.inference.protocol.stream import LiveFrame
from understudy.operators import session as session_module
from understudy.operators.environment import PACKAGE
from understudy.operators.live import LIVE
from understudy.operators.mapping import mapping_of
from understudy.operators.scene.armature import Placement, create_armature
from understudy.operators.scene.driver import Driver
from understudy.operators.scene.puppet import Puppet
from understudy.tests.blender import armatures
from understudy.tests.blender.test_rigify_mapping import generated

DEMO = PACKAGE / "inference" / "demo" / "front.mp4"
MODES = ("QUATERNION", "XYZ", "AXIS_ANGLE", "ZXY")


@pytest.fixture(scope="module")
def session(worker_python, tmp_path_factory):
    """The add-on with one warm worker for all tests, its jobs in a folder of its own."""
    from understudy.blender_addon import register, unregister
    from understudy.operators import environment, session

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environment.VARIABLE, worker_python)
        folder = tmp_path_factory.mktemp("jobs")
        patch.setattr(session, "output_folder", lambda: folder)
        register()
        yield session.SESSION
        unregister()


@pytest.fixture
def live(session):
    """The live preview, ended after the test."""
    yield LIVE
    LIVE.stop()
    follow(until=lambda: not LIVE.is_busy, timeout_s=10)


def follow(*, until, timeout_s=90.0):
    """Pump as the timer does; give how long the slowest call took, ms."""
    deadline, slowest = time.monotonic() + timeout_s, 0.0
    while not until():
        assert time.monotonic() < deadline, (LIVE.status, LIVE.message)
        start = time.perf_counter()
        LIVE.pump()
        slowest = max(slowest, 1e3 * (time.perf_counter() - start))
        time.sleep(0.004)
    return slowest


def seen(count):
    return lambda: LIVE.figures.frames >= count or not LIVE.is_running


def character(name="Hero", modes=("QUATERNION",)):
    """A rig of the user's own: other lengths, a pose, and bones in all rotation modes."""
    skeleton, bones = make_skeleton(), len(HUMANOID_NAMES)
    rest = skeleton.rest.copy()
    rest[:, :3, 3] *= 1.3
    header = {"bones": list(HUMANOID_NAMES), "lengths_m": (1.3 * skeleton.lengths).tolist(), "fps": 30.0}
    motion = BodyMotion(
        header, np.zeros((0, bones, 4)), np.zeros((0, 3)), rest, np.array(HUMANOID_PARENTS), np.zeros((0, bones)),
        np.zeros(0), np.zeros((0, 4)),
    )  # fmt: skip
    rig = create_armature(motion, name, bpy.context.scene.collection, Placement(np.eye(4)))
    for number, bone in enumerate(rig.pose.bones):
        bone.rotation_mode = modes[number % len(modes)]
        if bone.rotation_mode == "QUATERNION":
            bone.rotation_quaternion = (0.99, 0.0, 0.141, 0.0)
        elif bone.rotation_mode == "AXIS_ANGLE":
            bone.rotation_axis_angle = (0.2, 0.0, 1.0, 0.0)
        else:
            bone.rotation_euler = (0.1, 0.2, 0.3)
    rig.pose.bones["hips"].location = (0.1, 0.2, 0.3)
    bpy.context.view_layer.update()
    return rig


def pose_of(rig):
    """Everything that a pose consists of."""
    return {
        bone.name: (bone.rotation_mode, *bone.rotation_quaternion, *bone.rotation_euler, *bone.rotation_axis_angle,
                    *bone.location, *bone.scale)
        for bone in rig.pose.bones
    }  # fmt: skip


def directions(rig):
    """World directions of the limbs, by bone."""
    bpy.context.view_layer.update()
    bones = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    limbs = [name for name in HUMANOID_NAMES if name.split(".")[0] in ("upper_arm", "forearm", "thigh", "shin")]
    return unit(np.array([bones[name].tail - bones[name].head for name in limbs]))


def test_a_new_armature_moves_with_the_film_and_goes_when_it_is_stopped(live):
    before = (len(bpy.data.objects), len(bpy.data.armatures))
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene)
    assert live.status == "Starting..." and live.rig == "Live"
    poses = []
    slowest = follow(until=lambda: seen(20)() or poses.append(pose_of(bpy.data.objects["Live"])))
    assert live.figures.frames == 20 and live.figures.fps > 1 and "fps" in live.status
    assert 0 < live.figures.cost_ms < 15.0 and live.figures.cost_ms <= live.figures.latency_ms < 2000
    assert slowest < 400, "the interface never waits for the worker"
    arm = np.array([pose["forearm.L"][1:5] for pose in poses])
    assert np.ptp(arm, axis=0).max() > 0.01, "it moves"
    start = time.perf_counter()
    live.stop()
    assert time.perf_counter() - start < 0.2 and not live.is_running
    assert (len(bpy.data.objects), len(bpy.data.armatures)) == before
    follow(until=lambda: not live.is_busy, timeout_s=10)
    assert not list(session_module.output_folder().iterdir()), "nothing is kept that was not recorded"


@pytest.mark.parametrize("modes", [("QUATERNION",), MODES], ids=["quaternions", "all modes"])
def test_a_character_follows_in_its_rotation_modes_and_gets_its_pose_back(live, modes):
    rig = character(modes=modes)
    other = character("Other")
    before, others = pose_of(rig), pose_of(other)
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene, rig="Hero")
    follow(until=seen(8))
    assert pose_of(rig) != before and pose_of(other) == others
    assert {name: pose[0] for name, pose in pose_of(rig).items()} == {name: pose[0] for name, pose in before.items()}
    assert directions(rig)[:, 2].min() < -0.8, "legs point down, or arms do"
    live.stop()
    assert pose_of(rig) == before


def test_all_rotation_modes_show_the_same_pose(live):
    plain, mixed = character("Plain"), character("Mixed", MODES)
    shown = []
    for rig in (plain, mixed):
        live.start(LiveRequest(video=DEMO, pace="all", hands=False), bpy.context.scene, rig=rig.name)
        follow(until=seen(1))
        shown.append(directions(rig))
        live.stop()
        follow(until=lambda: not live.is_busy, timeout_s=10)
    assert np.abs(shown[0] - shown[1]).max() < 0.35, "the first frames that are caught are near each other"


def swing(number):
    """A person of average size, a step to the left and ahead, whose every joint swings; with what a stream says."""
    skeleton, bones = make_skeleton(), len(HUMANOID_NAMES)
    head = {
        "generation": 1, "bones": list(HUMANOID_NAMES), "parents": list(HUMANOID_PARENTS),
        "rest": skeleton.rest.tolist(), "lengths": skeleton.lengths.tolist(),
    }  # fmt: skip
    rng = np.random.default_rng(number)
    turns = quaternion_from_rotvec(rng.normal(scale=0.15, size=(bones, 3)))
    root = skeleton.rest[0, :3, 3] + [0.3, -0.4, 0.05]
    frame = LiveFrame(1, 0, 0, 1, 0, turns.ravel().tolist(), root.tolist(), [1.0] * bones, [0.0] * 4, [0.0] * 5)
    return frame, head, forward(skeleton.rest, HUMANOID_PARENTS, turns[None], root[None])[0, :, :3, 3]


def rows_of(part):
    return [HUMANOID_NAMES.index(f"{part}.{side}") for side in "LR"]


@pytest.mark.parametrize("name", ["mixamo", "unreal5", "rigify_meta"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_other_characters_point_their_limbs_where_the_person_does(session, name, scale):
    rig = armatures.armature(name)
    rig.rotation_euler, rig.scale = (0.0, 0.0, 0.8), (scale, scale, scale)
    bpy.context.view_layer.update()
    mapping = mapping_of(rig)
    rig.data.bones[mapping.bones["hips"][0]].use_local_location = scale == 1.0
    driver = Driver.prepare(rig, mapping)
    frame, head, joints = swing(1)
    driver.drive(frame, head, RetargetSettings())
    bpy.context.view_layer.update()
    place = {bone.name: np.array(rig.matrix_world @ bone.head) for bone in rig.pose.bones}
    unturn = np.array(rig.matrix_world.to_3x3().normalized()).T
    for role, below in (("upper_arm", "forearm"), ("forearm", "hand"), ("thigh", "shin"), ("shin", "foot")):
        for side in "LR":
            ends = [place[mapping.bones[f"{part}.{side}"][0]] for part in (role, below)]
            start, end = (HUMANOID_NAMES.index(f"{part}.{side}") for part in (role, below))
            wanted, found = unit(joints[end] - joints[start]), unit(unturn @ (ends[1] - ends[0]))
            assert np.degrees(np.arccos(np.clip(wanted @ found, -1, 1))) < 1.0, (role, side)
    middle = unturn @ (0.5 * (place[mapping.bones["thigh.L"][0]] + place[mapping.bones["thigh.R"][0]]))
    steps = middle[:2] / (0.5 * (joints[rows_of("thigh")].sum(axis=0)))[:2]
    assert np.allclose(steps, steps[0], rtol=0.15) and 0.8 * scale < steps[0] < 1.5 * scale, (
        "as far as its legs are long"
    )
    driver.release(keep_pose=False)


def test_a_generated_rigify_character_follows_through_its_controls_and_gets_its_switches_back(session):
    rig = generated()
    limb = next(item for item in mapping_of(rig).ik if item.role == "hand.L").fk[0]
    rig.pose.bones[limb.bone][limb.name] = 1.0 - limb.value
    before, switch = pose_of(rig), rig.pose.bones[limb.bone][limb.name]
    driver = Driver.prepare(rig, mapping_of(rig))
    for number in range(3):
        frame, head, joints = swing(number)
        driver.drive(frame, head, RetargetSettings())
        bpy.context.view_layer.update()
        assert rig.pose.bones[limb.bone][limb.name] == limb.value
        place = {bone.name: np.array(bone.head) for bone in rig.pose.bones}
        for role, below in (("upper_arm", "forearm"), ("forearm", "hand"), ("thigh", "shin"), ("shin", "foot")):
            for side in "LR":
                start, end = (HUMANOID_NAMES.index(f"{part}.{side}") for part in (role, below))
                found = unit(place[f"DEF-{below}.{side}"] - place[f"DEF-{role}.{side}"])
                assert np.degrees(np.arccos(np.clip(unit(joints[end] - joints[start]) @ found, -1, 1))) < 0.5
    driver.release(keep_pose=False)
    assert pose_of(rig) == before and rig.pose.bones[limb.bone][limb.name] == switch


def test_switches_are_set_while_it_runs_and_put_back_in_their_own_types():
    rig = character()
    bone = rig.pose.bones["hand.L"]
    bone["IK_FK"], bone["count"], rig["follow"] = 0.25, 3, True
    wanted = (Property("hand.L", "IK_FK", 1.0), Property("hand.L", "count", 1.0), Property("", "follow", 0.0),
              Property("hand.L", "absent", 1.0))  # fmt: skip
    puppet = Puppet("Hero", ["hand.L"], [], wanted)
    puppet.take()
    assert (bone["IK_FK"], bone["count"], rig["follow"]) == (1.0, 1, False)
    assert isinstance(bone["count"], int) and isinstance(rig["follow"], bool) and "absent" not in bone
    puppet.give_back()
    assert (bone["IK_FK"], bone["count"], rig["follow"]) == (0.25, 3, True)


def test_the_pose_is_kept_where_that_is_asked_for(live):
    rig = character()
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene, rig="Hero")
    follow(until=seen(5))
    shown = pose_of(rig)
    bpy.context.scene.understudy.live.keep_pose = True
    assert bpy.ops.understudy.stop_live() == {"FINISHED"}
    assert pose_of(rig) == shown


def test_a_character_is_driven_on_and_given_back_under_another_name(live):
    rig = character()
    before = pose_of(rig)
    live.start(LiveRequest(video=DEMO, hands=False, record=True), bpy.context.scene, rig="Hero")
    follow(until=seen(3))
    rig.name = "Heroine"
    follow(until=seen(10))
    assert live.is_running and live.rig == "Heroine" and pose_of(rig) != before
    live.stop()
    assert pose_of(rig) == before
    follow(until=lambda: not live.is_busy)
    assert not live.message and rig.animation_data.action is not None


def test_a_character_that_is_deleted_ends_the_capture_with_a_sentence(live):
    rig = character()
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene, rig="Hero")
    follow(until=seen(3))
    bpy.data.objects.remove(rig)
    follow(until=lambda: not live.is_running, timeout_s=5)
    assert "Hero is not there any more" in live.message


def test_a_bone_that_is_deleted_ends_the_capture_with_its_name(live):
    rig = character()
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene, rig="Hero")
    follow(until=seen(3))
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    rig.data.edit_bones.remove(rig.data.edit_bones["forearm.L"])
    bpy.ops.object.mode_set(mode="OBJECT")
    follow(until=lambda: not live.is_running, timeout_s=10)
    assert "'forearm.L'" in live.message


def test_undo_in_the_middle_hurts_nobody(live):
    character()
    bpy.ops.ed.undo_push(message="before")
    before = pose_of(bpy.data.objects["Hero"])
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene, rig="Hero")
    follow(until=seen(3))
    bpy.ops.mesh.primitive_cube_add()
    bpy.ops.ed.undo_push(message="cube")
    follow(until=seen(6))
    bpy.ops.ed.undo()
    follow(until=seen(9))
    assert live.is_running and live.figures.frames >= 9, live.message
    live.stop()
    assert pose_of(bpy.data.objects["Hero"]) == before


def test_an_undo_that_takes_the_armature_ends_the_capture(live):
    bpy.ops.ed.undo_push(message="nothing")
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene)
    bpy.ops.ed.undo_push(message="live")
    follow(until=seen(3))
    bpy.ops.ed.undo()
    follow(until=lambda: not live.is_running, timeout_s=5)
    assert "Live is not there any more" in live.message


def test_opening_another_file_ends_the_capture(live):
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene)
    follow(until=seen(2))
    bpy.ops.wm.read_homefile(use_empty=True)
    assert not live.is_running and not live.message
    follow(until=lambda: not live.is_busy, timeout_s=10)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_dies_is_told_and_the_pose_comes_back(live, session):
    rig = character()
    before = pose_of(rig)
    live.start(LiveRequest(video=DEMO, hands=False), bpy.context.scene, rig="Hero")
    follow(until=seen(3))
    os.kill(session._client.pid, signal.SIGKILL)
    follow(until=lambda: not live.is_running, timeout_s=10)
    assert "SIGKILL" in live.message
    assert pose_of(rig) == before


def test_a_camera_that_is_not_there_is_a_sentence(live):
    live.start(LiveRequest(camera="97"), bpy.context.scene)
    follow(until=lambda: not live.is_running)
    assert live.message.startswith("Camera 97 cannot be opened.")
    assert "Live" not in bpy.data.objects


def test_a_recording_becomes_an_action(live):
    live.start(LiveRequest(video=DEMO, pace="all", hands=False), bpy.context.scene)
    follow(until=seen(3))
    bpy.ops.understudy.record_live()
    assert live.is_recording
    follow(until=lambda: live.figures.recorded >= 15)
    assert "frames recorded" in live.status
    live.stop()
    assert live.is_finishing and "Live" not in bpy.data.objects
    follow(until=lambda: not live.is_finishing)
    assert not live.message
    made = [rig for rig in bpy.data.objects if rig.type == "ARMATURE"]
    assert len(made) == 1 and made[0].animation_data.action.frame_range[1] >= 10


def test_a_recording_lands_on_the_chosen_character(live):
    rig = character()
    live.start(LiveRequest(video=DEMO, pace="all", hands=False, record=True), bpy.context.scene, rig="Hero")
    follow(until=lambda: live.figures.recorded >= 15)
    live.stop()
    follow(until=lambda: not live.is_finishing)
    assert not live.message
    assert [item.name for item in bpy.data.objects if item.type == "ARMATURE"] == ["Hero"]
    assert rig.animation_data.action.frame_range[1] >= 10


@pytest.mark.parametrize(
    ("name", "reason"),
    [("stop_live", "No live capture is running"), ("record_live", "Start a live capture first")],
)
def test_a_grey_button_says_why(live, name, reason):
    operator = getattr(bpy.ops.understudy, name)
    assert not operator.poll()
    with pytest.raises(RuntimeError, match=reason):
        operator()


def test_in_background_the_button_plays_the_film_to_its_end(live):
    settings = bpy.context.scene.understudy.live
    settings.video, settings.hands = str(DEMO), False
    assert bpy.ops.understudy.live() == {"FINISHED"}
    assert live.figures.frames > 10 and not live.is_running and not live.message


def test_a_character_that_cannot_be_driven_is_refused_before_the_camera_is_opened(live):
    data = bpy.data.armatures.new("Box")
    rig = bpy.data.objects.new("Box", data)
    bpy.context.scene.collection.objects.link(rig)
    settings = bpy.context.scene.understudy.live
    settings.rig = rig
    with pytest.raises(RuntimeError, match="Box"):
        bpy.ops.understudy.live()
    assert not live.is_busy
