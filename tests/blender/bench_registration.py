"""Time what enabling the add-on costs, and print it as JSON: `python tests/blender/bench_registration.py`.

The first start compiles byte code, which Blender keeps; so the figures are of the second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

HEAVY = ("torch", "mediapipe", "cv2", "scipy", "numpy")


def measure() -> dict[str, object]:
    """Import and register the add-on in this process."""
    os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp()
    import bpy

    before = set(sys.modules)
    package = types.ModuleType("understudy")
    package.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["understudy"] = package
    start = time.perf_counter()
    from understudy import blender_addon

    imported = time.perf_counter()
    blender_addon.register()
    done = time.perf_counter()
    heavy = [name for name in HEAVY if name in sys.modules and name not in before]
    return {
        "blender": bpy.app.version_string, "import_ms": round(1e3 * (imported - start), 1),
        "register_ms": round(1e3 * (done - imported), 1), "heavy": heavy,
    }  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 1:
        subprocess.run([sys.executable, __file__, "warm"], capture_output=True, check=False)
    sys.stdout.write(json.dumps(measure()) + "\n")
    sys.stdout.flush()
    os._exit(0)
