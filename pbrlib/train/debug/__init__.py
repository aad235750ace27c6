"""Debugging of a step whose loss or gradient is not finite."""
