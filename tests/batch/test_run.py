"""Items are done once, whole, whoever is killed; what fails says why."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.batch.record import Records
from inference.runtime.selftest import ARTIFACT

from .batches import ROOT, command, run, temporaries, write_batch, wrong

UNIX = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def states(path: Path) -> list[str]:
    result = subprocess.run(command("status", path, "--json"), cwd=ROOT, capture_output=True, text=True, check=False)
    return [row["state"] for row in json.loads(result.stdout)["items"]]


def stamps(manifest) -> list[int]:
    return [(manifest.result(item) / ARTIFACT).stat().st_mtime_ns for item in manifest.items]


def test_what_is_done_is_not_done_again(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{"artifact_kib": n} for n in range(1, 6)])
    run("run", manifest.path)
    assert not wrong(manifest) and not temporaries(manifest)
    before = stamps(manifest)
    assert "0 done, 5 skipped, 0 failed" in run("run", manifest.path).stderr
    assert stamps(manifest) == before
    assert "5 done, 0 failed, 0 open" in run("status", manifest.path).stdout


def test_only_the_items_of_a_range_are_done(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{}] * 5)
    run("run", manifest.path, "--items", "2-3,5")
    assert states(manifest.path) == ["open", "done", "done", "open", "done"]


@pytest.mark.parametrize("damage", ["changed", "removed", "record", "folder"])
def test_a_result_that_is_not_what_its_record_says_is_made_again(tmp_path, damage):
    manifest = write_batch(tmp_path / "b.json", [{}, {}])
    run("run", manifest.path)
    result = manifest.result(manifest.items[0])
    if damage == "changed":
        (result / ARTIFACT).write_bytes(b"other")
    elif damage == "removed":
        (result / ARTIFACT).unlink()
    elif damage == "record":
        (result.parent / "item 0001.json").write_text("{", encoding="utf-8")
    else:
        result.rename(tmp_path / "elsewhere")
    assert states(manifest.path) == ["open", "done"]
    assert "1 done, 1 skipped" in run("run", manifest.path).stderr
    assert not wrong(manifest)


def test_results_that_were_copied_elsewhere_count(tmp_path):
    import shutil

    manifest = write_batch(tmp_path / "b.json", [{}, {}])
    run("run", manifest.path)
    shutil.copytree(tmp_path / "results", tmp_path / "copy")  # new dates
    shutil.rmtree(tmp_path / "results")
    (tmp_path / "copy").rename(tmp_path / "results")
    assert states(manifest.path) == ["done", "done"]


def test_a_changed_input_counts_by_its_content_and_not_by_its_date(tmp_path):
    (tmp_path / "points.json").write_text("[]", encoding="utf-8")
    request = {"keypoints": ["points.json"], "image_size": [640, 480], "fps": 30}
    manifest = write_batch(tmp_path / "b.json", [request], task="motion")
    records = Records(manifest)
    key = records.key_of(manifest.items[0])
    os.utime(tmp_path / "points.json", (1, 1))
    assert Records(manifest).key_of(manifest.items[0]) == key
    (tmp_path / "points.json").write_text("{}", encoding="utf-8")
    assert records.key_of(manifest.items[0]) != key


def test_a_failure_is_a_result_with_a_reason(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{}, {"fault": "error", "once": str(tmp_path / "mark")}, {}])
    assert "1 failed" in run("run", manifest.path, code=3).stderr
    error = json.loads((tmp_path / "results/item 0002.error.json").read_text())
    assert "asked to fail" in error["message"] and not error["retryable"] and "Traceback" in error["log"]
    assert "0 done, 2 skipped, 1 failed" in run("run", manifest.path, code=3).stderr, "not tried again by itself"
    run("run", manifest.path, "--retry-failed")
    assert not wrong(manifest) and not list((tmp_path / "results").glob("*.error.json"))


def test_a_missing_clip_fails_alone(tmp_path):
    items = [
        {"out": "a", "task": "motion", "request": {"video": ["no.mp4"]}},
        {"out": "b", "task": "selftest", "request": {}},
    ]
    manifest = write_batch(tmp_path / "b.json", [], items=items)
    assert "no.mp4 cannot be read" in run("run", manifest.path, code=3).stderr
    assert states(manifest.path) == ["failed", "done"]


@pytest.mark.parametrize("fault", ["abort", "exit", "memory", "hang", "hold"])
def test_a_process_that_dies_or_hangs_costs_one_attempt(tmp_path, fault):
    manifest = write_batch(tmp_path / "b.json", [{}, {"fault": fault, "once": str(tmp_path / "mark")}, {}])
    run("run", manifest.path, "--silence-s", 2)
    assert not wrong(manifest) and not temporaries(manifest)
    assert json.loads((tmp_path / "results/item 0002.json").read_text())["attempt"] == 2


def test_an_item_that_kills_every_process_is_given_up_for_now(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{}, {"fault": "abort"}, {}])
    run("run", manifest.path, "--retries", 1, code=75)
    error = json.loads((tmp_path / "results/item 0002.error.json").read_text())
    assert error["retryable"] and "SIGABRT" in error["message"] and error["attempt"] == 2
    assert states(manifest.path) == ["done", "failed", "done"]


@UNIX
def test_the_next_item_is_ready_before_the_worker_is_free_and_given_back_by_a_cancel(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{"steps": 3000, "step_s": 0.01}] * 4)
    ready, deadline = manifest.output / ".work" / "item 0002" / "request.json", time.monotonic() + 20
    with subprocess.Popen(command("run", manifest.path), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        while not ready.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ready.is_file() and states(manifest.path) == ["open"] * 4
        process.terminate()
    assert process.returncode == 130
    assert all(Records(manifest).lease(item).acquire() for item in manifest.items)


@UNIX
def test_a_cancel_leaves_whole_results_and_is_gone_on_from(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{"steps": 3, "step_s": 0.05}] * 12)
    with subprocess.Popen(command("run", manifest.path), cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "results/item 0002.json").exists():
            time.sleep(0.01)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 130
        assert time.monotonic() - start < 3.0
    assert 2 <= states(manifest.path).count("done") < 12
    run("run", manifest.path)
    assert not wrong(manifest) and not temporaries(manifest)


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_supervisor_killed_at_any_moment_leaves_no_process_and_nothing_half_made(tmp_path, gone_after):
    manifest = write_batch(tmp_path / "b.json", [{"artifact_kib": 64, "steps": 2, "step_s": 0.01}] * 30)
    dice = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen(command("run", manifest.path, "--workers", 2), cwd=ROOT, stderr=subprocess.DEVNULL)
        time.sleep(dice.uniform(0.3, 0.9))
        workers = children(process.pid)
        process.kill()
        process.wait()
        for worker in workers:
            gone_after(worker, 3.0)
        done = [item for item, state in zip(manifest.items, states(manifest.path), strict=True) if state == "done"]
        assert not {item.out for item in done} & set(wrong(manifest))
    run("run", manifest.path)
    assert not wrong(manifest) and not temporaries(manifest)


def test_several_at_once_do_each_item_once(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{"steps": 1, "step_s": 0.02}] * 20)
    processes = [
        subprocess.Popen(command("run", manifest.path), cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert not wrong(manifest)
    done = sum(int(text.rpartition(" done, ")[0].rpartition("\n")[2]) for text in said)
    assert done == 20, "none was done twice"


def test_the_janitor_takes_what_is_orphaned_and_leaves_what_is_not(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{}])
    run("run", manifest.path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    orphan = tmp_path / f"results/.x.json.{dead.pid}.01234567.tmp"
    living = tmp_path / f"results/.x.json.{os.getpid()}.01234567.tmp"
    orphan.touch()
    living.touch()
    (tmp_path / "results/.work/lost.replaced").mkdir()
    run("clean", manifest.path)
    assert not orphan.exists() and living.exists()
    assert (tmp_path / "results/lost").is_dir(), "an older result whose successor never arrived is put back"


@UNIX
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_full_disk_leaves_the_old_results_and_says_so(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        manifest = write_batch(tmp_path / "b.json", [{"artifact_kib": 100}], output=str(disk))
        run("run", manifest.path)
        larger = write_batch(tmp_path / "b.json", [{"artifact_kib": 900}], output=str(disk))
        assert "disk" in run("run", larger.path, "--retries", 0, code=75).stderr
        assert not wrong(manifest), "the old result is whole"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_farm_hears_how_it_goes(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{}, {"fault": "error"}])
    said = run("run", manifest.path, "--progress", "openjd", code=3).stdout
    assert "openjd_progress: 100.0" in said and "openjd_status: 2 of 2" in said
    assert "openjd_fail: 1 done, 0 skipped, 1 failed" in said


def test_a_run_can_be_followed_as_a_job_and_stopped_by_its_folder(tmp_path):
    from inference.protocol.folder import JobFolder
    from inference.protocol.watch import JobWatch

    manifest = write_batch(tmp_path / "b.json", [{"steps": 2, "step_s": 0.1}] * 20)
    job = JobFolder(tmp_path / "job")
    with subprocess.Popen(
        command("run", manifest.path, "--job", job.path), cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        watch = JobWatch(job)
        while watch.pace.done < 2:
            watch.poll()
            time.sleep(0.02)
        job.ask_to_cancel()
        assert process.wait(10) == 130
    watch.poll()
    assert watch.state == "cancelled" and watch.pace.total == 20


@UNIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGSTOP])
def test_a_worker_that_is_signalled_from_outside_is_replaced(tmp_path, number):
    manifest = write_batch(tmp_path / "b.json", [{"steps": 4, "step_s": 0.1}] * 4)
    events = tmp_path / "results/.work/item 0002/events.jsonl"
    with subprocess.Popen(
        command("run", manifest.path, "--silence-s", 2), cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (events.is_file() and b"started" in events.read_bytes()):
            time.sleep(0.01)
        os.kill(json.loads(events.read_bytes().splitlines()[0])["pid"], number)
        assert process.wait(60) == 0
        assert process.stderr and "attempts lost" in process.stderr.read()
    assert not wrong(manifest)
