"""The demo's truth as inputs of the whole road, and ways to walk it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from understudy.tests.openpose_files import write_openpose

from inference.core.artifacts import Keypoints2D
from inference.core.skeletons import OPENPOSE_137
from inference.protocol.events import Event
from inference.protocol.folder import JobFolder, new_run_id
from inference.protocol.requests import TASKS, MotionRequest, Order
from inference.runtime.worker import run_job

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "inference/demo"
VIEWS = ("front", "side")
CALIBRATION = DEMO / "demo.toml"
SIZE = (540, 720)
FPS = 30.0
FRAMES = 30
NO_WEIGHTS = "inference/weights/lifter.safetensors is missing: the road of one camera is NOT tested"


def truth() -> dict[str, Any]:
    """`positions` (96, 137, 3) m, `positions_px` (2, 96, 137, 2), and the header."""
    with np.load(DEMO / "truth.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {**arrays, "header": json.loads(str(arrays["header"]))}


def true_view(index: int, frames: slice = slice(0, FRAMES)) -> Keypoints2D:
    """What a perfect detector would see in one view of the demo."""
    points = np.array(truth()["positions_px"][index][frames], float)
    seen = np.isfinite(points).all(axis=-1)
    header = {
        "unit": "px", "frame": "image", "fps": FPS, "skeleton": "openpose137", "joints": list(OPENPOSE_137),
        "image_size": list(SIZE),
    }  # fmt: skip
    return Keypoints2D(header, points, np.where(seen, 0.9, 0.0), np.arange(len(points)) / FPS)


def write_views(folder: Path, frames: slice = slice(0, FRAMES)) -> tuple[Path, ...]:
    """Both views as folders of OpenPose files, called after their cameras."""
    for index, name in enumerate(VIEWS):
        write_openpose(folder / name, true_view(index, frames), stem=name)
    return tuple(folder / name for name in VIEWS)


def from_keypoints(folders: Sequence[Path], **settings: Any) -> MotionRequest:
    """A request for keypoint folders of the demo; without an overlay, which costs the most."""
    given = {"image_size": SIZE, "fps": FPS, "overlay": False, "calibration": CALIBRATION, **settings}
    return MotionRequest(keypoints=tuple(folders), **given)


class Road:
    """Runs requests in one job folder, in this process, and keeps what was said."""

    def __init__(self, path: Path) -> None:
        self.folder = JobFolder(path)
        self.events: list[Event] = []

    def run(self, request: Any, listen: Callable[[Event], None] | None = None) -> int:
        """Walk the road once and give the exit code; `listen` is told each event, too."""
        self.events = []

        def hear(event: Event) -> None:
            self.events.append(event)
            if listen:
                listen(event)

        task = next(name for name, task in TASKS.items() if type(request) is task.request)
        order = Order(task, request, new_run_id(), "test")
        self.folder.prepare(order, overwrite=True)
        return run_job(self.folder, run_id=order.run_id, listener=hear)

    @property
    def stages(self) -> set[str]:
        """Stages that worked, and did not take what was there."""
        return {event["stage"] for event in self.events if event.kind == "progress"}

    @property
    def message(self) -> str:
        """What the failure said."""
        last = self.events[-1]
        return f"{last['message']} {last['hint']}" if last.kind == "failed" else ""

    @property
    def code(self) -> str:
        """The kind of the failure, or the last word."""
        last = self.events[-1]
        return last["code"] if last.kind == "failed" else last.kind

    @property
    def warnings(self) -> str:
        """All warnings."""
        return " ".join(event["text"] for event in self.events if event.kind == "warning")

    def report(self) -> dict[str, Any]:
        """`report.json`, read by a parser that knows no NaN."""
        text = (self.folder.path / "report.json").read_text(encoding="utf-8")
        return json.loads(text, parse_constant=refuse)

    def files(self) -> set[str]:
        """All files in the folder, relative to it."""
        return {str(p.relative_to(self.folder.path)) for p in self.folder.path.rglob("*") if p.is_file()}

    def half_written(self) -> set[str]:
        """Leftovers of writing."""
        return {name for name in self.files() if name.endswith(".tmp") or ".reserve" in name}


def refuse(word: str) -> None:
    """Fail: JSON has no such number."""
    raise AssertionError(f"{word} is not JSON")


def command_line(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `python -m inference motion` as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "inference", "motion", *map(str, words)],
        capture_output=True, timeout=300, check=False, env=environment, cwd=ROOT, encoding="utf-8", **options,
    )  # fmt: skip
