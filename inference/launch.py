"""Run `python -m inference` from any folder, as farms start programs: `python .../inference/launch.py batch ...`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAME = "inference"
HERE = Path(__file__).resolve().parent


def main() -> int:
    """Import the package that this file lies in and hand the words over."""
    spec = importlib.util.spec_from_file_location(NAME, HERE / "__init__.py", submodule_search_locations=[str(HERE)])
    assert spec and spec.loader
    sys.modules[NAME] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return importlib.import_module(f"{NAME}.runtime.cli").main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
