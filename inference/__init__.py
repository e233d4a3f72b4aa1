"""Understudy inference: runs anywhere, never imports bpy."""
