"""Checkpoints: their format, reading, writing and retention."""
