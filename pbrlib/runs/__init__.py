"""Reads runs back from a runs directory: states, curves, wall time, comparisons, removable checkpoints."""
