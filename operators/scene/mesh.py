"""Arrays to meshes with shape keys, and materials that need no picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from .compat import material_nodes

Array = np.ndarray


def mesh_of(name: str, vertices: Array, faces: Array) -> bpy.types.Mesh:
    """A smooth mesh of (V, 3) vertices and (F, K) faces, whose missing corners are -1 and stand last."""
    data = bpy.data.meshes.new(name)
    counts = (faces >= 0).sum(1)
    data.vertices.add(len(vertices))
    data.vertices.foreach_set("co", np.ravel(vertices).astype(np.float32))
    data.loops.add(int(counts.sum()))
    data.loops.foreach_set("vertex_index", faces[faces >= 0].astype(np.int32))
    data.polygons.add(len(faces))
    data.polygons.foreach_set("loop_start", (np.cumsum(counts) - counts).astype(np.int32))
    data.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    data.update(calc_edges=True)
    return data


def add_shape_keys(item: bpy.types.Object, vertices: Array, names: Sequence[str] | Array, offsets: Array) -> None:
    """Give an object keys of (V, 3) vertices moved by (S, V, 3) offsets, Blender units, all of them at nothing."""
    if item.data.shape_keys is None:
        item.shape_key_add(name="Basis", from_mix=False)
    for name, moved in zip(names, offsets, strict=True):
        key = item.shape_key_add(name=str(name), from_mix=False)
        key.data.foreach_set("co", np.ravel(vertices + moved).astype(np.float32))
        key.value = 0.0


def shaded(name: str, roughness: float) -> tuple[bpy.types.Material, bpy.types.NodeTree, Any]:
    """Make a material of one principled shader: itself, its nodes, and the shader."""
    material = bpy.data.materials.new(name)
    tree = material_nodes(material)
    tree.nodes.clear()
    shader = node(tree, "ShaderNodeBsdfPrincipled", (0, 300))
    shader.inputs["Roughness"].default_value = roughness
    output = node(tree, "ShaderNodeOutputMaterial", (300, 300))
    tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
    return material, tree, shader


def node(tree: bpy.types.NodeTree, kind: str, place: tuple[float, float]) -> Any:
    """Add a node at a place of the tree."""
    made: Any = tree.nodes.new(kind)
    made.location = place
    return made
