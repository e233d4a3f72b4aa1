"""Bodies in the scene: skin that follows bones, skeletons of other programs, measures, and files of other programs."""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from understudy.blender_addon import commands
from understudy.inference.core.artifacts import BodyMesh, BodyParameters, Coaching
from understudy.inference.core.body import Skin, at_rest, place_bones
from understudy.inference.core.body_measures import MEASURES
from understudy.inference.core.body_rigs import RIGS
from understudy.inference.core.mapping.mapper import map_rig
from understudy.inference.core.rotations import quaternion_from_rotvec
from understudy.inference.protocol.errors import InputError
from understudy.inference.protocol.events import encode, make_event
from understudy.inference.protocol.requests import PROTOCOL
from understudy.operators import body as bodies
from understudy.operators.scene import body as scene_bodies
from understudy.operators.scene.body import BodyOptions, adjust_body, create_body
from understudy.operators.scene.rig import read_character

FRAMES = 12


@pytest.fixture(scope="module")
def mesh() -> BodyMesh:
    """A whole body with the keys that measures need and two expressions; kept in half precision."""
    kept = BodyMesh.load(Path(__file__).parents[1] / "golden" / "body_mesh.npz")
    floats = {item.name: getattr(kept, item.name) for item in fields(kept) if item.name != "header"}
    return replace(
        kept, **{name: array.astype(np.float32) for name, array in floats.items() if array.dtype.kind == "f"}
    )


@pytest.fixture(scope="module")
def parameters(mesh) -> BodyParameters:
    still, time = at_rest(mesh), np.arange(FRAMES) / 24
    turns = np.zeros((FRAMES, len(mesh.parents), 3))
    for bone, axis, angle in (("upperarm01.L", 1, -0.9), ("lowerarm01.R", 2, 1.0), ("upperleg01.R", 0, -0.8),
                              ("lowerleg01.R", 0, 1.1), ("spine03", 2, 0.5), ("root", 2, 0.7)):  # fmt: skip
        turns[:, mesh.header["bones"].index(bone), axis] = angle * time / time[-1]
    header = {**still.header, "frame": "world", "fps": 24.0}
    root = still.root + np.stack([0.3 * time, np.zeros(FRAMES), np.zeros(FRAMES)], 1)
    return BodyParameters(header, quaternion_from_rotvec(turns), root, still.shape, np.ones(FRAMES), time)


@pytest.fixture
def job(mesh, parameters, tmp_path):
    """A finished job's folder."""
    mesh.save(tmp_path / "job" / "artifacts" / "body_mesh.npz")
    parameters.save(tmp_path / "job" / "artifacts" / "body_parameters.npz")
    return tmp_path / "job"


def places(item: bpy.types.Object) -> np.ndarray:
    data = item.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    out = np.empty(3 * len(data.vertices), np.float32)
    data.vertices.foreach_get("co", out)
    return out.reshape(-1, 3)


@pytest.mark.parametrize("skeleton", RIGS)
def test_on_every_skeleton_the_skin_moves_as_the_body_does(mesh, parameters, skeleton):
    made = create_body(mesh, parameters, BodyOptions("Hero", skeleton=skeleton), bpy.context.scene)
    bpy.context.scene.frame_set(FRAMES)
    turns, heads = place_bones(mesh, parameters.pose, parameters.root)
    wanted = Skin(mesh).vertices(turns[-1], heads[-1])
    np.testing.assert_allclose(places(bpy.data.objects[made.body]), wanted, atol=2e-5)


def test_the_mesh_has_quads_places_of_a_texture_expressions_and_keys_of_its_shape(mesh, parameters):
    made = create_body(mesh, parameters, BodyOptions("Hero"), bpy.context.scene)
    data = bpy.data.objects[made.body].data
    assert all(len(face.vertices) == 4 for face in data.polygons)
    uv = np.empty(2 * len(data.loops), np.float32)
    data.uv_layers[0].data.foreach_get("uv", uv)
    assert uv.min() >= 0 and uv.max() <= 1 and np.ptp(uv) > 0.8
    names = set(data.shape_keys.key_blocks.keys())
    assert {"jawOpen", "eyeBlinkLeft", "weight+", "measure-waist-circ-"} <= names
    assert len(names) == 1 + len(mesh.shape_key_names) + len(mesh.parameter_names)


@pytest.mark.parametrize(
    ("skeleton", "preset"), [("mixamo", "Mixamo"), ("game-engine", "Unreal 4"), ("rigify", "Rigify meta-rig")]
)
def test_other_programs_skeletons_are_known_by_their_names(mesh, parameters, skeleton, preset):
    made = create_body(mesh, parameters, BodyOptions("Hero", skeleton=skeleton), bpy.context.scene)
    found = map_rig(read_character(bpy.data.objects[made.rig]).rig)
    assert found.how == "preset" and found.mapping.name.startswith(preset)
    roles = {"hips", "spine", "neck", "head", "forearm.L", "hand.R", "index.L", "little.R", "shin.R", "toe.L"}
    assert all(found.mapping.bones[role] for role in roles)


def test_rigify_generates_its_controls_from_the_skeleton(mesh, parameters):
    addons = importlib.import_module("addon_utils")
    if not addons.check("rigify")[1]:
        addons.enable("rigify", default_set=True)
    made = create_body(mesh, None, BodyOptions("Hero", skeleton="rigify"), bpy.context.scene)
    rig = bpy.data.objects[made.rig]
    bpy.context.view_layer.objects.active = rig
    bpy.ops.pose.rigify_generate()
    generated = rig.data.rigify_target_rig
    assert {"upper_arm_fk.L", "foot_ik.R", "torso", "head", "f_index.01_master.L"} <= set(generated.data.bones.keys())
    deforming = {name[4:] for name in set(generated.data.bones.keys()) if name.startswith("DEF-")}
    assert {"thigh.L", "forearm.R", "spine.003"} <= deforming


def test_measures_are_shown_and_reached_and_the_bones_go_with_them(mesh, parameters):
    made = create_body(mesh, parameters, BodyOptions("Hero"), bpy.context.scene)
    item, rig = bpy.data.objects[made.body], bpy.data.objects[made.rig]
    shown = scene_bodies.shown_measures(item)
    assert set(shown) == set(MEASURES)
    before = rig.data.bones["head"].head_local.z
    found = adjust_body(item, {"height": shown["height"] - 0.12, "waist": shown["waist"] + 0.08})
    assert found["height"] == pytest.approx(shown["height"] - 0.12, abs=0.004)
    assert found["waist"] == pytest.approx(shown["waist"] + 0.08, abs=0.004)
    assert scene_bodies.shown_measures(item) == pytest.approx(found, abs=1e-4)
    assert before - rig.data.bones["head"].head_local.z == pytest.approx(0.12, abs=0.02)
    rig.data.pose_position = "REST"
    bpy.context.view_layer.update()
    assert np.ptp(places(item)[:, 2]) == pytest.approx(found["height"], abs=1e-3)


def test_impossible_measures_change_nothing(mesh, parameters):
    made = create_body(mesh, parameters, BodyOptions("Hero"), bpy.context.scene)
    item = bpy.data.objects[made.body]
    before = places(item)
    with pytest.raises(InputError, match="do not go together"):
        adjust_body(item, {"height": 1.4, "inseam": 1.1})
    assert np.array_equal(places(item), before)


def test_a_scene_in_centimetres_gets_the_same_body(mesh, parameters):
    bpy.context.scene.unit_settings.scale_length = 0.01
    made = create_body(mesh, parameters, BodyOptions("Hero"), bpy.context.scene)
    item = bpy.data.objects[made.body]
    assert np.ptp(np.array([v.co for v in item.data.vertices])[:, 2]) == pytest.approx(
        100 * mesh.header["measures_m"]["height"], rel=1e-3
    )
    assert scene_bodies.measure_body(item)["waist"] == pytest.approx(mesh.header["measures_m"]["waist"], abs=1e-3)


def read_back(path: Path) -> bpy.types.Object:
    """The largest mesh of a file, in an empty scene in metres, at its first frame."""
    bpy.ops.wm.read_homefile(use_empty=True)
    readers = {".glb": bpy.ops.import_scene.gltf, ".fbx": bpy.ops.import_scene.fbx}
    readers.get(path.suffix, bpy.ops.wm.usd_import)(filepath=str(path))
    bpy.context.scene.frame_set(1)
    return max((one for one in bpy.context.scene.objects if one.type == "MESH"), key=lambda one: len(one.data.vertices))


def tall(item: bpy.types.Object) -> float:
    matrix = np.array(item.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world)
    return float(np.ptp(places(item) @ matrix[2, :3]))


@pytest.mark.parametrize(("kind", "ending"), [("GLTF", ".glb"), ("FBX", ".fbx"), ("USD", ".usdc"), ("USDZ", ".usdz")])
def test_from_a_scene_in_centimetres_files_are_no_larger(mesh, parameters, tmp_path, kind, ending):
    heights = []
    for scale in (1.0, 0.01):
        bpy.ops.wm.read_homefile(use_empty=True)
        bpy.context.scene.unit_settings.scale_length = scale
        made = create_body(mesh, parameters, BodyOptions("Hero"), bpy.context.scene)
        rig = bpy.data.objects[made.rig]
        path = bodies.export_body(bpy.data.objects[made.body], tmp_path / f"{scale}{ending}", kind)
        assert rig.parent is None and len(bpy.data.scenes) == 1 and not bpy.data.objects.get("Understudy Units")
        heights.append(tall(read_back(path)))
    assert heights[0] == pytest.approx(heights[1], rel=1e-3) and 1.2 < heights[0] < 2.2


def test_usd_has_the_shape_that_was_adjusted_and_the_expressions(mesh, tmp_path):
    still = BodyParameters(
        {**at_rest(mesh).header, "frame": "world", "fps": 24.0}, at_rest(mesh).pose.repeat(2, 0),
        at_rest(mesh).root.repeat(2, 0), at_rest(mesh).shape, np.ones(2), np.arange(2) / 24,
    )  # fmt: skip
    item = bpy.data.objects[create_body(mesh, still, BodyOptions("Hero"), bpy.context.scene).body]
    before = [key.name for key in item.data.shape_keys.key_blocks]
    adjust_body(item, {"height": 1.60})
    path = bodies.export_body(item, tmp_path / "hero.usdc", "USD")
    assert [key.name for key in item.data.shape_keys.key_blocks] == before
    read = read_back(path)
    assert tall(read) == pytest.approx(1.60, abs=0.03)
    assert len(read.data.shape_keys.key_blocks) == len(before)


@pytest.mark.parametrize("mode", ["OBJECT", "POSE"])
def test_bones_are_fitted_where_the_armature_is_off_in_viewports_or_posed(mesh, mode):
    made = create_body(mesh, None, BodyOptions("Hero"), bpy.context.scene)
    item, rig = bpy.data.objects[made.body], bpy.data.objects[made.rig]
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode=mode)
    rig.hide_viewport = mode == "OBJECT"
    assert adjust_body(item, {"height": 1.8})["height"] == pytest.approx(1.8, abs=0.003)
    assert rig.mode == mode and rig.hide_viewport == (mode == "OBJECT")


def test_a_body_that_is_being_edited_is_left_alone_in_a_sentence(mesh):
    made = create_body(mesh, None, BodyOptions("Hero"), bpy.context.scene)
    bpy.context.view_layer.objects.active = bpy.data.objects[made.body]
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(InputError, match="Hero Body is in Edit Mode"):
        adjust_body(bpy.data.objects[made.body], {"height": 1.8})


def test_the_operators_apply_adjust_and_export(addon, job, tmp_path):
    assert bpy.ops.understudy.apply_body(filepath=str(job), take="Hero", skeleton="mixamo") == {"FINISHED"}
    item = bodies.find_body(bpy.context)
    assert item is not None and item.name == "Hero Body"
    item["measure_height"] = item["measure_height"] + 0.05
    wanted = item["measure_height"]
    assert bpy.ops.understudy.adjust_body() == {"FINISHED"}
    assert item["measure_height"] == pytest.approx(wanted, abs=0.003)
    assert bpy.ops.understudy.export_body(filepath=str(tmp_path / "hero"), format="USDZ") == {"FINISHED"}
    assert zipfile.is_zipfile(tmp_path / "hero.usdz")


def test_what_is_no_body_is_refused_in_a_sentence(addon, job, tmp_path):
    with pytest.raises(RuntimeError, match=r"holds no body_parameters\.npz"):
        bpy.ops.understudy.apply_body(filepath=str(tmp_path / "nothing"))
    (job / "artifacts" / "body_mesh.npz").unlink()
    with pytest.raises(RuntimeError, match=r"holds no body_mesh\.npz"):
        bpy.ops.understudy.apply_body(filepath=str(job))
    assert not bpy.data.meshes and not bpy.data.armatures


def test_the_command_applies_measures_and_saves(addon, job, tmp_path, capsys):
    blend = tmp_path / "hero.blend"
    flags = ["--finished", str(job), "--skeleton", "game-engine", "--measure", "height=1.70", "--save", str(blend)]
    assert commands.run(["body", *flags]) == 0
    assert "height 1.70" in capsys.readouterr().out
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    item = bodies.find_body(bpy.context)
    assert item.find_armature().animation_data.action
    assert scene_bodies.measure_body(item)["height"] == pytest.approx(1.7, abs=0.004)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--measure", "tall"], "NAME=METRES"),
        (["--measure", "height=9"], "no body's"),
        (["--save", "hero.txt"], "no .blend"),
        (["--export", "hero.stl"], "is none of"),
        ([], "no clip, no keypoints and no capture"),
    ],
)
def test_a_command_that_cannot_work_says_so_at_once(addon, capsys, flags, said):
    assert commands.run(["body", *flags]) in (2, 3)
    assert said in capsys.readouterr().out


@pytest.fixture
def comparison(mesh, parameters, job, tmp_path):
    """A finished comparison's folder: the trainer's head is turned 30 degrees more towards the end."""
    pose = parameters.pose.copy()
    head = mesh.header["bones"].index("head")
    pose[:, head] = quaternion_from_rotvec(np.outer(np.linspace(0, np.radians(30), FRAMES), (0.0, 0.0, 1.0)))
    difference = np.zeros((FRAMES, 2))
    difference[:, 0] = np.linspace(0, 30, FRAMES)
    _, heads = place_bones(mesh, parameters.pose, parameters.root)
    elbow = mesh.header["bones"].index("lowerarm01.L")
    header = {
        **parameters.header, "frame": "floor", "joints": ["head", "elbow.L"],
        "joint_bones": [["neck01", "neck02", "neck03", "head"], ["lowerarm01.L", "lowerarm02.L"]],
        "tolerance_deg": 5.0, "worst_deg": 30.0, "floor_from_frame": np.eye(4).tolist(),
        "trainee": str(job / "artifacts" / "body_parameters.npz"), "trainer": "",
    }  # fmt: skip
    Coaching(
        header, parameters.times, np.arange(FRAMES, dtype=float), difference, 0 * difference, difference, pose,
        parameters.root, heads[:, [head, elbow]], parameters.confidence,
    ).save(tmp_path / "coach" / "artifacts" / "coaching.npz")  # fmt: skip
    return tmp_path / "coach"


def test_a_comparison_colours_what_differs_and_swells_its_mark(addon, comparison, tmp_path):
    assert bpy.ops.understudy.apply_coaching(filepath=str(comparison), take="Two") == {"FINISHED"}
    body, marks = bpy.data.objects["Two Body"], bpy.data.objects["Two Marks"]
    colours = {}
    for frame in (1, FRAMES):
        bpy.context.scene.frame_set(frame)
        tree = bpy.data.materials["Two Body head"].node_tree
        colours[frame] = np.array(tree.nodes["Principled BSDF"].inputs[0].default_value)[:3]
    assert colours[1].min() > 0.7 and colours[FRAMES].max() < 0.3
    assert body["head"] == pytest.approx(30.0, abs=0.1)
    sizes = [marks.pose.bones[name].scale.x for name in ("head", "elbow.L")]
    assert sizes[0] == pytest.approx(1.0, abs=0.01) and sizes[1] < 0.01
    slots = np.array([face.material_index for face in body.data.polygons])
    head = body.data.materials.find("Two Body head")
    high = np.array([face.center.z for face in body.data.polygons])
    assert high[slots == head].min() > 0.8 * high.max()


def test_a_comparison_goes_to_viewers_with_its_motion(addon, comparison, tmp_path):
    flags = [
        "--finished",
        str(comparison),
        "--export",
        str(tmp_path / "two.glb"),
        "--export",
        str(tmp_path / "two.usdz"),
    ]
    assert commands.run(["coach", *flags]) == 0
    content = (tmp_path / "two.glb").read_bytes()
    told = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    moved = {told["nodes"][channel["target"]["node"]]["name"] for channel in told["animations"][0]["channels"]
             if channel["target"]["path"] == "scale"}  # fmt: skip
    assert {"head", "elbow.L"} <= moved
    assert len(told["skins"]) == 3
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.wm.usd_import(filepath=str(tmp_path / "two.usdz"))
    rigs = [item for item in bpy.context.scene.objects if item.type == "ARMATURE"]
    assert len(rigs) == 3 and all(rig.animation_data.action.frame_range[1] == FRAMES for rig in rigs)


def test_the_last_comparison_is_one_that_is_done_and_its_armatures_are_exported_under_any_name(
    addon, comparison, tmp_path
):  # fmt: skip
    failed = make_event("failed", code="input", message="Nobody is seen.", hint="")
    for number, (folder, end) in enumerate([(comparison, make_event("done")), (tmp_path / "later", failed)], 1):
        folder.mkdir(exist_ok=True)
        (folder / "request.json").write_text(json.dumps({"task": "coach", "request": {}, "run_id": "run"}))
        os.utime(folder / "request.json", (number, number))
        started = make_event("started", protocol=PROTOCOL, task="coach", run_id="run", pid=1)
        (folder / "events.jsonl").write_bytes(encode(started) + encode(end))
        addon.scan(folder)
    assert addon.latest.state == "failed"
    assert bpy.ops.understudy.apply_coaching(take="Two") == {"FINISHED"}
    for rig in [item for item in bpy.data.objects if item.type == "ARMATURE"]:
        rig.name = f"Renamed {rig.name}"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "two.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "two.blend"))
    assert bpy.ops.understudy.export_coaching(filepath=str(tmp_path / "two.glb")) == {"FINISHED"}
    bpy.data.objects["Renamed Two Marks"].select_set(True)
    bpy.ops.object.delete()
    with pytest.raises(RuntimeError, match="1 of 3 armatures"):
        bpy.ops.understudy.export_coaching(filepath=str(tmp_path / "two.glb"))
