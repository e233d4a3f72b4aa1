"""The zip that users install: the same bytes from the same tree, nothing missing, nothing besides."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import build_addon

ENABLE = """
import contextlib, importlib, json, os, sys, time
import bpy
archive, name = sys.argv[1:]
with contextlib.redirect_stdout(sys.stderr):
    if archive:
        bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=False)
    before = set(sys.modules)
    times = [time.perf_counter()]
    module = importlib.import_module(name)
    times.append(time.perf_counter())
    module.register()
    times.append(time.perf_counter())
    found = {"import_ms": 1e3 * (times[1] - times[0]), "register_ms": 1e3 * (times[2] - times[1])}
print(json.dumps(found | {"modules": sorted(set(sys.modules) - before)}))
sys.stdout.flush()
os._exit(0)
"""


def enable(resources: Path, archive: str) -> dict[str, Any]:
    """Import and register the installed add-on in a fresh Blender; install `archive` first unless it is ""."""
    command = [sys.executable, "-c", ENABLE, archive, "bl_ext.user_default.understudy"]
    variables = {"BLENDER_USER_RESOURCES": str(resources), "PATH": ""}
    result = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly built and validated zip."""
    return build_addon.build(tmp_path_factory.mktemp("dist") / "understudy.zip")


@pytest.fixture(scope="module")
def names(archive: Path) -> list[str]:
    """What stands in it."""
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def test_the_same_tree_gives_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    build_addon.pack(tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_names_are_sorted_and_every_date_and_permission_is_fixed(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {(info.date_time, info.external_attr, info.compress_type) for info in infos} == {
        ((1980, 1, 1, 0, 0, 0), 0o644 << 16, zipfile.ZIP_STORED)
    }


def test_only_tracked_files_are_packed_and_neither_training_nor_tests(names: list[str]) -> None:
    if not (build_addon.ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is unknown")
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=build_addon.ROOT, text=True).split("\0")
    assert not set(names) - set(listed) - {"__init__.py", "blender_manifest.toml"}
    assert not [name for name in names if name.startswith((*build_addon.LEFT_OUT, "tests"))]


def test_the_manifest_carries_the_version_of_the_project(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        manifest = tomllib.loads(opened.read("blender_manifest.toml").decode())
    assert (manifest["id"], manifest["version"]) == ("understudy", build_addon.project()["version"])


def test_licence_and_acknowledgements_travel_along(names: list[str]) -> None:
    assert {"LICENSE", "THIRD_PARTY.md", "MODEL_CARDS.md"} <= set(names)


def test_known_mappings_travel_along(names: list[str]) -> None:
    folder = build_addon.ROOT / "inference/core/mapping/presets"
    assert {f"inference/core/mapping/presets/{path.name}" for path in folder.glob("*.json")} <= set(names)
    assert "inference/core/mapping/presets/rigify.json" in names


def test_enabling_the_installed_zip_loads_no_network_library(archive: Path, tmp_path: Path, capsys) -> None:
    first, found = enable(tmp_path, str(archive)), enable(tmp_path, "")
    with capsys.disabled():  # reported: a time is never a verdict
        sys.stdout.write(
            f"\nadd-on: import {first['import_ms']:.0f} ms at first, {found['import_ms']:.0f} ms then; "
            f"registration {found['register_ms']:.1f} ms\n"
        )
    heavy = {"torch", "mediapipe", "cv2", "scipy", "av", "matplotlib", "safetensors"}
    assert not heavy & {name.split(".")[0] for name in found["modules"]}


def test_weights_are_listed_with_their_digest_and_described() -> None:
    table = tomllib.loads((build_addon.ROOT / "inference/runtime/weights.toml").read_text(encoding="utf-8"))
    entries = [entry for value in table.values() for entry in (value if isinstance(value, list) else [value])]
    listed = {entry["file"]: entry["sha256"] for entry in entries if isinstance(entry, dict) and "sha256" in entry}
    everything = {path.name: path for path in (build_addon.ROOT / "inference").rglob("*.safetensors")}
    files = {name: path for name, path in everything.items() if path.parent.name == "weights"}  # what users run
    assert {Path(name).name for name in listed} == set(files)
    cards = (build_addon.ROOT / "MODEL_CARDS.md").read_text(encoding="utf-8")
    for name in everything:  # what benchmarks compare with stands there too
        assert name in cards, f"{name} has no model card"
    for name, digest in listed.items():
        path = files[Path(name).name]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, f"{name} is not the file that was listed"
        assert path.name in cards, f"{name} has no model card"
