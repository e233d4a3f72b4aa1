"""Face capture: points of a face over time -> identity, head pose, 52 weights, eyes."""
