"""A head from photographs: the wing of Multi-NeuS."""
