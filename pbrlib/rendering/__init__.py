"""Bakes old-style textures from modern materials."""
