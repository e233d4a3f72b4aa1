"""Tables for people: the same rows as Markdown on the terminal and as JSON in a file."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ..protocol.events import Reporter, SilentReporter

Cell = str | float | int | None
REPORTER: ContextVar[Reporter] = ContextVar("reporter")  # set by `bench --job`


@dataclass
class Table:
    """One titled table; `target` in a row is what the figure should reach, as words."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: Cell) -> None:
        """Append a row."""
        self.rows.append(cells)

    def markdown(self) -> str:
        """The table as GitHub shows it."""
        lines = [f"**{self.title}**", "", f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        lines += [f"| {' | '.join(_text(cell) for cell in row)} |" for row in self.rows]
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 10 else f"{cell:.1f}"
    return str(cell)


def each(sections: Sequence[str]) -> Iterator[str]:
    """Give one section of a benchmark after another, and say on the terminal and in the job folder how far it is.

    Raises:
        Cancelled: somebody asked to stop.
    """
    reporter = REPORTER.get(SilentReporter())
    for index, name in enumerate(sections):
        reporter.progress(name, index, len(sections))
        sys.stderr.write(f"bench: {name}\n")
        yield name
    reporter.progress("tables", len(sections), len(sections))


def write(tables: Sequence[Table], out: Path | None) -> None:
    """Print all tables, and write them with the machine they were made on to `<out>.json` and `<out>.md`."""
    text = "\n".join(table.markdown() for table in tables)
    sys.stdout.write(text + "\n")
    if out is None:
        return
    facts: dict[str, Any] = {"date": date.today().isoformat(), "python": platform.python_version()}
    facts |= {"machine": platform.machine(), "system": platform.system()}
    content = [{"title": t.title, "columns": list(t.columns), "rows": [list(r) for r in t.rows]} for t in tables]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps({**facts, "tables": content}, indent=1), encoding="utf-8")
    out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
