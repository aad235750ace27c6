"""Checks of a curriculum before it runs."""
