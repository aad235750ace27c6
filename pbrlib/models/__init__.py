"""The networks of the recipe; the spec of each stands beside it."""
