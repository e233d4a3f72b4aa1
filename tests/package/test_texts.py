"""What the repository's texts promise, and what they must not say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import build_addon
from inference.protocol import schema
from inference.protocol.requests import MotionRequest

ROOT = Path(__file__).resolve().parents[2]
# put together here, so that this file does not hold what it looks for
MACHINES = re.compile(r"(?<![\w.}])/(?:" + "|".join(["work", "root", "opt"]) + r")/")
HOSTS = re.compile(r"\b(?:" + "|".join(["pypi", "pythonhosted", "npmjs", "debian"]) + r")\.org\b")
BINARY = (".npz", ".safetensors", ".mp4", ".png", ".jpg", ".blend", ".c3d", ".fbx")


def texts() -> list[tuple[str, str]]:
    """Name and content of every text file that git tracks."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is unknown")
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    paths = [ROOT / name for name in names if name and not name.endswith(BINARY)]
    return [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def test_no_file_names_a_path_of_some_machine() -> None:
    assert not [f"{name}: {found[0]}" for name, text in texts() if (found := MACHINES.search(text))]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert not [f"{name}: {found[0]}" for name, text in texts() if (found := HOSTS.search(text))]


def test_every_locked_package_is_credited() -> None:
    credits = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8").lower()
    packages = {name for path in (ROOT / "requirements").rglob("*.lock") for name in build_addon.locked(path)}
    assert not sorted(name for name in packages if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", credits))


def test_layers_that_share_an_environment_lock_the_same_versions() -> None:
    versions: dict[str, set[str]] = {}
    for name in build_addon.main_environment().locks:
        for package, version in build_addon.locked(build_addon.LOCKS / f"{name}.lock").items():
            versions.setdefault(package, set()).add(version)
    assert not {package: found for package, found in versions.items() if len(found) > 1}


def test_every_locked_package_has_a_hash() -> None:
    for path in (ROOT / "requirements").glob("*.lock"):
        requirements = re.split(r"\n(?=\S)", path.read_text())
        assert not [text.splitlines()[0] for text in requirements if "==" in text and "--hash=sha256:" not in text]


def test_the_architecture_names_every_file_of_code() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = ("blender_addon/", "operators/", "inference/runtime/", "inference/")  # its tables leave these away
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py") if not path.name.startswith("__")]
    names = {path.relative_to(ROOT).as_posix() for path in paths}
    short = {name.removeprefix(next(room for room in rooms if name.startswith(room))) for name in names}
    assert not sorted(name for name in short if f"`{name}`" not in page)


def test_the_readme_shows_the_settings_as_they_are() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.partition("<!-- settings -->")[2].partition("<!-- /settings -->")[0].strip() == (
        schema.table(MotionRequest).strip()
    )
