"""A batch for render managers: a job bundle of Open Job Description, and a job of Flamenco.

Both run the one command, `batch run MANIFEST --items A-B`, on machines that see the same files under the same or
mapped paths and have the environment. Nothing is decided here: what is done is skipped there.

Source: Open Job Description 2023-09 with the extension TASK_CHUNKING; Flamenco 3 job types.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ..protocol.client import ROOT
from ..protocol.errors import RequestError
from ..protocol.files import atomic_write_bytes
from .blenders import find_blender
from .manifest import Manifest

LAUNCHER = ROOT / "inference" / "launch.py"
JOB_TYPE = Path(__file__).with_name("understudy-batch.js")
DAY_S = 86_400
MAX_NAME = 128  # of a job, by the specification


def openjd(manifest: Manifest, out: Path, *, chunk: int, python: str = "", blender: str = "") -> Path:
    """Write a job bundle: `template.json`, `parameter_values.json` for submitters, `parameters.json` for `openjd run`.

    Args:
        chunk: items that one process takes, so that what it loaded is used again.
        python: the environment's interpreter on the farm's machines; "" for this one.
        blender: their Blender; "" for what is found here, where the batch is Blender's.
    Raises:
        RequestError: the bundle would lie in the results.
        ResourceError: the folder cannot be written.
    """
    if out.absolute() == manifest.output:
        raise RequestError(f"{out} holds the results", "Choose another folder.", field="out")
    values = {"Python": python or sys.executable, "Launcher": str(LAUNCHER), "Manifest": str(manifest.path)}
    if manifest.program == "blender":
        values["Blender"] = blender or find_blender("")[0]
    table = {"parameterValues": [{"name": name, "value": value} for name, value in values.items()]}
    _write(out / "template.json", _template(manifest, list(values), chunk))
    _write(out / "parameter_values.json", table)
    _write(out / "parameters.json", values)
    return out / "template.json"


def _template(manifest: Manifest, names: list[str], chunk: int) -> dict[str, Any]:
    items = {
        "name": "Item", "type": "CHUNK[INT]", "range": f"1-{len(manifest.items)}",
        "chunks": {"defaultTaskCount": chunk, "rangeConstraint": "CONTIGUOUS"},
    }  # fmt: skip
    # Words of a command, never of a shell: a path may hold anything.
    words = ["-E", "-s", "-X", "utf8", "{{Param.Launcher}}", "batch", "run", "{{Param.Manifest}}"]
    words += ["--items", "{{Task.Param.Item}}", "--progress", "openjd", "--with-parent"]
    words += ["--blender", "{{Param.Blender}}"] if "Blender" in names else []
    run = {"command": "{{Param.Python}}", "args": words, "timeout": DAY_S, "cancelation": _CANCEL}
    return {
        "specificationVersion": "jobtemplate-2023-09",
        "extensions": ["TASK_CHUNKING"],
        "name": f"Understudy {manifest.path.stem}"[:MAX_NAME],
        "parameterDefinitions": [_PARAMETERS[name] for name in names],
        "steps": [{
            "name": "Items",
            "parameterSpace": {"taskParameterDefinitions": [items]},
            "script": {"actions": {"onRun": run}},
        }],
    }  # fmt: skip


_CANCEL = {"mode": "NOTIFY_THEN_TERMINATE", "notifyPeriodInSeconds": 5}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "Python": {"name": "Python", "type": "STRING", "description": "Python of the inference environment."},
    "Launcher": {
        "name": "Launcher", "type": "PATH", "objectType": "FILE", "dataFlow": "NONE",
        "description": "inference/launch.py of the installed extension.",
    },
    "Manifest": {
        "name": "Manifest", "type": "PATH", "objectType": "FILE", "dataFlow": "NONE",
        "description": "The batch, on a disk that every machine sees.",
    },
    "Blender": {"name": "Blender", "type": "STRING", "description": "Blender, or a Python with bpy."},
}  # fmt: skip


def flamenco(manifest: Manifest, out: Path, *, chunk: int, python: str = "", blender: str = "") -> Path:
    """Write Flamenco's job type, for the folder `scripts` of its manager, and the job for its API.

    Raises:
        ResourceError: the folder cannot be written.
    """
    settings = {
        "manifest": str(manifest.path), "items": f"1-{len(manifest.items)}", "chunk_size": chunk,
        "python": python or sys.executable, "launcher": str(LAUNCHER),
        "blender": (blender or find_blender("")[0]) if manifest.program == "blender" else "",
    }  # fmt: skip
    job = {"name": f"Understudy {manifest.path.stem}", "type": "understudy-batch", "priority": 50, "settings": settings,
           "metadata": {"batch": manifest.digest}, "submitter_platform": _platform()}  # fmt: skip
    atomic_write_bytes(out / JOB_TYPE.name, JOB_TYPE.read_bytes())
    _write(out / "job.json", job)
    return out / "job.json"


def _platform() -> str:
    return {"win32": "windows", "darwin": "darwin"}.get(sys.platform, "linux")


def _write(file: Path, table: dict[str, Any]) -> None:
    atomic_write_bytes(file, json.dumps(table, indent=1).encode("ascii") + b"\n")


EXPORTS = {"openjd": openjd, "flamenco": flamenco}
