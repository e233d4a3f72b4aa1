"""Panels: they draw and decide nothing."""
