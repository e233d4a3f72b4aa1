"""A training speaks as a job does: in its folder, with its progress, and until it is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.protocol.folder import JobFolder
from inference.protocol.watch import JobWatch

ROOT = Path(__file__).resolve().parents[2]
# counts to --steps, remembers how far it came as a checkpoint does, and takes films of --films people before
PROGRAM = '''
"""Counts."""
import time
from inference.protocol.errors import InputError
from inference.training.script import LOG, make_parser, work_as_job

def work(options, run):
    if options.steps < 0:
        raise InputError("There are no pictures.", "Film some.")
    for person in run.each("film", range(3)):
        LOG.info("person %d", person)
    kept = run.out / "checkpoint.txt"
    step = int(kept.read_text()) if kept.exists() else 0
    while run.goes_on(step, options.steps):
        time.sleep(0.02)
        step += 1
    kept.write_text(str(step))

parser = make_parser(__doc__)
parser.add_argument("--steps", type=int, default=5)
work_as_job(parser, work)
'''


def start(out: Path, *words: object) -> subprocess.Popen[bytes]:
    """Start the training; what it says on the terminal is beside its folder."""
    command = [sys.executable, "-c", PROGRAM, "--out", str(out), *map(str, words)]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    with out.with_name("terminal.txt").open("wb") as terminal:
        return subprocess.Popen(command, cwd=ROOT, env=variables, stderr=terminal)


def told(out: Path) -> str:
    """What it said on the terminal."""
    return out.with_name("terminal.txt").read_text()


def words_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def started(out: Path) -> JobWatch:
    """Follow it once it takes steps."""
    watch, end = JobWatch(JobFolder(out)), time.monotonic() + 60
    while watch.pace.stage != "train":
        assert time.monotonic() < end
        watch.poll()
        time.sleep(0.02)
    return watch


def test_a_training_says_how_far_it_is_and_that_it_is_done(tmp_path: Path) -> None:
    out = tmp_path / "counting"
    process = start(out)
    assert process.wait(60) == 0, told(out)
    request = json.loads((out / "request.json").read_text())
    assert request["task"] == "training" and "--out" in request["request"]["arguments"]
    events = words_of(out)
    assert events[0]["event"] == "started" and events[-1]["event"] == "done"
    assert {event["stage"] for event in events if event["event"] == "progress"} == {"film", "train"}
    assert "person 2" in (out / "train.log").read_text()


def test_a_training_stops_with_its_checkpoint_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "counting"
    process = start(out, "--steps", 100_000)
    watch = started(out)
    watch.folder.ask_to_cancel()
    assert process.wait(60) == 130, told(out)
    watch.poll()
    assert watch.state == "cancelled"
    step = int((out / "checkpoint.txt").read_text())
    assert 0 < step < 100_000
    process = start(out, "--steps", step + 3)
    assert process.wait(60) == 0, told(out)
    assert words_of(out)[-1]["event"] == "done" and (out / "checkpoint.txt").read_text() == str(step + 3)
    assert (out / "train.log").read_text().count("person 0") == 2, "the log goes on"


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "counting"
    first = start(out, "--steps", 100_000)
    watch = started(out)
    second = start(out, "--steps", 3)
    assert second.wait(60) == 2 and "in use" in told(out)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 130
    watch.poll()
    assert watch.state == "cancelled", "a terminated training says so itself"


@pytest.mark.parametrize(("out", "folder"), [("run", "run"), ("weights.npz", "weights.job")])
def test_what_went_wrong_is_said_in_the_folder(tmp_path: Path, out: str, folder: str) -> None:
    process = start(tmp_path / out, "--steps", -1)
    assert process.wait(60) == 3 and "no pictures" in told(tmp_path / out)
    last = words_of(tmp_path / folder)[-1]
    assert (last["event"], last["message"], last["hint"]) == ("failed", "There are no pictures.", "Film some.")
