"""Jobs in a real worker: followed, cancelled, found again, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import bpy
import pytest
from understudy.inference.protocol.errors import Cancelled, InputError, UnderstudyError
from understudy.inference.protocol.requests import SelftestRequest
from understudy.operators import environment
from understudy.operators.session import Session

ROOT = Path(__file__).resolve().parents[2]


def follow(session, job, *, until, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not until(job):
        assert time.monotonic() < deadline, (job.state, job.status, job.trouble)
        session.pump()
        time.sleep(0.02)


def test_a_job_is_followed_without_blocking_to_its_end(addon):
    job = addon.start("selftest", SelftestRequest(steps=5, step_s=0.02))
    assert addon.running is job and job.is_running and job.status == "Starting..."
    fractions = []
    follow(addon, job, until=lambda job: fractions.append(job.fraction) or not job.is_running)
    assert job.state == "done" and job.status == "Done" and addon.running is None
    assert fractions == sorted(fractions) and any(0 < fraction < 1 for fraction in fractions)


def test_pumping_never_waits(addon):
    job = addon.start("selftest", SelftestRequest(steps=20, step_s=0.02))
    slowest = 0.0
    while job.is_running:
        start = time.perf_counter()
        addon.pump()
        slowest = max(slowest, time.perf_counter() - start)
        time.sleep(0.01)
    assert slowest < 0.3, "a frame of the interface may not wait for the worker"


def test_the_worker_stays_warm_for_the_next_job(addon):
    pids = []
    for _ in range(2):
        job = addon.start("selftest", SelftestRequest(steps=1))
        addon.wait(job)
        pids.append(addon._client.pid)
    assert pids[0] == pids[1] is not None


def test_a_cancelled_job_ends_soon_and_says_so(addon):
    job = addon.start("selftest", SelftestRequest(steps=1000, step_s=0.02))
    follow(addon, job, until=lambda job: job.state == "running")
    addon.cancel(job)
    assert job.status == "Stopping..."
    follow(addon, job, until=lambda job: not job.is_running, timeout_s=10)
    assert job.status == "Cancelled"
    with pytest.raises(Cancelled):
        job.raise_failure()


def test_a_failure_arrives_with_its_words(addon):
    job = addon.start("selftest", SelftestRequest(fault="error"))
    addon.wait(job)
    assert job.state == "failed" and job.trouble
    with pytest.raises(UnderstudyError):
        job.raise_failure()


def test_a_worker_that_dies_is_a_crash_with_advice(addon):
    job = addon.start("selftest", SelftestRequest(fault="abort"))
    addon.wait(job)
    assert job.status == "Crashed" and "log.txt" in job.trouble
    again = addon.start("selftest", SelftestRequest(steps=1))
    addon.wait(again)
    assert again.state == "done", "the next job gets a new worker"


def test_a_job_goes_on_while_another_file_is_opened(addon):
    job = addon.start("selftest", SelftestRequest(steps=20, step_s=0.02))
    follow(addon, job, until=lambda job: job.state == "running")
    bpy.ops.wm.read_homefile(use_empty=True)
    assert addon.latest is job
    addon.wait(job)
    assert job.state == "done"


def test_unregistering_ends_the_worker(addon):
    job = addon.start("selftest", SelftestRequest(steps=1000, step_s=0.05))
    follow(addon, job, until=lambda job: job.state == "running")
    pid = addon._client.pid
    addon.stop_worker()
    assert not alive(pid)
    addon.wait(job)
    assert job.state == "cancelled"


def test_after_a_restart_jobs_are_found_by_their_folders(addon, tmp_path):
    job = addon.start("selftest", SelftestRequest(steps=1))
    addon.wait(job)
    later = Session()
    assert later.scan(tmp_path / "jobs") == 1
    assert (later.latest.folder, later.latest.state) == (job.folder, "done")
    assert later.scan(tmp_path / "jobs") == 0, "known jobs are not found twice"


def test_a_job_that_another_process_runs_is_followed_and_does_not_block_ours(addon, tmp_path):
    job = addon.start("selftest", SelftestRequest(steps=50, step_s=0.02))
    follow(addon, job, until=lambda job: job.state == "running")
    other = Session()
    other.scan(tmp_path / "jobs")
    assert other.latest.is_running and other.running is None
    addon.wait(job)
    other.wait(other.latest)
    assert other.latest.state == "done"


TRAINING = """
import time
from inference.training.script import LOG, make_parser, work_as_job
def work(options, run):
    LOG.info("step by step")
    step = 0
    while run.goes_on(step, options.steps):
        step += 1
        time.sleep(0.05)
parser = make_parser("")
parser.add_argument("--steps", type=int)
work_as_job(parser, work)
"""


def train(out: Path, steps: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", TRAINING, "--out", str(out), "--steps", str(steps)]
    return subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)


def test_a_training_is_in_the_list_and_stops_from_there_and_is_found_again(addon, tmp_path):
    ours = addon.start("selftest", SelftestRequest(steps=1))
    addon.wait(ours)
    out = tmp_path / "elsewhere" / "net"
    process = train(out, 10_000)
    end = time.monotonic() + 60
    while not (out / "events.jsonl").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert bpy.ops.understudy.add_jobs(directory=str(out)) == {"FINISHED"}
    job = addon.jobs[0]  # the newest first
    assert (job.name, job.task, addon.jobs[1].folder) == ("net", "training", ours.folder)
    follow(addon, job, until=lambda job: "left" in job.status)
    assert job.status.startswith("Train 0 %")
    assert bpy.ops.understudy.view_log(folder=str(out)) == {"FINISHED"}
    log = bpy.data.texts["Understudy Log"].as_string()
    assert "step by step" in log and log.endswith(" train"), "what was printed, and what the job said"
    assert bpy.ops.understudy.cancel_job(folder=str(out)) == {"FINISHED"}
    assert process.wait(30) == 130 and job.state == "cancelled"
    assert train(out, 2).wait(60) == 0
    assert addon.scan(out) == 1 and addon.scan(out) == 0, "a new run of the folder is news, once"
    assert addon.find(out).state == "done" and len(addon.jobs) == 2


def test_the_time_in_a_name_is_no_part_of_its_title(addon, tmp_path):
    for name, title in (("walk_20261121_172433", "walk"), ("a_b_20261121_172433_2", "a_b"), ("take_2", "take_2")):
        (tmp_path / "jobs" / name).mkdir(parents=True)
        (tmp_path / "jobs" / name / "request.json").write_text("{}")
        addon.scan(tmp_path / "jobs")
        assert addon.find(tmp_path / "jobs" / name).title == title


def test_a_folder_without_jobs_is_a_sentence(addon, tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(RuntimeError, match="job|folder"):
            bpy.ops.understudy.add_jobs(directory=str(folder))


def test_folders_that_hold_something_else_are_survived(addon, tmp_path):
    for name, text in (("broken", "{"), ("deep", "[" * 100_000), ("empty", "")):
        (tmp_path / "jobs" / name).mkdir(parents=True)
        (tmp_path / "jobs" / name / "request.json").write_text(text)
        (tmp_path / "jobs" / name / "events.jsonl").write_text(text)
    assert addon.scan(tmp_path / "jobs") == 3
    assert {job.status for job in addon.jobs} == {"Never started"} and addon.running is None


def test_a_python_that_is_not_there_is_a_sentence(addon, monkeypatch):
    monkeypatch.setenv(environment.VARIABLE, "/no/python")
    with pytest.raises(InputError, match="/no/python"):
        addon.start("selftest", SelftestRequest())
    assert addon.jobs == []


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state[:1] not in ("Z", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("end", ["kill", "quit"])
def test_no_worker_outlives_its_blender(tmp_path, worker_python, end):
    script = f"""
        import os, sys, time, types
        root = types.ModuleType("understudy"); root.__path__ = [{str(environment.PACKAGE)!r}]
        sys.modules["understudy"] = root
        import bpy
        from understudy.inference.protocol.requests import SelftestRequest
        from understudy.operators.session import SESSION
        from pathlib import Path
        import atexit; atexit.register(SESSION.stop_worker)
        job = SESSION.start("selftest", SelftestRequest(hold_gil_s=600), folder=Path({str(tmp_path / "job")!r}))
        while job.state != "running":
            SESSION.pump()
            time.sleep(0.05)
        print(SESSION._client.pid, flush=True)
        if {end!r} == "quit":
            atexit._run_exitfuncs()
            os._exit(0)
        time.sleep(600)
    """
    blender = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, environment.VARIABLE: worker_python},
    )  # fmt: skip
    assert blender.stdout
    pid = next(int(line) for line in blender.stdout if line.strip().isdigit())
    if end == "kill":
        blender.send_signal(signal.SIGKILL)
    blender.wait(30)
    blender.stdout.close()
    deadline = time.monotonic() + 15
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)
    events = [json.loads(line) for line in (tmp_path / "job" / "events.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "started"
