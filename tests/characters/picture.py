"""One capture on three characters, beside its footage: the picture in the README.

    python -m tests.characters.picture JOB docs/retarget.png [--frame 40]

JOB is a finished capture of `inference/demo` with its calibration.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import av
import bpy
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = (
    ("Rigify", ("--rig", "default", "--height", "0.4"), True),
    ("Mixamo", ("--rig", "mixamo", "--gender", "1", "--height", "0.5"), False),
    ("Child", ("--rig", "game_engine", "--age", "0.2"), False),
)
_SKY = (0.62, 0.66, 0.72)
_CROP = (slice(90, 690), slice(60, 460))  # rows and columns around the person


def main() -> None:
    """Build, retarget, render, and lay side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frame", type=int, default=12)
    parser.add_argument("--blend", type=Path, help="keep the scene")
    options = parser.parse_args()
    package = types.ModuleType("understudy")
    package.__path__ = [str(ROOT)]
    sys.modules["understudy"] = package
    bpy.ops.wm.read_homefile(use_empty=True)
    with tempfile.TemporaryDirectory() as folder:
        pictures = [_footage(ROOT / "inference" / "demo" / "front.mp4", options.frame)]
        pictures += _characters(options.job, options.frame, Path(folder))
    if options.blend:
        bpy.ops.wm.save_as_mainfile(filepath=str(options.blend.absolute()), copy=True)
    _save(np.concatenate([picture[_CROP] for picture in pictures], axis=1), options.out)


def _footage(film: Path, frame: int) -> np.ndarray:
    with av.open(str(film)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if index == frame - 1:
                return picture.to_ndarray(format="rgb24")
    raise SystemExit(f"{film} has no frame {frame}.")


def _characters(job: Path, frame: int, folder: Path) -> list[np.ndarray]:
    from understudy.inference.core.artifacts import BodyMotion
    from understudy.inference.core.mapping.mapper import map_rig
    from understudy.inference.core.retarget import Retargeter
    from understudy.inference.core.rig import performance_of
    from understudy.inference.core.timing import place
    from understudy.inference.protocol.retarget import RetargetSettings
    from understudy.operators.scene.bake import bake
    from understudy.operators.scene.rig import read_character
    from understudy.operators.scene.take import TakeOptions, create_take
    from understudy.tests.characters.scene import build

    scene = bpy.context.scene
    scene.render.fps = 30
    motion = BodyMotion.load(job / "artifacts" / "body_motion.npz")
    take = create_take(motion, TakeOptions("Take", footage=False), scene)
    _prepare(scene, bpy.data.objects[take.cameras[0]])
    performance = performance_of(motion)
    rigs = []
    for name, shape, rigify in PEOPLE:
        body = folder / f"{name}.npz"
        subprocess.run([sys.executable, "-m", "tests.characters.body", body, *shape], check=True, cwd=ROOT)
        rig = build(body, name, rigify=rigify)
        character = read_character(rig)
        mapping = map_rig(character.rig, deform=character.deform, held=character.held).mapping
        character = read_character(rig, mapping)
        settings = RetargetSettings()
        result = Retargeter(performance, character.rig, mapping).solve(settings)
        bake(character, result, settings, place(performance.times, scene_fps=30, start=1, rate="SCENE"), name=name)
        rigs.append(rig)
    for item in bpy.data.objects:
        item.hide_render = item.type != "MESH" or item.parent not in rigs
    return [_render(scene, rig, rigs, frame, folder) for rig in rigs]


def _prepare(scene: bpy.types.Scene, camera: bpy.types.Object) -> None:
    scene.camera = camera
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.resolution_x, scene.render.resolution_y = 540, 720
    scene.view_settings.view_transform = "Standard"
    shading = scene.display.shading
    shading.light, shading.color_type, shading.background_type = "STUDIO", "MATERIAL", "WORLD"
    shading.show_shadows = shading.show_cavity = True
    scene.world = bpy.data.worlds.new("Sky")
    scene.world.color = _SKY
    floor = bpy.data.meshes.new("Floor")
    floor.from_pydata([(-40, -40, 0), (40, -40, 0), (40, 40, 0), (-40, 40, 0)], [], [(0, 1, 2, 3)])
    floor.materials.append(bpy.data.materials.new("Floor"))
    floor.materials[0].diffuse_color = (0.80, 0.78, 0.76, 1.0)
    scene.collection.objects.link(bpy.data.objects.new("Floor", floor))


def _render(scene: bpy.types.Scene, rig: bpy.types.Object, rigs: list, frame: int, folder: Path) -> np.ndarray:
    for item in bpy.data.objects:
        if item.type == "MESH":
            item.hide_render = item.parent in rigs and item.parent != rig
    scene.frame_set(frame)
    scene.render.filepath = str(folder / f"{rig.name}.png")
    bpy.ops.render.render(write_still=True)
    with av.open(scene.render.filepath) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def _save(picture: np.ndarray, path: Path) -> None:
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = picture.shape[0], picture.shape[1], "rgb24"
        for packet in stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
            container.mux(packet)
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
