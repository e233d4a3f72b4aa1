from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from inference.protocol.client import WorkerClient
from inference.protocol.errors import RequestError
from inference.protocol.folder import JobFolder
from inference.protocol.requests import MotionRequest, Order, SelftestRequest
from inference.runtime.selftest import ARTIFACT, contents

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def artifact(folder: os.PathLike[str]) -> bytes:
    return Path(folder, ARTIFACT).read_bytes()


def state_within(job, state: str, limit_s: float = 10.0) -> None:
    start = time.monotonic()
    while job.state != state:
        job.poll()
        assert time.monotonic() - start < limit_s, f"{job.state} instead of {state}"
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["plain", 'it\'s "quoted" & $(touch pwned); 日本語'])
def test_a_job_is_done_and_its_artifact_is_whole(client, tmp_path, name):
    job = client.submit(tmp_path / name, "selftest", SelftestRequest(artifact_kib=64))
    last = job.wait(30)
    assert last and last.kind == "done", last
    assert artifact(job.folder) == contents(64)
    assert job.watch.artifacts == {"selftest": ARTIFACT}
    assert not list(tmp_path.glob("pwned"))


def test_the_worker_stays_warm_between_jobs(client, tmp_path):
    pids = set()
    for number in range(3):
        job = client.submit(tmp_path / str(number), "selftest", SelftestRequest())
        events = []
        job.wait(30, events.append)
        pids |= {event["pid"] for event in events if event.kind == "started"}
    assert pids == {client.pid}


def test_jobs_given_at_once_are_done_one_after_the_other(client, tmp_path):
    jobs = [client.submit(tmp_path / str(number), "selftest", SelftestRequest()) for number in range(5)]
    assert [job.wait(30).kind for job in jobs] == ["done"] * 5


def test_what_libraries_print_reaches_the_log_and_nothing_else(client, tmp_path):
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(print_kib=1024))
    events = []
    last = job.wait(60, events.append)
    assert last and last.kind == "done"
    assert {event.kind for event in events} <= {"started", "progress", "artifact", "done"}
    assert job.folder.log.stat().st_size == 5 * 1024 * 1024  # Python and bare writes to two streams, and C
    assert job.folder.events.stat().st_size < 10_000


def test_what_one_job_printed_is_not_in_the_log_of_the_next(client, tmp_path):
    client.submit(tmp_path / "loud", "selftest", SelftestRequest(print_kib=1)).wait(30)
    quiet = client.submit(tmp_path / "quiet", "selftest", SelftestRequest())
    quiet.wait(30)
    assert quiet.folder.log.read_bytes() == b""


def test_a_cancel_is_answered_between_steps(client, tmp_path):
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(steps=1000, step_s=0.02))
    state_within(job, "running")
    pid = client.pid
    start = time.monotonic()
    job.cancel()
    assert time.monotonic() - start < 0.2
    last = job.wait(10)
    assert last and last.kind == "cancelled"
    assert time.monotonic() - start < 1.0
    assert client.pid == pid


def test_a_job_deaf_to_a_cancel_is_terminated(client, tmp_path):
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(steps=1, step_s=60))
    state_within(job, "running")
    job.cancel()
    last = job.wait(10)
    assert last and last.kind == "cancelled"
    assert artifact_is_absent(job)


def test_a_job_that_holds_the_interpreter_is_killed_and_counts_as_cancelled(client, tmp_path):
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(steps=1, hold_gil_s=60))
    state_within(job, "running")
    job.cancel()
    start = time.monotonic()
    last = job.wait(10)
    assert last and last.kind == "cancelled"
    assert time.monotonic() - start < 3.0
    again = client.submit(tmp_path / "next", "selftest", SelftestRequest()).wait(30)
    assert again and again.kind == "done"


def artifact_is_absent(job) -> bool:
    return not Path(job.folder, ARTIFACT).exists()


def test_a_cancel_of_a_waiting_job_does_not_hurt_the_one_before_it(client, tmp_path):
    first = client.submit(tmp_path / "first", "selftest", SelftestRequest(steps=1, step_s=2))
    second = client.submit(tmp_path / "second", "selftest", SelftestRequest(steps=1000, step_s=0.1))
    second.cancel()
    assert second.wait(30).kind == "cancelled"
    assert first.wait(30).kind == "done"


def test_a_job_in_line_behind_a_deaf_one_that_is_killed_is_done_by_the_next_worker(client, tmp_path):
    deaf = client.submit(tmp_path / "deaf", "selftest", SelftestRequest(steps=1, hold_gil_s=60))
    behind = [client.submit(tmp_path / str(number), "selftest", SelftestRequest()) for number in range(2)]
    state_within(deaf, "running")
    deaf.cancel()
    assert deaf.wait(10).kind == "cancelled"
    assert [job.wait(20).kind for job in behind] == ["done"] * 2


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [("error", "bug", "RuntimeError: this job was asked to fail"), ("memory", "resources", "Memory ran out")],
)
def test_a_failure_says_what_happened_and_the_worker_goes_on(client, tmp_path, fault, code, words):
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(fault=fault))
    last = job.wait(30)
    assert last and last["code"] == code
    assert words in last["message"]
    assert last["hint"]
    assert "Traceback" in job.folder.log_tail()
    assert client.submit(tmp_path / "next", "selftest", SelftestRequest()).wait(30).kind == "done"


def test_a_crash_is_told_with_the_end_of_the_log_and_the_next_job_is_done(client, tmp_path):
    last = client.submit(tmp_path / "job", "selftest", SelftestRequest(fault="abort")).wait(30)
    assert last and last.kind == "crashed"
    assert "SIGABRT" in last["message"]
    assert "Fatal Python error: Aborted" in last["log"]
    assert client.submit(tmp_path / "next", "selftest", SelftestRequest()).wait(30).kind == "done"


def test_a_worker_that_leaves_without_a_word_has_crashed(client, tmp_path):
    last = client.submit(tmp_path / "job", "selftest", SelftestRequest(fault="exit")).wait(30)
    assert last and (last.kind, last["message"]) == ("crashed", "The worker ended with exit code 3.")


def test_a_clip_that_is_not_there_is_an_input_error(client, tmp_path):
    job = client.submit(tmp_path / "job", "motion", MotionRequest(video=(tmp_path / "none.mp4",)))
    last = job.wait(60)
    assert last and (last.kind, last["code"]) == ("failed", "input"), last


def test_a_python_that_is_not_there_is_told_at_once(tmp_path):
    with pytest.raises(RequestError, match="cannot be started: No such file"):
        WorkerClient(tmp_path / "python").submit(tmp_path / "job", "selftest", SelftestRequest())


def test_a_program_that_is_no_worker_is_told_with_what_it_printed(tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho wrong number >&2\nexit 9\n")
    program.chmod(0o755)
    client = WorkerClient(program)
    last = client.submit(tmp_path / "job", "selftest", SelftestRequest()).wait(10)
    assert last and (last.kind, last["log"]) == ("crashed", "wrong number\n")
    client.close()


def test_a_request_damaged_on_disk_fails_with_its_path(client, tmp_path):
    client.submit(tmp_path / "warm", "selftest", SelftestRequest()).wait(30)
    folder = JobFolder(tmp_path / "job")
    folder.prepare(Order("selftest", SelftestRequest(), "run"))
    folder.request.write_text(folder.request.read_text().replace('"steps": 3', '"steps": -3'))
    client._worker.send({"protocol": 1, "job": str(folder.path), "run_id": "run"})
    last = client.attach(folder).wait(10)
    assert last and last["message"] == "steps: -3 is outside [0, 1000000]"


def test_orders_that_are_garbage_do_not_stop_the_worker(client, tmp_path):
    client.submit(tmp_path / "warm", "selftest", SelftestRequest()).wait(30)
    pid = client.pid
    for line in (b"\xff\xfe\n", b"[" * 60_000 + b"\n", b'{"protocol": 9}\n', b'{"protocol": 1, "job": "/no/where"}\n',
                 b'{"protocol": 1, "job": "a\\u0000b"}\n', b"null\n"):  # fmt: skip
        client._worker._process.stdin.write(line)
    assert client.submit(tmp_path / "next", "selftest", SelftestRequest()).wait(30).kind == "done"
    assert client.pid == pid


def test_two_clients_cannot_run_one_folder(client, tmp_path):
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(steps=1000, step_s=0.02))
    state_within(job, "running")
    other = WorkerClient(sys.executable)
    with pytest.raises(RequestError, match="in use by another process"):
        other.submit(tmp_path / "job", "selftest", SelftestRequest(steps=1000, step_s=0.02))
    found = other.attach(tmp_path / "job")
    state_within(found, "running")
    found.cancel()
    for each in (found, job):
        each.wait(10)
        assert each.state == "cancelled"


def test_of_two_clients_at_the_same_moment_one_runs_the_folder_and_the_other_is_told(client, tmp_path):
    other = WorkerClient(sys.executable)
    for warm in (client, other):
        warm.submit(tmp_path / f"warm{id(warm)}", "selftest", SelftestRequest()).wait(30)
    request = SelftestRequest(steps=3, step_s=0.05)
    for number in range(10):
        folder, jobs = tmp_path / str(number), []
        for each in (client, other):
            try:
                jobs.append(each.submit(folder, "selftest", request))
            except RequestError as error:
                assert "in use" in error.message
        words = [job.wait(20) for job in jobs]
        assert [word.kind for word in words if word].count("done") == 1, words
        assert all(word and (word.kind == "done" or "took over" in word["message"]) for word in words)
    other.close()


def test_a_job_can_be_found_again_after_it_is_done(client, tmp_path):
    client.submit(tmp_path / "job", "selftest", SelftestRequest()).wait(30)
    found = WorkerClient(sys.executable).attach(tmp_path / "job")
    last = found.wait(5)
    assert last and last.kind == "done"
    assert found.watch.artifacts == {"selftest": ARTIFACT}


def test_closing_ends_the_worker_and_cancels_what_runs(client, tmp_path, gone_after):
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(steps=1000, step_s=0.1))
    state_within(job, "running")
    pid = client.pid
    client.close()
    gone_after(pid, 1.0)
    last = job.wait(5)
    assert last and last.kind == "cancelled"


@LINUX
def test_a_full_disk_is_told_and_harms_nothing(client, tmp_path):
    import resource

    client.submit(tmp_path / "job", "selftest", SelftestRequest(artifact_kib=4)).wait(30)
    resource.prlimit(client.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    job = client.submit(tmp_path / "job", "selftest", SelftestRequest(artifact_kib=1024), overwrite=True)
    last = job.wait(30)
    assert last and last["code"] == "resources"
    assert "selftest.bin could not be written: File too large" in last["message"]
    assert artifact(job.folder) == contents(4)
    assert [path.name for path in job.folder.artifacts.iterdir()] == ["selftest.bin"]


@LINUX
def test_a_disk_that_fills_up_still_takes_the_last_word(client, tmp_path, small_disk):
    for size in (40, 47, 48, 49, 64, 1024):
        job = client.submit(small_disk / "job", "selftest", SelftestRequest(artifact_kib=size), overwrite=True)
        if (last := job.wait(30)) and last.kind == "failed":
            assert last["code"] == "resources", last
            assert "Free some disk space" in last["hint"]
        else:
            assert last and last.kind == "done", last
            assert artifact(job.folder) == contents(size)
        assert {path.name for path in job.folder.artifacts.iterdir()} <= {"selftest.bin"}
    assert last and last.kind == "failed"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 128 KiB."""
    import subprocess

    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@LINUX
def test_the_worker_offers_to_die_before_blender(client, tmp_path):
    client.submit(tmp_path / "job", "selftest", SelftestRequest()).wait(30)
    assert int(Path(f"/proc/{client.pid}/oom_score_adj").read_text()) >= 500


@LINUX
def test_the_worker_is_not_changed_by_python_variables_and_imports_nothing_heavy(client, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('a stranger was imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    assert client.submit(tmp_path / "job", "selftest", SelftestRequest()).wait(30).kind == "done"
    maps = Path(f"/proc/{client.pid}/maps").read_text()
    assert "torch" not in maps
    assert "numpy" not in maps
