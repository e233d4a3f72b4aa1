"""How the weights were made: one flat script a network, its recipes, and the studio. Not shipped."""
