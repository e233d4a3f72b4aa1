"""Every difference between Blender versions, each with the version after which it can go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

_TIMING = {
    "content_start": "frame_start", "left_handle": "frame_final_start", "left_handle_offset": "frame_offset_start",
    "right_handle": "frame_final_end", "duration": "frame_final_duration",
}  # fmt: skip


class Curves:
    """The F-curves of one datablock in one action.

    Until 4.3 an action holds them itself; from 4.4 on a slot has its channelbag. The first branch can go with 4.2.
    The slot is the one of the datablock's name; one like `played`, where the action is a copy of what that is of.
    """

    def __init__(self, datablock: bpy.types.ID, action: bpy.types.Action, played: Any = None) -> None:
        animation = datablock.animation_data or datablock.animation_data_create()
        like = played.identifier if played is not None else ""
        animation.action = action
        self._owner: Any = action if not hasattr(action, "slots") else _channelbag(datablock, action, like)
        self._layered = hasattr(action, "slots")

    def __iter__(self) -> Any:
        return iter(self._owner.fcurves)

    def remove(self, curve: bpy.types.FCurve) -> None:
        """Take an F-curve away."""
        self._owner.fcurves.remove(curve)

    def new(self, path: str, index: int, group: str) -> bpy.types.FCurve:
        """Add an empty F-curve; a second one for the same path and index is an error of ours."""
        if not self._layered:
            return self._owner.fcurves.new(path, index=index, action_group=group)
        curve = self._owner.fcurves.new(path, index=index)
        if group:
            curve.group = self._owner.groups.get(group) or self._owner.groups.new(group)
        return curve


def _channelbag(datablock: bpy.types.ID, action: bpy.types.Action, like: str) -> Any:
    animation, fitting = datablock.animation_data, [s for s in action.slots if s.target_id_type == datablock.id_type]
    slot = next((s for s in fitting if s.identifier == like), None)
    slot = slot or next((s for s in fitting if s.identifier[2:] == datablock.name), None)
    slot = slot or action.slots.new(id_type=datablock.id_type, name=datablock.name)
    animation.action_slot = slot  # an empty action assigns none by itself
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(slot, ensure=True)


def turns_left(film: Path) -> int:
    """Quarter turns, counter-clockwise, that Blender leaves to be made of a film: all until 4.3, so it can go then."""
    from ...inference.core.formats.turned import quarter_turns

    return 0 if bpy.app.version >= (4, 4) else quarter_turns(film)


def action_slot(animation: bpy.types.AnimData) -> Any:
    """The slot of the action that is played; None where there is none, or no slots. The test can go with 4.2."""
    return getattr(animation, "action_slot", None)


def assign_action(animation: bpy.types.AnimData, action: bpy.types.Action | None, slot: Any) -> None:
    """Let an action, and a slot of it, be played."""
    animation.action = action
    if slot is not None:
        animation.action_slot = slot


def curves_in(action: bpy.types.Action, datablock: bpy.types.ID) -> list[bpy.types.FCurve]:
    """F-curves that an action holds for a datablock; nothing is assigned. The first branch can go with 4.2.

    The slot is the one that is in use, else the one of the datablock's name, else the first of its kind.
    """
    if not hasattr(action, "slots"):
        return list(action.fcurves)
    animation = datablock.animation_data
    used = animation.action_slot if animation and animation.action == action else None
    fitting = [slot for slot in action.slots if slot.target_id_type in (datablock.id_type, "UNSPECIFIED")]
    named = [slot for slot in fitting if slot.identifier[2:] == datablock.name]
    slot = used or next(iter(named or fitting), None)
    if slot is None:
        return []
    bags = [strip.channelbag(slot) for layer in action.layers for strip in layer.strips if strip.type == "KEYFRAME"]
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def import_fbx(path: str) -> set[str]:
    """Import an FBX file. Blender's own reader is there from 4.5 on, and reads text too; the other can go with 4.2."""
    if "fbx_import" in dir(bpy.ops.wm):
        return bpy.ops.wm.fbx_import(filepath=path)
    return bpy.ops.import_scene.fbx(filepath=path, use_image_search=False)


# Paths that may begin with "//" must say so where Blender can hear it. The test can go with 4.2.
PATH_OPTIONS = (
    {"PATH_SUPPORTS_BLEND_RELATIVE"}
    if "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties
    else set()
)


def set_movie_output(settings: bpy.types.ImageFormatSettings, *, movie: bool) -> None:
    """Choose H.264 or PNG output; from 5.0 on the medium is chosen first. The test can go with 4.5."""
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO" if movie else "IMAGE"
    settings.file_format = "FFMPEG" if movie else "PNG"


def eevee_name() -> str:
    """What EEVEE is called. The test can go with 4.5."""
    return "BLENDER_EEVEE" if bpy.app.version >= (5, 0, 0) else "BLENDER_EEVEE_NEXT"


def material_nodes(material: bpy.types.Material) -> bpy.types.NodeTree:
    """The nodes of a material; from 5.0 on every material has some. The test can go with 4.5."""
    if material.node_tree is None:
        material.use_nodes = True
    return material.node_tree


def registered_properties(item: Any) -> Any:
    """Where add-ons' own properties are kept, also of add-ons that are off; apart from a user's from 5.0 on."""
    own = getattr(item, "bl_system_properties_get", None)
    return item if own is None else own(do_create=True)


def shown_tab(area: bpy.types.Area) -> str:
    """Name of the sidebar's tab that is open in an area; empty where the sidebar is closed, or cannot say (4.2)."""
    region = next((region for region in area.regions if region.type == "UI"), None)
    if region is None or region.width <= 1:
        return ""
    try:
        return str(getattr(region, "active_panel_category", ""))
    except AttributeError:
        return ""


def strips_of(scene: bpy.types.Scene) -> Any:
    """The strips of a scene's sequencer, which is made where there is none. The second name can go with 4.2."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def timing(strip: Any, name: str) -> float:
    """Frames by which a strip of the sequencer is placed, by the names of 5.2. The old ones can go with 5.0."""
    return getattr(strip, name if hasattr(strip, name) else _TIMING[name])


def place_strip(strip: Any, **places: float) -> None:
    """Set some of what `timing` gives, in their order."""
    for name, value in places.items():
        setattr(strip, name if hasattr(strip, name) else _TIMING[name], value)


def compositor_nodes(scene: bpy.types.Scene) -> tuple[Any, Any, bool]:
    """The nodes of a scene's compositor, the node that gives the picture, and whether both were made just now.

    From 5.0 on they are a group of their own; the second branch can go with 4.5.
    """
    if hasattr(scene, "compositing_node_group"):
        tree, is_new = scene.compositing_node_group, scene.compositing_node_group is None
        if tree is None:
            tree = bpy.data.node_groups.new(f"{scene.name} Compositor", "CompositorNodeTree")
            tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
            scene.compositing_node_group = tree
        kind = "NodeGroupOutput"
    else:
        is_new, scene.use_nodes = not scene.use_nodes, True
        tree, kind = scene.node_tree, "CompositorNodeComposite"
        if is_new:
            tree.nodes.clear()
    output = next((node for node in tree.nodes if node.bl_idname == kind), None) or tree.nodes.new(kind)
    return tree, output, is_new


def over_sockets(node: Any) -> tuple[Any, Any]:
    """What lies below and what lies above in an Alpha Over node. The names of before can go with 4.5."""
    named = node.inputs.get("Background"), node.inputs.get("Foreground")
    return named if all(named) else (node.inputs[1], node.inputs[2])
