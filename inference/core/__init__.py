"""Array mathematics shared by Blender and the worker. Standard library and numpy only."""
