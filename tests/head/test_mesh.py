"""From a field to a head that can be animated: extraction, wrapping, shapes, texture and the GLB file."""

from __future__ import annotations

import io
import json
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inference.bench.head_mesh import measure
from inference.core.artifacts import HeadMesh, HeadSurface
from inference.core.cameras import Camera, project
from inference.core.formats import gltf
from inference.head.anchors import OUTLINE, anchor
from inference.head.expressions import transfer
from inference.head.extract import ExtractSettings, distances, extract
from inference.head.light import fit_light, relit
from inference.head.nearest import Meshed, face_normals, vertex_normals
from inference.head.seen import Seen
from inference.head.sheet import bleed, fill, unroll
from inference.head.template import PARTS, Template, read_template, triangulate
from inference.head.texture import texture
from inference.head.wrap import body_mesh, folded, load_template, posed, wrap
from inference.nets.neus import CPU, Field, Neus
from inference.protocol.errors import InputError, WeightsError
from inference.protocol.events import SilentReporter

SMILE = {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7, "jawOpen": 0.2}


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


@pytest.fixture(scope="module")
def person(template: Template) -> tuple[np.ndarray, HeadSurface]:
    """Somebody who smiles: the template's vertices, and a surface that runs over eyes and lips."""
    rng = np.random.default_rng(3)
    vertices = template.vertices + np.tensordot(rng.normal(size=len(template.identity)) * 0.7, template.identity, 1)
    vertices = vertices + sum(weight * template.key(name) for name, weight in SMILE.items())
    chosen = np.isin(template.face_part, [PARTS.index(part) for part in ("skin", "eye.L", "eye.R")])
    faces = triangulate(template.faces[chosen])
    rows, local = np.unique(faces, return_inverse=True)
    local = local.reshape(-1, 3)
    normals = vertex_normals(vertices[rows], local)
    colors = np.full((len(rows), 3), (105, 80, 70), np.uint8)
    header = {"unit": "m", "frame": "heads"}
    surface = HeadSurface(
        header, vertices[rows].astype(np.float32), local.astype(np.int32), colors, normals.astype(np.float32)
    )
    return vertices, surface


@pytest.fixture(scope="module")
def mesh(template: Template, person: tuple[np.ndarray, HeadSurface]) -> HeadMesh:
    vertices, surface = person
    return wrap(template, surface, template.landmarks(vertices))


def a_field(seed: int = 0) -> Field:
    torch.manual_seed(seed)
    field = Neus(CPU).field()
    sdf, color = (tuple((weight.detach(), bias.detach()) for weight, bias in part) for part in field[:2])
    return Field(sdf, color, field.sharpness.detach(), field.config)


def test_a_surface_has_about_the_faces_that_were_asked_for_and_looks_outwards() -> None:
    surface = extract(a_field(), ExtractSettings(faces=8000), SilentReporter())
    assert 0.8 * 8000 <= len(surface.faces) <= 1.2 * 8000
    facing = (face_normals(surface.vertices, surface.faces) * surface.normals[surface.faces].mean(1)).sum(1)
    assert (facing > 0.5).mean() > 0.99


def test_vertices_of_a_surface_lie_where_the_distance_is_nothing() -> None:
    from inference.head.frame import RADIUS, to_sphere

    field = a_field()
    surface = extract(field, ExtractSettings(faces=8000), SilentReporter())
    off = np.abs(distances(field, to_sphere(surface.vertices).astype(np.float32))) * RADIUS
    assert np.median(off) < 5e-5


def test_skin_that_nearly_turned_over_is_let_go_only_beside_what_has() -> None:
    """Noses and lips of sound heads lie at slants of the template's, too."""
    flat = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    start, triangles = np.tile(flat, (3, 1)), np.arange(9).reshape(3, 3)
    now = start.copy()
    for part, degrees in enumerate((0.0, 80.0, 100.0)):
        now[3 * part + 2] = [0, np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]
    nobody, beside = np.zeros(9, bool), np.arange(9) == 3
    assert folded(start, now, triangles, nobody).reshape(3, 3).any(1).tolist() == [False, False, True]
    assert folded(start, now, triangles, beside).reshape(3, 3).any(1).tolist() == [False, True, True]


def test_a_field_without_a_surface_is_an_input_error() -> None:
    field = a_field()
    weight, bias = field.sdf[-1]
    empty = field._replace(sdf=(*field.sdf[:-1], (weight, bias + 10.0)))
    with pytest.raises(InputError, match="no surface"):
        extract(empty, ExtractSettings(), SilentReporter())


def test_the_templates_sheet_neither_folds_nor_overlaps(template: Template) -> None:
    four = template.faces[:, 3] >= 0
    uv = np.concatenate([template.uv[:, :3], template.uv[four][:, [0, 2, 3]]]).astype(float)
    a, b = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    part = np.concatenate([template.face_part, template.face_part[four]])
    assert (area[part != PARTS.index("teeth")] > 0).all()
    assert uv.min() > 0
    assert uv.max() < 1
    mesh = HeadMesh({"parts": list(PARTS)}, template.vertices, template.faces, template.uv, template.face_part,
                    template.shape_keys, np.array(template.shape_key_names))  # fmt: skip
    covered = len(unroll(mesh, 512).texel) / 512**2
    assert covered == pytest.approx(np.abs(area).sum() / 2, rel=0.01)


def test_a_damaged_template_is_a_weights_error(tmp_path: Path) -> None:
    path = tmp_path / "head_template.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0nonsense")
    with pytest.raises(WeightsError, match="head_template"):
        read_template(path)


def test_a_wrapped_face_lies_on_the_surface_with_lips_closed_and_eyes_clear(
    template: Template, person: tuple[np.ndarray, HeadSurface], mesh: HeadMesh
) -> None:
    figures = measure(template, mesh, person[1])
    assert figures.face_mm < 0.4
    assert figures.lips_mm < 0.1
    assert figures.lids_mm > 0.0
    assert figures.blink_percent < 2
    assert [shape.name for shape in figures.shapes if not shape.holds] == []


def test_hair_before_the_cheeks_folds_no_skin(template: Template, person: tuple[np.ndarray, HeadSurface]) -> None:
    vertices, surface = person
    away = (np.abs(surface.vertices[:, :1]) > 0.05) * (np.sign(surface.vertices) * [0.015, 0, 0] + [0, -0.01, 0])
    landmarks = template.landmarks(vertices)
    landmarks[list(OUTLINE), 0] *= 1.25  # a detector takes hair for the outline of the face
    landmarks += 0.006 * np.sin(60 * landmarks[:, [1, 2, 0]])  # and errs about all else in a small film
    found = wrap(template, replace(surface, vertices=(surface.vertices + away).astype(np.float32)), landmarks)
    skin = triangulate(template.faces[template.face_part == PARTS.index("skin")])
    before, after = (np.cross(*(v[skin[:, k]] - v[skin[:, 0]] for k in (1, 2))) for v in (vertices, posed(found)))
    assert ((before * after).sum(1) < 0).mean() < 0.006


def test_a_smile_is_told_from_the_person(mesh: HeadMesh) -> None:
    expression = mesh.header["expression"]
    assert expression.get("mouthSmileLeft", 0) > 0.3
    assert expression.get("mouthSmileRight", 0) > 0.3
    assert expression.get("browInnerUp", 0) < 0.3


def test_shapes_on_the_template_itself_stay_what_they_are(template: Template) -> None:
    keys = transfer(template, template.vertices.astype(float), np.eye(3))
    off = np.linalg.norm(keys - template.shape_keys, axis=2)
    skin = template.vertices_of("skin")
    assert np.quantile(off[:, skin], 0.999) < 1e-3
    assert off[:, skin].mean() < 5e-5


def test_a_body_continues_the_head_without_a_gap(template: Template, mesh: HeadMesh) -> None:
    body = body_mesh(mesh, template)
    np.testing.assert_array_equal(body.vertices[: len(mesh.vertices)], mesh.vertices)
    edges = Counter(
        tuple(sorted((int(a), int(b)))) for quad in body.faces for a, b in zip(quad, np.roll(quad, -1), strict=True)
    )
    loop = template.neck_loop
    shared = [edges[tuple(sorted((int(a), int(b))))] for a, b in zip(loop, np.roll(loop, -1), strict=True)]
    assert shared == [2] * len(loop)
    length = np.linalg.norm(body.vertices[body.faces] - body.vertices[np.roll(body.faces, -1, 1)], axis=2)
    at_neck = np.isin(body.faces, loop).any(1) & (body.face_part == PARTS.index("body"))
    assert length[at_neck].max() < 0.04
    assert 1.2 < np.ptp(body.vertices[:, 2]) < 2.3


def _camera(size: int = 500) -> Camera:
    turn = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    matrix = np.array([[1300.0, 0, size / 2], [0, 1300.0, size / 2], [0, 0, 1]])
    return Camera("photo", (size, size), matrix, rotation=turn, translation=-turn @ np.array([0.0, -0.9, 0.0]))


def _photo(template: Template, mesh: HeadMesh, image: np.ndarray) -> Seen:
    marks = project(_camera(), template.landmarks(posed(mesh)))
    mask = np.ones(image.shape[:2], np.float32)
    return Seen("photo", image, mask, marks, np.zeros(478), None, np.array([249.5, 249.5]))


def test_a_texture_has_no_border_between_photo_and_field(
    template: Template, person: tuple[np.ndarray, HeadSurface], mesh: HeadMesh
) -> None:
    image = np.full((500, 500, 3), (190, 145, 125), np.uint8)
    photo = _photo(template, mesh, image)
    color, normal = texture(mesh, person[1], None, [photo], [_camera()], 256)
    sheet = unroll(mesh, 256)
    skin = mesh.face_part[sheet.quad] == PARTS.index("skin")
    seen = color.reshape(-1, 4)[sheet.texel[skin], :3].astype(int)
    assert np.abs(seen - (190, 145, 125)).max() < 12  # the surface's own (105, 80, 70) is drawn to it
    assert (color[..., 3] == 255).all()
    blue = normal.reshape(-1, 3)[sheet.texel, 2].astype(int)
    assert blue.min() > 128
    assert np.median(blue) > 250


def test_a_texture_is_whole_where_the_dense_surface_ends_far_above_the_neck(
    template: Template, person: tuple[np.ndarray, HeadSurface], mesh: HeadMesh
) -> None:
    surface, image = person[1], np.full((500, 500, 3), (190, 145, 125), np.uint8)
    kept = surface.faces[(surface.vertices[surface.faces, 2] > 0.05).all(1)]
    color, _ = texture(
        mesh, replace(surface, faces=kept), Neus(CPU).field(), [_photo(template, mesh, image)], [_camera()], 256
    )
    sheet = unroll(mesh, 256)
    skin = mesh.face_part[sheet.quad] == PARTS.index("skin")
    assert color.reshape(-1, 4)[sheet.texel[skin], :3].max(1).min() > 20  # black is what is nowhere known


def test_what_a_photo_shows_lands_where_it_is_on_the_head(
    template: Template, person: tuple[np.ndarray, HeadSurface], mesh: HeadMesh
) -> None:
    stripe = (np.arange(500) // 25) % 2 == 1
    image = np.full((500, 500, 3), (190, 145, 125), np.uint8)
    image[:, stripe] = (150, 115, 100)
    color, _ = texture(mesh, person[1], None, [_photo(template, mesh, image)], [_camera()], 256)
    sheet = unroll(mesh, 256)
    at = sheet.at(posed(mesh))
    cheeks = (mesh.face_part[sheet.quad] == PARTS.index("skin")) & (np.abs(at[:, 2] + 0.01) < 0.02) & (at[:, 1] < 0.02)
    column = project(_camera(), at[cheeks])[:, 0]
    clear = np.abs(column % 25 - 12.5) < 7
    red = color.reshape(-1, 4)[sheet.texel[cheeks], 0].astype(int)
    dark = stripe[column.round().astype(int)]
    assert red[clear & dark].mean() < red[clear & ~dark].mean() - 25


def test_face_points_are_put_where_photos_show_them(
    template: Template, person: tuple[np.ndarray, HeadSurface], mesh: HeadMesh
) -> None:
    vertices, surface = person
    true = template.landmarks(vertices)
    marks = project(_camera(), true)
    photo = Seen("p", np.zeros((500, 500, 3), np.uint8), np.ones((500, 500), np.float32), marks, np.zeros(478), None,
                 np.zeros(2))  # fmt: skip
    guess = true + [0.003, 0.0, 0.002]
    found = anchor(surface, [photo], [_camera()], guess)
    moved = np.linalg.norm(found - guess, axis=1) > 1e-6
    assert moved.sum() > 250
    assert np.median(np.linalg.norm(found - true, axis=1)[moved]) < 3e-4


def test_light_from_a_side_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(4000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[:, 1] = -np.abs(normals[:, 1])
    linear = 0.3 * np.exp(0.5 * normals[:, :1]) * np.ones(3)
    light = fit_light(linear, normals, np.ones(len(normals)))
    even = relit(linear, normals, light, 1.0, np.array([0.0, -1.0, 0.0]))
    assert np.log(even).std() < 0.2 * np.log(linear).std()


def test_colours_fill_what_none_shows_and_continue_past_borders() -> None:
    picture = np.zeros((64, 64, 3), np.float32)
    weight = np.zeros((64, 64), np.float32)
    picture[:8], weight[:8] = 0.7, 1.0
    np.testing.assert_allclose(fill(picture, weight), 0.7, atol=1e-3)
    covered = np.zeros((64, 64), bool)
    covered[:8] = True
    np.testing.assert_array_equal(bleed(picture, covered), np.full((64, 64, 3), 0.7, np.float32))


def test_nearest_places_and_rays_are_found() -> None:
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    flat = Meshed(square, np.array([[0, 1, 2], [0, 2, 3]]))
    near = flat.nearest(np.array([[0.25, 0.5, 0.3], [1.5, 0.5, 0.0]]))
    np.testing.assert_allclose(near.points, [[0.25, 0.5, 0], [1, 0.5, 0]], atol=1e-6)
    met = flat.cast(np.array([[0.5, 0.25, 1.0], [5.0, 5, 1]]), np.array([[0.0, 0, -1], [0, 0, -1]]))
    assert met.face.tolist() == [0, -1]
    assert met.depth[0] == pytest.approx(1.0)


def _chunks(content: bytes) -> tuple[dict, bytes]:
    magic, version, total = struct.unpack_from("<4sII", content)
    assert (magic, version, total) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON"
    rest = 20 + size
    assert struct.unpack_from("<I4s", content, rest)[1] == b"BIN\0"
    return json.loads(content[20:rest]), content[rest + 8 :]


def test_a_glb_file_holds_the_shapes_by_name_y_up(mesh: HeadMesh) -> None:
    color = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    document, binary = _chunks(gltf.to_glb(mesh.placed(), color, color[..., :3]))
    head = document["meshes"][0]
    assert head["extras"]["targetNames"] == mesh.shape_key_names.tolist()
    assert all(len(primitive["targets"]) == 52 for primitive in head["primitives"])
    position = document["accessors"][head["primitives"][0]["attributes"]["POSITION"]]
    assert np.argmax(np.subtract(position["max"], position["min"])) == 1  # heads are taller than wide and deep
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    start = view["byteOffset"]
    with Image.open(io.BytesIO(binary[start : start + view["byteLength"]])) as image:
        np.testing.assert_array_equal(np.asarray(image), color)
    index = mesh.shape_key_names.tolist().index("jawOpen")
    jaw = document["accessors"][head["primitives"][0]["targets"][index]["POSITION"]]
    key = mesh.shape_keys[index]
    assert jaw["min"][1] == pytest.approx(key[:, 2].min(), abs=1e-6)
    assert jaw["sparse"]["count"] < jaw["count"]
