"""A finished head in the scene: one collection with the clean mesh, its material and shape keys, and the dense surface.

Everything stands in true metres at the scene's origin, facing -y, with the origin of objects where the neck begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from ...inference.core.artifacts import HeadMesh, HeadSurface
from ...inference.protocol.errors import InputError
from .mesh import add_shape_keys, mesh_of, node, shaded
from .take import all_or_nothing, units_per_m

Array = np.ndarray
EXPRESSION = "understudy_expression"  # custom property: the expression of the photo, for each shape key a weight
_ROUGHNESS = {"eye.L": 0.08, "eye.R": 0.08, "teeth": 0.25, "tongue": 0.35, "mouth": 0.4}
_SKIN_ROUGHNESS = 0.5
_EYES = ("eye.L", "eye.R")
_BODY = "body"
_FRONT_M, _LOW_M, _HIGH_M = 0.04, -0.06, 0.02  # of the face without brows and hair, in the frame of heads


@dataclass(frozen=True)
class HeadFiles:
    """What a job made: the clean mesh, the dense surface and the two textures; a picture to recognise it by."""

    mesh: HeadMesh
    surface: HeadSurface | None
    color: Path
    normal: Path
    portrait: Path | None = None


@dataclass(frozen=True)
class HeadOptions:
    """What the redo panel offers."""

    name: str
    dense: bool = True
    eyes: bool = False
    expression: bool = False
    pack: bool = True
    asset: bool = False


@dataclass(frozen=True)
class MadeHead:
    """Names of what was made: datablocks do not survive an undo."""

    collection: str
    head: str
    eyes: tuple[str, ...] = ()
    dense: str = ""


def create_head(files: HeadFiles, options: HeadOptions, scene: bpy.types.Scene) -> MadeHead:
    """Put a head into the scene: all of it or nothing.

    Selection, mode, cursor and every existing datablock stay as they are.
    """
    mesh = files.mesh.placed()
    eyes = [part for part in _EYES if part in mesh.header["parts"]] if options.eyes else []
    with all_or_nothing():
        collection = bpy.data.collections.new(options.name)
        scene.collection.children.link(collection)
        place = _Place(collection, _materials(files, mesh.header["parts"], options), units_per_m(scene))
        head = _add_object(options.name, _without(mesh, eyes), place)
        head[EXPRESSION] = {str(name): float(value) for name, value in mesh.header.get("expression", {}).items()}
        balls = [_add_eye(head, mesh, eye, place) for eye in eyes]
        if options.expression:
            _show_expression(head, mesh.header.get("expression", {}))
        dense = ""
        if options.dense and files.surface is not None:
            dense = _add_dense(head, files.surface.placed(files.mesh.header["neck"]), place, scene).name
        if options.asset:
            _mark(collection if eyes else head, files.portrait)
    return MadeHead(collection.name, head.name, tuple(ball.name for ball in balls), dense)


@dataclass(frozen=True)
class _Place:
    """Where objects go, what they are made of, and Blender units in a metre."""

    collection: bpy.types.Collection
    materials: Sequence[bpy.types.Material]
    unit: float


@dataclass(frozen=True)
class _Parts:
    """A mesh as arrays of one object; corners as in `HeadMesh`."""

    vertices: Array
    faces: Array
    uv: Array
    face_part: Array
    shape_keys: Array
    names: Array
    parts: Sequence[str]


def _without(mesh: HeadMesh, left_out: Sequence[str]) -> _Parts:
    return _only(mesh, [part for part in mesh.header["parts"] if part not in left_out])


def _only(mesh: HeadMesh, parts: Sequence[str]) -> _Parts:
    """Take the faces of some parts and the vertices that they need."""
    wanted = [mesh.header["parts"].index(part) for part in parts]
    kept = np.isin(mesh.face_part, wanted)
    faces = mesh.faces[kept]
    used = np.unique(faces[faces >= 0])
    number = np.full(len(mesh.vertices) + 1, -1)  # the last stands for the -1 of triangles
    number[used] = np.arange(len(used))
    return _Parts(
        mesh.vertices[used], number[faces], mesh.uv[kept], mesh.face_part[kept], mesh.shape_keys[:, used],
        mesh.shape_key_names, mesh.header["parts"],
    )  # fmt: skip


def _add_object(name: str, parts: _Parts, place: _Place) -> bpy.types.Object:
    data, materials = mesh_of(name, parts.vertices * place.unit, parts.faces), place.materials
    corners = parts.faces >= 0
    data.uv_layers.new(name="UVMap").data.foreach_set("uv", np.ravel(parts.uv[corners]).astype(np.float32))
    slots = list(dict.fromkeys(materials[part] for part in np.unique(parts.face_part)))
    for material in slots:
        data.materials.append(material)
    places = np.array([slots.index(material) if material in slots else 0 for material in materials], np.int32)
    data.polygons.foreach_set("material_index", places[parts.face_part])
    data.update()
    item = bpy.data.objects.new(name, data)
    place.collection.objects.link(item)
    for index, part in enumerate(parts.parts):
        inside = np.unique(parts.faces[parts.face_part == index])
        if inside[inside >= 0].size:
            item.vertex_groups.new(name=part).add(inside[inside >= 0].tolist(), 1.0, "REPLACE")
    add_shape_keys(item, parts.vertices * place.unit, parts.names, parts.shape_keys * place.unit)
    return item


def _add_eye(head: bpy.types.Object, mesh: HeadMesh, part: str, place: _Place) -> bpy.types.Object:
    """An eye of its own, which turns about its middle and follows the head's shape keys."""
    parts = _only(mesh, [part])
    centre = 0.5 * (parts.vertices.min(0) + parts.vertices.max(0))
    moves = np.abs(parts.shape_keys).max((1, 2)) > 1e-7
    own = _Parts(
        parts.vertices - centre, parts.faces, parts.uv, parts.face_part, parts.shape_keys[moves], parts.names[moves],
        parts.parts,
    )  # fmt: skip
    eye = _add_object(f"{head.name} {part}", own, place)
    eye.location = (centre * place.unit).tolist()
    eye.parent = head
    for name in own.names:
        _follow(eye.data.shape_keys.key_blocks[str(name)], head, str(name))
    return eye


def _follow(key: bpy.types.ShapeKey, head: bpy.types.Object, name: str) -> None:
    """Let a shape key have the value of the head's of the same name."""
    driver = key.driver_add("value").driver
    driver.type = "AVERAGE"  # of one value: needs no script
    variable = driver.variables.new()
    variable.targets[0].id_type = "KEY"
    variable.targets[0].id = head.data.shape_keys
    variable.targets[0].data_path = f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'


def _show_expression(head: bpy.types.Object, expression: dict[str, float]) -> None:
    keys = head.data.shape_keys.key_blocks
    for name, value in expression.items():
        if name in keys:
            keys[name].value = float(np.clip(value, 0.0, 1.0))


def _materials(files: HeadFiles, parts: Sequence[str], options: HeadOptions) -> list[bpy.types.Material]:
    """A material for each part, shared where it is the same; all show the one pair of textures."""
    color, normal = (
        _image(path, f"{options.name} {word}", space=space, pack=options.pack)
        for path, word, space in ((files.color, "Color", "sRGB"), (files.normal, "Normal", "Non-Color"))
    )
    made: dict[float, bpy.types.Material] = {}
    for part in parts:
        if part == _BODY:
            continue
        roughness = _ROUGHNESS.get(part, _SKIN_ROUGHNESS)
        if roughness not in made:
            word = {"eye.L": "Eyes", "teeth": "Teeth", "tongue": "Tongue", "mouth": "Mouth"}.get(part, "Skin")
            made[roughness] = _material(f"{options.name} {word}", color, normal, roughness)
    plain = _plain_skin(f"{options.name} Body", files.mesh, color) if _BODY in parts else None
    return [plain if part == _BODY else made[_ROUGHNESS.get(part, _SKIN_ROUGHNESS)] for part in parts]


def _plain_skin(name: str, mesh: HeadMesh, color: bpy.types.Image) -> bpy.types.Material:
    """Skin without a picture, in the colour of the face between eyes and chin: photos show no body."""
    places = mesh.vertices[mesh.faces]
    front = (places[..., 1] < _FRONT_M) & (places[..., 2] > _LOW_M) & (places[..., 2] < _HIGH_M)
    near = front & (mesh.face_part == mesh.header["parts"].index("skin"))[:, None]
    pixels = np.empty(len(color.pixels), np.float32)
    color.pixels.foreach_get(pixels)
    width, height = color.size
    picture = pixels.reshape(height, width, -1)
    columns, rows = (np.clip(mesh.uv[near] * (width, height), 0, (width - 1, height - 1))).astype(int).T
    material, _, shader = shaded(name, _SKIN_ROUGHNESS)
    if len(rows):
        srgb = np.median(picture[rows, columns, :3], 0)
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        shader.inputs["Base Color"].default_value = (*linear.tolist(), 1.0)
        material.diffuse_color = (*linear.tolist(), 1.0)
    return material


def _image(path: Path, name: str, *, space: str, pack: bool) -> bpy.types.Image:
    image = bpy.data.images.load(str(path))
    if not image.size[0]:
        raise InputError(f"{path.name} is damaged: it holds no picture.", "Make the head again.")
    image.name, image.colorspace_settings.name = name, space
    if pack:
        image.pack()
    return image


def _material(name: str, color: bpy.types.Image, normal: bpy.types.Image, roughness: float) -> bpy.types.Material:
    material, tree, shader = shaded(name, roughness)
    texture = node(tree, "ShaderNodeTexImage", (-340, 300))
    texture.image = color
    tree.links.new(texture.outputs["Color"], shader.inputs["Base Color"])
    bumps = node(tree, "ShaderNodeTexImage", (-640, -60))
    bumps.image = normal
    turned = node(tree, "ShaderNodeNormalMap", (-340, -60))
    turned.uv_map = "UVMap"
    tree.links.new(bumps.outputs["Color"], turned.inputs["Color"])
    tree.links.new(turned.outputs["Normal"], shader.inputs["Normal"])
    tree.nodes.active = texture  # what Solid view shows with textures
    return material


def _add_dense(head: bpy.types.Object, surface: HeadSurface, place: _Place, scene: bpy.types.Scene) -> bpy.types.Object:
    """The neural surface with its colours at vertices, hidden beside the head."""
    name = f"{head.name} Dense"
    data = mesh_of(name, surface.vertices * place.unit, surface.faces)
    colors = data.color_attributes.new(name="Color", type="BYTE_COLOR", domain="POINT")
    rgba = np.ones((len(surface.vertices), 4), np.float32)
    rgba[:, :3] = surface.colors / 255.0
    colors.data.foreach_set("color_srgb", np.ravel(rgba))
    data.normals_split_custom_set_from_vertices(surface.normals.tolist())
    material, tree, shader = shaded(name, _SKIN_ROUGHNESS)
    read = node(tree, "ShaderNodeVertexColor", (-340, 300))
    read.layer_name = "Color"
    tree.links.new(read.outputs["Color"], shader.inputs["Base Color"])
    data.materials.append(material)
    item = bpy.data.objects.new(name, data)
    place.collection.objects.link(item)
    item.parent, item.hide_render = head, True
    for layer in scene.view_layers:
        layer.update()  # so that it knows the object
        if item.name in layer.objects:
            item.hide_set(True, view_layer=layer)
    return item


def _mark(item: bpy.types.ID, portrait: Path | None) -> None:
    """Show a datablock in the Asset Browser, with its picture."""
    item.asset_mark()
    item.asset_data.description = "A head made from photos"
    item.asset_data.tags.new("head", skip_if_exists=True)
    if portrait is None:
        return
    picture = bpy.data.images.load(str(portrait))
    try:
        width, height = picture.size
        pixels = np.empty(width * height * 4, np.float32)
        picture.pixels.foreach_get(pixels)
        preview = item.preview_ensure()
        preview.image_size = width, height
        preview.image_pixels_float.foreach_set(pixels)
    finally:
        bpy.data.images.remove(picture)
