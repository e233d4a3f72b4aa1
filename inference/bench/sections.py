"""The command line that benchmarks share: which sections, on what data, and where the tables go."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..protocol.errors import RequestError
from .table import Table, each, write


def parser_of(name: str, about: str | None, sections: Sequence[str]) -> argparse.ArgumentParser:
    """Give a parser of `--data`, `--only` and `--out` for `bench NAME`; `about` is the module's docstring."""
    parser = argparse.ArgumentParser(prog=f"python -m inference bench {name}", description=about)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("UNDERSTUDY_DATA"),
        help="the folder of free motions and footage (default: UNDERSTUDY_DATA)",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--out", type=Path, help="also write FILE.json and FILE.md")
    return parser


def check_data(data: Path | None) -> Path:
    """Give the folder of the data sets.

    Raises:
        RequestError: none is named, or there is none.
    """
    if data is None or not data.is_dir():
        found = "no folder is named" if data is None else f"there is no folder {data}"
        raise RequestError(found, "Name the data: --data DIR, or UNDERSTUDY_DATA.", field="data")
    return data


def run_sections(
    name: str, about: str | None, sections: Mapping[str, Callable[[Path], list[Table]]], arguments: Sequence[str] | None
) -> int:
    """Run the chosen sections on the data and print their tables."""
    options = parser_of(name, about, list(sections)).parse_args(arguments)
    data = check_data(options.data)
    write([table for section in each(options.only) for table in sections[section](data)], options.out)
    return 0
