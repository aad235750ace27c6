"""Augments batches on the device."""
