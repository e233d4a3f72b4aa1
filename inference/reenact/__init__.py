"""Pictures of one person that move as another one does: the wing of latent-pose reenactment."""
