from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.protocol.errors import RequestError, WeightsError
from inference.protocol.folder import JobFolder
from inference.protocol.watch import JobWatch
from inference.runtime import device, weights
from inference.runtime.selftest import ARTIFACT

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "inference"]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_job_is_done_by_one_command(tmp_path):
    result = run("selftest", "--out", tmp_path / "a job", "--print-kib", 4)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "Done in" in result.stderr
    assert (tmp_path / "a job" / ARTIFACT).exists()
    watch = JobWatch(JobFolder(tmp_path / "a job"))
    watch.poll()
    assert watch.state == "done"


def test_json_on_stdout_is_the_events_and_nothing_that_was_printed(tmp_path):
    result = run("selftest", "--out", tmp_path / "job", "--print-kib", 64, "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["started", "progress", "artifact", "done"]
    assert result.stdout == (tmp_path / "job/events.jsonl").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["selftest"], "Error: the following arguments are required: --out"),
        (["selftest", "--step-s", "99", "--out", "{}"], "Error: step_s: 99.0 is outside [0.0, 60.0]"),
        (["selftest", "--step-s", "nan", "--out", "{}"], "Error: step_s: nan is not a finite number"),
        (["selftest", "--steps", "x", "--out", "{}"], "Error: argument --steps: invalid int value: 'x'"),
        (["selftest", "--step", "3", "--out", "{}"], "Error: unrecognized arguments: --step 3"),
        (["motion", "--out", "{}"], "Error: video: no clip and no keypoints"),
        (["juggle"], "Error: argument COMMAND: invalid choice: 'juggle'"),
        (["bench", "nothing"], "Error: bench: 'nothing' is not one of"),
    ],
)
def test_a_wrong_flag_is_told_in_one_sentence(tmp_path, words, sentence):
    result = run(*[word.format(tmp_path / "job") for word in words])
    assert result.returncode == 2
    assert result.stderr.startswith(sentence)
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(("fault", "code"), [("error", 70), ("memory", 5), ("exit", 3)])
def test_a_failure_has_its_exit_code(tmp_path, fault, code):
    assert run("selftest", "--fault", fault, "--out", tmp_path / "job").returncode == code


def test_a_bug_shows_the_end_of_the_log(tmp_path):
    result = run("selftest", "--fault", "error", "--out", tmp_path / "job")
    assert "Error: RuntimeError: this job was asked to fail" in result.stderr
    assert "Traceback" in result.stderr


def test_a_folder_with_another_job_is_refused_unless_told_to_overwrite(tmp_path):
    out = tmp_path / "job"
    assert run("selftest", "--out", out).returncode == 0
    assert run("selftest", "--out", out).returncode == 0
    refused = run("selftest", "--out", out, "--steps", 5)
    assert refused.returncode == 2
    assert "holds a job with other settings" in refused.stderr
    assert run("selftest", "--out", out, "--steps", 5, "--overwrite").returncode == 0


def hear_ctrl_c() -> None:
    """Undo what a shell does that starts tests in the background: they and their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("words", "limit_s"), [(["--steps", "9999", "--step-s", "0.01"], 1.0), (["--step-s", "60"], 1.0)]
)
def test_ctrl_c_is_answered_at_once(tmp_path, number, words, limit_s):
    command = [*COMMAND, "selftest", "--out", str(tmp_path / "job"), *words]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,  # noqa: PLW1509 - no threads yet
    ) as process:  # fmt: skip
        try:
            watch = JobWatch(JobFolder(tmp_path / "job"))
            while watch.state != "running":
                watch.poll()
                time.sleep(0.01)
            start = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 130
            assert time.monotonic() - start < limit_s
            assert process.stderr and process.stderr.read().count("Cancelled.") == 1
        finally:
            process.kill()
    watch.poll()
    assert watch.state == "cancelled"


@pytest.mark.skipif(sys.platform == "win32", reason="terminals")
def test_a_terminal_shows_how_far_the_job_is_and_how_long_it_takes(tmp_path):
    import pty

    ours, theirs = pty.openpty()
    command = [*COMMAND, "selftest", "--out", str(tmp_path / "job"), "--steps", "10", "--step-s", "0.1"]
    subprocess.run(command, cwd=ROOT, stderr=theirs, timeout=60, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\rselftest 50 %, 1 s left" in shown
    assert shown.rstrip().endswith("job/artifacts")


@pytest.mark.skipif(sys.platform == "win32", reason="locales")
def test_a_path_in_japanese_works_in_a_locale_without_it(tmp_path):
    out = tmp_path / "日本 $(x) 'é'"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [*COMMAND, "selftest", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, env=os.environ | plain, stderr=subprocess.DEVNULL, timeout=60, check=True)
    assert (out / ARTIFACT).exists()


def test_help_answers_without_importing_anything_heavy():
    code = (
        "import sys; from inference.runtime.cli import main\ntry: main(['motion', '--help'])\nexcept SystemExit: pass\n"
    )
    code += "heavy = {'numpy', 'torch', 'cv2', 'mediapipe'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--keypoints" in result.stdout


def test_the_doctor_tries_a_worker():
    result = run("doctor", "--json")
    findings = json.loads(result.stdout)
    assert [each["text"] for each in findings if each["name"] == "worker"] == [
        "starts, works, writes",
        "a crash is told as such",
    ]
    assert (result.returncode == 0) == all(each["verdict"] == "ok" for each in findings)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP tells how long it spins")
def test_idle_threads_of_torch_sleep_and_do_not_spin():
    told = os.environ | {"OMP_DISPLAY_ENV": "VERBOSE"}
    command = [*COMMAND, "doctor", "--json"]
    result = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False)
    assert "GOMP_SPINCOUNT = '0'" in result.stderr


def test_the_share_of_cores_is_what_this_process_may_use():
    assert 1 <= device.physical_cores() <= (os.cpu_count() or 1)


def test_threads_and_device_are_chosen():
    import cv2

    chosen = device.choose("cpu", 1)
    assert (chosen.name, chosen.threads) == ("cpu", 1)
    assert device.set_threads(2) == cv2.getNumThreads() == 2


def test_cuda_where_there_is_none_is_refused_by_a_sentence():
    import torch

    if torch.cuda.is_available():
        assert device.choose("cuda").name == "cuda"
        return
    with pytest.raises(RequestError, match="sees no CUDA device"):
        device.choose("cuda")


ENTRY = """
[tiny]
net = "lifter"
file = "tiny.safetensors"
sha256 = "{sha}"
bytes = 3
licence = "CC0"
recipe = "recipes/tiny.toml"
commit = "0"
metrics = {{ mpjpe_mm = 40.0 }}
"""
SHA_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("content", "sha", "words"),
    [
        (None, SHA_OF_ABC, "are missing: there is no"),
        (b"ab", SHA_OF_ABC, "has 2 bytes, 3 were published"),
        (b"abd", SHA_OF_ABC, "its sha256 differs"),
    ],
)
def test_weights_that_are_not_what_was_published_are_refused(tmp_path, content, sha, words):
    (tmp_path / "weights.toml").write_text(ENTRY.format(sha=sha))
    if content:
        (tmp_path / "tiny.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=words) as caught:
        weights.locate("tiny", folder=tmp_path, path=tmp_path / "weights.toml")
    assert "doctor" in caught.value.hint


def test_weights_that_are_right_are_found_and_a_later_damage_is_noticed(tmp_path):
    (tmp_path / "weights.toml").write_text(ENTRY.format(sha=SHA_OF_ABC))
    file = tmp_path / "tiny.safetensors"
    file.write_bytes(b"abc")
    assert weights.locate("tiny", folder=tmp_path, path=tmp_path / "weights.toml") == file
    time.sleep(0.01)
    file.write_bytes(b"abd")
    with pytest.raises(WeightsError):
        weights.locate("tiny", folder=tmp_path, path=tmp_path / "weights.toml")


def test_unknown_weights_are_told_with_what_is_known(tmp_path):
    (tmp_path / "weights.toml").write_text(ENTRY.format(sha=SHA_OF_ABC))
    with pytest.raises(WeightsError, match="known are tiny"):
        weights.locate("huge", folder=tmp_path, path=tmp_path / "weights.toml")


def test_the_published_weights_are_in_place():
    for name in weights.registry():
        assert weights.locate(name).exists()
