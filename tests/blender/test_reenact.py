"""Frames in Blender: every one where it belongs, whatever shows it; heads and kept poses that drive."""

from __future__ import annotations

import json
import wave
from functools import partial
from pathlib import Path

import bpy
import numpy as np
import pytest
from understudy.blender_addon import commands, reenact_command
from understudy.inference.core.artifacts import FaceTrack, PoseDescriptors
from understudy.inference.core.descriptors import slerp
from understudy.inference.core.face_shapes import SHAPES
from understudy.inference.core.formats.pictures import decode_png
from understudy.inference.protocol.errors import InputError, RequestError
from understudy.inference.protocol.events import encode, make_event
from understudy.inference.protocol.folder import JobFolder
from understudy.inference.protocol.requests import PROTOCOL, Order
from understudy.operators import head as heads_operators
from understudy.operators import mesh_route
from understudy.operators import poses as pose_operators
from understudy.operators import reenact as frame_operators
from understudy.operators.scene.compat import compositor_nodes, set_movie_output, strips_of, timing
from understudy.operators.scene.head_frames import HeadFrames, render_head
from understudy.operators.scene.poses import add_pose, create_poses, key_pose, keyed_descriptors, pose_names
from understudy.tests.blender import frames, heads
from understudy.tests.blender.buttons import fails, why_grey


@pytest.fixture
def job(tmp_path):
    """The description of a finished job's frames."""
    return frames.write_job(tmp_path / "ada")


@pytest.fixture
def shown(tmp_path):
    """Render the scene on a frame and give the (H, W, 4) picture."""
    scene = bpy.context.scene
    scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = "CYCLES", 1, False
    scene.cycles.pixel_filter_type = "BOX"
    scene.render.resolution_x = scene.render.resolution_y = frames.SIDE
    scene.render.resolution_percentage, scene.render.film_transparent = 100, True
    scene.view_settings.view_transform = "Standard"
    scene.world = None
    set_movie_output(scene.render.image_settings, movie=False)
    scene.render.image_settings.color_mode = "RGBA"

    def render(frame: int):
        scene.frame_set(frame)
        scene.render.filepath = str(tmp_path / "shown.png")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        pixels = np.array(image.pixels[:]).reshape(frames.SIDE, frames.SIDE, 4)[::-1]
        bpy.data.images.remove(image)
        return pixels

    return render


def look_at_plane() -> None:
    """A camera without perspective that sees a plane and nothing else."""
    data = bpy.data.cameras.new("look")
    data.type, data.ortho_scale = "ORTHO", 0.4
    camera = bpy.data.objects.new("look", data)
    camera.location, camera.rotation_euler = (0, -2, 0.2), (np.pi / 2, 0, 0)
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera


def number_of(pixels) -> int:
    """Which frame a picture shows."""
    level = float(pixels[2:6, 1:3, :3].mean())
    return min(range(1, 21), key=lambda number: abs(frames.grey(number) - level))


def apply(path: Path, **options):
    return frame_operators.apply_frames(path, bpy.context.scene, **{"plane": False, **options})


def test_a_plane_shows_each_frame_where_it_belongs_and_is_clear_where_the_frame_is(job, shown):
    made = apply(job, plane=True, frame_start=10)
    look_at_plane()
    pictures = {frame: shown(frame) for frame in (10, 14, 21)}
    assert [number_of(pixels) for pixels in pictures.values()] == [5, 9, 16]
    assert np.allclose(pictures[10][:, :3, 3], 1) and np.allclose(pictures[10][:, 5:, 3], 0)
    assert pictures[10][3, 2, 0] == pytest.approx(frames.grey(5), abs=0.01)
    assert bpy.data.objects[made.plane].dimensions[0] == pytest.approx(0.4)


def test_a_plane_keeps_the_drivers_speed_in_a_scene_of_another_rate(tmp_path, shown):
    bpy.context.scene.render.fps = 24
    apply(frames.write_job(tmp_path / "slow", fps=12.0), plane=True, frame_start=1)
    look_at_plane()
    assert [number_of(shown(frame)) for frame in (1, 5, 23)] == [5, 7, 16]


@pytest.mark.parametrize("fps", [24.0, 30.0, 12.0])
@pytest.mark.parametrize("into", ["plane", "compositor"])
def test_before_the_first_frame_the_first_is_shown_and_after_the_last_the_last(tmp_path, shown, fps, into):
    bpy.context.scene.render.fps = 24
    apply(frames.write_job(tmp_path / "job", range(1, 17), fps=fps), **{into: True}, frame_start=10)
    look_at_plane()
    end = round(10 + 15 * 24 / fps)
    pictures = {frame: shown(frame) for frame in (1, 9, 10, end, end + 1, end + 30)}
    assert all(np.ptp(pixels[2:6, 1:3, :3], axis=-1).max() < 0.01 for pixels in pictures.values()), "none is magenta"
    assert [number_of(pixels) for pixels in pictures.values()] == [1, 1, 1, 16, 16, 16]


def test_a_single_frame_is_shown_at_all_times(tmp_path, shown):
    apply(frames.write_job(tmp_path / "job", [7]), plane=True, frame_start=10)
    look_at_plane()
    assert [number_of(shown(frame)) for frame in (1, 9, 10, 11, 40)] == [7] * 5


def test_frames_of_a_phones_uneven_film_are_shown_at_its_times(tmp_path, shown):
    """Six frames a 48th of a second apart and six a 16th, at 24 a second on the whole."""
    bpy.context.scene.render.fps = 24
    times = 3.0 + np.concatenate([np.arange(6) / 48, 6 / 48 + np.arange(6) / 16])
    job = frames.write_job(tmp_path / "uneven", times=times)
    apply(job, plane=True, frame_start=1)
    look_at_plane()
    assert [number_of(shown(frame)) for frame in (1, 2, 4, 7, 10)] == [5, 7, 11, 13, 15]
    assert any("unevenly" in note for note in apply(job, strip=True).notes)


def test_frames_that_are_missing_are_bridged_by_the_nearest(tmp_path, shown):
    apply(frames.write_job(tmp_path / "gaps", [2, 3, 9]), plane=True, frame_start=2)
    look_at_plane()
    assert [number_of(shown(frame)) for frame in (2, 3, 9)] == [2, 3, 9]
    assert number_of(shown(8)) in (3, 9)


@pytest.mark.skipif(not bpy.app.build_options.audaspace, reason="this Blender plays no sound")
def test_strips_hold_every_frame_and_the_drivers_sound_from_the_same_moment(tmp_path):
    scene = bpy.context.scene
    scene.render.fps = 24
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(np.zeros(16000, np.int16).tobytes())
    made = apply(frames.write_job(tmp_path / "job", driver=path, is_film=True, start_s=0.5), strip=True, frame_start=7)
    pictures, sound = (strips_of(scene)[name] for name in made.strips)
    assert [element.filename for element in pictures.elements] == [f"frame_{k:04d}.png" for k in range(5, 17)]
    assert (timing(pictures, "left_handle"), timing(pictures, "duration")) == (7, 12)
    assert pictures.channel != sound.channel
    shown = tuple(timing(sound, name) for name in ("left_handle", "duration", "left_handle_offset"))
    assert shown == (7, 12, 12)


def test_strips_show_the_frame_before_where_the_driver_s_folder_had_gaps(tmp_path):
    strip = strips_of(bpy.context.scene)[apply(frames.write_job(tmp_path / "job", (1, 2, 5)), strip=True).strips[0]]
    assert [int(element.filename[-8:-4]) for element in strip.elements] == [1, 2, 2, 2, 5]


def test_a_driver_without_sound_is_said_and_leaves_no_strip(tmp_path, job):
    value = json.loads(job.read_text())
    job.write_text(json.dumps({**value, "driver": str(job), "is_film": True}))
    made = apply(job, strip=True)
    assert len(made.strips) == 1 and len(strips_of(bpy.context.scene)) == 1 and not bpy.data.sounds
    assert "no sound" in made.notes[0]


def test_new_strips_go_above_those_that_are_there(job):
    first, second = (strips_of(bpy.context.scene)[apply(job, strip=True).strips[0]] for _ in range(2))
    assert second.channel > first.channel


def test_a_background_is_a_clip_behind_the_scenes_camera_or_a_new_one(job):
    scene = bpy.context.scene
    made = apply(job, background=True, frame_start=3)
    clip = bpy.data.movieclips[made.clip]
    assert clip.source == "SEQUENCE" and clip.frame_duration == 12 and clip.frame_start == 3
    assert [shown.clip for shown in scene.camera.data.background_images] == [clip]


def test_a_new_compositor_lays_frames_over_what_is_rendered(job):
    made = apply(job, compositor=True, frame_start=4)
    tree, output, is_new = compositor_nodes(bpy.context.scene)
    node = tree.nodes[made.node]
    over = output.inputs[0].links[0].from_node
    assert not is_new and over.bl_idname == "CompositorNodeAlphaOver"
    assert {link.from_node.bl_idname for socket in over.inputs for link in socket.links} == {
        "CompositorNodeRLayers", "CompositorNodeImage"
    }  # fmt: skip
    assert (node.frame_start, node.frame_duration, node.frame_offset) == (5, 11, 5)


def test_a_compositor_of_the_users_keeps_its_links(job):
    apply(job, compositor=True)
    tree, _, _ = compositor_nodes(bpy.context.scene)
    before = [(link.from_socket.as_pointer(), link.to_socket.as_pointer()) for link in tree.links]
    apply(job, compositor=True)
    assert [(link.from_socket.as_pointer(), link.to_socket.as_pointer()) for link in tree.links] == before
    assert sum(node.bl_idname == "CompositorNodeImage" for node in tree.nodes) == 2


def test_another_rate_is_said_where_frames_cannot_follow_it(tmp_path):
    path = frames.write_job(tmp_path / "job", fps=120.0)
    assert "120 frames a second" in apply(path, strip=True).notes[0]
    assert not apply(path, plane=True).notes


def test_nothing_of_the_users_changes(job, users_scene, tmp_path):
    apply(job, plane=True, strip=True, compositor=True)
    keyed_descriptors(_keyed(), [1, 2, 3], bpy.context.scene)
    item = bpy.data.objects[heads_operators.apply_head(heads.write_job(tmp_path / "head"), bpy.context.scene).head]
    render_head(item, tmp_path / "driver", HeadFrames((1, 1), 16), bpy.context.scene)
    assert users_scene.state() == users_scene.before


def test_frames_that_are_gone_and_descriptions_that_are_none_are_sentences(job, tmp_path):
    (job.parent / "frames" / "frame_0007.png").unlink()
    before = len(bpy.data.images)
    with pytest.raises(InputError, match="1 of 12 frames are not in .*first is 7"):
        apply(job, plane=True)
    for content in (b"", b"[]", b'{"frames": []}', b"\xff", b'{"frames": "x"}', b"[" * 100_000):
        job.write_bytes(content)
        with pytest.raises(InputError, match=r"reenactment\.json"):
            apply(job, plane=True)
    with pytest.raises(InputError, match="Nothing is to be made"):
        apply(frames.write_job(tmp_path / "job"))
    assert len(bpy.data.images) == before


def test_a_description_cannot_lead_out_of_its_folder(job):
    value = json.loads(job.read_text())
    job.write_text(json.dumps({**value, "folder": "../../../secret"}))
    with pytest.raises(InputError, match=r"are not in .*artifacts"):
        apply(job, plane=True)


def _keyed() -> bpy.types.Object:
    scene = bpy.context.scene
    values = frames.descriptors().descriptors
    item = create_poses("Poses", frames.NETWORK, scene)
    for frame, row in ((1, 0), (11, 5), (21, 10)):
        key_pose(item, add_pose(item, "Pose", values[row], frames.NETWORK), frame)
    return item


def test_between_keyed_poses_lies_the_arc_from_one_to_the_other(monkeypatch):
    scene, item = bpy.context.scene, _keyed()
    scene.frame_set(4)
    assert pose_names(item) == ["Pose", "Pose 2", "Pose 3"]
    for curve in _curves(item):
        for key in curve.keyframe_points:
            key.interpolation = "LINEAR"
    found = keyed_descriptors(item, range(1, 22), scene)
    values = frames.descriptors().descriptors
    assert np.allclose(found.descriptors[[0, 10, 20]], values[[0, 5, 10]], atol=1e-6)
    assert np.allclose(found.descriptors[3], slerp(values[0], values[5], 0.3), atol=1e-5)
    assert found.frames.tolist() == list(range(1, 22)) and scene.frame_current == 4
    item.hide_viewport = True
    assert np.array_equal(keyed_descriptors(item, range(1, 22), scene).descriptors, found.descriptors)


def _curves(item):
    from understudy.operators.scene.compat import curves_in

    return curves_in(item.animation_data.action, item)


def test_sliders_follow_drivers_like_any_property():
    item = _keyed()
    item.animation_data_clear()
    driver = item.driver_add('["Pose 2"]').driver
    driver.type, driver.expression = "SCRIPTED", "frame / 10"
    found = keyed_descriptors(item, [10], bpy.context.scene)
    assert np.isfinite(found.descriptors).all()


def test_poses_of_another_network_are_not_mixed_in():
    with pytest.raises(InputError, match="another network"):
        add_pose(_keyed(), "Other", np.zeros(6), "1" * 64)


def test_a_pose_is_kept_from_a_driver_and_keyed_here(addon, job, tmp_path):
    scene = bpy.context.scene
    scene.frame_set(30)
    item, slider = pose_operators.keep_pose(job.with_name("driver.npz"), bpy.context, 9, name="Smile")
    assert bpy.data.objects[item][slider] == 1.0 and slider == "Smile"
    with pytest.raises(InputError, match="frames 5-16, not 4"):
        pose_operators.keep_pose(job.with_name("driver.npz"), bpy.context, 4)
    path = pose_operators.write_keyed_poses(pose_operators.find_poses(bpy.context), scene, (30, 31))
    kept = PoseDescriptors.load(path)
    assert kept.frames.tolist() == [30, 31]
    assert np.allclose(kept.descriptors[0], frames.descriptors().descriptors[4], atol=1e-6)


def test_the_pose_that_is_kept_is_the_one_that_a_plane_of_another_rate_shows(addon, tmp_path):
    scene, path = bpy.context.scene, frames.write_job(tmp_path / "ada", range(5, 66), fps=30.0)
    frame_operators.apply_frames(path, scene)
    scene.frame_set(25)  # a second on
    item, _ = pose_operators.keep_pose(path.with_name("driver.npz"), bpy.context, 24, relative=True)
    kept = list(bpy.data.objects[item]["understudy_poses"]["pose_0"])
    assert np.allclose(kept, frames.descriptors(range(5, 66), 30.0).descriptors[30], atol=1e-6)


def test_a_head_that_is_hidden_from_renders_is_refused_before_empty_frames_are_made(tmp_path):
    item = bpy.data.objects[heads_operators.apply_head(heads.write_job(tmp_path / "head"), bpy.context.scene).head]
    item.hide_render = True
    with pytest.raises(InputError, match="hidden from renders"):
        render_head(item, tmp_path / "out", HeadFrames((1, 1)), bpy.context.scene)


def test_a_head_of_the_scene_is_rendered_with_its_shape_keys_frame_by_frame(tmp_path):
    scene = bpy.context.scene
    item = bpy.data.objects[heads_operators.apply_head(heads.write_job(tmp_path / "head"), scene).head]
    key = item.data.shape_keys.key_blocks["jawOpen"]
    for frame, value in ((1, 0.0), (3, 1.0)):
        key.value = value
        key.keyframe_insert("value", frame=frame)
    for corner in item.data.shape_keys.key_blocks["jawOpen"].data:
        corner.co[2] -= 0.05
    before = set(bpy.data.scenes.keys()), set(bpy.data.objects.keys())
    files = render_head(item, tmp_path / "out", HeadFrames((1, 3), 24), scene)
    assert [file.name for file in files] == ["frame_0001.png", "frame_0002.png", "frame_0003.png"]
    pictures = [_pixels(file) for file in files]
    steps = [np.abs(picture - pictures[0]).mean() for picture in pictures]
    assert steps[0] == 0 and steps[1] > 0.001 and steps[2] > steps[1]
    middle = pictures[0][8:16, 8:16].mean()
    assert middle > pictures[0][:2].mean() or middle < pictures[0][:2].mean()
    assert (set(bpy.data.scenes.keys()), set(bpy.data.objects.keys())) == before


def _head_and_capture(tmp_path, scene):
    """A head in a scene, and the folder of a capture of frames 7 to 9, in which a mouth opens."""
    item = bpy.data.objects[heads_operators.apply_head(heads.write_job(tmp_path / "head"), scene).head]
    folder = JobFolder(tmp_path / "face")
    folder.prepare(Order("face", mesh_route.face_request(tmp_path / "v.mp4", "7-9", 0), "run"))
    _opening(0.0, 0.5, 1.0).save(folder.artifacts / "face_track.npz")
    return item, folder


def test_the_mesh_route_renders_what_the_driver_does_under_the_same_numbers(addon, tmp_path):
    scene = bpy.context.scene
    item, folder = _head_and_capture(tmp_path, scene)
    for corner in item.data.shape_keys.key_blocks["jawOpen"].data:
        corner.co[2] -= 0.05
    said = mesh_route.render_route(folder.path, item, scene, 24)
    assert "shape keys" in said
    shown = [_pixels(folder.artifacts / "frames" / f"frame_{number:04d}.png") for number in (7, 8, 9)]
    assert shown[0][0, 0, 3] == 0 and shown[0][12, 12, 3] == 1
    assert np.abs(shown[2] - shown[0]).mean() > np.abs(shown[1] - shown[0]).mean() > 0.001
    assert f"{item.name} Mesh" in bpy.data.objects and bpy.data.objects[f"{item.name} Mesh"].location.x > 0
    value = json.loads((folder.artifacts / "reenactment.json").read_text())
    assert value["frames"] == [7, 8, 9] and value["start_s"] == pytest.approx(0.25)


def test_the_mesh_route_of_what_is_no_film_is_grey_and_says_what_to_do(addon, tmp_path):
    heads_operators.apply_head(heads.write_job(tmp_path / "head"), bpy.context.scene)
    reenact = bpy.context.scene.understudy.reenact
    for name in ("shots", "shots/", "driver.npz", "Ada.JPG"):
        reenact.driver = f"{tmp_path}/{name}"
        said = why_grey(bpy.ops.understudy.mesh_frames)
        assert f"needs a film; choose one as driver in place of {Path(name).name}" in said
    for name in ("talk.mp4", "wave.gif", "//talk.MOV"):
        reenact.driver = name
        assert bpy.ops.understudy.mesh_frames.poll(), name
    (tmp_path / "take.01").mkdir()
    reenact.driver = str(tmp_path / "take.01")
    assert "needs a film, and take.01 is none" in fails(bpy.ops.understudy.mesh_frames)


def test_the_mesh_route_goes_on_in_a_scene_and_with_a_head_that_got_other_names(addon, tmp_path):
    scene = bpy.context.scene
    item, folder = _head_and_capture(tmp_path, scene)
    events = make_event("started", protocol=PROTOCOL, task="face", run_id="run", pid=1), make_event("done")
    folder.events.write_bytes(b"".join(map(encode, events)))
    addon.scan(folder.path)
    addon.jobs[0].then = partial(mesh_route._finish, scene.session_uid, item.session_uid, 24)
    scene.name, item.name = "Stage", "Ada"
    addon.pump()
    assert not addon.jobs[0].trouble and "Ada Mesh" in scene.objects


def _pixels(path: Path):
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)
    bpy.data.images.remove(image)
    return pixels


def _opening(*jaw: float) -> FaceTrack:
    """A face that holds still but for its jaw."""
    count = len(jaw)
    weights = np.zeros((count, len(SHAPES)))
    weights[:, SHAPES.index("jawOpen")] = jaw
    still = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
    header = {"unit": "m", "frame": "camera, upright", "fps": 24.0, "shapes": list(SHAPES), "source": "v.mp4"}
    eyes, times = np.tile(still[:, None], (1, 2, 1)), np.arange(count) / 24 + 0.25
    return FaceTrack(header, weights, still, np.zeros((count, 3)), eyes, np.ones(count), times)


def test_a_face_track_moves_the_head_that_drives(addon, tmp_path):
    item = bpy.data.objects[heads_operators.apply_head(heads.write_job(tmp_path / "head"), bpy.context.scene).head]
    for corner in item.data.shape_keys.key_blocks["jawOpen"].data:
        corner.co[2] -= 0.05
    _opening(0.0, 1.0).save(tmp_path / "face_track.npz")
    flags = ["reenact", "--source", "ada.jpg", "--frames", "3-4", "--driver-head", item.name]
    track = ["--driver-track", str(tmp_path / "face_track.npz")]
    request = reenact_command._request(commands.make_parser().parse_args([*flags, *track]))
    assert request.driver is not None and request.fps == 24
    files = sorted(request.driver.iterdir())
    assert [file.name for file in files] == [f"frame_{number:04d}.png" for number in (3, 4)]
    shut, wide = (_pixels(file) for file in files)
    assert np.abs(wide - shut).mean() > 0.001
    with pytest.raises(RequestError, match="a track moves a head"):
        reenact_command._request(commands.make_parser().parse_args([*flags[:3], *track]))


def test_a_camera_that_is_not_there_is_a_sentence(tmp_path):
    item = bpy.data.objects[heads_operators.apply_head(heads.write_job(tmp_path / "head"), bpy.context.scene).head]
    with pytest.raises(InputError, match="no camera 'Nobody'"):
        render_head(item, tmp_path / "out", HeadFrames((1, 1), 16, "Nobody"), bpy.context.scene)
    assert len(bpy.data.scenes) == 1


def test_buttons_say_why_they_are_grey(addon):
    reenact = bpy.context.scene.understudy.reenact
    start = bpy.ops.understudy.start_reenact
    assert "Add a photo" in why_grey(start)
    reenact.sources.add().path = "a.jpg"
    assert "driver's film" in why_grey(start)
    reenact.by = "HEAD"
    assert "no head" in why_grey(start)
    reenact.by = "POSES"
    assert "keeps poses" in why_grey(start)
    assert "No camera" in why_grey(bpy.ops.understudy.stop_reenact)


def test_sources_are_listed_and_other_files_are_not(addon, tmp_path):
    for name in ("a.jpg", "b.mp4", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    listed = bpy.context.scene.understudy.reenact.sources
    bpy.ops.understudy.add_shown(directory=str(tmp_path), files=[{"name": "a.jpg"}, {"name": "b.mp4"}])
    assert [Path(source.path).name for source in listed] == ["a.jpg", "b.mp4"]
    assert "c.txt" in fails(bpy.ops.understudy.add_shown, directory=str(tmp_path), files=[{"name": "c.txt"}])
    bpy.ops.understudy.remove_shown()
    assert len(listed) == 1


def test_the_panel_asks_for_what_it_shows(addon, tmp_path):
    scene = bpy.context.scene
    reenact = scene.understudy.reenact
    reenact.sources.add().path = str(tmp_path / "a.jpg")
    reenact.driver, reenact.frames, reenact.strength, reenact.region = str(tmp_path / "v.mp4"), "3-9", 0.5, "lips"
    request = frame_operators.panel_request(bpy.context)
    assert request.driver == tmp_path / "v.mp4" and request.frame_range() == (3, 9) and request.fps is None
    assert (request.strength, request.region, request.mode, request.reference) == (0.5, "lips", "absolute", None)
    reenact.by, reenact.camera = "CAMERA", "1"
    assert frame_operators.panel_request(bpy.context).camera == "1"
    reenact.by, reenact.poses, reenact.frames = "POSES", _keyed(), "1-4"
    request = frame_operators.panel_request(bpy.context)
    assert PoseDescriptors.load(request.driver).frames.tolist() == [1, 2, 3, 4] and not request.frames
    reenact.frames = "9-1"
    with pytest.raises(RequestError, match="frames"):
        frame_operators.panel_request(bpy.context)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["reenact", "--help"], 0),
        (["control", "--help"], 0),
        (["reenact"], 2),
        (["reenact", "--source", "{tmp}/a.jpg", "--driver", "{tmp}/b.mp4", "--frames", "9-1"], 2),
        (["reenact", "--source", "{tmp}/a.jpg", "--driver-head", "Nobody"], 3),
        (["reenact", "--source", "{tmp}/a.jpg", "--driver", "{tmp}/b.mp4", "--driver-poses", "P"], 2),
        (["reenact", "--finished", "{tmp}/nothing"], 3),
        (["reenact", "--finished", "{tmp}/job", "--save", "{tmp}/a.txt"], 2),
        (["control", "--out", "{tmp}/control"], 3),
    ],
)
def test_the_exit_code_says_how_it_ended(addon, tmp_path, capsys, arguments, code):
    assert commands.run([argument.format(tmp=tmp_path) for argument in arguments]) == code
    assert capsys.readouterr() != ("", "")


@pytest.mark.parametrize("driver", ["poses.npz", "pictures", "a.png"])
def test_a_head_that_cannot_follow_is_refused_before_frames_are_made(addon, tmp_path, capsys, driver):
    item = bpy.data.objects[heads_operators.apply_head(heads.write_job(tmp_path / "head"), bpy.context.scene).head]
    (tmp_path / "pictures").mkdir()
    words = ["reenact", "--source", str(tmp_path / "a.jpg"), "--driver", str(tmp_path / driver)]
    assert commands.run([*words, "--mesh-head", item.name, "--out", str(tmp_path / "job")]) == 3
    assert "The mesh route needs a film" in capsys.readouterr().out and not (tmp_path / "job").exists()


def test_finished_frames_are_applied_and_saved(addon, job, tmp_path):
    blend = tmp_path / "out" / "a b.blend"
    words = ["reenact", "--finished", str(job.parents[1]), "--into", "plane", "--into", "strip", "--save", str(blend)]
    assert commands.run([*words, "--name", "Ada"]) == 0
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert "Ada" in bpy.data.objects and len(strips_of(bpy.context.scene)) == 1


def test_frames_are_plain_pictures(job):
    pixels = decode_png((job.parent / "frames" / "frame_0005.png").read_bytes())
    assert pixels.shape == (frames.SIDE, frames.SIDE, 4)
