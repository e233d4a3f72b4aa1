"""Arrays to datablocks and back; no Operator classes."""
