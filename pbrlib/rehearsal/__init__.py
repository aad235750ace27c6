"""Rehearsals: run every phase at its real sizes for a few steps and estimate the cost of the training."""
