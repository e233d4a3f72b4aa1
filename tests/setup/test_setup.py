"""Environments: chosen by the driver, hash-locked, swapped in at once; whatever fails, the old one keeps working."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from inference.protocol.errors import RequestError, ResourceError
from inference.runtime.support import anonymous
from inference.setup.install import current
from inference.setup.recipe import FOLDER, Hardware, check_disk, choose, read_recipe

ROOT = Path(__file__).resolve().parents[2]
TABLE = """
python = "3.11"
tools = "setup/uv.lock"
selftest = ["-c", "{selftest}"]
[cpu]
systems = ["linux-x86_64", "linux-aarch64", "macos-arm64", "macos-x86_64", "windows-amd64"]
locks = ["small.lock"]
download_mb = 1
disk_mb = {disk_mb}
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """The installer and one small package, as an offline folder."""
    folder = tmp_path_factory.mktemp("wheels é")
    lock = folder / "both.lock"
    lock.write_text(_lines("uv") + _lines("iniconfig"), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    result = subprocess.run([*pip, "--require-hashes", "-r", lock, "-d", folder], capture_output=True, check=False)
    if result.returncode:
        pytest.skip("no package index can be reached")
    return folder


@pytest.fixture(scope="module")
def tools(tmp_path_factory, wheels) -> Path:
    """A folder of environments with one in use."""
    place = tmp_path_factory.mktemp("understudy é")
    result = setup(place, recipe(tmp_path_factory.mktemp("recipe")), wheels)
    assert result.returncode == 0, result.stderr
    return place


@pytest.fixture
def place(tools, tmp_path) -> Path:
    """A copy of that for one test."""
    shutil.copytree(tools, tmp_path / "env é", symlinks=True)
    return tmp_path / "env é"


def _lines(package: str) -> str:
    found = re.search(rf"^({package}==[^\n]*\n(?:    [^\n]*\n)+)", (FOLDER / "dev.lock").read_text(), re.MULTILINE)
    assert found
    return found[1]


def recipe(folder: Path, selftest: str = "import iniconfig", lock: str = "", disk_mb: int = 30) -> Path:
    """A recipe with one small package."""
    (folder / "setup").mkdir(parents=True, exist_ok=True)
    (folder / "setup.toml").write_text(TABLE.format(selftest=selftest, disk_mb=disk_mb), encoding="utf-8")
    (folder / "setup/uv.lock").write_text(_lines("uv"), encoding="utf-8")
    (folder / "small.lock").write_text(lock or _lines("iniconfig"), encoding="utf-8")
    return folder


def command(into: Path, folder: Path, wheels: Path) -> list[str]:
    words = ["setup", "--into", into, "--recipe", folder, "--offline", wheels]
    return [sys.executable, "-m", "inference", *map(str, words)]


def setup(into: Path, folder: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(into, folder, wheels), cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def works(place: Path) -> bool:
    python = current(place)
    return python is not None and subprocess.run([python, "-I", "-c", "import iniconfig"], check=False).returncode == 0


def changed(folder: Path) -> Path:
    """The recipe of another environment: the same package under another name."""
    return recipe(folder, lock="# another\n" + _lines("iniconfig"))


def test_what_is_installed_works_and_a_second_time_is_quick(place, tmp_path, wheels):
    assert works(place)
    before = current(place)
    assert setup(place, recipe(tmp_path / "r"), wheels).returncode == 0
    assert current(place) == before and not list(place.glob("*.partial"))


def test_another_lock_is_another_environment_and_the_old_one_goes_with_the_next_run(place, tmp_path, wheels):
    before = current(place)
    assert setup(place, changed(tmp_path / "r"), wheels).returncode == 0
    assert works(place) and current(place) != before and before and before.exists(), "a worker may still run in it"
    assert setup(place, changed(tmp_path / "r"), wheels).returncode == 0
    assert works(place) and not before.exists()


@pytest.mark.parametrize("trouble", ["hash", "missing wheel", "self-test", "disk"])
def test_whatever_fails_the_old_environment_stays(place, tmp_path, wheels, trouble):
    before, words, code = current(place), "", 3
    lock = "# another\n" + _lines("iniconfig")
    if trouble == "hash":
        folder, words = recipe(tmp_path / "r", lock=re.sub("sha256:.", "sha256:0", lock)), "is not what was locked"
    elif trouble == "missing wheel":
        folder, words = (
            recipe(tmp_path / "r", lock=f"{lock}absent==1.0 --hash=sha256:{'0' * 64}\n"),
            "Put what is missing",
        )
    elif trouble == "self-test":
        folder, words = recipe(tmp_path / "r", "raise SystemExit('no card')", lock), "failed its self-test: no card"
    else:
        folder, words, code = recipe(tmp_path / "r", lock=lock, disk_mb=10**9), "GB are free", 5
    result = setup(place, folder, wheels)
    assert result.returncode == code and words in result.stderr, result.stderr
    assert current(place) == before and works(place)
    assert setup(place, changed(tmp_path / "r2"), wheels).returncode == 0
    assert not list(place.glob("*.partial"))


def test_nothing_is_built(place, tmp_path, wheels):
    """A source distribution would run code: it is refused even where its hash is right."""
    import hashlib
    import io
    import tarfile

    canary = tmp_path / "canary"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        text = f"open({str(canary)!r}, 'w')".encode()
        info = tarfile.TarInfo("built-1.0/setup.py")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    folder = tmp_path / "wheels"
    shutil.copytree(wheels, folder)
    (folder / "built-1.0.tar.gz").write_bytes(out.getvalue())
    lock = f"built==1.0 --hash=sha256:{hashlib.sha256(out.getvalue()).hexdigest()}\n"
    assert setup(place, recipe(tmp_path / "r", lock=lock), folder).returncode == 3
    assert not canary.exists() and works(place)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_the_old_environment_works(place, tmp_path, wheels, count):
    dice, folder = random.Random(count), changed(tmp_path / "r")
    start = time.monotonic()
    assert setup(place, recipe(tmp_path / "warm", lock="# third\n" + _lines("iniconfig")), wheels).returncode == 0
    span_s, before = time.monotonic() - start, current(place)
    for _ in range(count):
        process = subprocess.Popen(
            command(place, folder, wheels), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(dice.uniform(0.1, span_s))
        os.killpg(process.pid, 9)
        process.wait()
        assert works(place)
        if current(place) != before:  # it was through
            before = current(place)
            folder = recipe(tmp_path / "r", lock=f"# {time.monotonic()}\n" + _lines("iniconfig"))
    assert setup(place, folder, wheels).returncode == 0
    assert works(place) and not list(place.glob("*.partial"))


def test_two_at_once_do_not_meet(place, tmp_path, wheels):
    folder = changed(tmp_path / "r")
    processes = [
        subprocess.Popen(command(place, folder, wheels), cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in (1, 2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) in ([0, 2], [0, 0])
    assert works(place) and (sum(process.returncode for process in processes) == 0 or "another" in "".join(said))


@pytest.mark.parametrize(
    ("hardware", "backend", "reason"),
    [
        (Hardware("linux-x86_64"), "cpu", "no accelerator was found"),
        (Hardware("linux-x86_64", 580), "cuda", "driver 580"),
        (Hardware("linux-x86_64", 590), "cuda", "driver 590"),
        (Hardware("linux-x86_64", 570), "cpu", "570 is older than 580"),
        (Hardware("linux-x86_64", 0, True), "cpu", "AMD"),
        (Hardware("linux-aarch64", 600), "cuda", "driver 600"),
        (Hardware("macos-arm64"), "metal", "Apple"),
        (Hardware("windows-amd64", 600), "cpu", "no environment for NVIDIA's cards"),
        (Hardware("windows-amd64"), "cpu", "no accelerator was found"),
    ],
)
def test_the_driver_chooses(hardware, backend, reason):
    choice = choose(read_recipe(), "auto", hardware)
    assert choice.option.backend == backend and reason in choice.reason
    for lock in choice.option.locks:
        assert (FOLDER / lock).is_file()


@pytest.mark.parametrize(
    ("wanted", "system"), [("rocm", "linux-x86_64"), ("metal", "linux-x86_64"), ("auto", "plan9-mips")]
)
def test_what_is_not_locked_is_told(wanted, system):
    with pytest.raises(RequestError, match="locked for"):
        choose(read_recipe(), wanted, Hardware(system))


def test_every_package_of_every_lock_is_exact_and_has_a_hash():
    for path in [*(FOLDER / "setup").glob("*.lock"), FOLDER / "inference.lock"]:
        for part in re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", path.read_text())):
            assert re.match(r"[a-z0-9._-]+==\S+", part) and "--hash=sha256:" in part, part


def test_too_little_disk_is_told_before_anything_is_fetched(tmp_path):
    option = choose(read_recipe(), "cpu", Hardware("linux-x86_64")).option
    with pytest.raises(ResourceError, match="are needed while installing"):
        check_disk(tmp_path, type(option)("cpu", (), (), 1, 10**9))


def test_the_support_bundle_has_the_logs_and_no_names(tmp_path):
    job = tmp_path / "jobs/zoltan"
    (job / "artifacts").mkdir(parents=True)
    (job / "request.json").write_text(
        json.dumps({"task": "motion", "request": {"video": ["/home/zoltan/Zoltan Smith.mp4"]}})
    )
    (job / "log.txt").write_text("cannot read /home/zoltan/face.png\nok\n")
    (job / "overlay.mp4").write_bytes(b"x")
    (job / "artifacts/body_motion.npz").write_bytes(b"x")
    words = ["doctor", "--bundle", tmp_path / "bundle.zip", "--jobs", tmp_path / "jobs"]
    subprocess.run([sys.executable, "-m", "inference", *map(str, words)], cwd=ROOT, check=False, capture_output=True)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        names = set(archive.namelist())
        text = "\n".join(archive.read(name).decode() for name in names)
    assert names == {"doctor.json", "versions.json", "job_1/log.txt", "job_1/request.json"}
    assert "zoltan" not in text.lower()
    assert '"verdict": "ok"' in text and '"task": "motion"' in text


def test_paths_keep_their_endings_and_our_code_its_place():
    assert anonymous("C:\\Users\\ann\\walk.mp4 failed") == "....mp4 failed"
    assert anonymous('File "/home/ann/x/inference/motion/fit.py", line 3').startswith(
        'File ".../inference/motion/fit.py"'
    )
