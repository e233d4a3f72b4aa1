"""Set Up Inference, from the button: only when pressed and only online, and what it makes is found."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import bpy
import pytest
from understudy.inference.protocol.client import ROOT
from understudy.inference.setup.install import POINTER
from understudy.operators import environment, setup
from understudy.operators.session import SESSION


@pytest.fixture
def place(addon, monkeypatch, tmp_path):
    """A folder of environments of this test's own."""
    monkeypatch.setattr(environment, "environments_folder", lambda: tmp_path / "environments")
    monkeypatch.setattr(setup, "environments_folder", lambda: tmp_path / "environments")
    return tmp_path / "environments"


def test_nothing_is_fetched_while_blender_is_offline(place):
    if setup.is_online():
        pytest.skip("this Blender is online")
    with pytest.raises(RuntimeError, match="Blender is offline"):
        bpy.ops.understudy.set_up_inference()
    assert not place.exists() and not SESSION.jobs


def test_size_and_disk_are_told_first(place):
    lines = setup.what_it_takes("CPU")
    assert "GB to download" in lines[0] and "GB on disk" in lines[0]
    assert str(place) in lines[1] and "GB are free" in lines[1]
    assert "is not locked for" in setup.what_it_takes("ROCM")[0]


def test_a_set_up_that_fails_says_why_in_the_job_list(place, tmp_path):
    (tmp_path / "wheels").mkdir()
    with pytest.raises(RuntimeError, match="Put what is missing into|No Python 3.11"):
        bpy.ops.understudy.set_up_inference(backend="CPU", offline=str(tmp_path / "wheels"))
    job = SESSION.latest_of("setup")
    assert job and job.state == "failed" and not job.is_running
    assert not list(place.glob("*.partial")) and not (place / POINTER).exists()


def test_the_environment_that_was_set_up_is_the_one_that_is_used(place, monkeypatch):
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    (place / "cpu-1/bin").mkdir(parents=True)
    (place / "cpu-1/bin/python").touch()
    (place / POINTER).write_text(json.dumps({"python": "cpu-1/bin/python"}))
    assert environment.find_python() == place / "cpu-1/bin/python"
    for elsewhere in ("../python", "/usr/bin/python3", "cpu-1/../../x", ""):
        (place / POINTER).write_text(json.dumps({"python": elsewhere}))
        try:
            assert not environment.find_python().is_relative_to(place)
        except environment.InputError:
            continue


def test_the_support_bundle_is_written(place, tmp_path):
    bpy.ops.understudy.save_support_bundle(filepath=str(tmp_path / "support.zip"))
    with zipfile.ZipFile(tmp_path / "support.zip") as archive:
        assert {"doctor.json", "versions.json"} <= set(archive.namelist())


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_support_bundle_is_written_where_the_doctor_hangs(place, tmp_path, monkeypatch):
    hung = "import sys, time; from inference.runtime import cli, device; device.choose = lambda: time.sleep(600)"
    run = f"{environment.find_python()} -c '{hung}; sys.exit(cli.main(sys.argv[1:]))'"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nshift 6\nexec {run} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(setup, "find_python", lambda: program)
    monkeypatch.setattr(setup, "PATIENCE_S", 30.0)
    bpy.ops.understudy.save_support_bundle(filepath=str(tmp_path / "support"))
    with zipfile.ZipFile(tmp_path / "support.zip") as archive:
        assert "before it had looked at everything" in archive.read("doctor.json").decode()


def test_a_program_that_does_not_start_is_a_sentence(place, tmp_path, monkeypatch):
    (tmp_path / "python").write_text("no program")
    monkeypatch.setattr(setup, "find_python", lambda: tmp_path / "python")
    with pytest.raises(RuntimeError, match="python does not start: "):
        bpy.ops.understudy.save_support_bundle(filepath=str(tmp_path / "support.zip"))


def test_a_support_bundle_of_before_is_not_taken_for_a_new_one(place, tmp_path, monkeypatch):
    (tmp_path / "May 1.5.zip").touch()
    monkeypatch.setattr(setup, "find_python", lambda: "/bin/false")
    with pytest.raises(RuntimeError, match="It was not written"):
        bpy.ops.understudy.save_support_bundle(filepath=str(tmp_path / "May 1.5"))


def test_blenders_own_python_can_run_the_installer():
    """It has none of the packages: the installer is to need nothing but the standard library."""
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        "from inference.runtime import cli; sys.exit(cli.main(['setup', '--into', 'x', '--plan']))"
    )
    run = [sys.executable, "-S", "-c", code]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "GB to download" in result.stdout or "locked for" in result.stderr, result.stderr
