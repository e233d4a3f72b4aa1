from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.protocol.errors import Cancelled, RequestError, ResourceError
from inference.protocol.events import EventReader
from inference.protocol.files import FileLock, atomic_write, atomic_write_text
from inference.protocol.folder import JobFolder, JobReporter
from inference.protocol.requests import Order, SelftestRequest
from inference.protocol.watch import JobWatch

ROOT = Path(__file__).resolve().parents[2]
ORDER = Order("selftest", SelftestRequest(), "run-1")


@pytest.fixture
def folder(tmp_path) -> JobFolder:
    folder = JobFolder(tmp_path / "job")
    folder.prepare(ORDER)
    return folder


@pytest.mark.parametrize("name", ["plain", "two words", 'it\'s "quoted"', "日本語 é", "$(touch x);&|", "-rf", "a\nb"])
def test_a_request_comes_back_from_any_path(tmp_path, name):
    folder = JobFolder(tmp_path / name)
    folder.prepare(ORDER)
    assert folder.read_order() == ORDER


def test_the_same_request_may_be_given_again_and_keeps_its_artifacts(folder):
    folder.artifacts.mkdir()
    (folder.artifacts / "a.npz").write_text("kept")
    folder.events.write_text("old\n")
    folder.ask_to_cancel()
    folder.prepare(Order("selftest", SelftestRequest(), "run-2"))
    assert (folder.artifacts / "a.npz").read_text() == "kept"
    assert not folder.events.exists()
    assert not folder.cancel.exists()


def test_another_request_is_refused_unless_told_to_overwrite(folder):
    other = Order("selftest", SelftestRequest(steps=9), "run-2")
    with pytest.raises(RequestError, match="holds a job with other settings"):
        folder.prepare(other)
    folder.prepare(other, overwrite=True)
    assert folder.read_order() == other


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_text("")
    with pytest.raises(RequestError, match="holds other files"):
        JobFolder(tmp_path).prepare(ORDER)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "job").write_text("")
    with pytest.raises(RequestError, match="is a file"):
        JobFolder(tmp_path / "job").prepare(ORDER)


def test_files_can_be_read_by_whom_the_umask_allows(folder):
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(folder.request.stat().st_mode) == 0o666 & ~mask


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        atomic_write(path, lambda stream: stream.write(b"new") / 0)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_with_a_name_that_is_no_unicode_is_written(tmp_path):
    atomic_write_text(tmp_path / "report.html", "<p>J\udcf6rg.mp4 für 日本</p>")
    assert (tmp_path / "report.html").read_text("utf-8") == "<p>J?rg.mp4 für 日本</p>"


def test_a_folder_that_cannot_be_written_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        atomic_write(tmp_path / "file" / "below.bin", lambda stream: stream.write(b""))


def test_a_lock_is_seen_by_others_and_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from inference.protocol.files import FileLock;"
        "lock = FileLock(Path(sys.argv[1])); print(lock.acquire(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"True\n"
        lock = FileLock(path)
        assert lock.is_held()
        assert not lock.acquire()
        holder.kill()
        holder.wait()
    assert not lock.is_held()
    assert lock.acquire()
    lock.release()


def test_a_folder_in_use_is_refused(folder):
    with folder.lock(), pytest.raises(RequestError, match="in use"):
        JobFolder(folder).prepare(ORDER)


@pytest.mark.parametrize("stages", [1, 10**9])
def test_progress_is_said_at_most_twenty_times_a_second(folder, stages):
    with JobReporter(folder) as reporter:
        start = time.monotonic()
        count = 0
        while time.monotonic() < start + 1.0:
            reporter.progress(f"stage {count % stages}", count, 10**9)
            count += 1
    events = EventReader(folder.events).read()
    assert 5 <= len(events) <= 20
    assert count > 1000


def test_a_stage_is_announced_although_the_one_before_had_just_spoken(folder):
    stages = ["detect", "triangulate", "fit", "overlay"]
    with JobReporter(folder) as reporter:
        for stage in stages:
            reporter.progress(stage, 0, 1)
            reporter.progress(stage, 1, 1)
    assert [event["stage"] for event in EventReader(folder.events).read()] == stages


def test_a_wish_to_cancel_ends_the_next_step(folder):
    with JobReporter(folder) as reporter:
        reporter.progress("spin", 0, 2)
        folder.ask_to_cancel()
        time.sleep(0.08)
        with pytest.raises(Cancelled):
            reporter.progress("spin", 1, 2)


def test_what_a_dead_run_left_half_written_is_swept(folder):
    folder.artifacts.mkdir()
    (folder.artifacts / ".body_motion.npz.123.abc.tmp").write_text("half")
    (folder.artifacts / "body_motion.npz").write_text("whole")
    with JobReporter(folder):
        assert [path.name for path in folder.artifacts.iterdir()] == ["body_motion.npz"]
    assert not list(folder.path.glob(".reserve"))


def test_a_job_is_waiting_then_running_then_done(folder):
    watch = JobWatch(folder, "run-1")
    assert watch.poll() == []
    assert watch.state == "waiting"
    with folder.lock(), JobReporter(folder) as reporter:
        reporter.started(ORDER)
        reporter.artifact("a", "artifacts/a.npz")
        assert [event.kind for event in watch.poll()] == ["started", "artifact"]
        assert watch.state == "running"
        reporter.last_word("done")
    watch.poll()
    assert watch.state == "done"
    assert watch.artifacts == {"a": "artifacts/a.npz"}


@pytest.mark.parametrize(
    "file", ["../../secret.npz", "/etc/passwd", "C:\\x", "\\\\host\\share\\x", "artifacts\\..\\..\\x"]
)
def test_an_artifact_outside_the_folder_is_not_believed(folder, file):
    with folder.lock(), JobReporter(folder) as reporter:
        reporter.started(ORDER)
        reporter.artifact("a", file)
        reporter.last_word("done")
    watch = JobWatch(folder)
    watch.poll()
    assert watch.state == "done"
    assert not watch.artifacts


def run_without_last_word(folder):
    with folder.lock(), JobReporter(folder) as reporter:
        folder.log.write_text("Segmentation fault")
        reporter.started(ORDER)


def test_a_job_whose_process_is_gone_has_crashed_and_shows_its_log(folder):
    run_without_last_word(folder)
    watch = JobWatch(folder)
    last = watch.poll()[-1]
    assert (watch.state, last["log"]) == ("crashed", "Segmentation fault")


def test_a_job_that_was_to_stop_and_is_gone_is_cancelled(folder):
    run_without_last_word(folder)
    folder.ask_to_cancel()
    watch = JobWatch(folder)
    watch.poll()
    assert watch.state == "cancelled"


def test_a_run_that_was_taken_over_is_told_so(folder):
    run_without_last_word(folder)
    watch = JobWatch(folder, "run-0")
    watch.poll()
    assert watch.last and "took over" in watch.last["message"]


def test_a_worker_of_another_protocol_is_told_in_a_sentence(folder):
    run_without_last_word(folder)
    folder.events.write_text(folder.events.read_text().replace('"protocol": 1', '"protocol": 7'))
    watch = JobWatch(folder)
    watch.poll()
    assert watch.last and "the worker speaks protocol 7, this add-on speaks 1" in watch.last["message"]
