"""Batches from the sidebar: a folder of clips and photos, or a batch that was planned, run beside the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from ..inference.protocol.errors import InputError
from .base import Guarded
from .environment import find_python
from .session import SESSION, Job, new_folder

NAME = "understudy_batch.json"


class UNDERSTUDY_OT_run_batch(Guarded, ImportHelper):
    """Do what is not done yet of a batch: captures, heads, retargeting, exports or frames"""

    bl_idname = "understudy.run_batch"
    bl_label = "Run Batch"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})
    retry_failed: BoolProperty(name="Retry Failed", description="Also do items again that failed before")

    def work(self, context: bpy.types.Context) -> set[str]:
        """Start it; the job list follows it, and background mode waits for it."""
        return _follow(start(Path(bpy.path.abspath(self.filepath)), retry_failed=self.retry_failed))


class UNDERSTUDY_OT_batch_folder(Guarded):
    """Capture every clip of a folder and make a head of every photo; results go beside them"""

    bl_idname = "understudy.batch_folder"
    bl_label = "Batch a Folder"

    directory: StringProperty(subtype="DIR_PATH", options={"SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for the folder."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Plan, then start."""
        from ..inference.batch.manifest import write_manifest
        from ..inference.batch.plan import Wishes, plan

        folder = Path(bpy.path.abspath(self.directory))
        if not self.directory or not folder.is_dir():
            raise InputError(f"There is no folder {self.directory or '(none is named)'}.")
        rows = plan("clips", [folder], Wishes())
        manifest = write_manifest(folder / NAME, "inference", folder / "understudy results", rows, overwrite=True)
        return _follow(start(manifest.path, retry_failed=False))


def start(path: Path, *, retry_failed: bool) -> Job:
    """Run a batch in a process of its own.

    Raises:
        UnderstudyError: it is no batch, or there is no environment.
    """
    from ..inference.batch.manifest import read_manifest

    manifest = read_manifest(path)
    folder = new_folder("batch")
    words = ["batch", "run", str(manifest.path), "--progress", "none", "--job", str(folder)]
    words += ["--retry-failed"] if retry_failed else []
    if manifest.program == "blender" and bpy.app.binary_path:
        words += ["--blender", bpy.app.binary_path]
    return SESSION.launch("batch", words, folder, python=str(find_python()))


def _follow(job: Job) -> set[str]:
    if bpy.app.background:
        SESSION.wait(job)
        job.raise_failure()
    return {"FINISHED"}


CLASSES: tuple[Any, ...] = (UNDERSTUDY_OT_run_batch, UNDERSTUDY_OT_batch_folder)
