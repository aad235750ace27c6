"""How good the maps are, beside the trivial answers."""
