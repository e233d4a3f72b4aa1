"""Makes the environment that inference runs in: from Blender's own Python, with nothing but the standard library."""
