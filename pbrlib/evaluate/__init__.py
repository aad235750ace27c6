"""Evaluation of predicted maps against the ground truth and trivial baselines."""
