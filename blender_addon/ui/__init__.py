"""Panels: they draw and decide nothing."""

from __future__ import annotations

from . import body, calibration, face, head, jobs, live, motion, reenact, retarget

# Each has its CLASSES, and of these the PANELS, which go under one tab.
GROUPS = (motion, calibration, retarget, live, head, face, reenact, body, jobs)
