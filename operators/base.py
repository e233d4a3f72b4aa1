"""What all operators share: a border that errors do not cross, grey buttons that say why, files that are asked for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ExportHelper

from ..inference.protocol.errors import InputError, UnderstudyError
from .scene.compat import PATH_OPTIONS

LOG = logging.getLogger("understudy")
ROOT = str(__package__).rpartition(".")[0]  # the extension's module name, as Blender's preferences know it


class Guarded(bpy.types.Operator):
    """Base of operators: write `work`, and `reason` where the button can be grey."""

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Do the work; report a failure as a sentence and what to do about it."""
        return self.guard(self.work, context)

    def guard(self, step: Callable[[bpy.types.Context], set[str]], context: bpy.types.Context) -> set[str]:
        """Do a step of the work, as `execute` does all of it."""
        try:
            return step(context)
        except UnderstudyError as error:
            LOG.info("%s", error)
            self.report({"ERROR"}, sentence(error))
        except Exception as error:
            LOG.exception("bug in %s", type(self).__name__)
            self.report({"ERROR"}, f"Unexpected {type(error).__name__}: {error}. The console holds the details.")
        return {"CANCELLED"}

    def work(self, context: bpy.types.Context) -> set[str]:
        """Return {'FINISHED'}, or {'CANCELLED'} with nothing changed."""
        raise NotImplementedError

    @classmethod
    def reason(cls, context: bpy.types.Context) -> str:
        """Say why the button is grey, without a full stop; nothing where it is not. No work here."""
        return ""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Tell Blender whether the button works, and the user why it does not."""
        reason = cls.reason(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason


class Told:
    """The progress at the mouse pointer."""

    def __init__(self, total: int) -> None:
        self._total = total

    def __enter__(self) -> Any:
        bpy.context.window_manager.progress_begin(0, self._total)
        return lambda done, total: bpy.context.window_manager.progress_update(done)  # noqa: ARG005

    def __exit__(self, *error: object) -> None:
        bpy.context.window_manager.progress_end()


def sentence(error: UnderstudyError) -> str:
    """What happened and what to do, in one line."""
    return f"{error.message} {error.hint}".strip()


def file_name(text: str) -> str:
    """Make a name that every system takes for a file's; letters of any script and spaces stay."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", text).strip(" .") or "_"


class ToFile(ExportHelper):
    """What operators share that write one file; mix it in after `Guarded`.

    The browser shows the name as it will be written, and warns where such a file is.
    """

    filepath: StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE", *PATH_OPTIONS})

    def proposed(self, context: bpy.types.Context) -> str:
        """Give a name for the file, which needs no ending."""
        raise NotImplementedError

    def endings(self) -> tuple[str, ...]:
        """Give the ending of what is written, then those of other formats, which it replaces."""
        raise NotImplementedError

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask where to."""
        self.filepath = self.filepath or self.proposed(context)
        self.check(context)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def check(self, context: bpy.types.Context) -> bool:
        """Give the name in the browser its ending; tell whether it was another."""
        before, self.filepath = self.filepath, with_ending(self.filepath, self.endings())
        return self.filepath != before

    def file(self) -> Path:
        """Give the file that was named, with its ending.

        Raises:
            InputError: none was.
        """
        if not bpy.path.basename(self.filepath):
            raise InputError("No file is named.", "Give a folder and a name.")
        return Path(bpy.path.abspath(with_ending(self.filepath, self.endings())))


def with_ending(path: str, endings: Sequence[str]) -> str:
    """Put the first of some endings behind a path, in place of any of the others; a path without a name stays."""
    name = bpy.path.basename(path)
    known = max((ending for ending in endings if name.lower().endswith(ending)), key=len, default="")
    bare = path[: len(path) - len(known)]
    return bare + endings[0] if bpy.path.basename(bare) else path


def chosen_files(operator: Any) -> list[Path]:
    """Files that were chosen in the file browser, or dropped.

    Raises:
        InputError: none was.
    """
    names = [element.name for element in operator.files if element.name]
    if names:
        return [Path(operator.directory, name) for name in names]
    if operator.filepath:
        return [Path(bpy.path.abspath(operator.filepath))]
    raise InputError("No file was chosen.")


def preference(name: str, default: Any = None) -> Any:
    """Read a setting of the extension's preferences; `default` where they are not registered."""
    addon = bpy.context.preferences.addons.get(ROOT)
    return getattr(addon.preferences, name, default) if addon and addon.preferences else default
