"""Sweeps over the addresses of a curriculum."""
