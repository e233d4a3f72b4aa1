"""Datablocks that are found again after undo and under new names."""

from __future__ import annotations

from typing import Any


def found_again(datablocks: Any, uid: int) -> Any:
    """Look up a datablock by its `session_uid`, which outlives undo and new names; None where it was deleted."""
    return next((item for item in datablocks if item.session_uid == uid), None)
