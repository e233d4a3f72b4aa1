"""Pictures of jobs as icons that panels can draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy.utils.previews


class Thumbnails:
    """Icons of picture files; Blender reads a file once, when its icon is first drawn."""

    def __init__(self) -> None:
        self._icons: Any = None

    def open(self) -> None:
        """Begin with the registration."""
        self._icons = bpy.utils.previews.new()

    def close(self) -> None:
        """Forget all icons."""
        if self._icons is not None:
            bpy.utils.previews.remove(self._icons)
            self._icons = None

    def icon(self, path: Path) -> int:
        """Give the number of a file's icon; 0 where there can be none."""
        if self._icons is None:
            return 0
        key = str(path)
        if key not in self._icons:
            self._icons.load(key, key, "IMAGE")
        return int(self._icons[key].icon_id)


THUMBNAILS = Thumbnails()
