"""Run `understudy` commands without installing the extension, in Blender or in its Python module.

    blender -b --factory-startup --python-exit-code 1 --python blender_addon/headless.py -- batch run MANIFEST
    python blender_addon/headless.py batch run MANIFEST       a Python that has the module bpy

Factory settings hold no preferences and no other add-ons, so the same file gives the same result everywhere.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path

NAME = "understudy_headless"


def main() -> int:
    """Register this copy of the extension, run the command, and give its exit code."""
    package = types.ModuleType(NAME)
    package.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules[NAME] = package
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    importlib.import_module(f"{NAME}.blender_addon").register()
    return importlib.import_module(f"{NAME}.blender_addon.commands").run(words)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the module may crash or hang on its way out
