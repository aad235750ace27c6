"""Optimizer rules over parameter names, and learning-rate schedules."""
