"""Set up inference: what it takes is shown first, nothing is fetched unasked, the old environment stays till then."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import EnumProperty, StringProperty

from ..inference.protocol import schema
from ..inference.protocol.errors import InputError, UnderstudyError
from .base import Guarded, ToFile, sentence
from .environment import environments_folder
from .scene.compat import PATH_OPTIONS
from .session import SESSION, Job, new_folder

if TYPE_CHECKING:
    from ..inference.setup import recipe

PATIENCE_S = 90.0  # for the doctor, while Blender waits
OFFLINE = "Blender is offline: allow online access in the preferences (System > Network), or give a folder of wheels"
_BACKENDS = (
    ("AUTO", "Automatic", "What the computer's driver allows"),
    ("CPU", "Processor", "Works everywhere, slower"),
    ("CUDA", "NVIDIA (CUDA)", "A card of NVIDIA's with a recent driver"),
    ("ROCM", "AMD (ROCm)", "A card of AMD's"),
    ("METAL", "Apple (Metal)", "An Apple processor"),
)


class UNDERSTUDY_OT_set_up_inference(Guarded):
    """Install the private environment that captures run in; shows size and disk first"""

    bl_idname = "understudy.set_up_inference"
    bl_label = "Set Up Inference"

    backend: EnumProperty(name="Computes on", description="What the networks run on", items=_BACKENDS)
    offline: StringProperty(
        name="Wheels",
        description="Folder of downloaded wheels; empty to download them",
        subtype="DIR_PATH",
        options={"SKIP_SAVE", *PATH_OPTIONS},
    )

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        return "Inference is being set up" if running() else ""

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Show what will happen before it does."""
        return context.window_manager.invoke_props_dialog(self, width=460, confirm_text="Install")

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the choices and what they take."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.prop(self, "backend")
        layout.prop(self, "offline", placeholder="Download")
        column = layout.column(align=True)
        for line in what_it_takes(self.backend):
            column.label(text=line)
        if not self.offline and not is_online():
            column.label(text="Blender is offline: give a folder of wheels, or allow online access.", icon="ERROR")

    def work(self, context: bpy.types.Context) -> set[str]:
        """Start; the timer follows it, and background mode waits for it."""
        if not self.offline and not is_online():
            raise InputError(f"{OFFLINE}.")
        offline = Path(bpy.path.abspath(self.offline)) if self.offline else None
        if offline is not None and not offline.is_dir():
            raise InputError(f"There is no folder {offline}.")
        job = start(self.backend.lower(), offline)
        if bpy.app.background:
            SESSION.wait(job)
            job.raise_failure()
        return {"FINISHED"}


def is_online() -> bool:
    """Whether Blender may use the network; the test can go with 4.2, which asks too."""
    return bool(getattr(bpy.app, "online_access", True))


def what_it_takes(backend: str) -> list[str]:
    """Say what would be installed, how large it is and where it goes; or why it cannot be."""
    from ..inference.setup import recipe

    folder = environments_folder()
    try:
        choice = recipe.choose(recipe.read_recipe(), backend.lower(), _hardware())
        lines = [recipe.describe(choice)]
        lines.append(f"{recipe.check_disk(folder, choice.option) / 1000:.1f} GB are free in {folder}")
    except UnderstudyError as error:
        return [sentence(error)]
    return lines


_SEEN: dict[str, tuple[float, recipe.Hardware]] = {}


def _hardware() -> recipe.Hardware:
    """Look once a minute: a dialog is drawn often, and the driver answers slowly."""
    from ..inference.setup import recipe

    seen_at, hardware = _SEEN.get("", (0.0, None))
    if hardware is None or time.monotonic() - seen_at > 60:
        hardware = recipe.look()
        _SEEN[""] = (time.monotonic(), hardware)
    return hardware


def start(backend: str, offline: Path | None) -> Job:
    """Start the set-up in a process of Blender's own Python.

    Raises:
        UnderstudyError: it cannot be started.
    """
    from ..inference.setup.install import SetupRequest

    request = schema.decode(
        SetupRequest, {"into": environments_folder(), "backend": backend, "offline": offline}, "setup"
    )  # fmt: skip
    words = ["setup", "--into", str(request.into), "--backend", backend]
    words += ["--offline", str(offline)] if offline else []
    folder = new_folder("setup")
    return SESSION.launch("setup", [*words, "--job", str(folder)], folder)


def running() -> Job | None:
    """Give the set-up that runs."""
    return next((job for job in SESSION.jobs if job.task == "setup" and job.is_running), None)


class UNDERSTUDY_OT_save_support_bundle(Guarded, ToFile):
    """Write a zip for a bug report: findings, versions and logs; no pictures, no motion, no names"""

    bl_idname = "understudy.save_support_bundle"
    bl_label = "Save Support Bundle"

    filter_glob: StringProperty(default="*.zip", options={"HIDDEN"})

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest a name."""
        return "understudy-support"

    def endings(self) -> tuple[str, ...]:
        """Give the ending of bundles."""
        return (".zip",)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Let the doctor write it; where no environment works, Blender's own Python does."""
        import subprocess
        import sys

        from ..inference.protocol.client import ROOT, clean_environment, command_line
        from .environment import find_python, output_folder

        try:
            python = str(find_python())
        except UnderstudyError:
            python = sys.executable
        path = self.file()
        before = path.stat().st_mtime_ns if path.is_file() else 0
        words = ["doctor", "--bundle", str(path), "--jobs", str(output_folder())]
        try:
            run = subprocess.run(
                command_line(python, *words), cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL,
                capture_output=True, timeout=PATIENCE_S, check=False,
            )  # fmt: skip
            said = run.stderr.decode("utf-8", "replace")[-300:].strip()
        except subprocess.TimeoutExpired:
            said = f"The doctor had not looked at everything after {PATIENCE_S:g} s."
            self.report({"WARNING"}, said)
        except OSError as error:
            said = f"{python} does not start: {error.strerror}."
        if not path.is_file() or path.stat().st_mtime_ns == before:
            raise InputError(f"It was not written: {said}")
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


CLASSES = (UNDERSTUDY_OT_set_up_inference, UNDERSTUDY_OT_save_support_bundle)
