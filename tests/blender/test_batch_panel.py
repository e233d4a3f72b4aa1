"""Batches from the sidebar, the one list of jobs, logs and notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import bpy
import pytest
from understudy.operators import notice
from understudy.operators.session import SESSION


def write(folder: Path, requests: list[dict]) -> Path:
    items = [{"out": f"i{n}", "task": "selftest", "request": request} for n, request in enumerate(requests)]
    table = {"format": "understudy-batch", "version": 1, "program": "inference", "output": "out", "items": items}
    (folder / "b.json").write_text(json.dumps(table))
    return folder / "b.json"


def pump(until, seconds=30.0):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        SESSION.pump()
        time.sleep(0.01)


def test_a_batch_runs_beside_the_worker_and_stands_in_the_list(addon, tmp_path):
    path = write(tmp_path, [{"steps": 3, "step_s": 0.02, "print_kib": 1}] * 4)
    bpy.ops.understudy.run_batch(filepath=str(path))
    job = SESSION.latest
    assert job and (job.task, job.state) == ("batch", "done") and job.fraction == 1.0
    assert SESSION.running is None, "captures are not held up by it"
    assert len(list(tmp_path.glob("out/i*/artifacts/selftest.bin"))) == 4


def test_items_that_fail_are_told_in_the_list(addon, tmp_path):
    path = write(tmp_path, [{}, {"fault": "error"}])
    with pytest.raises(RuntimeError, match="1 failed"):
        bpy.ops.understudy.run_batch(filepath=str(path))
    job = SESSION.latest
    assert job and job.state == "failed" and "asked to fail" in job.warnings[0]


def test_a_batch_shows_time_left_and_is_cancelled_within_three_seconds(addon, tmp_path):
    from understudy.operators import batch

    path = write(tmp_path, [{"steps": 2, "step_s": 0.05}] * 200)
    job = batch.start(path, retry_failed=False)
    pump(lambda: " left" in job.status)
    start = time.monotonic()
    SESSION.cancel(job)
    assert time.monotonic() - start < 0.2
    pump(lambda: not job.is_running)
    assert job.state == "cancelled" and time.monotonic() - start < 3.0


def test_a_batch_ends_with_blender(addon, tmp_path):
    from understudy.operators import batch

    job = batch.start(write(tmp_path, [{"steps": 100, "step_s": 0.05}] * 50), retry_failed=False)
    pump(lambda: job.state == "running")
    SESSION.stop_worker()
    assert not any(process.is_alive for process in SESSION._launched)
    job.poll()
    assert job.state == "crashed"


def test_a_folder_is_planned_and_run(addon, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/walk.mp4").write_bytes(b"no film")
    with pytest.raises(RuntimeError, match="1 failed"):
        bpy.ops.understudy.batch_folder(directory=str(tmp_path / "clips"))
    assert (tmp_path / "clips/understudy results/walk.error.json").is_file()
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError, match="Nothing for clips"):
        bpy.ops.understudy.batch_folder(directory=str(tmp_path / "empty"))


def test_a_log_can_be_read(addon, tmp_path):
    path = write(tmp_path, [{"print_kib": 1}])
    bpy.ops.understudy.run_batch(filepath=str(path))
    job = SESSION.latest
    assert job
    (job.folder / "log.txt").write_text("one\ntwo é\n", encoding="utf-8")
    bpy.ops.understudy.view_log(folder=str(job.folder))
    assert "two é" in bpy.data.texts["Understudy Log"].as_string()


def test_a_notice_is_words_and_never_a_shell(addon, tmp_path, monkeypatch):
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/said"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command = notice.desktop_command("Understudy", "$(touch canary); `touch canary` --x")
    if sys.platform == "darwin":
        pytest.skip("osascript shows it")
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "said").read_text().splitlines()[-1] == "$(touch canary); `touch canary` --x"
    assert not (tmp_path / "canary").exists()


def test_a_batch_of_no_folder_is_a_sentence(addon, monkeypatch, tmp_path):
    (tmp_path / "clip.mp4").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="none is named"):
        bpy.ops.understudy.batch_folder()
    assert not (tmp_path / "understudy_batch.json").exists()
