"""Checkpoints: what they hold, which are kept, how they are read."""
