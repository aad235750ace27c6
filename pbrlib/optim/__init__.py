"""Optimizer parameter groups by name patterns, and learning-rate schedules."""
