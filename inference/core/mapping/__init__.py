"""Which bones of any rig do what: known rigs by name, all others by structure."""
