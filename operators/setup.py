"""Set up inference: what it takes is shown first, nothing is fetched unasked, the old environment stays till then."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
from bpy.props import EnumProperty, StringProperty

from ..inference.protocol import schema
from ..inference.protocol.errors import InputError, UnderstudyError
from .base import Guarded, ToFile, sentence
from .environment import Run, environments_folder, find_python, output_folder
from .scene.compat import PATH_OPTIONS
from .session import SESSION, Job, new_folder

if TYPE_CHECKING:
    from ..inference.setup import recipe

PATIENCE_S = 90.0  # for the doctor
_LOOK_S = 0.1
_LATE = "The doctor had not looked at everything after {:g} s."
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
    _timer: bpy.types.Timer | None = None

    def proposed(self, context: bpy.types.Context) -> str:
        """Suggest a name."""
        return "understudy-support"

    def endings(self) -> tuple[str, ...]:
        """Give the ending of bundles."""
        return (".zip",)

    def work(self, context: bpy.types.Context) -> set[str]:
        """Let the doctor write it, while Blender goes on; where no environment works, Blender's own Python does."""
        try:
            python = find_python()
        except InputError:
            python = Path(sys.executable)
        self._writing = _Writing.start(python, self.file())
        if bpy.app.background or context.window is None:
            while (path := self._writing.result()) is None:
                time.sleep(_LOOK_S)
            return self._wrote(path)
        self._timer = context.window_manager.event_timer_add(_LOOK_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set("The doctor looks at what the bundle is to say. Esc: stop")
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Let everything pass but Esc, until the bundle is there."""
        is_left = event.type == "ESC" and event.value == "PRESS"
        done = self.guard(self._look, context) if event.type == "TIMER" and not is_left else {"PASS_THROUGH"}
        if not is_left and done == {"PASS_THROUGH"}:
            return done
        self.cancel(context)
        return {"CANCELLED"} if is_left else done

    def cancel(self, context: bpy.types.Context) -> None:
        """End the doctor, where the window was closed, too."""
        if self._timer is not None:  # none while the file browser is open
            self._writing.stop()
            context.window_manager.event_timer_remove(self._timer)
            context.workspace.status_text_set(None)
        self._timer = None

    def _look(self, context: bpy.types.Context) -> set[str]:
        path = self._writing.result()
        return {"PASS_THROUGH"} if path is None else self._wrote(path)

    def _wrote(self, path: Path) -> set[str]:
        if self._writing.is_late:
            self.report({"WARNING"}, _LATE.format(PATIENCE_S))
        self.report({"INFO"}, f"Wrote {path}")
        return {"FINISHED"}


@dataclass
class _Writing:
    """A run of `python -m inference doctor --bundle` that does not hold Blender up."""

    run: Run
    path: Path
    before_ns: int
    deadline: float
    is_late: bool = False

    @classmethod
    def start(cls, python: Path, path: Path) -> _Writing:
        """Begin to write.

        Raises:
            InputError: `python` is not a program.
        """
        words = ("--bundle", str(path), "--jobs", str(output_folder()))
        run = Run.start(python, "doctor", *words)
        return cls(run, path, _modified_ns(path), time.monotonic() + PATIENCE_S)

    def result(self) -> Path | None:
        """Give the bundle, once it is written; None before.

        Raises:
            InputError: it was not written.
        """
        ended = self.run.result()
        if ended is None and time.monotonic() < self.deadline:
            return None
        self.is_late = ended is None
        if ended is None:
            self.run.close()
        if _modified_ns(self.path) == self.before_ns:
            said = _LATE.format(PATIENCE_S) if ended is None else ended[2][-300:].strip()
            raise InputError(f"It was not written: {said}")
        return self.path

    def stop(self) -> None:
        """End it early."""
        self.run.close()


def _modified_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


CLASSES = (UNDERSTUDY_OT_set_up_inference, UNDERSTUDY_OT_save_support_bundle)
