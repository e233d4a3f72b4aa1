"""What the user presses: grey with a reason, one undo step, sentences where it fails."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest
from understudy.inference.protocol.errors import RequestError
from understudy.inference.protocol.requests import SelftestRequest
from understudy.operators import settings
from understudy.operators.base import ToFile, with_ending
from understudy.operators.pick import to_pixel
from understudy.tests.blender import motions
from understudy.tests.blender.buttons import fails, why_grey

MARKERS = Path(__file__).parents[1] / "golden" / "walk_floats.c3d"


@pytest.fixture
def result(addon, motion, tmp_path):
    """A finished job's folder."""
    motion.save(tmp_path / "job" / "artifacts" / "body_motion.npz")
    return tmp_path / "job"


def counts():
    return {
        name: len(getattr(bpy.data, name)) for name in ("objects", "armatures", "actions", "cameras", "collections")
    }


def test_capture_is_grey_without_clips_and_says_so(addon):
    assert "Add a clip first" in why_grey(bpy.ops.understudy.start_motion)


def test_markers_stand_in_for_clips(addon):
    motion = bpy.context.scene.understudy.motion
    motion.markers = str(MARKERS)
    assert bpy.ops.understudy.start_motion() == {"FINISHED"}
    assert bpy.ops.understudy.apply_motion(filepath=str(addon.last_result)) == {"FINISHED"}
    bpy.ops.understudy.add_view()
    assert "Remove the views, or the file of markers" in why_grey(bpy.ops.understudy.start_motion)


def test_a_body_of_the_last_capture_is_not_of_what_the_panel_hides(addon, tmp_path):
    bpy.context.scene.understudy.motion.markers = str(MARKERS)  # a capture without pictures
    bpy.ops.understudy.start_motion()
    body = bpy.context.scene.understudy.body
    body.video, body.masks, body.from_capture = str(tmp_path / "other.mp4"), str(tmp_path / "masks"), True
    assert "holds no keypoints of a film" in fails(bpy.ops.understudy.start_body)


def test_capture_is_grey_without_a_file_and_says_so(addon):
    bpy.ops.understudy.add_view()
    assert "Choose a clip or keypoints" in why_grey(bpy.ops.understudy.start_motion)


@pytest.mark.parametrize(
    ("second", "reason"),
    [({}, "View 2 has neither clip nor keypoints"), ({"keypoints": "/b.json"}, "Give every view the same")],
)
def test_capture_of_unequal_views_is_grey_and_says_so(addon, second, reason):
    motion = bpy.context.scene.understudy.motion
    motion.calibration, motion.views.add().video = "/rig.toml", "/a.mp4"
    view = motion.views.add()
    for name, path in second.items():
        setattr(view, name, path)
    assert reason in why_grey(bpy.ops.understudy.start_motion)


def test_capture_is_grey_while_a_capture_runs_and_says_so(addon):
    bpy.context.scene.understudy.motion.views.add().video = "/a.mp4"
    job = addon.start("selftest", SelftestRequest(steps=1000, step_s=0.02))
    assert "A capture is running" in why_grey(bpy.ops.understudy.start_motion)
    assert bpy.ops.understudy.cancel_job() == {"FINISHED"}
    assert job.state == "cancelled"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cancel_job", "No job is running"),
        ("export_motion", "There is no armature to export"),
        ("use_camera", "There is no calibrated camera"),
        ("remove_view", "There is no view to remove"),
        ("pick_person", "Add a clip first"),
    ],
)
def test_a_grey_button_says_why(addon, name, reason):
    assert reason in why_grey(getattr(bpy.ops.understudy, name))


def test_clips_are_added_one_view_each(addon, tmp_path):
    for name in ("a.mp4", "b.MOV"):
        (tmp_path / name).touch()
    bpy.ops.understudy.add_clips(directory=str(tmp_path), files=[{"name": "a.mp4"}, {"name": "b.MOV"}])
    views = bpy.context.scene.understudy.motion.views
    assert [Path(view.video).name for view in views] == ["a.mp4", "b.MOV"]
    bpy.ops.understudy.remove_view()
    assert [Path(view.video).name for view in views] == ["a.mp4"]


def test_a_dropped_file_that_is_no_film_is_refused_and_nothing_is_added(addon, tmp_path):
    words = fails(bpy.ops.understudy.add_clips, directory=str(tmp_path), files=[{"name": "a.mp4"}, {"name": "b.txt"}])
    assert "b.txt is not a film" in words
    assert not bpy.context.scene.understudy.motion.views


def test_apply_takes_a_file_or_a_job_folder(result):
    for path in (result, result / "artifacts" / "body_motion.npz", result / "request.json"):
        assert bpy.ops.understudy.apply_motion(filepath=str(path)) == {"FINISHED"}
    assert [item.name for item in bpy.data.armatures] == ["job", "job.001", "job.002"]


def test_apply_is_named_after_the_footage_or_as_asked(addon, motion, tmp_path):
    motion.with_header(sources=["/films/walk 映画.mp4"]).save(tmp_path / "m.npz")
    bpy.ops.understudy.apply_motion(filepath=str(tmp_path / "m.npz"))
    bpy.ops.understudy.apply_motion(filepath=str(tmp_path / "m.npz"), take="Hero")
    assert set(bpy.data.armatures.keys()) == {"walk 映画", "Hero"}
    assert {action.name for action in bpy.data.actions} == {"walk 映画", "Hero"}


def test_apply_is_one_undo_step(result):
    bpy.ops.ed.undo_push(message="before")
    before = counts()
    bpy.ops.understudy.apply_motion("EXEC_DEFAULT", True, filepath=str(result))
    after = counts()
    assert after != before
    bpy.ops.ed.undo()
    assert counts() == before
    bpy.ops.ed.redo()
    assert counts() == after


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "not a readable .npz"), (b"PK\x03\x04 torn", "not a readable .npz"), (None, "holds no body_motion.npz")],
)
def test_apply_refuses_what_is_no_result_and_changes_nothing(addon, tmp_path, content, words):
    path = tmp_path / "body_motion.npz"
    if content is not None:
        path.write_bytes(content)
    before = counts()
    assert words in fails(bpy.ops.understudy.apply_motion, filepath=str(path))
    assert counts() == before


def test_apply_refuses_another_kind_of_artifact(addon, motion, tmp_path):
    type("Other", (type(motion),), {"kind": "keypoints_3d"})(**vars(motion)).save(tmp_path / "k.npz")
    assert "'keypoints_3d'" in fails(bpy.ops.understudy.apply_motion, filepath=str(tmp_path / "k.npz"))


def test_apply_without_a_capture_says_what_to_do(addon):
    assert "No capture is finished yet" in fails(bpy.ops.understudy.apply_motion)


def test_apply_changes_nothing_of_the_users(result, users_scene):
    bpy.ops.understudy.apply_motion(filepath=str(result))
    assert users_scene.state() == users_scene.before


def test_export_takes_the_active_armature_or_the_newest_capture(result, tmp_path):
    bpy.ops.understudy.apply_motion(filepath=str(result), take="First")
    bpy.ops.understudy.apply_motion(filepath=str(result), take="Second")
    bpy.ops.understudy.export_motion(filepath=str(tmp_path / "newest"), format="GLTF")
    assert b'"Second"' in (tmp_path / "newest.glb").read_bytes()
    bpy.context.view_layer.objects.active = bpy.data.objects["First"]
    bpy.ops.understudy.export_motion(filepath=str(tmp_path / "active"), format="GLTF")
    assert b'"First"' in (tmp_path / "active.glb").read_bytes()


def test_looking_through_a_camera_is_asked_for_and_can_be_undone(result):
    bpy.ops.understudy.apply_motion(filepath=str(result))
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.understudy.use_camera("EXEC_DEFAULT", True)
    assert bpy.context.scene.camera and bpy.context.scene.render.resolution_x == 640
    bpy.ops.ed.undo()
    assert bpy.context.scene.camera is None and bpy.context.scene.render.resolution_x == 1920


def test_a_request_holds_what_the_panel_shows(addon):
    motion = bpy.context.scene.understudy.motion
    for name in ("a", "b"):
        view = motion.views.add()
        view.video, view.follow, view.point = f"/{name}.mp4", "POINT", (10, 20)
    motion.views[1].follow, motion.views[1].box = "BOX", (1, 2, 3, 4)
    motion.calibration, motion.smoothing = "/c.toml", 0.75
    motion.use_height_m, motion.height_m = True, 1.8
    request = settings.motion_request(motion)
    assert request.video == (Path("/a.mp4"), Path("/b.mp4")) and request.calibration == Path("/c.toml")
    assert request.person == ((10.0, 20.0), (1.0, 2.0, 3.0, 4.0))
    assert request.smoothing == 0.75 and request.height_m == pytest.approx(1.8) and request.fps is None


def test_what_is_in_metres_is_typed_in_metres_whatever_the_scene_s_unit(addon):
    operators = [getattr(bpy.ops.understudy, name).get_rna_type() for name in dir(bpy.ops.understudy)]
    for kind in (*operators, *(group.bl_rna for group in settings.CLASSES)):
        assert [item.identifier for item in kind.properties if item.unit == "LENGTH"] == [], kind.identifier
    assert settings.UNDERSTUDY_PG_motion.bl_rna.properties["height_m"].name == "Height (m)"


def test_a_person_chosen_in_some_views_only_is_a_sentence(addon):
    motion = bpy.context.scene.understudy.motion
    motion.views.add().video, motion.views.add().video = "/a.mp4", "/b.mp4"
    motion.calibration, motion.views[0].follow = "/c.toml", "POINT"
    with pytest.raises(RequestError, match="1 of 2 views"):
        settings.motion_request(motion)


def test_paths_beside_the_file_are_made_absolute(addon, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.context.scene.understudy.motion.views.add().video = "//clip.mp4"
    assert settings.motion_request(bpy.context.scene.understudy.motion).video == (tmp_path / "clip.mp4",)


def test_a_clip_that_is_not_there_ends_in_a_sentence(addon):
    bpy.context.scene.understudy.motion.views.add().video = "/no/such film.mp4"
    assert "such film.mp4" in fails(bpy.ops.understudy.start_motion)


@pytest.mark.parametrize(
    ("place", "pixel"), [((0, 1), (0, 0)), ((1, 0), (639, 359)), ((0.5, 0.5), (320, 180)), ((-3, 9), (0, 0))]
)
def test_a_click_in_the_picture_is_a_pixel_from_the_top_left_inside_it(place, pixel):
    assert to_pixel(place, (640, 360)) == pixel


@pytest.mark.parametrize(("turns", "pixel"), [(1, (0, 639)), (2, (639, 359)), (3, (359, 0))])
def test_a_click_in_what_blender_leaves_lying_is_a_pixel_of_what_stands(turns, pixel):
    assert to_pixel((0, 1), (640, 360), turns) == pixel  # the upper left as it lies


def test_checking_the_environment_tells_what_it_found(addon):
    bpy.ops.understudy.check_environment()
    assert addon.check is None and any(line.startswith("python") for line in addon.check_lines)


def test_the_golden_motion_is_what_the_formulas_give():
    from understudy.inference.core.artifacts import BodyMotion

    stored, made = BodyMotion.load(motions.GOLDEN), motions.body_motion(12)
    assert stored.header == made.header
    assert abs(stored.rotations - made.rotations).max() < 1e-9


EXPORTS = ("export_motion", "export_head", "export_body", "export_coaching", "export_calibration", "export_mapping",
           "save_support_bundle")  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_what_writes_a_file_asks_before_it_takes_the_place_of_another(addon, name):
    asked = getattr(bpy.ops.understudy, name).get_rna_type().properties
    operator = getattr(bpy.types, f"UNDERSTUDY_OT_{name}")
    assert asked["check_existing"].default and operator.check is ToFile.check and operator.invoke is ToFile.invoke


@pytest.mark.parametrize(
    ("path", "endings", "wanted"),
    [("/a/walk", (".bvh",), "/a/walk.bvh"), ("/a/walk.v1", (".bvh",), "/a/walk.v1.bvh"),
     ("/a/walk.FBX", (".bvh", ".bvh", ".fbx"), "/a/walk.bvh"), ("//walk.bvh", (".bvh",), "//walk.bvh"),
     ("rig.qca.txt", (".xcp", ".txt", ".qca.txt"), "rig.xcp"), ("rig.txt", (".qca.txt", ".txt"), "rig.qca.txt"),
     ("rig.toml", ("", ".toml"), "rig"), ("/a/", (".bvh",), "/a/"), ("", (".bvh",), ""),
     ("a/.bvh", (".bvh",), "a/.bvh")],
)  # fmt: skip
def test_a_browser_shows_the_name_that_is_written(path, endings, wanted):
    assert with_ending(path, endings) == wanted
