"""What all operators share: a border that errors do not cross, and grey buttons that say why."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import bpy

from ..inference.protocol.errors import InputError, UnderstudyError

LOG = logging.getLogger("understudy")
ROOT = str(__package__).rpartition(".")[0]  # the extension's module name, as Blender's preferences know it


class Guarded(bpy.types.Operator):
    """Base of operators: write `work`, and `reason` where the button can be grey."""

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Do the work; report a failure as a sentence and what to do about it."""
        try:
            return self.work(context)
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


def found_again(datablocks: Any, uid: int) -> Any:
    """Look up a datablock by its `session_uid`, which outlives undo and new names; None where it was deleted."""
    return next((item for item in datablocks if item.session_uid == uid), None)


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
