"""The zip that users install, installed as they do."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from understudy.operators.environment import PACKAGE
from understudy.tests.blender import motions

INSTALL = """
import json, os, sys
from pathlib import Path
import bpy
archive, job = sys.argv[1:]
bpy.ops.wm.read_homefile(use_empty=True)
installed = bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
name = "bl_ext.user_default.understudy"
preferences = bpy.context.preferences.addons[name].preferences
applied = bpy.ops.understudy.apply_motion(filepath=job)
preferences.tab = "Mocap"
tab = bpy.types.UNDERSTUDY_PT_clips.bl_category
from bl_ext.user_default.understudy.operators import environment, session
folder = environment.output_folder()
from bl_ext.user_default.understudy.inference.protocol.requests import SelftestRequest
job = session.SESSION.start("selftest", SelftestRequest(steps=2))
session.SESSION.wait(job)
files = sorted(str(p.relative_to(environment.PACKAGE)) for p in environment.PACKAGE.rglob("*.*") if p.suffix != ".pyc")
bpy.ops.extensions.package_uninstall(repo_index=1, pkg_id="understudy")
gone = not hasattr(bpy.types.Scene, "understudy") and not environment.PACKAGE.exists()
print("\\n" + json.dumps({
    "installed": list(installed), "applied": list(applied), "objects": sorted(bpy.data.objects.keys()), "tab": tab,
    "folder": str(folder), "state": job.state, "trouble": job.trouble, "gone": gone, "files": files,
}))
sys.stdout.flush()
os._exit(0)
"""


def _build_addon():
    spec = importlib.util.spec_from_file_location("build_addon", PACKAGE / "build_addon.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_addon"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def report(tmp_path_factory, worker_python):
    """What a Blender of its own tells about installing, using and uninstalling the zip."""
    folder = tmp_path_factory.mktemp("it's 導入 $(x)")
    build_addon = _build_addon()
    build_addon.pack(folder / "understudy.zip")
    motions.body_motion(5).save(folder / "job" / "artifacts" / "body_motion.npz")
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(folder / "res"), "UNDERSTUDY_PYTHON": worker_python}
    result = subprocess.run(
        [sys.executable, "-c", INSTALL, str(folder / "understudy.zip"), str(folder / "job")],
        capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1]) | {"packed": list(build_addon.shipped())}


def test_it_installs_and_applies(report):
    assert report["installed"] == report["applied"] == ["FINISHED"]
    assert report["objects"] == ["job", "job camera"]


def test_a_job_runs_from_the_installed_folder(report):
    assert (report["state"], report["trouble"]) == ("done", "")


def test_the_preferences_rename_the_tab(report):
    assert report["tab"] == "Mocap"


def test_jobs_of_an_unsaved_file_go_to_the_add_ons_own_folder(report):
    assert Path(report["folder"]).parts[-4:] == (".user", "user_default", "understudy", "jobs")


def test_nothing_was_written_into_the_add_ons_folder(report):
    assert not set(report["files"]) - set(report["packed"])


def test_uninstalling_leaves_nothing(report):
    assert report["gone"]
