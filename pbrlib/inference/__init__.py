"""Inference: runs the chain of trained networks over whole textures."""
