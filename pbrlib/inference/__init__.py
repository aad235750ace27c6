"""The chain of trained networks over whole textures."""
