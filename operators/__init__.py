"""What the user can do: operators, settings and the session. bpy is allowed here, torch is not."""
