"""Heads as GLB files, read back by Blender's own importer."""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
from understudy.inference.core.formats import gltf
from understudy.tests.blender import heads


def _read(path):
    known = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=str(path))
    return next(item for item in bpy.data.objects if item not in known and item.type == "MESH")


def _cloud(data, count):
    flat = np.empty(count * 3, np.float32)
    data.foreach_get("co", flat)
    return flat.reshape(-1, 3)


def test_blender_reads_a_heads_places_shapes_materials_and_pictures(tmp_path):
    mesh = heads.head_mesh().placed()
    color = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    gltf.write(tmp_path / "head.glb", mesh, color, color[..., :3].copy())
    item = _read(tmp_path / "head.glb")
    blocks = item.data.shape_keys.key_blocks
    assert [block.name for block in blocks] == ["Basis", *heads.KEYS]
    assert [material.name.split(".")[0] for material in item.data.materials] == ["skin", "eye"]
    assert {tuple(node.image.size) for node in item.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE"} == {
        (8, 8)
    }
    count = len(item.data.vertices)
    rest = _cloud(blocks[0].data, count)
    nearest = np.linalg.norm(rest[:, None] - mesh.vertices, axis=2)
    assert nearest.min(1).max() < 1e-5
    vertex = nearest.argmin(1)
    for key, block in zip(mesh.shape_keys, blocks[1:], strict=True):
        np.testing.assert_allclose(_cloud(block.data, count) - rest, key[vertex], atol=1e-6)


def test_a_head_without_shapes_or_normals_is_a_file_too(tmp_path):
    mesh = heads.head_mesh().placed()
    none = np.zeros((0, len(mesh.vertices), 3), np.float32)
    mesh = replace(mesh, shape_keys=none, shape_key_names=np.array([], dtype="<U1"))
    gltf.write(tmp_path / "head.glb", mesh, np.full((4, 4, 3), 128, np.uint8))
    assert _read(tmp_path / "head.glb").data.shape_keys is None
