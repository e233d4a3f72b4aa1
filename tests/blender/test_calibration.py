"""Calibrations in Blender: files to cameras and back, jobs, grey buttons, and what is drawn over the footage."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from hypothesis import given, settings, strategies
from mathutils import Vector
from understudy.blender_addon import commands
from understudy.inference.core.artifacts import Keypoints2D, Keypoints3D
from understudy.inference.core.cameras import Camera, CameraSet, pinhole, project, undistort
from understudy.inference.core.formats.calibration import read_calibration, write_calibration
from understudy.inference.core.rotations import matrix_from_rotvec
from understudy.inference.core.skeletons import OPENPOSE_137
from understudy.inference.protocol.errors import InputError
from understudy.inference.protocol.events import encode, make_event
from understudy.inference.protocol.requests import PROTOCOL, MotionRequest, Order
from understudy.operators import calibration, reprojection
from understudy.operators.motion import use_camera
from understudy.operators.scene.cameras import lens_of, read_rig
from understudy.operators.scene.residuals import Marks, Residuals, colour_of, draw_marks, to_region
from understudy.tests.blender.buttons import fails, why_grey

BENT = (0.12, -0.05, 0.002, -0.001, 0.01)


def camera_of(name="cam", size=(1088, 1920), *, turn=(0.3, -0.5, 0.2), distortion=BENT, **others):
    matrix = np.array([[1600.0, 0, 500.0], [0, 1600.0, 1000.0], [0, 0, 1.0]])
    where = matrix_from_rotvec(np.array(turn)), np.array([0.1, 0.2, 4.0])
    return Camera(name, size, matrix, np.array(distortion), *where, **others)


def rig_of(count=3, **others):
    return CameraSet(tuple(camera_of(f"cam{i + 1:02d}", turn=(0.1 * i, 0.9 * i, 0.2), **others) for i in range(count)))


def standing(name, angle):
    """A camera on a tripod 4 m from the middle, level, z up."""
    axes = np.array([[-np.sin(angle), np.cos(angle), 0], [0, 0, -1], [-np.cos(angle), -np.sin(angle), 0]])
    place = np.array([4 * np.cos(angle), 4 * np.sin(angle), 1.5])
    return replace(pinhole(name, (1088, 1920), 1600.0), rotation=axes, translation=-axes @ place)


@pytest.fixture
def rig_file(tmp_path):
    """A calibration as a file."""
    write_calibration(tmp_path / "rig.toml", rig_of())
    return tmp_path / "rig.toml"


@pytest.fixture
def scene_rig(addon, rig_file):
    """The scene's calibration, read from the file."""
    bpy.ops.understudy.import_calibration(filepath=str(rig_file))
    return bpy.context.scene.understudy.calibration


def same_cameras(found, wanted, *, within=1e-6):
    for one, other in zip(found, wanted, strict=True):
        assert one.name == other.name and tuple(one.size) == tuple(other.size) and one.fisheye == other.fisheye
        assert np.allclose(one.matrix, other.matrix, rtol=within, atol=within * max(other.size))
        assert np.allclose(one.distortion, other.distortion, atol=within)
        assert np.allclose(one.rotation, other.rotation, atol=within)
        assert np.allclose(one.translation, other.translation, atol=10 * within)


def test_an_imported_calibration_is_listed_and_written_again_whole(scene_rig, rig_file, tmp_path):
    assert [item.name for item in scene_rig.cameras] == ["cam01", "cam02", "cam03"]
    assert tuple(scene_rig.cameras[0].size) == (1088, 1920)
    assert scene_rig.cameras[0].lens_mm == pytest.approx(1600 * 36 / 1088)
    assert scene_rig.cameras[0].error_px < 0
    before = rig_file.read_bytes()
    for nowhere in ("", f"{tmp_path}/"):
        assert "No file is named" in fails(bpy.ops.understudy.export_calibration, filepath=nowhere)
    bpy.ops.understudy.export_calibration(filepath=str(tmp_path / "out"), format="anipose")
    same_cameras(read_calibration(tmp_path / "out.toml"), read_calibration(rig_file), within=1e-12)
    assert rig_file.read_bytes() == before


def test_every_format_that_can_be_written_is_offered():
    from understudy.inference.core.formats.calibration import FOLDER_STYLES, STYLES

    assert {item[0] for item in calibration._FORMATS} == set(STYLES)
    assert {item[0] for item in calibration._FORMATS if not item[3]} == set(FOLDER_STYLES)


def test_importing_is_one_undo_step_and_a_broken_file_changes_nothing(addon, rig_file, tmp_path):
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.understudy.import_calibration("EXEC_DEFAULT", True, filepath=str(rig_file))
    assert len(bpy.context.scene.understudy.calibration.cameras) == 3
    (tmp_path / "bad.toml").write_text("[cam]\nmatrix = 3\n")
    assert "bad.toml" in fails(bpy.ops.understudy.import_calibration, filepath=str(tmp_path / "bad.toml"))
    assert len(bpy.context.scene.understudy.calibration.cameras) == 3
    bpy.ops.ed.undo()
    assert len(bpy.context.scene.understudy.calibration.cameras) == 0


def test_a_calibration_in_millimetres_is_read_to_be_checked_and_said_to_be_doubtful(addon, tmp_path):
    far = CameraSet(tuple(replace(camera, translation=1000 * camera.translation) for camera in rig_of()))
    write_calibration(tmp_path / "far.toml", far)
    cameras, doubt = calibration.read_any(tmp_path / "far.toml")
    assert cameras.names == far.names and "Check the calibration" in doubt
    bpy.ops.understudy.import_calibration(filepath=str(tmp_path / "far.toml"))
    assert calibration.calibration_file(bpy.context.scene.understudy.calibration) == tmp_path / "far.toml"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("export_calibration", "Import or calibrate cameras first"),
        ("create_cameras", "Import or calibrate cameras first"),
        ("check_calibration", "Import or calibrate cameras first"),
        ("refine_calibration", "Import or calibrate cameras first"),
        ("use_calibration", "Import or calibrate cameras first"),
        ("fix_calibration", "Check the calibration first"),
        ("calibrate", "Add the clips of at least two cameras first"),
        ("take_calibration", "No calibration is finished yet"),
        ("read_cameras", "The scene has no camera"),
        ("show_reprojection", "There is no window to draw in"),
    ],
)
def test_a_grey_button_says_why(addon, name, reason):
    assert reason in why_grey(getattr(bpy.ops.understudy, name))


def test_a_calibration_becomes_cameras_and_they_become_it_again(scene_rig, rig_file):
    bpy.ops.understudy.create_cameras()
    collection = bpy.data.collections["Cameras"]
    assert sorted(item.name for item in collection.objects) == ["cam01", "cam02", "cam03"]
    bpy.ops.understudy.read_cameras()
    same_cameras(calibration.cameras_in(bpy.context.scene.understudy.calibration), read_calibration(rig_file))


def test_cameras_keep_metres_in_a_scene_of_centimetres(scene_rig, rig_file):
    scene = bpy.context.scene
    scene.unit_settings.system, scene.unit_settings.scale_length = "METRIC", 0.01
    bpy.ops.understudy.create_cameras()
    centre = read_calibration(rig_file)[0].centre
    assert np.allclose(bpy.data.objects["cam01"].location, 100 * centre, rtol=1e-5)
    bpy.ops.understudy.read_cameras()
    same_cameras(calibration.cameras_in(scene.understudy.calibration), read_calibration(rig_file))


def test_creating_cameras_changes_nothing_of_the_users(addon, rig_file, users_scene):
    bpy.ops.understudy.import_calibration(filepath=str(rig_file))
    bpy.ops.understudy.create_cameras()
    assert users_scene.state() == users_scene.before


numbers = strategies.floats(-1, 1)


@given(
    fit=strategies.sampled_from(["AUTO", "HORIZONTAL", "VERTICAL"]),
    lens=strategies.floats(12, 120),
    sensor=strategies.tuples(strategies.floats(8, 60), strategies.floats(8, 60)),
    shift=strategies.tuples(numbers, numbers),
    size=strategies.tuples(strategies.integers(64, 4096), strategies.integers(64, 4096)),
    aspect=strategies.sampled_from([(1, 1), (1.5, 1), (1, 1.25)]),
    turn=strategies.tuples(numbers, numbers, numbers),
    scale=strategies.sampled_from([1.0, 0.2, 3.0]),
)
@settings(max_examples=25)
def test_any_camera_of_blenders_projects_as_blender_does(fit, lens, sensor, shift, size, aspect, turn, scale):
    bpy.data.batch_remove(list(bpy.data.objects))
    scene, data = bpy.context.scene, bpy.data.cameras.new("theirs")
    item = bpy.data.objects.new("theirs", data)
    scene.collection.objects.link(item)
    data.lens, data.sensor_fit, (data.sensor_width, data.sensor_height) = lens, fit, sensor
    data.shift_x, data.shift_y = shift
    item.rotation_euler, item.location, item.scale = np.array(turn) * 3, (1, -2, 3), (scale, scale * 1.5, scale)
    render = scene.render
    (render.resolution_x, render.resolution_y), render.resolution_percentage = size, 100
    render.pixel_aspect_x, render.pixel_aspect_y = aspect
    camera = read_rig([item], scene)[0]
    rng = np.random.default_rng(0)
    cam = np.concatenate([rng.uniform(-0.4, 0.4, (12, 2)), rng.uniform(2, 5, (12, 1))], 1)
    points = (cam - camera.translation) @ camera.rotation
    seen = np.array([world_to_camera_view(scene, item, Vector(point)) for point in points])
    pixels = np.stack([seen[:, 0] * size[0], (1 - seen[:, 1]) * size[1]], -1) - 0.5
    assert np.abs(project(camera, points) - pixels).max() < 2e-5 * max(np.abs(pixels).max(), 1000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda item: setattr(item.data, "type", "ORTHO"), "no perspective camera"),
        (lambda item: setattr(item, "scale", (-1, 1, 1)), "mirrored by a negative scale"),
        (lambda item: setattr(item, "scale", (0, 1, 1)), "scaled to nothing"),
    ],
)
def test_what_is_no_pinhole_is_refused_by_name(addon, change, words):
    data = bpy.data.cameras.new("odd")
    item = bpy.data.objects.new("odd", data)
    bpy.context.scene.collection.objects.link(item)
    change(item)
    bpy.context.view_layer.update()
    assert words in (message := fails(bpy.ops.understudy.read_cameras)) and "odd" in message


def test_only_the_selected_cameras_are_read(scene_rig):
    bpy.ops.understudy.create_cameras()
    for name in ("cam01", "cam03"):
        bpy.data.objects[name].select_set(True)
    bpy.ops.understudy.read_cameras()
    found = bpy.context.scene.understudy.calibration.cameras
    assert [item.name for item in found] == ["cam01", "cam03"]


def test_two_rigs_of_the_same_names_are_told_apart_by_selection(scene_rig):
    bpy.ops.understudy.create_cameras()
    bpy.ops.understudy.create_cameras()
    assert "2 cameras are called cam01" in fails(bpy.ops.understudy.read_cameras)
    bpy.data.objects["cam02.001"].select_set(True)
    bpy.ops.understudy.read_cameras()
    assert len(bpy.context.scene.understudy.calibration.cameras) == 3


def test_a_camera_that_moves_is_taken_as_it_stands_and_said(addon):
    item = bpy.data.objects.new("moving", bpy.data.cameras.new("moving"))
    bpy.context.scene.collection.objects.link(item)
    item.keyframe_insert("location", frame=1)
    item.location.x = 9
    item.keyframe_insert("location", frame=11)
    bpy.context.scene.frame_set(11)
    cameras = read_rig([item], bpy.context.scene)
    assert cameras[0].centre[0] == pytest.approx(9) and "moving moves" in cameras.notes[0]


@pytest.mark.parametrize("is_excluded", [True, False])
def test_cameras_that_are_not_shown_are_read_where_they_stand(addon, tmp_path, is_excluded):
    item, stand = bpy.data.objects.new("off", bpy.data.cameras.new("off")), bpy.data.objects.new("Stand", None)
    hall = bpy.data.collections.new("Hall")
    bpy.context.scene.collection.children.link(hall)
    for thing in (stand, item):
        hall.objects.link(thing)
    item.parent, stand.location, item.location = stand, (10, 0, 0), (1, 2, 3)
    item.hide_viewport = stand.hide_viewport = not is_excluded
    bpy.context.view_layer.layer_collection.children["Hall"].exclude = is_excluded
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hall.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "hall.blend"))  # Blender keeps no place of what is not shown
    cameras, off = read_rig([bpy.data.objects["off"]], bpy.context.scene), bpy.data.objects["off"]
    assert cameras[0].centre == pytest.approx([11, 2, 3]) and cameras.names == ["off"]
    assert off.hide_viewport != is_excluded and len(bpy.data.scenes) == 1 == len(off.users_collection)


def test_a_fisheye_comes_back_as_one(addon):
    wanted = CameraSet((camera_of("eye", distortion=(0.1, 0.01, 0.0, 0.0), fisheye=True),))
    calibration.set_cameras(bpy.context.scene.understudy.calibration, wanted, "")
    bpy.ops.understudy.create_cameras()
    same_cameras(read_rig([bpy.data.objects["eye"]], bpy.context.scene), wanted)


def test_captures_use_the_file_itself_while_it_holds_what_the_scene_holds(scene_rig, rig_file, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "user_folder", lambda name: tmp_path / name)
    motion = bpy.context.scene.understudy.motion
    bpy.ops.understudy.use_calibration()
    assert motion.calibration == str(rig_file)
    scene_rig.cameras[0].name = "left"
    bpy.ops.understudy.use_calibration()
    assert motion.calibration != str(rig_file)
    assert read_calibration(motion.calibration).names[0] == "left"


def test_findings_are_taken_from_a_report(scene_rig, tmp_path):
    found = {
        "camera": "cam02",
        "code": "units",
        "severity": "error",
        "text": "4 km away.",
        "change": "Metres.",
    }
    report = {"method": "check", "cameras": [{"name": "cam01", "reprojection_px": 3.25}], "findings": [found]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    calibration.take_job(scene_rig, tmp_path, is_checked=True)
    assert scene_rig.is_checked and scene_rig.findings[0].text == "4 km away."
    assert scene_rig.cameras[0].error_px == 3.25 and scene_rig.cameras[1].error_px < 0


def test_errors_are_those_of_the_jobs_keypoints(scene_rig, tmp_path):
    capture_in(tmp_path / "artifacts", rig_of())
    calibration.take_job(scene_rig, tmp_path)
    assert [item.error_px for item in scene_rig.cameras] == pytest.approx([5.0] * 3)


def test_a_request_holds_what_the_panel_shows(addon):
    from understudy.operators.settings import calibrate_request

    scene = bpy.context.scene.understudy
    for name in ("a", "b"):
        scene.motion.views.add().video = f"/{name}.mp4"
    chosen = scene.calibration
    chosen.use_height_m, chosen.height_m = True, 1.8
    request = calibrate_request(chosen, scene.motion.views)
    assert request.height_m == 1.8 and not request.board and [path.name for path in request.video] == ["a.mp4", "b.mp4"]
    chosen.scale, chosen.distance_from, chosen.distance_to, chosen.distance_m = "DISTANCE", "a", "b", 3.2
    request = calibrate_request(chosen, scene.motion.views)
    assert request.distance == ("a", "b", "3.2") and request.height_m is None
    chosen.method = "BOARD"
    assert calibrate_request(chosen, scene.motion.views).board == "charuco:5x7:0.04:0.03:DICT_4X4_50"
    chosen.board_kind, chosen.board_columns = "chessboard", 9
    assert calibrate_request(chosen, scene.motion.views).board == "chessboard:9x7:0.04"


# Jobs


@pytest.fixture
def odd_rig(addon, tmp_path):
    """A calibration whose second camera has its principal point in a corner."""
    cameras = [standing(f"cam{i + 1:02d}", 2.0 * i) for i in range(3)]
    cameras[1].matrix[:2, 2] = (1050.0, 1900.0)
    write_calibration(tmp_path / "odd.toml", CameraSet(tuple(cameras)))
    bpy.ops.understudy.import_calibration(filepath=str(tmp_path / "odd.toml"))
    return tmp_path / "odd.toml"


def test_what_a_check_finds_is_named_put_right_and_gone_and_the_file_stays(addon, odd_rig):
    before = odd_rig.read_bytes()
    assert bpy.ops.understudy.check_calibration() == {"FINISHED"}
    rig = bpy.context.scene.understudy.calibration
    found = [item for item in rig.findings if item.change]
    assert rig.is_checked and [(item.camera, item.code) for item in found] == [("cam02", "principal-point")]
    assert rig.source == str(odd_rig) and "cam02" in found[0].text
    assert bpy.ops.understudy.fix_calibration(finding=list(rig.findings).index(found[0])) == {"FINISHED"}
    assert rig.is_checked and not [item for item in rig.findings if item.change]
    centre = calibration.cameras_in(rig)[1].matrix[:2, 2]
    assert np.allclose(centre, [543.5, 959.5]) and odd_rig.read_bytes() == before
    assert [job.task for job in addon.jobs] == ["calibrate", "calibrate"] and calibration.last_calibration() is None


def test_what_follows_a_check_is_told_where_it_fails_and_left_where_another_file_is_open(addon, tmp_path):
    failed, late = (finish_in_session(addon, tmp_path / name) for name in ("failed", "late"))
    failed.then = lambda job: calibration.take_job(None, job.folder, calibration=tmp_path / "gone.toml")
    addon.pump()
    assert failed.state == "done" and "gone.toml" in failed.trouble and failed.then is None
    late.then = lambda _: pytest.fail("it was meant for the other file")
    bpy.ops.wm.read_homefile(use_empty=True)
    addon.pump()


def test_a_scene_that_got_another_name_meanwhile_gets_what_it_asked_for(addon, odd_rig, tmp_path):
    scene, job = bpy.context.scene, finish_in_session(addon, tmp_path / "job")
    report = {"cameras": [{"name": "cam02", "reprojection_px": 1.5}]}
    (job.folder / "report.json").write_text(json.dumps(report))
    job.then = partial(calibration._take, scene.session_uid, "Check")
    scene.name = "Other"
    bpy.data.scenes.new("Scene")
    addon.pump()
    assert [item.error_px for item in scene.understudy.calibration.cameras] == [-1.0, 1.5, -1.0]


def finish_in_session(session, folder):
    """A job that is over, in the list."""
    finish_job(folder, [folder.with_suffix(".mp4")], 0)
    session.scan(folder)
    return session.find(folder)


def test_the_command_checks_and_saves_cameras(addon, odd_rig, tmp_path, capsys):
    flags = [
        "--calibration",
        str(odd_rig),
        "--check",
        "--out",
        str(tmp_path / "job"),
        "--export",
        str(tmp_path / "o.json"),
    ]
    assert commands.run(["calibrate", *flags, "--save", str(tmp_path / "out.blend")]) == 0
    assert "principal point of cam02" in capsys.readouterr().out
    assert (tmp_path / "job" / "report.html").is_file()
    same_cameras(read_calibration(tmp_path / "o.json"), read_calibration(odd_rig), within=1e-5)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "out.blend"))
    items = [bpy.data.objects[name] for name in ("cam01", "cam02", "cam03")]
    same_cameras(read_rig(items, bpy.context.scene), read_calibration(odd_rig))


def test_the_command_takes_the_cameras_of_the_file(scene_rig, rig_file, tmp_path):
    bpy.ops.understudy.create_cameras()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "theirs.blend"))
    flags = ["--from-scene", "--out", str(tmp_path / "job"), "--export", str(tmp_path / "o.toml")]
    assert commands.run(["calibrate", *flags]) == 0
    same_cameras(read_calibration(tmp_path / "o.toml"), read_calibration(rig_file))


@pytest.mark.parametrize(
    ("flags", "code"),
    [(["--help"], 0), (["--out", "{tmp}/j"], 2), (["--out", "{tmp}/j", "--check"], 2),
     (["--out", "{tmp}/j", "--calibration", "{tmp}/none.toml", "--check"], 3),
     (["--out", "{tmp}/j", "--calibration", "{tmp}/none.toml", "--save", "{tmp}/o.txt"], 2)],
)  # fmt: skip
def test_the_commands_exit_code_says_how_it_ended(addon, tmp_path, flags, code):
    assert commands.run(["calibrate", *(flag.format(tmp=tmp_path) for flag in flags)]) == code


@pytest.mark.parametrize(("start", "is_found"), [(0, True), (20, False)])
def test_what_an_earlier_job_saw_in_the_same_clips_is_not_looked_for_again(addon, tmp_path, start, is_found):
    clips = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    folder = finish_job(tmp_path / "jobs" / "one", clips, start) / "artifacts"
    assert addon.scan() == 1 and addon.jobs[0].state == "done"
    wanted = (folder / "keypoints_2d_a.npz", folder / "keypoints_2d_b.npz") if is_found else ()
    assert calibration.seen_before(clips) == wanted
    assert calibration.seen_before([clips[0], tmp_path / "c.mp4"]) == () == calibration.seen_before([])


def finish_job(folder, clips, start):
    """The folder of a job that saw two people in each clip."""
    (folder / "artifacts").mkdir(parents=True)
    order = Order("motion", MotionRequest(video=tuple(clips), start=start), "run")
    (folder / "request.json").write_text(json.dumps(order.to_json()))
    events = [make_event("started", protocol=PROTOCOL, task="motion", run_id="run", pid=1)]
    for name in (f"keypoints_2d_{clip.stem}{other}" for clip in clips for other in ("", "_person2")):
        source = folder.parents[1] / f"{name.removeprefix('keypoints_2d_')[0]}.mp4"
        np.savez(folder / "artifacts" / f"{name}.npz", header=np.array(json.dumps({"source": str(source)})))
        events.append(make_event("artifact", name=name, file=f"artifacts/{name}.npz"))
    (folder / "events.jsonl").write_bytes(b"".join(map(encode, [*events, make_event("done")])))
    return folder


# What is drawn over the footage


def capture_in(folder, cameras, *, frames=6, off=(3.0, -4.0), header=None):
    """Write the artifacts of a capture whose every detection is off by the same pixels; give its 3D points."""
    rng = np.random.default_rng(3)
    points = rng.normal(size=(frames, len(OPENPOSE_137), 3)) * 0.4
    shared = {"fps": 30.0, "skeleton": "openpose137", "joints": list(OPENPOSE_137)}
    times, ones = np.arange(frames) / 30.0, np.ones((frames, len(OPENPOSE_137)))
    for camera in cameras:
        Keypoints2D(
            header={**shared, "unit": "px", "frame": "image", "image_size": list(camera.size), "view": camera.name},
            positions=project(camera, points) + off, confidence=ones, times=times,
        ).save(folder / f"keypoints_2d_{camera.name}.npz")  # fmt: skip
    names = [camera.name for camera in cameras]
    Keypoints3D(
        header={**shared, "unit": "m", "frame": "world", "cameras": [c.to_header() for c in cameras], "views": names,
                "sources": [""] * len(names), **(header or {})},
        positions=points, confidence=ones, validity=ones > 0, times=times,
    ).save(folder / "keypoints_3d.npz")  # fmt: skip
    return points


def region_of(item, scene, size, zoom=1.0, pan=(0.0, 0.0)):
    """Give Blender's own projection for a region of that size, zoomed and panned as a camera view is."""
    render = scene.render
    window = np.array(
        item.calc_matrix_camera(
            bpy.context.evaluated_depsgraph_get(), x=render.resolution_x, y=render.resolution_y,
            scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y,
        )
    )  # fmt: skip
    moved = np.diag([zoom, zoom, 1.0, 1.0])
    moved[:2, 3] = pan
    return moved @ window


def test_marks_are_the_detections_and_the_distorted_projections(addon, tmp_path):
    cameras = rig_of()
    points = capture_in(tmp_path, cameras)
    found = Residuals.load(tmp_path)
    marks = found.at(1, 2.4)
    assert np.allclose(marks.expected, project(cameras[1], points[2]))
    assert np.allclose(marks.error_px, 5.0) and marks.mean_px == pytest.approx(5.0) and marks.count == 25
    assert np.allclose(found.mean_px, 5.0)


def test_over_footage_without_distortion_marks_are_without_it_and_errors_stay(tmp_path):
    cameras = rig_of()
    capture_in(tmp_path, cameras)
    found = Residuals.load(tmp_path)
    bent, straight = found.at(0, 1), found.at(0, 1, straight=True)
    assert np.allclose(straight.seen, undistort(cameras[0], bent.seen), atol=1e-6)
    assert np.allclose(straight.expected, undistort(cameras[0], bent.expected), atol=1e-3)
    assert np.allclose(straight.error_px, bent.error_px)


def test_views_that_were_shifted_in_time_show_the_detection_of_the_moment(tmp_path):
    cameras = rig_of(2)
    points = capture_in(tmp_path, cameras, off=(0, 0), header={"clips": [[0.0, 1.0], [2 / 30, 1.0]]})
    marks = Residuals.load(tmp_path).at(1, 1)
    assert np.allclose(marks.seen, project(cameras[1], points[3]))


def test_between_the_frames_of_a_slower_view_its_detection_lies_between(tmp_path):
    cameras = rig_of(2)
    points = capture_in(tmp_path, cameras, off=(0, 0), header={"clips": [[0.0, 1.0], [0.0, 0.5]]})
    seen = [project(cameras[1], points[row]) for row in (0, 1)]
    assert np.allclose(Residuals.load(tmp_path).at(1, 1).seen, np.mean(seen, 0))


def test_a_moment_that_a_view_did_not_film_has_no_detection(tmp_path):
    capture_in(tmp_path, rig_of(2), header={"clips": [[None, 1.0], [9.0, 1.0]]})
    found = Residuals.load(tmp_path)
    assert found.at(1, 1).count == 0 and np.isnan(found.mean_px[1]) and found.mean_px[0] == pytest.approx(5.0)


@pytest.mark.parametrize(("zoom", "pan"), [(1.0, (0.0, 0.0)), (0.6, (0.3, -0.2)), (2.5, (-0.7, 0.1))])
@pytest.mark.parametrize("render", [None, (1920, 1080)])
def test_places_in_the_view_are_those_of_the_camera_frame_however_it_is_zoomed(scene_rig, zoom, pan, render):
    bpy.ops.understudy.create_cameras()
    scene, item = bpy.context.scene, bpy.data.objects["cam02"]
    use_camera(item, scene)
    if render:
        scene.render.resolution_x, scene.render.resolution_y = render
    bpy.context.view_layer.update()
    size = (800, 600)
    looks = region_of(item, scene, size, zoom, pan)
    camera = read_rig([item], scene)[0]
    points = np.random.default_rng(0).normal(size=(20, 3)) * 0.5
    plain = Camera(camera.name, camera.size, camera.matrix, np.zeros(5), camera.rotation, camera.translation)
    found = to_region(project(plain, points), lens_of(item.data, scene), looks, size)
    seen = np.array([world_to_camera_view(scene, item, Vector(point)) for point in points])[:, :2]
    ndc = (2 * seen - 1) * zoom + pan
    assert np.abs(found - (ndc + 1) / 2 * size).max() < 0.02


def test_colours_go_from_blue_to_red_and_end_at_the_limit():
    blue, yellow, red, beyond = colour_of(np.array([0.0, 10.0, 20.0, 500.0]), 20.0)
    assert blue[2] > blue[0] and red[0] > red[2] and yellow[0] > 0.8 and yellow[1] > 0.8
    assert np.allclose(red, beyond)


def test_only_what_is_known_on_both_sides_is_drawn(tmp_path):
    points = np.random.default_rng(0).uniform(0, 100, (137, 2))
    seen, error = points + 3.0, np.full(137, 4.2)
    everything = draw_marks(Marks(seen, points, error), 20.0, 1.0)
    seen[10] = error[10] = np.nan
    fewer = draw_marks(Marks(seen, points, error), 20.0, 1.0)
    assert np.isfinite(fewer[0]).all() and len(fewer[0]) == len(fewer[1])
    assert len(everything[0]) - len(fewer[0]) == len(everything[0]) // 137
    assert len(draw_marks(Marks(seen * np.nan, points, error), 20.0, 1.0)[0]) == 0


def test_a_camera_of_a_capture_knows_its_view_and_frame(addon, motion, tmp_path):
    cameras = rig_of(2)
    folder = tmp_path / "job" / "artifacts"
    points = capture_in(folder, cameras, frames=24)
    motion.with_header(cameras=[c.to_header() for c in cameras], sources=["", ""], fps=30.0).save(
        folder / "body_motion.npz"
    )
    bpy.context.scene.render.fps = 30
    bpy.ops.understudy.apply_motion(filepath=str(tmp_path / "job"), frame_start=11)
    items = reprojection.capture_cameras(bpy.context.scene)
    assert len(items) == 2
    overlay = reprojection.Overlay()
    for item in items:
        index = cameras.names.index(item.data["understudy_name"])
        marks = reprojection.marks_of(overlay, item, 16)
        assert np.allclose(marks.expected, project(cameras[index], points[5]))
        assert overlay.means_px(item) == [("cam01", pytest.approx(5.0)), ("cam02", pytest.approx(5.0))]


def test_the_overlay_is_never_drawn_without_a_window_and_ends_with_the_file(addon):
    reprojection.OVERLAY.show()
    assert not reprojection.OVERLAY.is_shown
    assert reprojection._before_load in bpy.app.handlers.load_pre


def test_artifacts_that_are_gone_are_a_sentence(addon, tmp_path):
    with pytest.raises(InputError, match=r"keypoints_3d\.npz"):
        Residuals.load(tmp_path)
