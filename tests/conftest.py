"""What all tests share.

The core's tests and the add-on's tests run in processes of their own (`build_addon.py test` starts them), since an
imported bpy changes what a process is and how it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("understudy", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("understudy")  # a busy machine is no failure

ROOT = Path(__file__).resolve().parent.parent
DATA = "UNDERSTUDY_DATA"
RESOURCES = tempfile.mkdtemp(prefix="understudy-blender-")
os.environ["BLENDER_USER_RESOURCES"] = RESOURCES  # read once, when bpy is imported

# The repository is the package that is shipped. An empty parent whose path is the repository's root lets
# `from ..inference.protocol import requests` resolve as it does in Blender: tests import `understudy.operators`.
understudy = types.ModuleType("understudy")
understudy.__path__ = [str(ROOT)]
sys.modules["understudy"] = understudy

RENDERS = """
import bpy, os
scene = bpy.context.scene
scene.render.engine = "BLENDER_WORKBENCH"
scene.render.resolution_x = scene.render.resolution_y = 16
scene.render.filepath = os.devnull
bpy.ops.render.render()
os._exit(0)
"""
NO_DATA = f"{DATA} does not name the folder of the shared data sets"
NO_GL = "OpenGL does not work here (Debian: apt-get install libegl1 libgl1-mesa-dri)"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shared data sets; the test is skipped where `UNDERSTUDY_DATA` does not name them."""
    folder = os.environ.get(DATA, "")
    if not folder or not Path(folder).is_dir():
        pytest.skip(NO_DATA)
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def gl() -> None:
    """Workbench and EEVEE can render; without OpenGL the process would abort, so a child tries it first."""
    probe = subprocess.run([sys.executable, "-c", RENDERS], capture_output=True, timeout=120, check=False)
    if probe.returncode:
        pytest.skip(NO_GL)


@pytest.fixture(scope="session")
def worker_python() -> str:
    """The interpreter of .venv, which has the worker's packages also when the tests run in another Blender's."""
    return os.environ.get("UNDERSTUDY_PYTHON", sys.executable)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once and loudly what this machine could not test."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for reason in (NO_DATA, NO_GL):
        count = sum(reason in text for text in skipped)
        if count:
            terminalreporter.write_line(f"{count} tests did NOT run: {reason}.", yellow=True, bold=True)


exit_status = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the exit status for the last hook."""
    session.config.stash[exit_status] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave before bpy's own exit, which hangs in 4.5 and crashes in 4.2 and would hide the status."""
    shutil.rmtree(RESOURCES, ignore_errors=True)
    if "bpy" in sys.modules:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(exit_status, 1))
