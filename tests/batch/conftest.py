from __future__ import annotations

from tests.worker.conftest import gone_after

__all__ = ["gone_after"]
