"""Rendered people with exact truth, for training, tests and the demo clip."""
