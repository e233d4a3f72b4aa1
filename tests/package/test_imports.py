"""The layout's law: who may import whom, and what shipped code never does."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("blender_addon", "operators", "inference")
NOT_SHIPPED = ("inference/training/", "inference/bench/")
STDLIB = set(sys.stdlib_module_names)
BLENDER = {"bpy", "bpy_extras", "mathutils", "gpu", "gpu_extras", "blf", "idprop", "addon_utils"}
NETS = {"numpy", "torch", "safetensors"}
STAGES = NETS | {"cv2", "scipy", "mediapipe", "google.protobuf", "av", "matplotlib"}
BASEMENT = {"inference.protocol", "inference.core"}
# stdlib, all of it
BATCH = {"inference.batch", "inference.setup", "inference.runtime.guard", "inference.runtime.weights"}
TOOLS = {"inference.runtime.video", "inference.runtime.sound", "inference.runtime.device", "inference.runtime.weights"}
WING = STAGES | BASEMENT | TOOLS | {"inference.nets", "inference.sight"}

# a folder, and what may be imported there besides the standard library; the longest folder that fits a file counts
ALLOWED = {
    "blender_addon": BLENDER | {"numpy", "blender_addon", "operators", "inference.protocol"} | BATCH,
    "operators": BLENDER | {"numpy", "operators"} | BASEMENT | BATCH,
    "operators/scene": BLENDER | {"numpy", "operators.scene", "inference.batch.tasks"} | BASEMENT,
    "inference": BASEMENT | {"inference.runtime"},
    "inference/protocol": {"inference.protocol"},
    "inference/batch": {"inference.protocol", "inference.runtime.worker"} | BATCH,
    "inference/setup": {"inference.protocol", "inference.setup"},
    "inference/core": {"numpy"} | BASEMENT,
    "inference/nets": NETS | BASEMENT | {"inference.nets"},
    # the wings by name, on demand
    "inference/runtime": STAGES | BASEMENT | {"inference.nets", "inference.runtime"} | BATCH,
    "inference/sight": STAGES | BASEMENT | TOOLS | {"PIL", "inference.nets", "inference.sight"},
    "inference/motion": WING | {"inference.motion", "inference.calibration"},
    "inference/calibration": WING | {"inference.motion", "inference.calibration"},  # one wing
    "inference/body": WING | {"anny", "skimage", "warp", "inference.body"},
    "inference/head": WING | {"PIL", "skimage", "warp", "inference.head"},
    "inference/face": WING | {"inference.head", "inference.face"},  # one wing
    "inference/reenact": WING | {"inference.reenact"},
}


def modules(*, shipped: bool = True) -> Iterator[tuple[str, ast.Module]]:
    """Path and syntax tree of every Python file in the three folders."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not shipped or not name.startswith(NOT_SHIPPED):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    """Absolute dotted names of all that a file imports, at its top or inside functions."""
    package = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *filter(None, [node.module])]
            yield from (".".join([*module, alias.name]) for alias in node.names)


def is_within(name: str, places: set[str]) -> bool:
    """Tell whether a dotted name is one of the places or lies below one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def test_a_file_imports_only_what_its_folder_may() -> None:
    foreign = []
    for name, tree in modules():
        allowed = ALLOWED[max((folder for folder in ALLOWED if name.startswith(f"{folder}/")), key=len)]
        foreign += [f"{name}: {other}" for other in imported(name, tree) if not is_within(other, allowed | STDLIB)]
    assert not foreign


def test_nothing_shipped_imports_training_benchmarks_or_tests() -> None:
    places = {"inference.training", "inference.bench", "tests"}
    assert not [name for name, tree in modules() if any(is_within(other, places) for other in imported(name, tree))]


def test_inside_inference_nothing_climbs_above_it() -> None:
    climbing = [
        f"{name}:{node.lineno}"
        for name, tree in modules(shipped=False)
        for node in ast.walk(tree)
        if name.startswith("inference/") and isinstance(node, ast.ImportFrom) and node.level > name.count("/")
    ]
    assert not climbing


def habits(tree: ast.Module) -> Iterator[str]:
    """Find what shipped code never does."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="eval" | "exec" | "compile" | "__import__" as name)):
                yield f"{node.lineno} {name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen" as name)):
                yield f"{node.lineno} os.{name}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                yield f"{node.lineno} torch.load"
            case ast.keyword(arg="shell" | "allow_pickle" as name, value=ast.Constant(value=True)):
                yield f"{node.value.lineno} {name}=True"
            case ast.Attribute(value=ast.Name(id="sys"), attr="path"):
                yield f"{node.lineno} sys.path"
            case ast.ExceptHandler(type=None):
                yield f"{node.lineno} bare except"
            case ast.Global():
                yield f"{node.lineno} global"


def test_shipped_code_keeps_from_bad_habits() -> None:
    assert not [f"{name}:{habit}" for name, tree in modules() for habit in habits(tree)]


def test_shipped_code_reads_no_pickles() -> None:
    pickles = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
    assert not [name for name, tree in modules() if any(is_within(other, pickles) for other in imported(name, tree))]


def test_at_most_one_call_prints() -> None:
    prints = [
        f"{name}:{node.lineno}"
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert len(prints) <= 1, prints


def test_annotations_are_never_evaluated_early() -> None:
    late = "from __future__ import annotations"
    missing = []
    for name, tree in modules(shipped=False):
        code = [node for node in tree.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
        if code and ast.unparse(code[0]) != late:
            missing.append(name)
    assert not missing
