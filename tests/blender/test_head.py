"""Heads in Blender: artifacts become objects that show, move and leave; photos become requests."""

from __future__ import annotations

import json
from dataclasses import replace

import bpy
import numpy as np
import pytest
from understudy.blender_addon import commands
from understudy.inference.protocol.errors import InputError
from understudy.operators import head as heads_operators
from understudy.operators.scene import head as scene_heads
from understudy.operators.scene.head import HeadFiles, HeadOptions, create_head
from understudy.tests.blender import heads
from understudy.tests.blender.buttons import fails, why_grey


@pytest.fixture
def job(tmp_path):
    """The clean mesh's file of a finished job."""
    return heads.write_job(tmp_path / "ada")


@pytest.fixture
def create(job):
    """Put the head into the scene and give it, and what was made."""

    def make(**options):
        made = heads_operators.apply_head(job, bpy.context.scene, **options)
        return bpy.data.objects[made.head], made

    return make


def places(item):
    """(V, 3) world places of vertices as Blender evaluates them."""
    item = item.evaluated_get(bpy.context.evaluated_depsgraph_get())
    flat = np.empty(len(item.data.vertices) * 3, np.float32)
    item.data.vertices.foreach_get("co", flat)
    return flat.reshape(-1, 3) @ np.array(item.matrix_world)[:3, :3].T + np.array(item.matrix_world)[:3, 3]


def test_a_head_stands_in_true_metres_with_its_neck_at_the_origin(create):
    item, made = create()
    assert np.allclose(places(item), (heads.head_mesh().vertices - heads.NECK) * heads.SCALE, atol=1e-6)
    assert made.collection in bpy.data.collections and item.name in bpy.data.collections[made.collection].objects


def test_in_a_scene_that_counts_in_centimetres_the_head_has_the_same_size(create):
    bpy.context.scene.unit_settings.scale_length = 0.01
    item, _ = create()
    assert np.allclose(places(item), (heads.head_mesh().vertices - heads.NECK) * heads.SCALE * 100, atol=1e-4)


def test_faces_corners_and_texture_coordinates_are_those_of_the_artifact(create):
    item, _ = create()
    mesh = heads.head_mesh()
    expected = [[vertex for vertex in face if vertex >= 0] for face in mesh.faces.tolist()]
    assert [list(face.vertices) for face in item.data.polygons] == expected
    uv = np.array([corner.uv for corner in item.data.uv_layers["UVMap"].data])
    assert np.allclose(uv, mesh.uv[mesh.faces >= 0], atol=1e-6)
    assert not item.data.validate()


def test_every_shape_key_moves_what_it_should(create):
    item, _ = create()
    mesh, keys = heads.head_mesh(), item.data.shape_keys.key_blocks
    assert [key.name for key in keys] == ["Basis", *heads.KEYS]
    for name, offsets in zip(heads.KEYS, mesh.shape_keys, strict=True):
        keys[name].value = 1.0
        assert np.allclose(places(item), (mesh.vertices + offsets - heads.NECK) * heads.SCALE, atol=1e-6)
        keys[name].value = 0.0


def test_separate_eyes_are_objects_at_their_middles_that_follow_the_heads_keys(create):
    item, made = create(eyes=True)
    left = bpy.data.objects[made.eyes[0]]
    middle = (np.array([0.031, 0.02, 0.035]) - heads.NECK) * heads.SCALE
    bpy.context.view_layer.update()
    assert left.parent == item and np.allclose(left.matrix_world.translation, middle, atol=1e-6)
    assert len(item.data.vertices) == 8 and len(left.data.vertices) == 8
    before = places(left)
    item.data.shape_keys.key_blocks["eyeLookUpLeft"].value = 1.0
    bpy.context.view_layer.update()
    assert np.allclose(places(left) - before, [0, 0, 0.003 * heads.SCALE], atol=1e-6)


def test_the_expression_of_the_photo_is_shown_where_it_is_asked_for(create):
    neutral, _ = create()
    shown, _ = create(expression=True)
    assert neutral.data.shape_keys.key_blocks["jawOpen"].value == 0.0
    assert shown.data.shape_keys.key_blocks["jawOpen"].value == pytest.approx(0.4)
    assert neutral[scene_heads.EXPRESSION]["jawOpen"] == pytest.approx(0.4)


def test_the_material_shows_both_textures_packed_and_in_their_colour_spaces(create):
    item, _ = create()
    material = item.data.materials[0]
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    color = shader.inputs["Base Color"].links[0].from_node
    normal = shader.inputs["Normal"].links[0].from_node
    assert color.image.colorspace_settings.name == "sRGB" and color.image.packed_file
    bumps = normal.inputs["Color"].links[0].from_node
    assert normal.type == "NORMAL_MAP" and bumps.image.colorspace_settings.name == "Non-Color"
    assert material.node_tree.nodes.active == color
    eye = item.data.materials[item.data.polygons[-1].material_index]
    assert eye != material and "Eyes" in eye.name


def test_textures_can_be_left_beside_the_file(create, job):
    item, _ = create(pack=False)
    images = [node.image for node in item.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE"]
    assert not any(image.packed_file for image in images)
    assert {bpy.path.abspath(image.filepath) for image in images} == {
        str(job.with_name("texture.png")), str(job.with_name("normal.png"))
    }  # fmt: skip


def test_the_dense_surface_lies_hidden_beside_with_its_colours(create):
    item, made = create()
    dense, surface = bpy.data.objects[made.dense], heads.head_surface()
    assert dense.parent == item and dense.hide_get() and dense.hide_render
    assert np.allclose(places(dense), (surface.vertices - heads.NECK) * heads.SCALE, atol=1e-6)
    shown = np.array([value.color_srgb for value in dense.data.color_attributes["Color"].data])
    assert np.allclose(shown[:, :3] * 255, surface.colors, atol=0.6)
    assert create(dense=False)[1].dense == ""


def test_a_marked_head_is_an_asset_with_the_portrait_as_its_picture(create):
    item, _ = create(asset=True)
    assert item.asset_data is not None and "head" in item.asset_data.tags
    pixels = np.array(item.preview.image_pixels_float).reshape(-1, 4)
    assert tuple(item.preview.image_size) == (16, 16) and np.allclose(pixels, [1, 0, 0, 1], atol=0.01)
    _, made = create(asset=True, eyes=True)
    assert bpy.data.collections[made.collection].asset_data is not None


def test_the_body_is_applied_where_the_job_made_one(tmp_path):
    path = heads.write_job(tmp_path / "job", body=True)
    made = heads_operators.apply_head(path, bpy.context.scene, body=True)
    low = places(bpy.data.objects[made.head])[:, 2].min()
    assert low == pytest.approx((1.5 - 0.12) * heads.SCALE, abs=1e-5)
    with pytest.raises(InputError, match=r"no body_mesh\.npz"):
        heads_operators.apply_head(heads.write_job(tmp_path / "other"), bpy.context.scene, body=True)


def test_nothing_of_the_users_changes(create, users_scene):
    create(asset=True, eyes=True)
    assert users_scene.state() == users_scene.before


@pytest.mark.parametrize("broken", ["texture.png", "head_surface.npz"])
def test_where_something_cannot_be_read_nothing_is_left_behind(job, broken):
    job.with_name(broken).write_bytes(b"nothing")
    kinds = ("objects", "meshes", "materials", "images", "collections")
    before = {name: len(getattr(bpy.data, name)) for name in kinds}
    with pytest.raises(InputError, match=broken):
        heads_operators.apply_head(job, bpy.context.scene)
    assert before == {name: len(getattr(bpy.data, name)) for name in before}


def test_a_mesh_whose_arrays_disagree_is_refused_with_its_numbers(job):
    mesh = heads.head_mesh()
    replace(mesh, uv=mesh.uv[:-1]).save(job)
    with pytest.raises(InputError, match=r"uv has shape \(18, 4, 2\), expected \(19, 4, 2\)"):
        heads_operators.apply_head(job, bpy.context.scene)


def test_a_head_without_its_texture_is_refused_by_name(job):
    job.with_name("texture.png").unlink()
    with pytest.raises(InputError, match=r"holds no texture\.png"):
        heads_operators.apply_head(job, bpy.context.scene)


def test_create_head_without_a_dense_surface_makes_none(job):
    files = HeadFiles(heads.head_mesh(), None, job.with_name("texture.png"), job.with_name("normal.png"))
    assert create_head(files, HeadOptions("Ada"), bpy.context.scene).dense == ""


@pytest.mark.parametrize("kind", ["GLB", "FBX", "OBJ", "USD"])
def test_heads_leave_in_every_format_without_the_dense_surface(addon, create, tmp_path, kind, users_scene):
    item, _ = create(eyes=True)
    before = users_scene.state()
    assert bpy.ops.understudy.export_head(filepath=str(tmp_path / "out"), format=kind, head=item.name) == {"FINISHED"}
    written = next(file for file in tmp_path.glob("out.*") if file.suffix != ".mtl")
    assert written.stat().st_size > 1000
    assert users_scene.state() == before
    if kind == "GLB":
        content = _gltf_of(written)
        names = {mesh["name"]: mesh.get("extras", {}).get("targetNames") for mesh in content["meshes"]}
        assert names[item.data.name] == list(heads.KEYS) and len(content["images"]) == 2


def _gltf_of(path):
    """The JSON chunk of a .glb."""
    content = path.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    return json.loads(content[20 : 20 + length])


def test_photos_are_listed_once_each_up_to_eight(addon, tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    files = [{"name": f"{number}.jpg"} for number in range(8)]
    bpy.ops.understudy.add_photos(directory=str(tmp_path), files=files)
    assert [photo.path for photo in bpy.context.scene.understudy.head.photos][7] == str(tmp_path / "7.jpg")
    assert "9 photos would be listed; at most 8" in fails(
        bpy.ops.understudy.add_photos, directory=str(tmp_path), files=[{"name": "8.jpg"}]
    )
    assert "is not a photo" in fails(bpy.ops.understudy.add_photos, filepath=str(tmp_path / "a.txt"))
    for name in ("ada.jfif", "IMG_1.HEIC"):
        bpy.ops.understudy.remove_photo()
        bpy.ops.understudy.add_photos(filepath=str(tmp_path / name))
        assert bpy.context.scene.understudy.head.photos[7].path == str(tmp_path / name)
    bpy.ops.understudy.remove_photo()
    assert len(bpy.context.scene.understudy.head.photos) == 7


def test_buttons_say_why_they_are_grey(addon):
    assert "Add a photo first" in why_grey(bpy.ops.understudy.start_head)
    assert "no photo to remove" in why_grey(bpy.ops.understudy.remove_photo)
    assert "no picture" in why_grey(bpy.ops.understudy.add_image)
    assert "no head to export" in why_grey(bpy.ops.understudy.export_head)
    head = bpy.context.scene.understudy.head
    head.photos.add()
    assert "Photo 1 has no file" in why_grey(bpy.ops.understudy.start_head)
    head.photos[0].path, head.video = "a.jpg", "b.mp4"
    assert "Remove the photos, or the film" in why_grey(bpy.ops.understudy.start_head)


def test_a_picture_of_the_blend_is_written_for_the_job_as_it_looks(addon, tmp_path, monkeypatch):
    monkeypatch.setattr(heads_operators, "output_folder", lambda: tmp_path)
    image = bpy.data.images.new("Portrait", 8, 8)
    image.pixels.foreach_set(np.tile(np.array([0.2, 0.4, 0.6, 1.0], np.float32), 64))
    bpy.ops.understudy.add_image(image="Portrait")
    path = heads_operators.photo_file(bpy.context.scene.understudy.head.photos[0])
    read = bpy.data.images.load(str(path))
    assert np.allclose(read.pixels[:4], [0.2, 0.4, 0.6, 1.0], atol=0.01)
    assert image.filepath == "" and image.source == "GENERATED"


def test_a_photo_without_a_face_ends_with_the_workers_sentence(addon, tmp_path):
    path = heads.write_picture(tmp_path / "wall.png", (0.5, 0.5, 0.5, 1.0), size=128)
    bpy.context.scene.understudy.head.photos.add().path = str(path)
    assert "No face was found in wall.png (128 x 128 px)" in fails(bpy.ops.understudy.start_head)
    assert not list((tmp_path / "jobs").glob("*/artifacts/head*"))


def test_a_finished_head_is_applied_with_the_panels_options_and_undone_in_one_step(addon, job):
    assert bpy.ops.understudy.apply_head(filepath=str(job.parents[1]), take="Ada", asset=True) == {"FINISHED"}
    assert "Ada" in bpy.data.collections and bpy.data.objects["Ada"].asset_data
    assert "holds no head_mesh.npz" in fails(bpy.ops.understudy.apply_head, filepath=str(job.parents[2]))


def test_the_command_applies_a_finished_head_saves_and_exports(addon, job, tmp_path, capsys):
    blend, glb = tmp_path / "out.blend", tmp_path / "out.glb"
    words = ["head", "--finished", str(job.parents[1]), "--save", str(blend), "--export", str(glb), "--name", "Ada"]
    assert commands.run(words) == 0
    assert blend.stat().st_size > 1000 and glb.stat().st_size > 1000
    assert "understudy: Ada: Ada" in capsys.readouterr().out
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    assert bpy.data.objects["Ada"].data.shape_keys.key_blocks["jawOpen"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["head"], 2, "photo: no photo and no film"),
        (["head", "--photo", "nobody.jpg"], 3, "There is no file"),
        (["head", "--photo", "a.jpg", "--export", "a.stl"], 2, "export: a.stl is none of .glb, .fbx, .obj, .usdc"),
        (["head", "--photo", "a.jpg", "--save", "a.txt"], 2, "save: a.txt is no .blend"),
        (["head", "--finished", "nowhere"], 3, "holds no head_mesh.npz"),
    ],
)
def test_the_command_refuses_with_a_sentence_and_a_code(addon, capsys, words, code, sentence):
    assert commands.run(words) == code
    assert sentence in capsys.readouterr().out


def test_a_body_is_plain_skin_in_the_colour_of_the_face(tmp_path):
    path = heads.write_job(tmp_path / "job", body=True)
    mesh = heads.head_mesh(parts=["skin", "eye.L", "eye.R", "body"], neck=[0.0, 0.1, -1.5])
    part = np.where(np.arange(len(mesh.faces)) < 3, 3, mesh.face_part)
    low = mesh.vertices * np.array([1, 1, 0.1], np.float32)  # corners between eyes and chin
    replace(mesh, face_part=part, vertices=low).save(path.with_name("body_mesh.npz"))
    made = heads_operators.apply_head(path, bpy.context.scene, body=True)
    materials = bpy.data.objects[made.head].data.materials
    plain = next(material for material in materials if material.name.endswith("Body"))
    shader = next(node for node in plain.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    srgb = np.array([204, 128, 102]) / 255
    assert not shader.inputs["Base Color"].links
    assert np.allclose(shader.inputs["Base Color"].default_value[:3], ((srgb + 0.055) / 1.055) ** 2.4, atol=0.01)
