#!/usr/bin/env python3
"""Set up, build, try and test Understudy from a checkout, with nothing but Python 3.11.

    python3 build_addon.py env      make the environment of the worker and the tests, in .venv
    python3 build_addon.py build    pack the extension: dist/understudy-<version>.zip
    python3 build_addon.py repo     make a static extension repository of it: dist/repository
    python3 build_addon.py demo     from the clip in this repository to demo/demo.blend
    python3 build_addon.py test     run every check; what follows is handed to pytest
    python3 build_addon.py lock     write requirements/*.lock again from pyproject.toml

Each makes what it needs of the others first and says what it does. An environment that stands is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCKS = ROOT / "requirements"
ID = "understudy"

SHIPPED = ("blender_addon", "operators", "inference")
LEFT_OUT = ("inference/training", "inference/bench")
SHIPPED_FILES = (
    "LICENSE",
    "MODEL_CARDS.md",
    "THIRD_PARTY.md",
    "requirements/setup.toml",
    "requirements/inference.lock",
)
SETUP_LOCKS = "requirements/setup"
ENTRY = 'from .blender_addon import register, unregister\n__all__ = ["register", "unregister"]\n'

# What Blender says of each frame that it renders, and of the computer's sound and graphics.
CHATTER = re.compile(r"\d\d:\d\d\.\d+ +\S+ +\| |Fra:|Append frame|Unable to initialise audio|EGL|\s*$")
DEMO_FILES = ("demo.blend", "preview.png", "preview.mp4", "overlay.mp4", "report.html", "report.json")
IN_BLENDER = """
import bpy, importlib, os, sys
archive, *arguments = sys.argv[1:]
bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
code = importlib.import_module("bl_ext.user_default.understudy.blender_addon.commands").run(arguments)
sys.stdout.flush(), sys.stderr.flush()
os._exit(code)  # bpy may crash or hang on its way out
"""

BLENDERS = {"4.2": "3.11", "4.5": "3.11", "5.0": "3.11", "5.2": "3.13"}  # Blender version: its Python
DEFAULT_BLENDERS = ("5.0", "4.5")
MAIN_BLENDER = "5.0"  # the one in .venv
INTERRUPTED = "interrupted"  # stands in an environment's stamp while pip is at work
TORCH_LOCK = "# Written by build_addon.py lock for Python 3.11: CUDA 13 on Linux, Metal on macOS, else the processor."
UV_LOCK = "# Written by build_addon.py lock: what installs the environment."
NO_TESTS = 5  # pytest's exit code when a selection left nothing to run
BLENDER_LIBRARIES = "libxxf86vm1 libxi6 libxrender1 libxfixes3 libsm6 libxkbcommon0 libgl1 libegl1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("env", help="make .venv")
    one.add_argument("--python", default="", help="the Python 3.11 to start from (default: found by itself)")
    one.add_argument("--lean", action="store_true", help="only what the worker needs: no Blender, no test tools")
    one.add_argument("--clear", action="store_true", help="start over")
    commands.add_parser("build", help="pack the extension")
    one = commands.add_parser("repo", help="make a static extension repository")
    one.add_argument("--out", type=Path, default=ROOT / "dist" / "repository", help="default: dist/repository")
    one = commands.add_parser("demo", help="run the main job through Blender")
    one.add_argument("--out", type=Path, default=ROOT / "demo", help="where the results go (default: ./demo)")
    one = commands.add_parser("test", help="run every check")
    one.add_argument("--bpy", action="append", choices=sorted(BLENDERS), help="the add-on's tests on this Blender")
    commands.add_parser("lock", help="resolve the dependencies again")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        parser.error(f"unrecognised: {' '.join(rest)}")
    return run_command(options, rest)


def run_command(options: argparse.Namespace, rest: list[str]) -> int:
    """Do one subcommand and give the exit code."""
    if options.command == "env":
        ensure(lean_environment() if options.lean else main_environment(), python=options.python, clear=options.clear)
    elif options.command == "build":
        build()
    elif options.command == "repo":
        repository(options.out.resolve())
    elif options.command == "demo":
        demo(options.out.resolve())
    elif options.command == "lock":
        lock()
    else:
        return test(rest, options.bpy)
    return 0


# Environments ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Environment:
    """A virtual environment: where it is, whose Python it has, and what is laid into it in this order."""

    folder: Path
    python: str
    locks: tuple[str, ...]
    torch: str = ""

    @property
    def interpreter(self) -> Path:
        """The Python inside."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp(self) -> Path:
        """The file that says which layers are complete."""
        return self.folder / "understudy.stamp"

    def layers(self) -> Iterator[tuple[str, list[str]]]:
        """Yield a fingerprint for each layer, and what pip is asked for it."""
        for name in self.locks:
            path = LOCKS / f"{name}.lock"
            exactly = ["--no-deps", "--require-hashes", "--requirement", str(path)]
            yield f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}", exactly
        if self.torch:
            yield f"torch {self.torch}", [f"torch=={self.torch}"]


def main_environment() -> Environment:
    """The worker, the tests, the training and one Blender."""
    return Environment(ROOT / ".venv", "3.11", ("inference", "dev", f"bpy-{MAIN_BLENDER}"), project()["torch"])


def lean_environment() -> Environment:
    """The worker alone."""
    return Environment(ROOT / ".venv", "3.11", ("inference",), project()["torch"])


def blender_environment(version: str) -> Environment:
    """One Blender and pytest, for the add-on's own tests."""
    if version == MAIN_BLENDER:
        return main_environment()
    return Environment(ROOT / f".venv-bpy{version.replace('.', '')}", BLENDERS[version], (f"bpy-{version}",))


def project() -> dict[str, str]:
    """Read the version, and that of torch, from pyproject.toml."""
    import tomllib  # here, so that an older Python reaches the sentence about versions

    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {"version": table["project"]["version"], "torch": table["tool"][ID]["torch"]}


def ensure(environment: Environment, *, python: str = "", clear: bool = False) -> Path:
    """Bring an environment to what the locks say and give its interpreter."""
    folder, stamp = environment.folder, environment.stamp
    done = set(stamp.read_text().splitlines()) if stamp.is_file() else set()
    stands = INTERRUPTED not in done and version_of(environment.interpreter) == environment.python
    if clear or not stands or not (done or answer([str(environment.interpreter), "-m", "pip", "--version"])):
        base = python or find_python(environment.python)
        say(f"{folder.name}: a new environment from {base}")
        call([base, "-m", "venv", "--clear", folder], why=f"{folder.name} could not be made.")
        done = set()
    missing = [(mark, asked) for mark, asked in environment.layers() if mark not in done]
    for number, (mark, asked) in enumerate(missing, start=1):
        say(f"{folder.name}: {number} of {len(missing)}, {mark.split()[0]}")
        stamp.write_text("\n".join(sorted({*done, INTERRUPTED})) + "\n")
        pip = [environment.interpreter, "-m", "pip", "install", "--only-binary", ":all:", "--disable-pip-version-check"]
        call([*pip, *asked], why=f"{asked[-1]} could not be installed; the lines above say why.")
        done.add(mark)
        stamp.write_text("\n".join(sorted(done)) + "\n")
    if missing:
        check_imports(environment)
    else:
        say(f"{folder.name} stands.")
    return environment.interpreter


def check_imports(environment: Environment) -> None:
    """Import what is heaviest once, so that a missing system library is told here."""
    modules = ["torch, mediapipe, av"] if environment.torch else []
    modules += ["bpy"] if any(name.startswith("bpy-") for name in environment.locks) else []
    for names in modules:
        say(f"{environment.folder.name}: importing {names} once")
        script = f"import os, {names}; os._exit(0)"  # bpy may crash or hang on its way out, so it is not let out
        hint = f" On Debian: apt-get install {BLENDER_LIBRARIES}" if names == "bpy" else ""
        call([environment.interpreter, "-c", script], why=f"{names} cannot be loaded; the lines above say why.{hint}")


def find_python(version: str) -> str:
    """Find an interpreter of `version` that can make environments."""
    name = f"python{version}"
    places = [sys.executable, shutil.which(name), shutil.which("python3"), shutil.which("python")]
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    places += [str(path) for path in sorted(versions.glob(f"{version}.*/bin/{name}"), reverse=True)]
    if shutil.which("py"):  # the launcher on Windows
        places.append(answer(["py", f"-{version}", "-c", "import sys; print(sys.executable)"]))
    for place in filter(None, places):
        if version_of(place) == version:
            return place
    raise SystemExit(
        f"No Python {version} with the modules venv and ensurepip was found: not as {name} on PATH, nor under pyenv. "
        f"Install it (Debian: apt-get install {name}-venv), or name one with: build_addon.py env --python PATH"
    )


def version_of(python: str | Path) -> str:
    """Give "3.11" for an interpreter of that version that has venv and ensurepip, "" for none."""
    return answer([str(python), "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"])


def answer(command: list[str]) -> str:
    """What a program prints, or "" where it fails or is not there."""
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return result.stdout.strip()


def lock() -> None:
    """Resolve every dependency group for all platforms and write it down with hashes."""
    here = main_environment().interpreter.with_name("uv.exe" if os.name == "nt" else "uv")
    uv = here if here.is_file() else shutil.which("uv")
    if not uv:
        raise SystemExit("Locks are made by uv, which is in .venv: build_addon.py env")
    groups = {"inference": "3.11", "dev": "3.11", **{f"bpy-{version}": python for version, python in BLENDERS.items()}}
    for group, python in groups.items():
        path = LOCKS / f"{group}.lock"
        asked = ["--group", f"pyproject.toml:{group}", "--python-version", python, "--no-header", "--no-annotate"]
        shared = group in ("dev", f"bpy-{MAIN_BLENDER}")  # these are laid over the inference layer
        constraint = ["--constraint", LOCKS / "inference.lock"] if shared else []
        resolve = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", *asked, *constraint]
        call([*resolve, "--output-file", path], why=f"{group} could not be resolved.")
        path.write_text(f"# Written by build_addon.py lock for Python {python}.\n" + path.read_text())
        say(f"{path.relative_to(ROOT)}: {len(locked(path))} packages")
    lock_setup(str(uv))


def lock_setup(uv: str) -> None:
    """Write what *Set Up Inference* installs besides inference.lock: torch of the general index, and uv itself."""
    folder = ROOT / SETUP_LOCKS
    with tempfile.TemporaryDirectory() as temporary:
        asked, found = Path(temporary) / "torch.in", Path(temporary) / "torch.lock"
        asked.write_text(f"torch=={project()['torch']}\n")
        how = [
            "--universal",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "--python-version",
            "3.11",
            "--no-config",
        ]
        call([uv, "pip", "compile", "--quiet", *how, "--constraint", LOCKS / "inference.lock", asked, "-o", found],
             why="torch could not be resolved.")  # fmt: skip
        known = locked(LOCKS / "inference.lock")
        parts = [part for part in entries(found) if part.partition("==")[0] not in known]
    (folder / "torch.lock").write_text(f"{TORCH_LOCK}\n{''.join(parts)}")
    parts = [part for part in entries(LOCKS / "dev.lock") if part.startswith("uv==")]
    (folder / "uv.lock").write_text(f"{UV_LOCK}\n{''.join(parts)}")
    say(f"{SETUP_LOCKS}: torch and uv; torch-cpu.lock is by hand, since its index lists no hashes for uv to take")


def entries(path: Path) -> list[str]:
    """Split a lock into its packages, each with its hashes."""
    return re.findall(r"^[a-z0-9._-]+==[^\n]*\n(?:    [^\n]*\n)*", path.read_text(), re.MULTILINE)


def locked(path: Path) -> dict[str, str]:
    """Read name and version of each package in a lock."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE))


# The extension --------------------------------------------------------------------------------------------------------


def build(out: Path | None = None) -> Path:
    """Pack, validate and put in place `dist/understudy-<version>.zip`; the same tree gives the same bytes."""
    out = out or ROOT / "dist" / f"{ID}-{project()['version']}.zip"
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        packed = Path(temporary) / out.name
        pack(packed)
        validate(packed)
        os.replace(packed, out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    say(f"{out} ({out.stat().st_size / 1e6:.1f} MB, sha256 {digest})")
    return out


def pack(path: Path) -> None:
    """Write the zip: names sorted, one date, one permission, and stored, since compressors differ by version."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(shipped().items()):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, content)


def shipped() -> dict[str, bytes]:
    """Collect what stands in the zip, name by name."""
    names = [*SHIPPED_FILES, *(f"{SETUP_LOCKS}/{path.name}" for path in (ROOT / SETUP_LOCKS).glob("*.lock"))]
    files = {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}
    for folder in SHIPPED:
        for path in (ROOT / folder).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
            if path.is_file() and not hidden and not name.startswith(LEFT_OUT):
                files[name] = path.read_bytes()
    manifest = files.pop("blender_addon/blender_manifest.toml").decode()
    version = f'version = "{project()["version"]}"'
    return files | {
        "__init__.py": ENTRY.encode(),
        "blender_manifest.toml": re.sub(r'^version = ".*?".*$', version, manifest, flags=re.MULTILINE).encode(),
    }


def validate(archive: Path) -> None:
    """Let Blender's own packager judge the zip."""
    scripts = blender_scripts()
    packager = scripts / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    tags = scripts / "modules" / "_bpy_internal" / "extensions" / "tags.py"
    command = [sys.executable, packager, "validate", f"--valid-tags={tags}", archive]
    call(command, why="Blender's validator refuses the zip.")


def repository(out: Path) -> None:
    """Lay the zip into a folder that any web server can serve; earlier versions in it stay.

    Users add the address of its index.json in *Preferences > Get Extensions > Repositories*.
    """
    build(out / f"{ID}-{project()['version']}.zip")
    packager = blender_scripts() / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py"
    command = [sys.executable, packager, "server-generate", f"--repo-dir={out}", "--html"]
    call(command, why="Blender's packager could not write the index.")
    say(f"{out / 'index.json'}: serve this folder, and add its index.json to Blender's repositories")


def blender_scripts() -> Path:
    """Find the scripts folder of the Blender in .venv, which is made where it is missing."""
    environment = main_environment()
    pattern = f"**/site-packages/bpy/{MAIN_BLENDER}/scripts"
    found = next(environment.folder.glob(pattern), None)
    if found is None:
        ensure(environment)
        found = next(environment.folder.glob(pattern))
    return found


# The demo -------------------------------------------------------------------------------------------------------------


def demo(out: Path) -> None:
    """Take the clip of this repository through the installed extension to a .blend, previews and a report."""
    started = time.monotonic()
    ensure(main_environment())
    archive = build()
    clip = ROOT / "inference" / "demo" / "front.mp4"
    out.mkdir(parents=True, exist_ok=True)
    capture = ["motion", "--video", clip, "--out", out, "--overwrite", "--blend", out / "demo.blend"]
    steps = {
        f"capturing {clip.relative_to(ROOT)}": capture,
        "drawing preview.png": ["apply", out, "--preview", out / "preview.png"],
        "drawing preview.mp4": ["apply", out, "--preview", out / "preview.mp4"],
    }
    for step, arguments in steps.items():
        say(step)
        if blender(archive, *arguments):
            raise SystemExit(f"[{ID}] {step} failed; the lines above and {out / 'log.txt'} say why.")
    say(f"{out}: {', '.join(name for name in DEMO_FILES if (out / name).is_file())}")
    say(f"done in {time.monotonic() - started:.0f} s")


def blender(archive: Path, *arguments: str | Path) -> int:
    """Install the zip into a fresh Blender and run `blender -c understudy ...`; give its exit code."""
    environment = main_environment()
    with tempfile.TemporaryDirectory(prefix="understudy-blender-") as resources:
        variables = {"BLENDER_USER_RESOURCES": resources, "UNDERSTUDY_PYTHON": str(environment.interpreter)}
        return execute([environment.interpreter, "-c", IN_BLENDER, archive, *arguments], leave_out=CHATTER, **variables)


# The tests ------------------------------------------------------------------------------------------------------------


def test(arguments: list[str], blenders: list[str] | None) -> int:
    """Run the checks of form, the core's tests and the add-on's tests, and give the worst exit code."""
    python = ensure(main_environment())
    paths = [argument for argument in arguments if Path(argument.split("::")[0]).exists()]
    flags = [argument for argument in arguments if argument not in paths]
    addon = [path for path in paths if "blender" in Path(path.split("::")[0]).parts]
    core = [path for path in paths if path not in addon]
    results: dict[str, tuple[int, float]] = {}
    if not arguments and not blenders:
        results["ruff"] = timed([python, "-m", "ruff", "check", ROOT])
        results["pyright"] = timed([python, "-m", "pyright", "--project", ROOT])
    if not blenders and (core or not addon):
        selection = core or ["tests", "--ignore=tests/blender"]
        results["core"] = timed([python, "-m", "pytest", *selection, *flags])
    if blenders or addon or not core:
        for version in blenders or DEFAULT_BLENDERS:
            interpreter = ensure(blender_environment(version))
            results[f"bpy {version}"] = timed([interpreter, "-m", "pytest", *(addon or ["tests/blender"]), *flags])
    return summary(results, tolerated=(0, NO_TESTS) if arguments else (0,))


def timed(command: Sequence[str | Path]) -> tuple[int, float]:
    """Run a check to its end and give its exit code and its seconds."""
    say(" ".join(str(part) for part in command[1:]))
    started = time.monotonic()
    return execute(command, UNDERSTUDY_PYTHON=str(main_environment().interpreter)), time.monotonic() - started


def summary(results: dict[str, tuple[int, float]], *, tolerated: tuple[int, ...]) -> int:
    """Print a line for each check."""
    say("summary")
    for name, (code, seconds) in results.items():
        print(f"    {name:10} {'passed' if code in tolerated else f'FAILED ({code})':12} {seconds:6.0f} s", flush=True)
    return 0 if all(code in tolerated for code, _ in results.values()) else 1


# Around all of it -----------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"[{ID}] {text}", flush=True)


def call(command: Sequence[str | Path], *, why: str) -> None:
    """Run a program, or stop with a sentence."""
    code = execute(command)
    if code:
        raise SystemExit(f"[{ID}] {why} (exit code {code})")


def execute(command: Sequence[str | Path], *, leave_out: re.Pattern[str] | None = None, **variables: str) -> int:
    """Run a program from the root of the checkout, without input and without what leads Python to other packages.

    Lines of its output that match `leave_out` are not shown.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    words, environment = [str(part) for part in command], {**inherited, **variables}
    if leave_out is None:
        return subprocess.call(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as child:  # fmt: skip
        for line in child.stdout or ():
            if not leave_out.match(line):
                print(line, end="", flush=True)
    return child.returncode


def use_a_new_python() -> None:
    """Start again with Python 3.11 where an older one was called."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it is the older one that reads this line
        python = find_python("3.11")
        os.execv(python, [python, *sys.argv])  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    use_a_new_python()
    sys.exit(main())
