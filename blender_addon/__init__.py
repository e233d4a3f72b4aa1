"""The face of Understudy in Blender: registration, preferences, panels and commands."""

from __future__ import annotations

from .registry import register, unregister

__all__ = ("register", "unregister")
