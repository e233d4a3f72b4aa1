"""What Blender itself can do in a batch: one frozen request a task, as in `protocol/requests.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ..protocol.errors import RequestError
from ..protocol.schema import About

_KIND = Literal["blend", "bvh", "fbx", "gltf"]
_EXPORT = Literal["bvh", "fbx", "glb"]


@dataclass(frozen=True)
class ApplyItem:
    """A finished capture becomes a scene, and files of it."""

    capture: Annotated[Path, About("Folder of a finished job, or its body_motion.npz.")]
    blend: Annotated[Path | None, About("The file it is added to; without one, a new scene.")] = None
    kinds: Annotated[tuple[_KIND, ...], About("What is written.")] = ("blend",)
    take: Annotated[str, About("Name of the armature and its action.")] = ""
    frame_start: Annotated[int, About("Frame of the first sample.", -100_000, 1_000_000)] = 1
    rate: Annotated[Literal["scene", "clip", "frames"], About("How the clip's times become frames.")] = "scene"
    cameras: Annotated[bool, About("Create the cameras, with the footage behind them.")] = True


@dataclass(frozen=True)
class RetargetItem:
    """A performance is carried over to a character, and the character is written."""

    blend: Annotated[Path, About("The character's file.")]
    source: Annotated[tuple[Path, ...], About("A body_motion.npz, .bvh, .fbx, .glb, SMPL .npz, or a folder.")] = ()
    rig: Annotated[str, About("The character's armature; without it, the only one of the file.")] = ""
    mapping: Annotated[str, About("A preset's name; without it, the character's own.")] = ""
    export: Annotated[tuple[_EXPORT, ...], About("What is written besides the .blend.")] = ()

    def __post_init__(self) -> None:
        """Refuse nothing to carry over."""
        if not self.source:
            raise RequestError("no performance", "Give a source.", field="source")


@dataclass(frozen=True)
class ExportItem:
    """An armature of a file is written for other programs."""

    blend: Annotated[Path, About("The character's file.")]
    rig: Annotated[str, About("The armature; without it, the only one of the file.")] = ""
    kinds: Annotated[tuple[_EXPORT, ...], About("What is written.")] = ("fbx",)


@dataclass(frozen=True)
class RenderItem:
    """One frame of a file is rendered; with a capture, of the character as it performs it."""

    blend: Annotated[Path, About("The file with the character, the light and the cameras.")]
    frame: Annotated[int, About("The frame.", -100_000, 1_000_000)]
    capture: Annotated[Path | None, About("What is carried over to the character before.")] = None
    rig: Annotated[str, About("The character's armature; without it, the only one of the file.")] = ""
    camera: Annotated[str, About("The camera; without it, the scene's own.")] = ""
    engine: Annotated[
        Literal["file", "cycles", "eevee", "workbench"], About("What renders; file is what the file says.")
    ] = "file"
    size: Annotated[
        tuple[int, int] | None, About("Size of the picture; without it, the file's.", 4, 16384, "px", ("W", "H"))
    ] = None
    samples: Annotated[int | None, About("Samples of a pixel; without it, the file's.", 1, 65536)] = None
    seed: Annotated[int, About("What noise starts from, the same for each frame.", 0, 2**31 - 1)] = 0
    threads: Annotated[int, About("Processor threads; 0 takes all of this process.", 0, 1024)] = 0


BLENDER_TASKS: dict[str, type] = {
    "apply": ApplyItem,
    "retarget": RetargetItem,
    "export": ExportItem,
    "render": RenderItem,
}
