"""Sweeps: hyperparameter search over the values of a curriculum."""
