"""Curricula: specs, checks, descriptions, and the training of their phases."""
