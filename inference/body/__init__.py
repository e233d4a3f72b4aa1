"""A person's body from silhouette and joints: the wing of GC-SSN."""
