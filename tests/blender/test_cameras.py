"""Blender's cameras see what the calibrated ones saw."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
from understudy.inference.core.cameras import Camera, project, turned
from understudy.inference.core.rotations import matrix_from_rotvec
from understudy.operators.motion import use_camera
from understudy.operators.scene import camera as scene_camera
from understudy.operators.scene.armature import floor_from_frame
from understudy.operators.scene.compat import place_strip, set_movie_output
from understudy.operators.scene.preview import render_preview
from understudy.tests.blender import motions

SIZES = [((1920, 1080), (900.0, 600.0)), ((1080, 1920), (400.0, 1100.0)), ((640, 640), (10.0, 600.0))]


def camera_of(size, centre, *, focal=(1500.0, 1500.0), distortion=(0.0,) * 5):
    matrix = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1.0]])
    rotation = matrix_from_rotvec(np.array([0.3, -0.5, 0.2]))
    return Camera("cam", size, matrix, np.array(distortion), rotation, np.array([0.1, 0.2, 4.0]))


def pixels(item, points):
    """(N, 2) pixels, origin at the centre of the top-left one, of (N, 3) world points."""
    scene = bpy.context.scene
    use_camera(item, scene)
    bpy.context.view_layer.update()
    seen = np.array([world_to_camera_view(scene, item, Vector(point)) for point in points])
    return (
        np.stack([seen[:, 0] * item.data["understudy_size"][0], (1 - seen[:, 1]) * item.data["understudy_size"][1]], -1)
        - 0.5
    )


def in_scene(motion, points):
    floor = floor_from_frame(motion.header)
    return points @ floor[:3, :3].T + floor[:3, 3]


@pytest.mark.parametrize(("size", "centre"), SIZES, ids=["landscape", "portrait", "square"])
def test_projection_agrees_with_opencvs_with_the_principal_point_off_the_centre(apply, size, centre):
    camera = camera_of(size, centre)
    motion = motions.body_motion(3, cameras=(camera,))
    take, _ = apply(motion)
    points = np.random.default_rng(0).normal(size=(60, 3)) * 0.7
    found = pixels(bpy.data.objects[take.cameras[0]], in_scene(motion, points))
    assert np.abs(found - project(camera, points)).max() < 0.05


def test_pixels_that_are_not_square_are_kept_for_the_render(apply):
    camera = camera_of((1920, 1080), (900.0, 600.0), focal=(1500.0, 1440.0))
    motion = motions.body_motion(3, cameras=(camera,))
    take, _ = apply(motion)
    points = np.random.default_rng(0).normal(size=(60, 3)) * 0.7
    found = pixels(bpy.data.objects[take.cameras[0]], in_scene(motion, points))
    assert np.abs(found - project(camera, points)).max() < 0.05


def test_distortion_and_size_are_kept_as_properties(apply):
    camera = camera_of((1920, 1080), (960.0, 540.0), distortion=(0.1, -0.05, 0.001, 0.002, 0.01))
    take, _ = apply(motions.body_motion(3, cameras=(camera,)))
    data = bpy.data.objects[take.cameras[0]].data
    assert list(data["understudy_distortion"]) == pytest.approx(camera.distortion)
    assert list(data["understudy_size"]) == [1920, 1080]


def test_every_view_has_its_camera(apply):
    cameras = tuple(camera_of(size, centre) for size, centre in SIZES)
    take, _ = apply(motions.body_motion(3, cameras=cameras))
    assert len(take.cameras) == 3


def test_cameras_can_be_left_out(motion, apply):
    take, _ = apply(motion, cameras=False)
    assert take.cameras == () and not bpy.data.cameras


@pytest.fixture
def film(tmp_path):
    """Twenty frames at 30 fps whose number shows as brightness, in a folder with a difficult name."""

    def grey(strips):
        strips.new_effect(name="c", type="COLOR", channel=1, frame_start=1, **_extent()).color = (0.5, 0.5, 0.5)

    return rendered(tmp_path / "it's 映画 $(x).mp4", grey)


def rendered(path, fill):
    """Render twenty frames at 30 fps of what `fill` puts into the sequencer."""
    scene = bpy.data.scenes.new("film")
    editor = scene.sequence_editor_create()
    fill(editor.strips if hasattr(editor, "strips") else editor.sequences)
    scene.frame_start, scene.frame_end = 1, 20
    scene.render.fps, scene.render.fps_base = 30, 1.0
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 36, 100
    set_movie_output(scene.render.image_settings, movie=True)
    scene.render.ffmpeg.format = "MPEG4"
    scene.render.filepath = str(path)
    bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)
    return path


def _extent():
    return {"length": 20} if bpy.app.version >= (5, 0, 0) else {"frame_end": 21}


def with_footage(film, **header):
    camera = camera_of((64, 36), (31.5, 17.5), focal=(60.0, 60.0))
    motion = motions.body_motion(20, fps=30.0, cameras=(camera,))
    return motion.with_header(sources=[str(film)], **header)


def background(take):
    data = bpy.data.objects[take.cameras[0]].data
    assert data.show_background_images
    return data, data.background_images[0]


def test_at_the_clips_rate_a_movie_clip_starts_with_the_first_key(film, apply):
    bpy.context.scene.render.fps = 30
    take, _ = apply(with_footage(film), frame_start=11)
    _, shown = background(take)
    assert shown.source == "MOVIE_CLIP" and shown.clip.size[:] == (64, 36)
    assert shown.clip.frame_start == 11 and shown.clip.frame_duration == 20


def test_a_capture_that_began_later_shows_the_same_moments(film, apply):
    bpy.context.scene.render.fps = 30
    take, _ = apply(with_footage(film, start=5), frame_start=11)
    _, shown = background(take)
    assert 11 - shown.clip.frame_start + 1 == 6, "the first key shows the sixth frame of the film"


def test_a_clip_that_began_at_another_moment_is_shown_from_there(film, apply):
    bpy.context.scene.render.fps = 30
    take, _ = apply(with_footage(film, clips=[[5 / 30, 1.0]]), frame_start=11)
    _, shown = background(take)
    assert 11 - shown.clip.frame_start + 1 == 6, "the first key shows the sixth frame of the film"


def test_a_film_of_another_rate_than_the_motion_is_kept_in_step_by_keys(film, apply):
    bpy.context.scene.render.fps = 30
    take, _ = apply(with_footage(film, clips=[[2 / 30, 0.5]]))
    data, shown = background(take)
    assert shown.source == "IMAGE" and not bpy.data.movieclips
    bpy.context.scene.frame_set(9)
    user = data.evaluated_get(bpy.context.evaluated_depsgraph_get()).background_images[0].image_user
    assert 9 + user.frame_offset == pytest.approx(1 + 2 + 4, abs=0.51)


def test_at_another_rate_the_footage_is_kept_in_step_by_keys(film, apply):
    take, _ = apply(with_footage(film), frame_start=1)
    data, shown = background(take)
    assert shown.source == "IMAGE" and shown.image.source == "MOVIE"
    for frame in range(1, 16):
        bpy.context.scene.frame_set(frame)
        evaluated = data.evaluated_get(bpy.context.evaluated_depsgraph_get())
        user = evaluated.background_images[0].image_user
        shows = min(max(frame - user.frame_start + 1, 1), user.frame_duration) + user.frame_offset
        assert shows == pytest.approx((frame - 1) / 24 * 30 + 1, abs=0.51)


def test_a_phones_uneven_film_is_shown_at_the_times_of_its_frames(film, apply):
    bpy.context.scene.render.fps = 30
    even = with_footage(film)
    times = np.concatenate([np.arange(10) / 60, 1 / 6 + np.arange(10) / 20])
    take, _ = apply(replace(even, times=times), rate="CLIP")
    _, shown = background(take)
    assert shown.source == "MOVIE_CLIP" and shown.clip.frame_start == 1  # 30 of Blender's frames are one second of it


def test_a_lens_with_distortion_is_described_to_the_movie_clip(film, apply):
    bpy.context.scene.render.fps = 30
    camera = camera_of((64, 36), (30.0, 17.0), focal=(60.0, 60.0), distortion=(0.1, -0.05, 0.001, 0.002, 0.01))
    motion = motions.body_motion(20, fps=30.0, cameras=(camera,)).with_header(sources=[str(film)])
    take, _ = apply(motion)
    _, shown = background(take)
    assert shown.clip_user.use_render_undistorted
    assert shown.clip.tracking.camera.brown_k1 == pytest.approx(0.1)


def test_footage_that_is_gone_is_told_and_the_rest_applies(motion, apply, tmp_path):
    take, rig = apply(motion.with_header(sources=[str(tmp_path / "gone.mp4")]))
    assert any("gone.mp4" in note for note in take.notes)
    assert rig.animation_data.action and len(take.cameras) == 1


def test_the_users_own_clip_of_the_same_film_is_left_alone(film, apply):
    theirs = bpy.data.movieclips.load(str(film))
    theirs.frame_start = 77
    bpy.context.scene.render.fps = 30
    apply(with_footage(film))
    assert theirs.frame_start == 77


def test_the_picture_fills_the_width_of_a_frame_of_any_shape(film, apply):
    methods = []
    for size in ((1920, 1080), (1080, 1920), (4000, 1000)):
        bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y = size
        methods.append(background(apply(with_footage(film))[0])[1].frame_method)
    assert methods == ["FIT", "FIT", "CROP"]


@pytest.fixture
def lying(tmp_path):
    """A film as a phone stores it: twenty frames of 64 x 36 px, white in the upper left."""
    image = bpy.data.images.new("lying", 64, 36)
    pixels = np.zeros((36, 64, 4), np.float32)
    pixels[..., 3], pixels[-12:, :20] = 1.0, 1.0
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(tmp_path / "lying.png"), "PNG"
    image.save()
    bpy.data.images.remove(image)

    def shown(strips):
        still = strips.new_image(name="i", filepath=str(tmp_path / "lying.png"), channel=1, frame_start=1)
        place_strip(still, right_handle=21)

    return rendered(tmp_path / "phone.mp4", shown)


@pytest.mark.parametrize(("turns", "corner"), [(1, (1, 0)), (2, (1, 1)), (3, (0, 1))])
def test_what_a_phone_filmed_upright_stands_upright_where_blender_leaves_it_lying(
    lying, apply, monkeypatch, tmp_path, turns, corner
):
    monkeypatch.setattr(scene_camera, "turns_left", lambda film: turns if film == lying else 0)
    bpy.context.scene.render.fps = 30
    size, centre = ((36, 64), (17.5, 31.5)) if turns % 2 else ((64, 36), (31.5, 17.5))
    camera = camera_of(size, centre, focal=(60.0, 60.0), distortion=(0.1, -0.05, 0.001, 0.002, 0.01))
    motion = motions.body_motion(20, fps=30.0, cameras=(camera,)).with_header(sources=[str(lying)])
    take, rig = apply(motion)
    _, shown = background(take)
    assert shown.rotation == pytest.approx(-turns * np.pi / 2) and shown.clip.size[:] == (64, 36)
    assert shown.scale == pytest.approx(64 / 36 if turns % 2 else 1.0)  # the picture is as wide as the frame again
    there = turned(camera, -turns)
    lens = shown.clip.tracking.camera
    assert lens.brown_p1 == pytest.approx(there.distortion[3]) and lens.brown_p2 == pytest.approx(-there.distortion[2])
    seen = bpy.data.images.load(str(render_preview(rig, tmp_path / "p.png", take.cameras, longest=128)))
    (width, height), (row, column) = seen.size, corner
    corners = np.array(seen.pixels[:]).reshape(height, width, -1)[[-5, 4]][:, [4, -5], 0]
    assert (width, height) == ((72, 128) if turns % 2 else (128, 72))
    assert corners[row, column] > 0.6 and (corners > 0.4).sum() == 1, corners
