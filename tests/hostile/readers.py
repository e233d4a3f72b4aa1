"""Reads files of the corpus as the product does, one JSON line each: `python -m tests.hostile.readers KIND FOLDER`.

Where the process dies, the file that it was at is the last line without a result.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from inference.protocol.errors import UnderstudyError

LIMIT_BYTES = 6 << 30  # of addresses, for a machine's sake; what counts is the memory that was touched


def _film(path: Path) -> None:
    from inference.runtime.video import probe, read_frames

    claimed = probe(path).frames
    seen = sum(1 for _ in read_frames(path))
    if seen < claimed:  # what the capture says of it, as a warning
        raise UnderstudyError(f"{seen} of {claimed} frames")


def _request(path: Path) -> None:
    from inference.protocol.folder import JobFolder

    folder = JobFolder(path.parent)
    folder.request = path
    folder.read_order()


def _batch(path: Path) -> None:
    from inference.batch.manifest import read_manifest

    manifest = read_manifest(path)
    for item in manifest.items:
        manifest.request(item)


def _checkpoint(path: Path) -> None:
    from inference.runtime.convert import convert_here

    convert_here(path, Path("converted.safetensors"))


def _keypoints(path: Path) -> None:
    from inference.core.formats.keypoints2d import read_keypoints

    read_keypoints(path, image_size=(640, 480), fps=30)


def _artifact(path: Path) -> None:
    from inference.core.artifacts import BodyMotion

    BodyMotion.load(path)


def _blender(path: Path) -> None:
    """All the way: through the guard and Blender's reader to a performance."""
    if "understudy" not in sys.modules:  # as tests/conftest.py makes it
        sys.modules["understudy"] = types.ModuleType("understudy")
        sys.modules["understudy"].__path__ = [str(Path(__file__).resolve().parents[2])]
    from understudy.inference.protocol import errors
    from understudy.operators.scene.source import import_source

    try:
        import_source(path)
    except errors.UnderstudyError as error:
        raise UnderstudyError(error.message, error.hint) from error


OWN = {
    "film": _film, "request": _request, "batch": _batch, "checkpoint": _checkpoint, "keypoints": _keypoints,
    "points": _keypoints, "artifact": _artifact, "blender_bvh": _blender, "blender_fbx": _blender,
}  # fmt: skip
PLAIN = {
    "calibration": "inference.core.formats.calibration:read_calibration",
    "markers": "inference.core.formats.markers:read_markers",
    "smpl": "inference.core.formats.smpl:read_smpl",
    "mapping": "inference.core.mapping.presets:read_mapping",
    "photo": "inference.sight.photos:read_photo",
    "weights": "inference.nets:load",
    "gltf": "inference.core.formats.gltf_guard:check_gltf",
    "bvh": "inference.core.formats.bvh_guard:check_bvh",
    "fbx": "inference.core.formats.fbx_guard:check_fbx",
}


def reader(kind: str) -> Callable[[Path], Any]:
    """Import what reads a kind of file."""
    if kind in OWN:
        return OWN[kind]
    module, _, name = PLAIN[kind.partition("_")[0]].partition(":")
    return getattr(importlib.import_module(module), name)


def speak() -> TextIO:
    """Give a way to stdout that is kept from what libraries print there."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return own


def peak_bytes() -> int:
    """The most memory that this process has held since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main(kind: str, folder: Path) -> None:
    read = reader(kind)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    with speak() as out:
        for path in sorted(folder.iterdir()):
            print(json.dumps({"file": path.name}), flush=True, file=out)
            print(json.dumps(_found(read, path)), flush=True, file=out)


def _found(read: Callable[[Path], Any], path: Path) -> dict[str, Any]:
    """Read one file; say how that went, how long it took and what memory."""
    forget_peak()
    base, start = peak_bytes(), time.process_time()  # a busy machine is no failure
    try:
        read(path)
        outcome, message = "read", ""
    except UnderstudyError as error:
        outcome, message = "refused", error.message
    except BaseException as error:  # noqa: BLE001 - which is the finding
        outcome, message = "escaped", f"{type(error).__name__}: {error}"[:300]
    seconds, peak = time.process_time() - start, peak_bytes() - base
    return {"file": path.name, "outcome": outcome, "message": message[:300], "seconds": seconds, "bytes": peak}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
