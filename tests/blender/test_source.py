"""A performance is what Blender shows, whatever moves the bones; files are read without a trace."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Quaternion
from understudy.inference.core.rig import performance_of
from understudy.inference.core.rotations import unit
from understudy.inference.protocol.errors import InputError
from understudy.operators.scene import evaluate
from understudy.operators.scene.action import Channel, write_action
from understudy.operators.scene.export import export_rig
from understudy.operators.scene.source import import_clips, import_source, read_performance
from understudy.tests.blender import motions

KINDS = ("BVH", "FBX", "GLTF")
SUFFIX = {"BVH": ".bvh", "FBX": ".fbx", "GLTF": ".glb"}
LEAKS = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the BVH reader leaves files open
MODES = ("QUATERNION", "XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX", "AXIS_ANGLE")


@pytest.fixture
def motion():
    """A second of every bone turning about, on a body that stands and walks."""
    made = motions.body_motion(24)
    time = made.times
    root = np.stack([0.2 * np.sin(time), -0.5 * time, 0.93 + 0.02 * np.cos(9 * time)], -1)
    small = unit(made.rotations * [1.0, 0.4, 0.4, 0.4])
    return replace(made, rotations=small, root=root).with_header(floor_from_frame=np.eye(4).tolist())


def rows_of(performance, names):
    return [performance.rig.index[name] for name in names]


def datablocks():
    """Every datablock there is, by kind and name."""
    kinds = [kind.identifier for kind in bpy.data.bl_rna.properties if kind.type == "COLLECTION"]
    return {kind: sorted(item.name for item in getattr(bpy.data, kind)) for kind in kinds}


def chain(name="Chain", links=8):
    """An armature of connected and loose bones, one in each rotation mode."""
    data = bpy.data.armatures.new(name)
    rig = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    parent = None
    for i in range(links):
        bone = data.edit_bones.new(f'b"{i}')
        bone.head, bone.tail, bone.roll = (
            (0.1 * i, 0.05 * i, 0.3 * i),
            (0.1 * i + 0.1, 0.05 * i + 0.05, 0.3 * i + 0.3),
            i,
        )
        bone.parent, bone.use_connect = parent, bool(i % 2)
        parent = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    for bone, mode in zip(rig.pose.bones, MODES, strict=False):
        bone.rotation_mode = mode
    return rig


def wave(rig, *, frames=range(1, 12, 5), name="Wave", scale=True, seed=0):
    """Key every transform of every bone and of the object, sparsely."""
    rng, count = np.random.default_rng(seed), len(frames)
    found = []
    for bone in rig.pose.bones:
        path = f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"]'
        kind = {"QUATERNION": "quaternion", "AXIS_ANGLE": "axis_angle"}.get(bone.rotation_mode, "euler")
        values = rng.normal(size=(count, 3 if kind == "euler" else 4)) + [1.0, *[0.0] * (2 if kind == "euler" else 3)]
        found += [Channel(f"{path}.rotation_{kind}", values), Channel(f"{path}.location", rng.normal(size=(count, 3)))]
        found += [Channel(f"{path}.scale", rng.uniform(0.8, 1.2, (count, 3)))] if scale else []
    found.append(Channel("location", rng.normal(size=(count, 3))))
    return write_action(rig, name, np.array(list(frames), float), found)


def shown(rig, frames):
    """(T, B, 4, 4) bones in the world as Blender evaluates them in the user's own scene."""
    scene, out = bpy.context.scene, []
    for frame in frames:
        scene.frame_set(int(np.floor(frame)), subframe=float(frame - np.floor(frame)))
        seen = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        out.append([np.array(seen.matrix_world @ seen.pose.bones[bone.name].matrix) for bone in rig.data.bones])
    return np.array(out)


def same(a, b, tolerance=2e-5):
    return np.abs(a - b).max() < tolerance


def test_arrays_place_bones_as_blender_does_in_every_rotation_mode():
    rig = chain()
    rig.rotation_euler, rig.scale = (0.3, -0.5, 1.0), (2.0, 2.0, 2.0)
    wave(rig)
    frames = np.arange(0, 14, 0.5)
    assert evaluate.is_plain(rig, None)
    bones, here = evaluate.world_matrices(rig, None, frames)
    assert same(bones, shown(rig, frames)) and here.shape == (len(frames), 4, 4)


@pytest.mark.parametrize("why", ["constraint", "driver", "inheritance", "moving parent", "delta", "strips"])
def test_where_more_than_curves_moves_bones_blender_says_where_they_are(why):
    rig, other = chain(), bpy.data.objects.new("Other", None)
    bpy.context.scene.collection.objects.link(other)
    write_action(other, "Other", np.array([1.0, 12.0]), [Channel("location", np.array([[0, 0, 0], [1.0, 2.0, 3.0]]))])
    action = wave(rig)
    if why == "constraint":
        made = rig.pose.bones[5].constraints.new("COPY_LOCATION")
        made.target = other
    elif why == "driver":
        driver = rig.pose.bones[2].driver_add("location", 0).driver
        driver.expression = "frame * 0.1"
    elif why == "inheritance":
        rig.data.bones[3].use_inherit_rotation = False
        rig.data.bones[5].inherit_scale = "NONE"
    elif why == "moving parent":
        rig.parent = other
    elif why == "delta":
        rig.delta_location = (1.0, 0.0, 0.0)
    else:
        rig.animation_data.action = None
        strip = rig.animation_data.nla_tracks.new().strips.new("Wave", 3, action)
        strip.scale = 1.5
    bpy.context.scene.frame_set(7)
    before = datablocks()
    frames = np.arange(1, 13, 0.5)
    assert not evaluate.is_plain(rig, None)
    bones, _ = evaluate.world_matrices(rig, None, frames)
    assert bpy.context.scene.frame_current == 7 and datablocks() == before
    assert same(bones, shown(rig, frames))


def test_an_action_that_is_not_played_is_read_beside_the_one_that_is():
    rig = chain()
    second = wave(rig, name="Second", seed=1)
    frames = np.arange(1.0, 12.0)
    truth = shown(rig, frames)
    first = wave(rig, name="First")
    before, pose = datablocks(), [tuple(bone.location) for bone in rig.pose.bones]
    assert same(evaluate.world_matrices(rig, second, frames)[0], truth)
    rig.pose.bones[5].constraints.new("LIMIT_ROTATION").use_limit_x = True
    rig.pose.bones[6].constraints.new("COPY_LOCATION").target = rig
    rig.pose.bones[6].constraints[0].subtarget = rig.pose.bones[1].name
    rig.animation_data.action = second
    if hasattr(second, "slots"):
        rig.animation_data.action_slot = second.slots[0]
    constrained = shown(rig, frames)
    rig.animation_data.action = first
    if hasattr(first, "slots"):
        rig.animation_data.action_slot = first.slots[0]
    bpy.context.scene.frame_set(3)
    pose = [tuple(bone.location) for bone in rig.pose.bones]
    assert same(evaluate.world_matrices(rig, second, frames)[0], constrained)
    assert rig.animation_data.action == first and datablocks() == before
    assert [tuple(bone.location) for bone in rig.pose.bones] == pose


def test_a_capture_in_the_scene_is_its_performance_again(motion, apply):
    bpy.context.scene.render.fps = 30
    _, rig = apply(motion, frame_start=10)
    found, truth = read_performance(rig), performance_of(motion)
    rows = rows_of(found, truth.rig.names)
    assert len(rows) == len(found.rig.names) and found.fps == pytest.approx(30)
    assert same(found.heads[:, rows], truth.heads) and same(found.turns[:, rows], truth.turns)
    assert same(found.rig.rest[rows], truth.rig.rest) and same(found.rig.lengths[rows], truth.rig.lengths)
    assert same(found.contacts, truth.contacts) and same(found.confidence[:, rows], truth.confidence)


def test_an_objects_scale_and_turn_and_the_scenes_unit_are_in_the_performance(motion, apply):
    bpy.context.scene.render.fps = 30
    _, rig = apply(motion)
    truth = read_performance(rig)
    rig.matrix_world = Matrix.LocRotScale((10, 0, 0), Quaternion((0, 0, 1), np.pi / 2), (50, 50, 50))
    bpy.context.scene.unit_settings.scale_length = 0.02
    found = read_performance(rig)
    turn = np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])
    assert np.abs(found.heads - (truth.heads @ turn.T + [0.2, 0, 0])).max() < 1e-5
    assert np.abs(found.rig.heads - truth.rig.heads @ turn.T).max() < 1e-5
    assert np.abs(found.turns - turn @ truth.turns).max() < 1e-5
    assert np.allclose(found.rig.lengths, truth.rig.lengths, atol=1e-5)


def test_a_mirrored_armature_and_one_at_rest_are_refused(motion, apply):
    _, rig = apply(motion)
    rig.scale = (-1, 1, 1)
    with pytest.raises(InputError, match="mirrored"):
        read_performance(rig)
    rig.scale, rig.data.pose_position = (1, 1, 1), "REST"
    rig.pose.bones[0].constraints.new("LIMIT_ROTATION")
    with pytest.raises(InputError, match="rest pose"):
        read_performance(rig)
    with pytest.raises(InputError, match="not an armature"):
        read_performance(bpy.data.objects.new("Empty", None))


@LEAKS
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_exported_comes_back_as_it_was(motion, apply, tmp_path, kind):
    bpy.context.scene.render.fps = 30
    _, rig = apply(motion, frame_start=10)
    truth = read_performance(rig)
    path = export_rig(rig, tmp_path / "it's 動き", kind, bpy.context.scene)
    found = import_source(path)
    assert any("has no skin" in note for note in found.header["notes"]) == (kind == "FBX")
    assert found.name == "it's 動き" and len(found.times) == len(truth.times)
    assert np.allclose(found.times, truth.times, atol=1e-4)
    rows = rows_of(found, truth.rig.names)
    assert np.abs(found.heads[:, rows] - truth.heads).max() < 1e-3
    # an FBX without a skin does not say what the rest pose was: compared is how bones turn over time
    moved = found.turns[:, rows] @ np.swapaxes(found.turns[:1, rows], -1, -2)
    given = truth.turns @ np.swapaxes(truth.turns[:1], -1, -2)
    cosine = (np.trace(moved @ np.swapaxes(given, -1, -2), axis1=-2, axis2=-1) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.1


@LEAKS
@pytest.mark.parametrize("kind", KINDS)
def test_importing_leaves_nothing_behind(motion, apply, users_scene, tmp_path, kind):
    _, rig = apply(motion)
    path = export_rig(rig, tmp_path / "clip", kind, bpy.context.scene)
    before, state = datablocks(), users_scene.state()
    import_source(path)
    assert datablocks() == before and users_scene.state() == state == users_scene.before
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="clip"):
        import_source(path)
    assert datablocks() == before and users_scene.state() == state


@LEAKS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["EDIT", "WEIGHT_PAINT"])
def test_importing_leaves_the_mode_that_the_user_is_in(motion, apply, tmp_path, kind, mode):
    _, rig = apply(motion)
    path = export_rig(rig, tmp_path / "clip", kind, bpy.context.scene)
    mesh = bpy.data.meshes.new("Theirs")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    theirs = bpy.data.objects.new("Theirs", mesh)
    bpy.context.scene.collection.objects.link(theirs)
    bpy.context.view_layer.objects.active = theirs
    theirs.select_set(True)
    bpy.ops.object.mode_set(mode=mode)
    before = datablocks()
    import_source(path)
    assert datablocks() == before and theirs.mode == mode
    layer = bpy.context.view_layer
    assert layer.objects.active == theirs and [item.name for item in layer.objects if item.select_get()] == ["Theirs"]


def rewritten(path, *, scale=1.0, z_up=False):
    """Change the unit of a BVH file or let it stand along z, in its text."""
    head, motion = path.read_text().split("MOTION")
    lines = head.splitlines()
    for number, words in enumerate([line.split() for line in lines]):
        if words and words[0] == "OFFSET":
            x, y, z = (scale * float(word) for word in words[1:])
            lines[number] = "OFFSET {} {} {}".format(*((x, -z, y) if z_up else (x, y, z)))
    rows = motion.strip().splitlines()
    numbers = np.array([[float(word) for word in row.split()] for row in rows[2:]])
    numbers[:, :3] *= scale
    if z_up:
        numbers[:, :3] = np.stack([numbers[:, 0], -numbers[:, 2], numbers[:, 1]], -1)
    text = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in numbers)
    path.write_text("\n".join([*lines, "MOTION", *rows[:2], text, ""]))


@LEAKS
@pytest.mark.parametrize(("unit", "scale"), [("centimetres", 100.0), ("inches", 1 / 0.0254), ("millimetres", 1000.0)])
def test_the_unit_of_a_bvh_is_told_by_the_persons_legs(motion, apply, tmp_path, unit, scale):
    bpy.context.scene.render.fps = 30
    _, rig = apply(motion)
    path = export_rig(rig, tmp_path / "clip", "BVH", bpy.context.scene)
    truth = import_source(path)
    rewritten(path, scale=scale)
    found = import_source(path)
    assert any(unit in note for note in found.header["notes"]), found.header["notes"]
    assert np.abs(found.heads - truth.heads).max() < 2e-3
    rewritten(path, scale=1e4)
    found = import_source(path)
    assert any("no unit" in note for note in found.header["notes"])
    assert 1.6 < np.ptp(found.rig.heads[:, 2]) + 0.2 < 2.0


@LEAKS
def test_a_bvh_that_stands_along_z_is_set_upright(apply, tmp_path):
    still = motions.body_motion(24)
    bpy.context.scene.render.fps = 30
    _, rig = apply(still)
    for curve in evaluate.channels(rig, rig.animation_data.action).curves.items():
        if curve[0][1].startswith("rotation"):
            for index, item in curve[1].items():
                points = evaluate.keys(item)
                points[:, 1] = 1.0 if index == 0 else 0.0
                item.keyframe_points.foreach_set("co", points.astype(np.float32).ravel())
                item.update()
    path = export_rig(rig, tmp_path / "clip", "BVH", bpy.context.scene)
    truth = import_source(path)
    rewritten(path, z_up=True)
    found = import_source(path)
    assert any("was turned to stand along Z" in note for note in found.header["notes"])
    assert np.abs(found.heads - truth.heads).max() < 1e-3
    assert np.abs(found.rig.heads - truth.rig.heads).max() < 1e-3


@LEAKS
def test_a_rate_that_blender_would_round_is_kept(motion, apply, tmp_path):
    _, rig = apply(motion)
    path = export_rig(rig, tmp_path / "clip", "BVH", bpy.context.scene)
    path.write_text(path.read_text().replace("Frame Time: 0.041667", "Frame Time: 0.0083416750"))
    assert import_source(path).fps == pytest.approx(119.88, abs=0.01)


def test_an_fbx_with_two_takes_gives_two_performances(motion, apply, tmp_path):
    bpy.context.scene.render.fps = 30
    _, rig = apply(motion)
    first = read_performance(rig)
    action = rig.animation_data.action
    other = action.copy()
    other.name = "Other"
    rig.animation_data.action = other
    if hasattr(other, "slots"):
        rig.animation_data.action_slot = other.slots[0]
    for index, curve in evaluate.channels(rig, other).curves["hips", "location"].items():
        points = evaluate.keys(curve)
        points[:, 1] += 0.02 * index * np.arange(len(points))
        curve.keyframe_points.foreach_set("co", points.astype(np.float32).ravel())
        curve.update()
    second = read_performance(rig)
    bpy.ops.object.select_all(action="DESELECT")
    rig.select_set(True)
    bpy.ops.export_scene.fbx(
        filepath=str(tmp_path / "two.fbx"), use_selection=True, add_leaf_bones=False, bake_anim_use_all_actions=True,
        bake_anim_use_nla_strips=False, bake_anim_simplify_factor=0.0,
    )  # fmt: skip
    clips = import_clips(tmp_path / "two.fbx").performances
    assert len(clips) == 2 and all(clip.name.startswith("two ") for clip in clips)
    rows = rows_of(clips[0], first.rig.names)
    for truth in (first, second):
        walked = truth.heads - truth.heads[0, 0]
        assert min(np.abs(clip.heads[:, rows] - clip.heads[0, rows[0]] - walked).max() for clip in clips) < 1e-3


@LEAKS
def test_a_folder_gives_its_clips_by_name_and_says_what_it_left_out(motion, apply, tmp_path):
    _, rig = apply(motion)
    for name, kind in (("b", "BVH"), ("a", "GLTF")):
        export_rig(rig, tmp_path / name, kind, bpy.context.scene)
    motion.save(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", poses=np.zeros((4, 72)), trans=np.zeros((4, 3)))
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "broken.bvh").write_text("nothing")
    (tmp_path / "inner").mkdir()
    clips = import_clips(tmp_path)
    assert [clip.name for clip in clips.performances] == ["a", "b", "c", "d"]
    assert [line.split(":")[0] for line in clips.skipped] == ["broken.bvh", "notes.txt"]
    with pytest.raises(InputError, match="is a folder"):
        import_source(tmp_path)
    with pytest.raises(InputError, match="no clip that can be read"):
        import_clips(tmp_path / "inner")


def test_a_capture_is_read_from_its_file(motion, tmp_path):
    motion.save(tmp_path / "body_motion.npz")
    found, truth = import_source(tmp_path / "body_motion.npz"), performance_of(motion)
    assert np.array_equal(found.heads, truth.heads) and found.contacts is not None


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.bvh", b"HIERARCHY\nROOT x", "ends among"), ("a.fbx", b"Kaydara", "no FBX"), ("a.glb", b"glTF", "a.glb"),
    ("a.gltf", b"{}", "a.gltf"), ("a.npz", b"PK", "a.npz"), ("a.pkl", b"", "can run code"), ("a.trc", b"", "markers"),
    ("a.xyz", b"", "none of"),
])  # fmt: skip
def test_files_that_are_none_are_refused_and_leave_nothing(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    before = datablocks()
    with pytest.raises(InputError, match=words):
        import_source(tmp_path / name)
    assert datablocks() == before
    with pytest.raises(InputError, match="missing"):
        import_source(tmp_path / f"missing{SUFFIX['BVH']}")


def test_an_fbx_with_a_skin_keeps_its_rest_pose(motion, apply, tmp_path):
    bpy.context.scene.render.fps = 30
    _, rig = apply(motion)
    truth = read_performance(rig)
    mesh = bpy.data.meshes.new("Skin")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 0, 1)], [], [(0, 1, 2)])
    skin = bpy.data.objects.new("Skin", mesh)
    bpy.context.scene.collection.objects.link(skin)
    skin.parent, skin.modifiers.new("Armature", "ARMATURE").object = rig, rig
    for bone in rig.data.bones:
        skin.vertex_groups.new(name=bone.name).add([0, 1, 2], 0.1, "REPLACE")
    bpy.context.scene.frame_set(12)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, 24
    bpy.ops.export_scene.fbx(
        filepath=str(tmp_path / "skin.fbx"), add_leaf_bones=False, bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False, bake_anim_simplify_factor=0.0,
    )  # fmt: skip
    found = import_source(tmp_path / "skin.fbx")
    rows = rows_of(found, truth.rig.names)
    moved = found.turns[:, rows] @ np.swapaxes(found.rig.rest[rows, :3, :3], -1, -2)
    given = truth.turns @ np.swapaxes(truth.rig.rest[:, :3, :3], -1, -2)
    assert np.abs(moved - given).max() < 1e-3 and not any("no skin" in note for note in found.header["notes"])
